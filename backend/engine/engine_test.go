package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/llama"
)

const (
	closeID = 9
	endID   = 0
)

func newModel(t testing.TB, double bool) *llama.Model {
	t.Helper()
	o := cpu.Options{}
	if double {
		o.Type = cpu.Float64
	}
	dev, err := cpu.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := llama.New(dev, llama.Config{
		ModelType: "llama", Vocab: 13, Hidden: 16, Intermediate: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8,
		MaxPositions: 64, RMSEps: 1e-5, RopeTheta: 100, TieEmbeddings: true,
	}, 5)
	if err != nil {
		t.Fatal(err)
	}
	// Sharper than the initialisation, so that chains differ in content.
	w := make([]float32, m.NumParams())
	dev.Read(w, m.Flat())
	for i := range w {
		if w[i] != 1 {
			w[i] *= 6
		}
	}
	dev.Write(m.Flat(), w)
	return m
}

func request(seed uint64, n int) Request {
	return Request{
		Prompt: []int32{1, 5, 3, 7, int32(seed % 13)}, N: n, Sampling: Sampling{Temperature: 1, Top: 3}, Seed: seed,
		MaxChain: 9, Close: []int32{closeID}, Stop: []int32{endID}, Reference: []int32{4, 8, 2, endID}, Baseline: true,
		MaxAnswer: 5, AnswerStop: []int32{endID},
	}
}

