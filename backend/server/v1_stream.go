package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nrt/backend/engine"
	"nrt/backend/token"
)

var (
	errLeft = errors.New("the reader left")
	errTold = errors.New("the stream has told it") // no other answer follows
	errCut  = errors.New("the reader did not keep up")
)

// generation is a request whose answer is text, whole or as a stream. An endpoint
// embeds it.
type generation struct {
	head   textHead
	asked  string         // the field that holds what is read first
	req    engine.Request // sampling and bounds, as asked for
	chain  int            // the server's longest, in tokens
	tokens bool           // log-probabilities are asked for
	stops  []string       // texts that end an answer
	stream bool
	usage  bool             // at the stream's end
	tok    *token.Tokenizer // of the replica that computes
}

// endpoint is what differs between such requests: how a model is asked, and how an
// answer is laid out. The engine is asked before anything is laid out.
type endpoint interface {
	common() *generation
	requests(r *replica) ([]engine.Request, error)
	whole(list []*choice, t tally) any
	chunk(p piece) any // of a stream; nil for a piece that makes none
	last(t tally) any  // the chunk with usage
}

func (g *generation) common() *generation { return g }

// textHead begins an answer and every chunk of a stream. Seed is an addition: what
// was drawn where the request had none.
type textHead struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int    `json:"created"`
	Model   string `json:"model"`
	Seed    int64  `json:"seed"`
}

// without is the usage of a chunk that is not the last: null if the last one has it.
func (g *generation) without() any {
	if g.usage {
		return json.RawMessage("null")
	}
	return nil
}

// choice is all that was said of one answer.
type choice struct {
	chain, answer   strings.Builder
	chained, spoken []spelt // tokens of chain and answer
	finish          string
}

// generate computes and answers.
func (a *api) generate(e endpoint) error {
	if e.common().stream {
		return a.streamed(e)
	}
	var list []*choice
	var all tally
	err := a.compute(func(ctx context.Context, r *replica) (err error) {
		all, err = a.run(ctx, r, e, func(p piece) {
			for len(list) <= p.choice {
				list = append(list, &choice{})
			}
			c := list[p.choice]
			text, tokens := &c.chain, &c.chained
			if p.part == engine.PartAnswer {
				text, tokens = &c.answer, &c.spoken
			}
			text.WriteString(p.text)
			if p.token != nil {
				*tokens = append(*tokens, *p.token)
			}
			if p.finish != "" {
				c.finish = p.finish
			}
		})
		return err
	})
	if err == nil {
		a.answer(http.StatusOK, e.whole(list, all))
	}
	return err
}

// run asks the engine and hands on what it says.
func (a *api) run(ctx context.Context, r *replica, e endpoint, say func(piece)) (tally, error) {
	g := e.common()
	g.tok = r.tok
	reqs, err := e.requests(r)
	if err != nil {
		return tally{}, err
	}
	speaker := newSpeaker(r, reqs, g.tokens, g.stops, say)
	within, enough := context.WithCancel(ctx)
	defer enough()
	_, err = r.generate(within, reqs, func(ev engine.Event) {
		a.s.o.onToken()
		a.s.metrics.count(ev.Part)
		if speaker.event(ev); speaker.ended == len(speaker.voices) {
			enough() // what the engine would still say, nobody hears
		}
	})
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		err = nil // there was enough
	}
	return speaker.tally, shorten(g.asked, err)
}

// streamed answers with server-sent events: one a piece, then usage if that was
// asked, then [DONE]. An error before the first piece is an ordinary answer, a
// later one the last event.
//
// A stream that waits for its turn, or for a model to be read, sends comments meanwhile:
// proxies give up an answer of which nothing comes for a minute. Readers pass over them.
// An error is the last event then too.
//
// Events lie in a tray until they are written, and the slot is free when the last
// one is in it. The engine waits for a reader who leaves more than Limits.LogBytes
// there, or any while all streams together hold Limits.StreamBytes, for
// Limits.WriteWithin in all. A reader who then still has not taken enough, or takes
// what is written more slowly than leastPace, is given up: the connection breaks, so
// that what came cannot be mistaken for the whole.
func (a *api) streamed(e endpoint) error {
	t := newTray(a.s.o.LogBytes, a.s.o.WriteWithin, &a.s.streams)
	defer t.clear()
	put := func(v any) {
		if v == nil {
			return
		}
		if err := t.put(a.ctx, v); err != nil {
			a.abort(err)
		}
	}
	go func() {
		t.end(a.compute(func(ctx context.Context, r *replica) error {
			all, err := a.run(ctx, r, e, func(p piece) { put(e.chunk(p)) })
			if err == nil && e.common().usage {
				put(e.last(all))
			}
			return errors.Join(err, ctx.Err())
		}))
	}()
	begun := false
	begin := func() {
		if begun {
			return
		}
		begun = true
		h := a.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no") // a proxy in between should not collect events
	}
	silent := time.NewTicker(a.s.o.silence)
	defer silent.Stop()
	for {
		select {
		case <-t.wake:
			silent.Reset(a.s.o.silence)
		case <-silent.C:
			begin()
			if !a.comment("still there") {
				a.abort(errLeft)
			}
			continue
		}
		events, ended, err := t.take()
		if len(events) > 0 {
			begin()
		}
		switch {
		case ended && errors.Is(context.Cause(a.ctx), errCut):
			return errCut
		case ended && err != nil && !begun:
			return err
		case ended && err != nil:
			p := a.problem(err)
			if body, err := json.Marshal(p); err == nil {
				events = append(events, body)
			}
			a.write(t, events)
			return fmt.Errorf("%w: %w", errTold, p)
		case ended:
			events = append(events, []byte("[DONE]"))
		}
		sent := a.write(t, events)
		switch {
		case ended && sent:
			return nil
		case ended:
			a.abort(errLeft)
			return fmt.Errorf("%w: %w", errTold, errLeft)
		case !sent:
			a.abort(errLeft)
		}
	}
}

