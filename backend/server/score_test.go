package server

import (
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nrt/backend/engine"
	"nrt/web/wire"
)

// whatIfs is a score about an ask's question, a variant for each chain; none is
// the empty one.
func whatIfs(ask *wire.Ask, chains ...[]int32) *wire.Score {
	m := &wire.Score{Head: wire.Head{ID: "s1"}, Model: ask.Model, Question: ask.Question, Answer: ask.Answer}
	for _, ids := range chains {
		var v wire.Variant
		if len(ids) > 0 {
			v.Parts = []wire.ChainPart{{IDs: ids}}
		}
		m.Variants = append(m.Variants, v)
	}
	return m
}

// asked is what a question's frames say.
func asked(t *testing.T, c *client, ask *wire.Ask) *heard {
	t.Helper()
	c.say(ask)
	h := newHeard()
	for !h.take(t, c.next()) {
	}
	return h
}

// agrees compares a scored variant with the reference as an ask had it.
func agrees(t *testing.T, what string, v wire.ScoredVariant, want []engine.Token) {
	t.Helper()
	if len(v.LogProbs) != len(want) {
		t.Errorf("%s: %d log-probs, want %d", what, len(v.LogProbs), len(want))
		return
	}
	for i, w := range want {
		if math.Abs(v.LogProbs[i]-w.LogProb) > 1e-4 {
			t.Errorf("%s: token %d: have %g, want %g", what, i, v.LogProbs[i], w.LogProb)
		}
	}
}

// TestScoreOfAnUneditedChain: a chain given back has the ask's numbers, however
// it ended, and the empty variant those of the baseline.
func TestScoreOfAnUneditedChain(t *testing.T) {
	r := start(t, nil)
	finishes := map[string]int{}
	for _, change := range []func(*wire.Ask){
		func(a *wire.Ask) { a.K = 16 },
		func(a *wire.Ask) { a.MaxChain = 2 },
		func(a *wire.Ask) { a.MaxChain, a.Temperature, a.Seed = 500, 4, 3 }, // as long as the model has room for
	} {
		ask := question()
		change(ask)
		c := r.reader(nil)
		h := asked(t, c, ask)
		var chains [][]int32
		for i := range ask.K {
			chains = append(chains, engine.IDsOf(h.tokens[fmt.Sprintf("%d/chain", i)]))
			finishes[h.done[i].Finish]++
		}
		for _, own := range []bool{false, true} {
			m := whatIfs(ask, append(chains, nil)...)
			m.Own = own
			c.say(m)
			got := expect[*wire.Scored](c)
			if got.ID != "s1" || len(got.Variants) != ask.K+1 {
				t.Fatalf("have %d variants of %q", len(got.Variants), got.ID)
			}
			for i := range ask.K {
				agrees(t, fmt.Sprint("chain ", i), got.Variants[i], h.tokens[fmt.Sprintf("%d/reference", i)])
			}
			agrees(t, "no chain", got.Variants[ask.K], h.tokens["-1/baseline"])
		}
	}
	if finishes["close"] == 0 || finishes["length"] == 0 {
		t.Errorf("chains ended %v: the test needs both sorts", finishes)
	}
}

// TestScoreOwn: the model's own answer is the greedy one of an ask.
func TestScoreOwn(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	for i, item := range smallWorld.HeldOut(4, 3) {
		ask := question()
		ask.Question, ask.Answer, ask.K, ask.Temperature = item.Question, item.Answer, 1, 0
		h := asked(t, c, ask)
		m := whatIfs(ask, engine.IDsOf(h.tokens["0/chain"]), nil)
		for _, m.Own = range []bool{true, false} {
			c.say(m)
			got := expect[*wire.Scored](c).Variants
			want := wire.Done{}
			if m.Own {
				want = h.done[0]
			}
			if got[0].Answer != want.Answer || got[0].Match != want.Match || (got[1].Answer != "") != m.Own {
				t.Errorf("question %d, own %v: have %+v, want %+v", i, m.Own, got, want)
			}
		}
	}
}

// TestScoreOfText: text is cut where it stands, between tokens left alone.
func TestScoreOfText(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	ask := question()
	h := asked(t, c, ask)
	_, tok, _ := direct(t, ask)
	all := engine.IDsOf(h.tokens["0/chain"])
	n := len(all) / 2
	if n < 2 {
		t.Fatalf("chain too short for the test: %v", all)
	}
	m := whatIfs(ask, all, all, all, nil)
	m.Variants[1].Parts = []wire.ChainPart{{Text: tok.Decode(all[:n], false)}, {IDs: all[n:]}}
	m.Variants[2].Parts = []wire.ChainPart{{IDs: all[:1]}, {Text: tok.Decode(all[1:n], false)}, {IDs: all[n:]}}
	m.Variants[3].Parts = []wire.ChainPart{{IDs: all[:1]}, {Text: " " + ask.Answer}}
	c.say(m)
	got := expect[*wire.Scored](c).Variants
	for i := range 3 {
		agrees(t, fmt.Sprint("variant ", i), got[i], h.tokens["0/reference"])
	}
	if got[3].LogProbs[0] == got[0].LogProbs[0] {
		t.Error("a chain of other words has the same numbers")
	}
}

