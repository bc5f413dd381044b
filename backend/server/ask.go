package server

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/world"
	"nrt/web/wire"
)

var errCancelled = errors.New("cancelled by the reader")

// The lengths of an answer that the model samples itself.
const (
	leastAnswer = 16
	mostAnswer  = 64
)

// ask takes a question and answers it in the background.
func (s *Server) ask(x *session, m *wire.Ask) {
	if retry, ok := x.allow(); !ok {
		f := fail(m.ID, wire.CodeRate, "too many questions; the next one can be asked in %.0f s", math.Ceil(retry))
		f.Retry = retry
		x.say(f)
		return
	}
	if m.MaxChain > s.o.Chain {
		f := fail(m.ID, wire.CodeBadMessage, "ask: max_chain: want 1 to %d, have %d", s.o.Chain, m.MaxChain)
		f.Field = "max_chain"
		x.say(f)
		return
	}
	known := s.hub.find(m.Model)
	if known == nil {
		f := fail(m.ID, wire.CodeNoModel, "there is no model %q here", clip(m.Model, 200))
		f.Field = "model"
		x.say(f)
		return
	}
	ctx, err := x.begin(m.ID)
	if err != nil {
		x.say(fail(m.ID, wire.CodeBadMessage, "ask: id: %v", err))
		return
	}
	place, err := s.sched.enter(x.id)
	if err != nil {
		s.closeAsk(ctx, x, m, 0, err)
		return
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		seconds, err := s.answer(ctx, x, m, known, place)
		s.closeAsk(ctx, x, m, seconds, err)
	}()
}

// closeAsk says how a question ended; from then on its name is free. A reader
// who left hears nothing.
func (s *Server) closeAsk(ctx context.Context, x *session, m *wire.Ask, seconds float64, err error) {
	cause := context.Cause(ctx)
	x.finish(m.ID)
	var f *failure
	result := "failed"
	switch {
	case err == nil:
		result = "done"
		x.say(&wire.End{Head: wire.Head{ID: m.ID}, Seconds: seconds})
	case errors.Is(cause, errCancelled):
		result = "cancelled"
		x.say(&wire.End{Head: wire.Head{ID: m.ID}, Seconds: seconds, Cancelled: true})
	case cause != nil:
		result = "left"
	case errors.Is(err, errQueueFull):
		result = "busy"
		b := fail(m.ID, wire.CodeBusy, "%d questions are waiting already; try again in a moment", s.o.Queue)
		b.Retry = 5
		x.say(b)
	case errors.Is(err, errTooMany):
		result = "busy"
		b := fail(m.ID, wire.CodeRate, "%d of your questions are waiting already", s.o.QueueEach)
		b.Retry = 5
		x.say(b)
	case errors.As(err, &f):
		x.say(fail(m.ID, f.code, "%s", f.text))
	default:
		s.log.Error("question", "ask", m.String(), "error", err)
		x.say(fail(m.ID, wire.CodeInternal, "%v", err))
	}
	s.metrics.asks.WithLabelValues(result).Inc()
}

// answer waits for a slot and computes. It returns the seconds of computing.
func (s *Server) answer(ctx context.Context, x *session, m *wire.Ask, known *model, place *ticket) (float64, error) {
	asked := time.Now()
	release, err := s.sched.wait(ctx, place, func(place int, seconds float64) {
		x.say(&wire.Queued{Head: wire.Head{ID: m.ID}, Place: place, Seconds: seconds})
	})
	if err != nil {
		return 0, err
	}
	defer release()
	s.metrics.queued.Observe(time.Since(asked).Seconds())
	began := time.Now()
	seconds := func() float64 { return time.Since(began).Seconds() }
	r, err := s.hub.take(ctx, known)
	if err != nil {
		return seconds(), err
	}
	defer s.hub.give(r)
	tok, form, err := known.vocab.open()
	if err != nil {
		return seconds(), err
	}
	req, err := request(m, form, r.model.Config.MaxPositions)
	if err != nil {
		return seconds(), err
	}
	x.say(&wire.Start{
		Head: wire.Head{ID: m.ID}, Model: m.Model, K: m.K, Seed: m.Seed, Plain: r.of.plain(s.o.World, m.Question),
		Prompt: pieces(tok, req.Prompt), Answer: pieces(tok, req.Reference),
	})
	heard := false
	out := &stream{id: m.ID, tok: tok, form: form, req: &req, every: s.o.Frame, say: x.sayBorn}
	_, err = r.engine.Generate(ctx, []engine.Request{req}, func(ev engine.Event) {
		if s.o.onToken != nil {
			s.o.onToken()
		}
		if !heard {
			heard = true
			s.metrics.first.Observe(time.Since(asked).Seconds())
		}
		s.metrics.count(ev.Part)
		out.event(ev)
	})
	out.flush()
	s.metrics.seconds.Observe(seconds())
	return seconds(), err
}

