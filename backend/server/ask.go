package server

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/world"
	"nrt/web/wire"
)

// The lengths of an answer that the model samples itself.
const (
	leastAnswer = 16
	mostAnswer  = 64
)

// ask takes a question and answers it in the background.
func (s *Server) ask(x *session, m *wire.Ask) {
	if !s.allowed(x, &x.rate, m.ID) || !s.fits(x, m, m.MaxChain) {
		return
	}
	s.enqueue(&job{of: m, x: x, models: []string{m.Model}, results: s.metrics.asks, work: func(ctx context.Context, j *job, r *replica) (wire.Message, error) {
		return s.answer(ctx, j, m, r)
	}})
}

// answer streams the chains and all that follows them.
func (s *Server) answer(ctx context.Context, j *job, m *wire.Ask, r *replica) (wire.Message, error) {
	req, err := request(m, r.form, r.model.Config.MaxPositions)
	if err != nil {
		return nil, err
	}
	req.Stop, req.AnswerStop = r.stop, r.stop
	j.x.say(&wire.Start{
		Head: wire.Head{ID: m.ID}, Model: m.Model, K: m.K, Seed: m.Seed, Plain: r.of.plain(s.o.World, m.Question),
		Prompt: pieces(r.tok, req.Prompt), Answer: written(pieces(r.tok, req.Reference), r.tok, m.Answer),
	})
	heard := false
	out := &stream{id: m.ID, tok: r.tok, form: r.form, req: &req, every: s.o.Frame, say: j.x.sayBorn, right: r.of.right(s.o.World, m.Question)}
	_, err = r.generate(ctx, []engine.Request{req}, func(ev engine.Event) {
		s.o.onToken()
		if !heard {
			heard = true
			s.metrics.first.Observe(time.Since(j.asked).Seconds())
		}
		s.metrics.count(ev.Part)
		out.event(ev)
	})
	out.flush()
	s.metrics.seconds.Observe(j.seconds())
	return &wire.End{Head: wire.Head{ID: m.ID}, Seconds: j.seconds()}, err
}

// request lays a question out for the engine: chains, the reference after each
// and after none, and an answer of the model's own. A chain that would not fit
// is cut to what the model has room for.
func request(m *wire.Ask, form *token.Format, positions int) (engine.Request, error) {
	r, err := layout(m.Question, m.Answer, form, positions)
	if err != nil {
		return r, err
	}
	r.N, r.Seed, r.Baseline = m.K, m.Seed, true
	r.Sampling = engine.Sampling{Temperature: m.Temperature, TopP: m.TopP}
	r.MaxChain = min(m.MaxChain, positions-around(&r))
	return r, nil
}

// layout is a request's part around the chains, with room for a chain of one
// token at least.
func layout(question, answer string, form *token.Format, positions int) (engine.Request, error) {
	r := engine.Request{
		Prompt: form.Prompt(question), Stop: form.End, Close: form.Close, StopText: form.StopText,
		Reference: form.Answer(answer), AnswerStop: form.End,
	}
	r.MaxAnswer = min(mostAnswer, max(leastAnswer, 2*len(r.Reference)))
	if around(&r) >= positions {
		// A shorter answer of the model's own is better than none of the question.
		r.MaxAnswer = max(1, min(r.MaxAnswer, positions-1-len(r.Prompt)-len(r.Close)))
	}
	if around(&r) >= positions {
		return r, failed(wire.CodeTooLong, "question (%d tokens) and answer (%d) leave no room for a chain: the model reads %d tokens in all",
			len(r.Prompt), len(r.Reference), positions)
	}
	return r, nil
}

// around is how many tokens a request has around a chain.
func around(r *engine.Request) int {
	return len(r.Prompt) + len(r.Close) + max(len(r.Reference), r.MaxAnswer)
}

// plain is the question in everyday English, if the model and the question are
// of the small world.
func (m *model) plain(w *world.World, question string) string {
	if w == nil || !m.World {
		return ""
	}
	text, _ := w.Plain(question)
	return text
}