func generate(t *testing.T, e *Engine, reqs []Request, emit func(Event)) []Result {
	t.Helper()
	got, err := e.Generate(context.Background(), reqs, emit)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestSameSeedWhateverTheBatch: chains, log-probs and scores of a request are
// bit for bit the same alone, in company, and when the cache is too small for
// all at once.
func TestSameSeedWhateverTheBatch(t *testing.T) {
	m := newModel(t, false)
	var reqs []Request
	for i := range 7 {
		r := request(uint64(100+i), 1+i%4)
		r.MaxChain = 3 + 4*(i%3)
		r.Prompt = append(r.Prompt, []int32{2, 6, 6, 11, 12, 3}[:i%6]...)
		reqs = append(reqs, r)
	}
	together := generate(t, New(m, nil, Options{}), reqs, nil)
	largest := 0
	for i := range reqs {
		largest = max(largest, reqs[i].rows())
	}
	perRow := 4 * 2 * m.Config.Layers * m.Config.KVHeads * m.Config.HeadDim
	small := New(m, nil, Options{CacheBytes: int64(largest * perRow), BatchRows: 12})
	queued := generate(t, small, reqs, nil)
	if small.spans.left() != small.cache.Rows() {
		t.Errorf("%d of %d cache rows free at the end", small.spans.left(), small.cache.Rows())
	}
	if !reflect.DeepEqual(together, queued) {
		t.Error("a small cache changes results")
	}
	for i := range reqs {
		alone := generate(t, New(m, nil, Options{}), reqs[i:i+1], nil)
		if !reflect.DeepEqual(alone[0], together[i]) {
			t.Errorf("request %d: alone\n%+v\nin company\n%+v", i, alone[0], together[i])
		}
	}
	first := together[3].Chains
	if reflect.DeepEqual(first[0].Tokens, first[1].Tokens) && reflect.DeepEqual(first[1].Tokens, first[2].Tokens) {
		t.Error("chains of one request do not differ")
	}
}

// TestStepsAreBounded: a step reads no more than BatchRows tokens, also where all
// chains end at once and every reference is still to be read, and how few these
// are changes no bit of a result.
func TestStepsAreBounded(t *testing.T) {
	m := newModel(t, false)
	long := []int32{4, 8, 2, 6, 1, 3, 11, 12, 5, 7, 2, 4, 4, 8, 1, 6, 3, 5, 7, endID}
	var mixed, cut []Request
	for i := range 5 {
		r := request(uint64(i), 2+i%2)
		r.Prompt = append(r.Prompt, long[:3*i]...)
		switch i {
		case 1: // a boundary of several tokens
			r.Close = []int32{closeID, 10}
		case 2: // chains that are given, and an answer after each
			r.Forced = [][]int32{long[:13], {closeID}, {}, {3, endID}}
		case 3: // neither boundary nor answer
			r.Close, r.MaxAnswer = nil, 0
		case 4: // an answer at once
			r.Close, r.Reference, r.Baseline, r.Forced = nil, nil, false, [][]int32{{}}
		}
		mixed = append(mixed, r)
	}
	for i := range 12 { // all are cut at the same length
		r := request(uint64(i), 7)
		r.Prompt = r.Prompt[3:]
		r.Close, r.Stop, r.Reference, r.Baseline, r.MaxChain, r.MaxAnswer = []int32{10}, nil, long, i%3 == 2, 3, i%2
		cut = append(cut, r)
	}
	for name, c := range map[string]struct {
		reqs    []Request
		growing int // most chains that grow at once in a batch of a few rows
	}{"mixed": {mixed, 4}, "cut": {cut, 7}} {
		run := func(rows int) (results []Result, most int) {
			e := New(m, nil, Options{BatchRows: rows})
			defer e.Close()
			for i := range c.reqs {
				if err := e.check(&c.reqs[i]); err != nil {
					t.Fatal(err)
				}
			}
			plan := memoryOf(m.Config, e.opts, c.reqs)
			if err := e.reserve(plan); err != nil {
				t.Fatal(err)
			}
			drawn := 0
			b := newBatch(e, c.reqs, nil)
			for !b.done() {
				b.step()
				most = max(most, len(b.in.IDs))
				drawn = max(drawn, len(b.rows))
			}
			if most > plan.read || drawn > plan.drawn {
				t.Errorf("%s: a step reads %d tokens and draws %d, more than the planned %d and %d", name, most, drawn, plan.read, plan.drawn)
			}
			if e.spans.left() != e.cache.Rows() {
				t.Errorf("%s: %d of %d cache rows free at the end", name, e.spans.left(), e.cache.Rows())
			}
			return b.results, most
		}
		want, all := run(1 << 20)
		if name == "cut" && all < 70*len(long) {
			t.Errorf("%d rows at once: the test needs chains that end together", all)
		}
		for _, rows := range []int{1, 2, 3, 5, 8, 13, 40, 100} {
			got, most := run(rows)
			if most > max(rows, c.growing) {
				t.Errorf("%s: a step of at most %d rows reads %d", name, rows, most)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: steps of at most %d rows change results", name, rows)
			}
		}
	}
}

// TestScoresAreFullForwards: every log-probability that the cache gives equals
// that of reading the whole sequence at once, where the boundary stands in the
// place of a stop token.
func TestScoresAreFullForwards(t *testing.T) {
	m := newModel(t, true)
	e := New(m, nil, Options{})
	reqs := []Request{request(1, 4), request(2, 3), request(4, 5)}
	results := generate(t, e, reqs, nil)
	closed, stopped := 0, 0
	for i, r := range results {
		check := func(what string, before []int32, tokens []Token) []int32 {
			t.Helper()
			all := append([]int32(nil), before...)
			for _, tok := range tokens {
				all = append(all, tok.ID)
			}
			full, err := e.LogProbs(context.Background(), all, 0)
			if err != nil {
				t.Fatal(err)
			}
			for j, tok := range tokens {
				want := full[len(before)+j]
				if math.Abs(tok.LogProb-want.LogProb) > 1e-10 || math.Abs(tok.Entropy-want.Entropy) > 1e-10 {
					t.Fatalf("request %d %s token %d: log-prob %.12g entropy %.12g, full forward %.12g %.12g",
						i, what, j, tok.LogProb, tok.Entropy, want.LogProb, want.Entropy)
				}
			}
			return all
		}
		for _, c := range r.Chains {
			ctx := check("chain", reqs[i].Prompt, c.Tokens)
			if c.Closed {
				closed++
				if len(c.Boundary) != 0 || c.Tokens[len(c.Tokens)-1].ID != closeID {
					t.Fatalf("closed chain %+v", c)
				}
			} else {
				if c.Finish == "stop" {
					stopped++
					ctx = ctx[:len(ctx)-1]
				}
				ctx = check("boundary", ctx, c.Boundary)
			}
			check("reference", ctx, c.Reference)
			check("answer", ctx, c.Answer)
		}
		check("baseline", append(append([]int32(nil), reqs[i].Prompt...), closeID), r.Baseline)
	}
	if closed == 0 || stopped == 0 || closed+stopped == 12 {
		t.Errorf("%d of 12 chains closed themselves, %d stopped: the test needs all sorts", closed, stopped)
	}
}

// TestForced: scoring the chains that were sampled gives their log-probs again, and
// finds them to end as they did, which decides how they are trained on.
func TestForced(t *testing.T) {
	m := newModel(t, true)
	e := New(m, nil, Options{})
	r := request(3, 9)
	want := generate(t, e, []Request{r}, nil)[0]
	f := r
	f.MaxAnswer = 0
	f.Forced = [][]int32{}
	for _, c := range want.Chains {
		var chain []int32
		for _, tok := range c.Tokens {
			chain = append(chain, tok.ID)
		}
		f.Forced = append(f.Forced, chain)
	}
	if !slices.ContainsFunc(want.Chains, func(c Chain) bool { return c.Finish == "stop" }) {
		t.Fatal("the test needs a chain that stopped")
	}
	f.Forced = append(f.Forced, nil) // the empty chain is the baseline
	got := generate(t, e, []Request{f}, nil)[0]
	same := func(what string, a, b []Token) {
		t.Helper()
		if len(a) != len(b) {
			t.Fatalf("%s: %d and %d tokens", what, len(a), len(b))
		}
		for i := range a {
			if a[i].ID != b[i].ID || math.Abs(a[i].LogProb-b[i].LogProb) > 1e-10 {
				t.Fatalf("%s token %d: %+v and %+v", what, i, a[i], b[i])
			}
		}
	}
	for i, c := range want.Chains {
		same("chain", got.Chains[i].Tokens, c.Tokens)
		same("boundary", got.Chains[i].Boundary, c.Boundary)
		same("reference", got.Chains[i].Reference, c.Reference)
		if got.Chains[i].Closed != c.Closed || got.Chains[i].Finish != c.Finish {
			t.Errorf("chain %d: closed %v by %s, sampled %v by %s", i, got.Chains[i].Closed, got.Chains[i].Finish, c.Closed, c.Finish)
		}
	}
	if end := got.Chains[len(want.Chains)].Finish; end != "length" {
		t.Errorf("the empty chain ended by %s, which it has no token of", end)
	}
	same("baseline", got.Baseline, want.Baseline)
	same("empty chain", got.Chains[len(want.Chains)].Reference, want.Baseline)
}

// TestEvents: what is streamed is what is returned, in order.
func TestEvents(t *testing.T) {
	m := newModel(t, false)
	reqs := []Request{request(1, 3), request(2, 2)}
	type key struct {
		r, c int
		p    Part
	}
	streamed := map[key][]Token{}
	ended := 0
	results := generate(t, New(m, nil, Options{}), reqs, func(ev Event) {
		if ev.Part == PartEnd {
			ended++
			return
		}
		k := key{ev.Request, ev.Chain, ev.Part}
		if ev.Index != len(streamed[k]) {
			t.Errorf("%+v: index %d, want %d", k, ev.Index, len(streamed[k]))
		}
		streamed[k] = append(streamed[k], ev.Token)
	})
	if ended != 3+2+2 {
		t.Errorf("%d ends, want 7", ended)
	}
	for i, r := range results {
		for j, c := range r.Chains {
			for p, want := range map[Part][]Token{PartChain: c.Tokens, PartBoundary: c.Boundary, PartReference: c.Reference, PartAnswer: c.Answer} {
				if got := streamed[key{i, j, p}]; !reflect.DeepEqual(got, want) {
					t.Errorf("request %d chain %d part %d: streamed %v, returned %v", i, j, p, got, want)
				}
			}
		}
		if got := streamed[key{i, -1, PartBaseline}]; !reflect.DeepEqual(got, r.Baseline) {
			t.Errorf("request %d: baseline differs", i)
		}
	}
}

// TestStoppedAtOnce: a chain that is nothing but a stop token is the empty chain
// to what follows it.
func TestStoppedAtOnce(t *testing.T) {
	m := newModel(t, false)
	r := request(1, 3)
	for id := range int32(13) {
		if id != closeID {
			r.Stop = append(r.Stop, id) // whatever is drawn stops
		}
	}
	got := generate(t, New(m, nil, Options{}), []Request{r}, nil)[0]
	few := generate(t, New(m, nil, Options{BatchRows: 2}), []Request{r}, nil)[0]
	if !reflect.DeepEqual(got, few) {
		t.Error("small steps change results")
	}
	for i, c := range got.Chains {
		if c.Finish != "stop" || len(c.Tokens) != 1 || len(c.Boundary) != 1 || len(c.Answer) == 0 {
			t.Fatalf("chain %d: %+v", i, c)
		}
		if !reflect.DeepEqual(c.Reference, got.Baseline) {
			t.Errorf("chain %d: the reference after it %v, after none %v", i, c.Reference, got.Baseline)
		}
	}
}

func TestCancelAtAnyToken(t *testing.T) {
	m := newModel(t, false)
	e := New(m, nil, Options{})
	for stop := 1; stop < 40; stop += 7 {
		ctx, cancel := context.WithCancel(context.Background())
		seen := 0
		_, err := e.Generate(ctx, []Request{request(1, 4), request(2, 4)}, func(Event) {
			if seen++; seen == stop {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled at event %d: error %v", stop, err)
		}
		if e.spans.left() != e.cache.Rows() {
			t.Fatalf("cancelled at event %d: %d of %d rows free", stop, e.spans.left(), e.cache.Rows())
		}
	}
}

// patient is a context that ends when it has been asked so often.
type patient struct {
	context.Context
	left int
}

func (p *patient) Err() error {
	if p.left--; p.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestCancelWhilePromptIsRead: a long prompt is given up between two pieces of it.
func TestCancelWhilePromptIsRead(t *testing.T) {
	m := newModel(t, false)
	r := Request{Prompt: make([]int32, 50), N: 1, MaxChain: 2}
	for pieces := range 12 {
		e := New(m, nil, Options{BatchRows: 5})
		ctx := &patient{context.Background(), pieces}
		_, err := e.Generate(ctx, []Request{r}, nil)
		if done := pieces > 10; done != (err == nil) || !done && !errors.Is(err, context.Canceled) {
			t.Errorf("asked to stop after %d pieces of 10: error %v", pieces, err)
		}
		e.Close()
	}
}

func TestBadRequests(t *testing.T) {
	e := New(newModel(t, false), nil, Options{})
	for want, change := range map[string]func(*Request){
		"prompt: no tokens":                func(r *Request) { r.Prompt = nil },
		"prompt: token 0 is id 13":         func(r *Request) { r.Prompt[0] = 13 },
		"reference: token 1 is id -1":      func(r *Request) { r.Reference[1] = -1 },
		"max_chain: want at least 1":       func(r *Request) { r.MaxChain = 0 },
		"temperature: want at least 0":     func(r *Request) { r.Temperature = -1 },
		"temperature: want a number":       func(r *Request) { r.Temperature = math.NaN() },
		"top_p: want 0 to 1":               func(r *Request) { r.TopP = 1.5 },
		"min_p: want 0 to 1":               func(r *Request) { r.MinP = -0.1 },
		"top_k: want at least 0":           func(r *Request) { r.TopK = -2 },
		"top: want at least 0":             func(r *Request) { r.Top = -1 },
		"exceed the model's 64 positions":  func(r *Request) { r.MaxChain = 60 },
		fmt.Sprint("chain ", math.MaxInt):  func(r *Request) { r.MaxChain = math.MaxInt },
		fmt.Sprint("answer ", math.MaxInt): func(r *Request) { r.MaxAnswer = math.MaxInt },
		"baseline: needs a reference":      func(r *Request) { r.Reference = nil },
		`stop text "x" needs a tokenizer`:  func(r *Request) { r.StopText = "x" },
		"chain 1: token 0 is id 99":        func(r *Request) { r.Forced = [][]int32{{1}, {99}} },
		"n: want at least 0":               func(r *Request) { r.N = -1 },
		"n: want at most":                  func(r *Request) { r.N = math.MaxInt },
		"max_answer: want at least 0":      func(r *Request) { r.MaxAnswer = -1 },
		"answer stop: token 0 is id 70":    func(r *Request) { r.AnswerStop = []int32{70} },
		"stop: token 0 is id 80":           func(r *Request) { r.Stop = []int32{80} },
		"close: token 0 is id 2000":        func(r *Request) { r.Close = []int32{2000} },
	} {
		r := request(1, 2)
		change(&r)
		_, err := e.Generate(context.Background(), []Request{r}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
		// One request is not numbered, several are.
		good := request(1, 2)
		_, more := e.Generate(context.Background(), []Request{good, r}, nil)
		if err != nil && (more == nil || more.Error() != "request 1: "+err.Error()) {
			t.Errorf("alone %v, after another %v", err, more)
		}
	}
}

func TestNegativeTop(t *testing.T) {
	e := New(newModel(t, false), nil, Options{})
	defer e.Close()
	if _, err := e.LogProbs(context.Background(), []int32{1, 2}, -1); err == nil || err.Error() != "top: want at least 0, have -1" {
		t.Error(err)
	}
}

// The same requests may be asked of several engines at once.
func TestRequestsStayAsTheyWere(t *testing.T) {
	r := Request{Prompt: []int32{1, 2}, Forced: [][]int32{{3}, {4, 5}}, MaxChain: 7}
	reqs := []Request{r}
	e := New(newModel(t, false), nil, Options{CacheBytes: -1, BatchRows: -1})
	defer e.Close()
	generate(t, e, reqs, nil)
	if !reflect.DeepEqual(reqs, []Request{r}) {
		t.Errorf("asked %+v, now it is %+v", r, reqs[0])
	}
}

// left is how many rows are free in all.
func (s *spans) left() (n int) {
	for _, f := range s.free {
		n += f.Len
	}
	return n
}

func FuzzSpans(f *testing.F) {
	f.Add([]byte{3, 5, 130, 7, 1, 129})
	f.Fuzz(func(t *testing.T, ops []byte) {
		s := newSpans(64)
		var held []device.Span
		used := map[int]bool{}
		for _, op := range ops {
			if op < 128 {
				n := 1 + int(op)%20
				start := s.take(n)
				if start < 0 {
					continue
				}
				for i := start; i < start+n; i++ {
					if used[i] || i >= 64 {
						t.Fatalf("row %d given twice or outside", i)
					}
					used[i] = true
				}
				held = append(held, device.Span{Start: start, Len: n})
			} else if len(held) > 0 {
				i := int(op) % len(held)
				for r := held[i].Start; r < held[i].Start+held[i].Len; r++ {
					delete(used, r)
				}
				s.give(held[i])
				held = append(held[:i], held[i+1:]...)
			}
		}
		for _, h := range held {
			s.give(h)
		}
		if s.left() != 64 || len(s.free) != 1 || s.free[0] != (device.Span{Len: 64}) {
			t.Fatalf("all given back: %+v", s)
		}
	})
}

// TestNotFinite: a model whose numbers overflow is told of, whatever it is asked; nothing of
// them is handed out, and once they are mended it goes on as before.
func TestNotFinite(t *testing.T) {
	m := newModel(t, false)
	e := New(m, nil, Options{})
	defer e.Close()
	want := generate(t, e, []Request{request(1, 3)}, nil)
	sound := make([]float32, m.NumParams())
	m.Device().Read(sound, m.Flat())
	huge := slices.Clone(sound)
	for i, x := range huge {
		if x == 1 { // a norm's
			huge[i] = 3e38
		}
	}
	m.Device().Write(m.Flat(), huge)
	emit := func(x Event) { t.Errorf("handed out: %+v", x) }
	scored, one := request(1, 1), request(1, 3)
	scored.Forced, scored.MaxAnswer, scored.Baseline = [][]int32{{3, 4}}, 0, false
	one.MaxChain, one.Close, one.Reference, one.MaxAnswer, one.Baseline = 1, nil, nil, 0, false
	for name, r := range map[string]Request{"drawn": request(1, 3), "given": scored, "at its end at once": one} {
		if got, err := e.Generate(context.Background(), []Request{r}, emit); !errors.Is(err, ErrNotFinite) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := e.LogProbs(context.Background(), []int32{1, 5, 3}, 0); !errors.Is(err, ErrNotFinite) || got != nil {
		t.Errorf("a text: %v, %v", got, err)
	}
	m.Device().Write(m.Flat(), sound)
	if got := generate(t, e, []Request{request(1, 3)}, nil); !reflect.DeepEqual(got, want) {
		t.Errorf("mended: %+v, want %+v", got, want)
	}
}