// TestManyVariants: more than one step reads come back in their order.
func TestManyVariants(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	ask := question()
	h := asked(t, c, ask)
	first := engine.IDsOf(h.tokens["0/chain"])
	var long []int32
	for len(long) < 80 {
		long = append(long, first[0])
	}
	var chains [][]int32
	for range wire.MaxVariants / 2 {
		chains = append(chains, first, long)
	}
	m := whatIfs(ask, chains...)
	loaded, err := r.hub.take(t.Context(), r.hub.find(ask.Model))
	if err != nil {
		t.Fatal(err)
	}
	reqs, err := scoring(m, loaded, 512)
	r.hub.give(loaded)
	if err != nil || len(reqs) < 2 {
		t.Fatalf("%d requests, %v: the test needs several", len(reqs), err)
	}
	c.say(m)
	got := expect[*wire.Scored](c).Variants
	if len(got) != wire.MaxVariants {
		t.Fatalf("%d variants", len(got))
	}
	for i, v := range got {
		if i%2 == 0 {
			agrees(t, fmt.Sprint("variant ", i), v, h.tokens["0/reference"])
		} else if math.Abs(v.LogProbs[0]-got[1].LogProbs[0]) > 1e-4 {
			t.Errorf("variant %d: have %g, want %g", i, v.LogProbs[0], got[1].LogProbs[0])
		}
	}
}

func TestRefusedScores(t *testing.T) {
	r := start(t, func(o *Options) { o.Chain = 40 })
	c := r.reader(nil)
	for _, x := range []struct {
		code, field string
		change      func(*wire.Score)
	}{
		{wire.CodeNoModel, "model", func(m *wire.Score) { m.Model = "../../etc/passwd" }},
		{wire.CodeBadMessage, "variants[1].parts[0].ids", func(m *wire.Score) { m.Variants[1].Parts[0].IDs = []int32{5, 1 << 20} }},
		{wire.CodeTooLong, "variants[1]", func(m *wire.Score) { m.Variants[1].Parts[0].IDs = make([]int32, 81) }},
		{wire.CodeTooLong, "variants[0]", func(m *wire.Score) { m.Variants[0].Parts[0].Text = strings.Repeat(" one", 81) }},
		{wire.CodeTooLong, "variants[1]", func(m *wire.Score) {
			m.Question, m.Variants[1].Parts[0].IDs = strings.Repeat("one ", 60), make([]int32, 70)
		}},
		{wire.CodeTooLong, "", func(m *wire.Score) { m.Question = strings.Repeat("one ", 500) }},
	} {
		m := whatIfs(question(), nil, []int32{5})
		m.Variants[0].Parts = []wire.ChainPart{{Text: " one"}}
		x.change(m)
		c.say(m)
		if f := expect[*wire.Failed](c); f.Code != x.code || f.Field != x.field || f.ID != "s1" || f.Message == "" {
			t.Errorf("have %+v, want code %s, field %q", f, x.code, x.field)
		}
	}
	c.say(whatIfs(question(), make([]int32, 80))) // as long as may be
	expect[*wire.Scored](c)
	_, body := r.get("/metrics")
	for _, want := range []string{`nrt_scores_total{result="done"} 1`, `nrt_scores_total{result="failed"} 5`, "nrt_score_seconds_count 1", "nrt_ask_seconds_count 0"} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, "nrt_asks_total{") {
		t.Error("scores are counted as questions")
	}
}

func TestScoresAreRated(t *testing.T) {
	r := start(t, still)
	c := r.reader(nil)
	for i := range 60 {
		c.say(whatIfs(question(), nil))
		if f, ok := c.next().(*wire.Failed); ok {
			if f.Code != wire.CodeRate || f.Retry <= 0 || i != askBurst {
				t.Fatalf("score %d: %+v", i, f)
			}
			return
		}
	}
	t.Error("sixty scores at once were all taken")
}

func TestCancelScore(t *testing.T) {
	var slow atomic.Bool
	slow.Store(true)
	r := start(t, func(o *Options) {
		o.Slots = 1
		o.onToken = func() {
			if slow.Load() {
				time.Sleep(50 * time.Millisecond)
			}
		}
	})
	c := r.reader(nil)
	running := question()
	running.K = 16
	c.say(running)
	expect[*wire.Frame](c)
	m := whatIfs(running, nil, nil)
	m.Own, m.ID = true, running.ID
	c.say(m)
	if f := expect[*wire.Failed](c); f.ID != "q1" || f.Code != wire.CodeBadMessage || !strings.Contains(f.Message, "score: id: ") {
		t.Errorf("have %+v", f)
	}
	m.ID = "s1"
	r.cancelled(c, running.ID, m)
	slow.Store(false)
	c.say(m)
	expect[*wire.Scored](c)
}

// TestScoreSurvivesReconnect: what was scored while the reader was away follows.
func TestScoreSurvivesReconnect(t *testing.T) {
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(time.Millisecond) } })
	c := r.reader(nil)
	c.say(whatIfs(question(), []int32{5, 6, 7}, nil))
	c = r.away(c)
	if got := expect[*wire.Scored](c); len(got.Variants) != 2 {
		t.Errorf("have %+v", got)
	}
}