// right tells whether a chain ends at the right answer, if the model and the question are
// of the small world; nil where nobody can tell.
func (m *model) right(w *world.World, question string) func(chain string) bool {
	if m.plain(w, question) == "" {
		return nil
	}
	return func(chain string) bool { return w.EndsRight(question, chain) }
}

// written puts the words as they were written in the place of those that the
// vocabulary lacks.
func written(list []wire.Piece, tok *token.Tokenizer, text string) []wire.Piece {
	var words []string
	for _, p := range tok.Pieces(text) {
		if p.ID == tok.UNK() {
			words = append(words, text[p.Start:p.End])
		}
	}
	for i := range list {
		if list[i].Unknown && len(words) > 0 {
			list[i].Text, list[i].Special = clip(words[0], 1<<10), false
			words = words[1:]
		}
	}
	return list
}

// pieces spells ids out; the texts join to the whole, but for very long ones.
func pieces(tok *token.Tokenizer, ids []int32) []wire.Piece {
	out := make([]wire.Piece, len(ids))
	d := tok.NewDecoder(false)
	for i, id := range ids {
		out[i] = wire.Piece{ID: id, Text: d.Push(id), Special: tok.Special(id), Unknown: id == tok.UNK()}
	}
	if n := len(out); n > 0 {
		out[n-1].Text += d.Flush()
	}
	for i := range out {
		out[i].Text = clip(out[i].Text, mostText)
	}
	return out
}

// mostText is how much text a token has, in bytes: one that ends a long run of
// characters which the vocabulary spells as bytes brings all of them.
const mostText = 1 << 10

// stream turns the engine's events into frames: the first at once, then one a
// frame time with all that has come meanwhile.
type stream struct {
	id    string
	tok   *token.Tokenizer
	form  *token.Format
	req   *engine.Request
	every time.Duration
	say   func(m wire.Message, born time.Time)
	right func(chain string) bool // may be nil

	chains []*spell // by chain + 1; touched by the engine's goroutine alone

	mu    sync.Mutex
	frame *wire.Frame
	born  time.Time // of the frame's oldest event
	sent  time.Time // of the frame before
	timer *time.Timer
}

// spell is what a stream remembers of one chain.
type spell struct {
	part   engine.Part
	d      *token.Decoder
	held   *engine.Event // a chain token of which the decoder keeps the text
	n      int           // chain tokens
	last   int32
	closed bool
	chain  []int32
	answer []int32
}

// floor is the least log-probability that is sent: JSON has no infinity.
const floor = -1e4

// parts are the engine's parts as the page knows them.
var parts = map[engine.Part]wire.Part{
	engine.PartChain: wire.PartChain, engine.PartBoundary: wire.PartBoundary, engine.PartReference: wire.PartReference,
	engine.PartAnswer: wire.PartAnswer, engine.PartBaseline: wire.PartBaseline,
}

// event is the engine's emit.
func (w *stream) event(ev engine.Event) {
	c := w.chain(ev.Chain)
	if c.held != nil {
		// What follows would bring the text. Where that ends the chain, and is no part of
		// what it says, the text comes before.
		held, text := *c.held, ""
		c.held = nil
		if ev.Part != engine.PartChain || w.closes(ev.Token.ID) {
			text, c.d = c.d.Flush(), nil
		}
		w.token(held, text)
	}
	if ev.Part == engine.PartEnd {
		if ev.Chain >= 0 {
			done := w.done(ev.Chain, c)
			w.add(func(f *wire.Frame) { f.Done = append(f.Done, done) })
		}
		return
	}
	if c.d == nil || c.part != ev.Part {
		c.d, c.part = w.tok.NewDecoder(false), ev.Part
	}
	switch ev.Part {
	case engine.PartChain:
		c.n++
		c.last, c.closed = ev.Token.ID, true
		c.chain = append(c.chain, ev.Token.ID)
	case engine.PartBoundary:
		c.closed = false
	case engine.PartAnswer:
		c.answer = append(c.answer, ev.Token.ID)
	}
	text := c.d.Push(ev.Token.ID)
	switch {
	case w.ends(c, ev):
		text += c.d.Flush()
	case text == "" && ev.Part == engine.PartChain:
		c.held = &ev
		return
	}
	w.token(ev, text)
}