// request lays a question out for the engine: chains, the reference after each
// and after none, and an answer of the model's own. A chain that would not fit
// is cut to what the model has room for.
func request(m *wire.Ask, form *token.Format, positions int) (engine.Request, error) {
	r := engine.Request{
		Prompt: form.Prompt(m.Question), N: m.K, Seed: m.Seed,
		Sampling: engine.Sampling{Temperature: m.Temperature, TopP: m.TopP},
		Stop:     form.End, Close: form.Close, StopText: form.StopText,
		Reference: form.Answer(m.Answer), Baseline: true, AnswerStop: form.End,
	}
	r.MaxAnswer = min(mostAnswer, max(leastAnswer, 2*len(r.Reference)))
	used := len(r.Prompt) + len(r.Close) + max(len(r.Reference), r.MaxAnswer)
	if used >= positions {
		// A shorter answer of the model's own is better than none of the question.
		r.MaxAnswer = max(1, min(r.MaxAnswer, positions-1-len(r.Prompt)-len(r.Close)))
		used = len(r.Prompt) + len(r.Close) + max(len(r.Reference), r.MaxAnswer)
	}
	if used >= positions {
		return r, failed(wire.CodeTooLong, "question (%d tokens) and answer (%d) leave no room for a chain: the model reads %d tokens in all",
			len(r.Prompt), len(r.Reference), positions)
	}
	r.MaxChain = min(m.MaxChain, positions-used)
	return r, nil
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

// pieces spells ids out; the texts join to the whole.
func pieces(tok *token.Tokenizer, ids []int32) []wire.Piece {
	out := make([]wire.Piece, len(ids))
	d := tok.NewDecoder(false)
	for i, id := range ids {
		out[i] = wire.Piece{ID: id, Text: d.Push(id), Special: tok.Special(id), Unknown: id == tok.UNK()}
	}
	if n := len(out); n > 0 {
		out[n-1].Text += d.Flush()
	}
	return out
}

// stream turns the engine's events into frames: the first at once, then one a
// frame time with all that has come meanwhile.
type stream struct {
	id    string
	tok   *token.Tokenizer
	form  *token.Format
	req   *engine.Request
	every time.Duration
	say   func(m wire.Message, born time.Time)

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
	n      int // chain tokens
	last   int32
	closed bool
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
	case engine.PartBoundary:
		c.closed = false
	case engine.PartAnswer:
		c.answer = append(c.answer, ev.Token.ID)
	}
	text := clip(c.d.Push(ev.Token.ID), 1<<10)
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

func appendToken(e *wire.Tokens, t engine.Token, text string) {
	e.IDs, e.Texts = append(e.IDs, t.ID), append(e.Texts, text)
	e.LogProbs = append(e.LogProbs, finite(t.LogProb))
	e.Entropies = append(e.Entropies, finite(t.Entropy))
}

// finite bounds a number that JSON could not hold.
func finite(x float64) float64 {
	switch {
	case math.IsNaN(x):
		return floor
	case x < floor:
		return floor
	case x > -floor:
		return -floor
	}
	return x
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
	case c.n >= w.req.MaxChain && !containsID(w.req.Stop, c.last):
		d.Finish = "length"
	}
	text := w.form.AnswerText(c.answer)
	d.Answer = clip(text, wire.MaxAnswer)
	d.Match = strings.TrimSpace(text) == strings.TrimSpace(w.form.AnswerText(w.req.Reference))
	return d
}

func containsID(list []int32, id int32) bool {
	for _, x := range list {
		if x == id {
			return true
		}
	}
	return false
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