// leastPace is how many bytes a second a reader has to take, after Limits.WriteWithin.
// It bounds how many streams there can be of which the computing is done.
const leastPace = 16 << 10

// atPace is how long n bytes take at that pace.
func atPace(n int) time.Duration { return time.Duration(n) * time.Second / leastPace }

// write sends events of the tray and reports whether they went out.
func (a *api) write(t *tray, events [][]byte) bool {
	if cause := context.Cause(a.ctx); errors.Is(cause, errLeft) || errors.Is(cause, errCut) {
		return false
	}
	n := 0
	for _, e := range events {
		n += len(e)
	}
	a.patience(n)
	for _, e := range events {
		if _, err := fmt.Fprintf(a.w, "data: %s\n\n", e); err != nil {
			return false
		}
		t.wrote(len(e))
	}
	return a.flush()
}

// comment is write for what is no event.
func (a *api) comment(text string) bool {
	a.patience(len(text))
	_, err := fmt.Fprintf(a.w, ": %s\n\n", text)
	return err == nil && a.flush()
}

func (a *api) flush() bool {
	err := a.out.Flush()
	return err == nil || errors.Is(err, http.ErrNotSupported) // what is in between keeps them, and hands them on in its own time
}

// shelf is what all trays hold together, and answers that are being written.
type shelf struct {
	most int64 // bytes, beside one event a tray
	held atomic.Int64
}

// tray holds the events that are not written yet.
type tray struct {
	most int // bytes
	all  *shelf
	wake chan struct{} // something came; one waits at most
	room chan struct{} // something was written; one waits at most
	left time.Duration // that put may wait for room

	mu     sync.Mutex
	events [][]byte // not taken yet
	bytes  int      // of events not written yet
	ended  bool
	err    error
}

func newTray(most int, patience time.Duration, all *shelf) *tray {
	return &tray{most: most, all: all, left: patience, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put adds a value as an event, when there is room for it; an empty tray takes any.
// It is errCut when the waiting for room, of all calls together, takes too long.
func (t *tray) put(ctx context.Context, v any) error {
	body, err := encodeFlat(v)
	if err != nil || t.add(body) {
		return err
	}
	began := time.Now()
	late := time.NewTimer(t.left)
	defer late.Stop()
	defer func() { t.left -= time.Since(began) }()
	for {
		select {
		case <-t.room:
			if t.add(body) {
				return nil
			}
		case <-late.C:
			return errCut
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *tray) add(body []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(body)
	if t.bytes > 0 && (t.bytes+n > t.most || t.all.held.Load()+int64(n) > t.all.most) {
		return false
	}
	t.events, t.bytes = append(t.events, body), t.bytes+n
	t.all.held.Add(int64(n))
	ring(t.wake)
	return true
}

// wrote makes room: so many bytes of what was taken are written.
func (t *tray) wrote(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = min(n, t.bytes) // what ends a stream was in no tray
	t.bytes -= n
	t.all.held.Add(int64(-n))
	ring(t.room)
}

// clear forgets what will not be written any more.
func (t *tray) clear() { t.wrote(math.MaxInt) }

func (t *tray) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended, t.err = true, err
	ring(t.wake)
}

// ring lets the one who waits look again. It never blocks.
func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take gets what came since; it lies in the tray until it is written.
func (t *tray) take() (events [][]byte, ended bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	events, t.events = t.events, nil
	return events, t.ended, t.err
}

// encodeFlat is a value as JSON on one line, without escapes for pages.
func encodeFlat(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}

// usage counts tokens for the reader: those the model wrote, the ones that end a
// chain or an answer included, and of these the chains'.
type usage struct {
	Prompt     int          `json:"prompt_tokens"`
	Completion int          `json:"completion_tokens"`
	Total      int          `json:"total_tokens"`
	Details    usageDetails `json:"completion_tokens_details"`
}

type usageDetails struct {
	Reasoning int `json:"reasoning_tokens"`
}

func (t tally) usage(reasons bool) *usage {
	u := &usage{Prompt: t.prompt, Completion: t.completion, Total: t.prompt + t.completion}
	if reasons {
		u.Details.Reasoning = t.reasoning
	}
	return u
}

// logProb is a log-probability in JSON, in nats: that of the full distribution at
// the request's temperature (1 where that is 0), as the engine has it.
func logProb(x float64) float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return floor
	}
	return x
}