// closes reports whether a chain's token ends it and has no text of the chain.
func (w *stream) closes(id int32) bool {
	return slices.Contains(w.req.Stop, id) || len(w.req.Close) == 1 && id == w.req.Close[0]
}

// token puts an event's token into the frame, with the text that it has there.
func (w *stream) token(ev engine.Event, text string) {
	text = clip(text, mostText)
	part := parts[ev.Part]
	w.add(func(f *wire.Frame) {
		t := ev.Token
		// Runs of one chain's tokens share an entry.
		for i := len(f.Tokens) - 1; i >= 0; i-- {
			if e := &f.Tokens[i]; e.Chain == ev.Chain {
				if e.Part == part && e.At+len(e.IDs) == ev.Index {
					appendToken(e, t, text)
					return
				}
				break
			}
		}
		e := wire.Tokens{Chain: ev.Chain, Part: part, At: ev.Index}
		appendToken(&e, t, text)
		f.Tokens = append(f.Tokens, e)
	})
}

// ends reports whether a token is the last of its part, so that nothing can settle
// what the decoder still holds.
func (w *stream) ends(c *spell, ev engine.Event) bool {
	switch ev.Part {
	case engine.PartChain:
		return c.n >= w.req.MaxChain || slices.Contains(w.req.Stop, ev.Token.ID)
	case engine.PartAnswer:
		return ev.Index+1 >= w.req.MaxAnswer || slices.Contains(w.req.AnswerStop, ev.Token.ID)
	case engine.PartReference, engine.PartBaseline:
		return ev.Index+1 >= len(w.req.Reference)
	}
	return false
}

func appendToken(e *wire.Tokens, t engine.Token, text string) {
	e.IDs, e.Texts = append(e.IDs, t.ID), append(e.Texts, text)
	e.LogProbs = append(e.LogProbs, finite(t.LogProb))
	e.Entropies = append(e.Entropies, finite(t.Entropy))
}

// finite bounds a number that JSON could not hold.
func finite(x float64) float64 {
	if math.IsNaN(x) {
		return floor
	}
	return max(floor, min(x, -floor))
}

func (w *stream) chain(i int) *spell {
	for len(w.chains) <= i+1 {
		w.chains = append(w.chains, &spell{})
	}
	return w.chains[i+1]
}

// done says how a chain ended and what it answered.
func (w *stream) done(i int, c *spell) wire.Done {
	d := wire.Done{Chain: i, Finish: "stop"}
	switch {
	case c.closed:
		d.Finish = "close"
	case c.n >= w.req.MaxChain && !slices.Contains(w.req.Stop, c.last):
		d.Finish = "length"
	}
	d.Answer, d.Match = own(w.form, c.answer, w.req)
	d.Right = w.right != nil && w.right(w.tok.Decode(c.chain, false))
	return d
}

// own is what the model answered itself, and whether that is the reference.
func own(form *token.Format, answer []int32, req *engine.Request) (text string, match bool) {
	if n := len(answer); n > 0 && slices.Contains(req.AnswerStop, answer[n-1]) {
		answer = answer[:n-1]
	}
	text = form.AnswerText(answer)
	return clip(text, wire.MaxAnswer), form.Says(answer, form.AnswerText(req.Reference))
}

// add puts something into the frame and sees to it that the frame goes out.
func (w *stream) add(put func(*wire.Frame)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.frame == nil {
		w.frame, w.born = &wire.Frame{Head: wire.Head{ID: w.id}}, now
	}
	put(w.frame)
	switch due := w.every - now.Sub(w.sent); {
	case w.sent.IsZero():
		w.send(now)
	case w.timer != nil:
	case due <= 0:
		w.send(now)
	default:
		w.timer = time.AfterFunc(due, w.flush)
	}
}

// flush sends what there is.
func (w *stream) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.send(time.Now())
}

func (w *stream) send(now time.Time) {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if w.frame == nil {
		return
	}
	f := w.frame
	w.frame, w.sent = nil, now
	w.say(f, w.born)
}
