package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/web/wire"
)

// steps are the models of a training run, the start first.
var steps = []string{"world:base", "world:nrt@10", "world:nrt@40", "world:nrt"}

// course serves them.
func course(t testing.TB, change func(*Options)) *rig {
	return start(t, func(o *Options) {
		for _, name := range steps[1:] {
			o.Models = append(o.Models, Source{Name: name, Files: embedded(t, name), World: true})
		}
		if change != nil {
			change(o)
		}
	})
}

// through has several models read an ask's chains, and none.
func through(ask *wire.Ask, models []string, chains ...[]int32) *wire.Score {
	m := whatIfs(ask, append(chains, nil)...)
	m.ID, m.Model, m.Models = "t1", "", models
	return m
}

// readBy has the engine read chains, and none, by a model, without a server.
func readBy(t *testing.T, name string, ask *wire.Ask, chains [][]int32) []engine.Chain {
	t.Helper()
	got, _, _ := alone(t, name, func(form *token.Format, _ int) (engine.Request, error) {
		return engine.Request{
			Prompt: form.Prompt(ask.Question), Reference: form.Answer(ask.Answer),
			Close: form.Close, StopText: form.StopText, Stop: form.End, Forced: append(chains, nil),
		}, nil
	})
	return got.Chains
}

// TestChainsThroughTraining: the same chains, read by the models of several steps,
// have the numbers that the engine gives with each of these models; each model is
// named, in the order that was asked for, and the writer's are those of the ask.
func TestChainsThroughTraining(t *testing.T) {
	r := course(t, nil)
	c := r.reader(nil)
	ask := question()
	h := asked(t, c, ask)
	var chains [][]int32
	for i := range ask.K {
		chains = append(chains, engine.IDsOf(h.tokens[fmt.Sprintf("%d/chain", i)]))
	}
	c.say(through(ask, steps, chains...))
	apart := 0
	for i, name := range steps {
		got := expect[*wire.Scored](c)
		if got.ID != "t1" || got.Model != name || len(got.Variants) != ask.K+1 {
			t.Fatalf("answer %d: %d variants by %q of %q", i+1, len(got.Variants), got.Model, got.ID)
		}
		for k, want := range readBy(t, name, ask, chains) {
			for j, w := range want.Reference {
				if have := got.Variants[k].LogProbs[j]; have != w.LogProb {
					t.Errorf("%s, chain %d, token %d: have %g, want %g", name, k+1, j, have, w.LogProb)
				}
			}
		}
		for k := 0; i == 0 && k < ask.K; k++ {
			key := fmt.Sprintf("%d/reference", k)
			agrees(t, key, got.Variants[k], h.tokens[key])
		}
		if got.Variants[0].LogProbs[0] != h.tokens["0/reference"][0].LogProb {
			apart++
		}
	}
	if apart < len(steps)-1 {
		t.Errorf("%d of the trained models read as the base does", len(steps)-1-apart)
	}
	if end := expect[*wire.End](c); end.ID != "t1" || end.Cancelled || end.Seconds <= 0 {
		t.Errorf("have %+v", end)
	}
	_, body := r.get("/metrics")
	for _, want := range []string{`nrt_scores_total{result="done"} 1`, fmt.Sprintf("nrt_score_seconds_count %d", len(steps))} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestRefusedThroughTraining: nothing is read where one of the models is not there, or
// would take the ids for other words.
func TestRefusedThroughTraining(t *testing.T) {
	r := course(t, func(o *Options) {
		o.Chain = 40
		o.Models = append(o.Models, Source{Name: "other", Files: with(t, "world:base", map[string]string{"chat_template.jinja": "<|user|><|assistant|>"})})
	})
	c := r.reader(nil)
	for _, x := range []struct {
		code, field string
		models      []string
		chain       []int32
	}{
		{wire.CodeNoModel, "models[1]", []string{"world:base", "run9@10"}, []int32{5}},
		{wire.CodeNoModel, "models[2]", []string{"world:base", "world:nrt", "other"}, []int32{5}},
		{wire.CodeNoModel, "model", []string{"run9@10"}, []int32{5}},
		{wire.CodeTooLong, "variants[0]", steps, make([]int32, 81)},
		{wire.CodeBadMessage, "variants[0].parts[0].ids", steps, []int32{1 << 20}},
	} {
		c.say(through(question(), x.models, x.chain))
		if f, ok := c.next().(*wire.Failed); !ok || f.Code != x.code || f.Field != x.field || f.ID != "t1" || f.Message == "" {
			t.Errorf("%v: have %+v, want code %s, field %q", x.models, f, x.code, x.field)
		}
	}
}

// TestOthersBetweenTheSteps: between two models of one request another reader has a
// turn, and a request that is called off stops at the model it has come to.
func TestOthersBetweenTheSteps(t *testing.T) {
	r := course(t, func(o *Options) { o.Slots = 1; o.onToken = func() { time.Sleep(10 * time.Millisecond) } })
	c, other := r.reader(nil), r.reader(nil)
	var many []string
	for range 4 {
		many = append(many, steps...)
	}
	c.say(through(question(), many, []int32{5, 6, 7}))
	expect[*wire.Scored](c)
	other.say(whatIfs(question(), nil))
	expect[*wire.Scored](other)
	read := 1
	c.say(&wire.Cancel{Head: wire.Head{ID: "t1"}})
	for end := false; !end; {
		switch m := c.next().(type) {
		case *wire.Scored:
			read++
		case *wire.End:
			if end = true; !m.Cancelled || m.Seconds <= 0 {
				t.Errorf("have %+v", m)
			}
		case *wire.Failed:
			t.Fatalf("failed: %+v", m)
		}
	}
	if read >= len(many)-1 {
		t.Errorf("%d of %d models had read before the other reader's turn and the end", read, len(many))
	}
	settled(t, "slots", func() bool { busy, waiting := r.sched.load(); return busy == 0 && waiting == 0 })
}

// TestNotTurnedAwayBetweenTheSteps: a reader who has meanwhile asked as much as may wait
// hears all of the models.
func TestNotTurnedAwayBetweenTheSteps(t *testing.T) {
	asked := make(chan struct{})
	r := course(t, func(o *Options) {
		o.Slots, o.QueueEach = 1, 1
		o.onToken = func() { <-asked }
	})
	c, other := r.reader(nil), r.reader(nil)
	c.say(through(question(), steps, []int32{5, 6, 7}))
	settled(t, "the first model", func() bool { busy, _ := r.sched.load(); return busy == 1 })
	other.say(whatIfs(question(), nil))
	settled(t, "the other reader", func() bool { _, waiting := r.sched.load(); return waiting == 1 })
	own := whatIfs(question(), nil)
	own.ID = "w2"
	c.say(own)
	settled(t, "what may wait", func() bool { _, waiting := r.sched.load(); return waiting == 2 })
	close(asked)
	read, over := 0, false
	for !over || read < len(steps)+1 {
		switch m := c.next().(type) {
		case *wire.Scored:
			read++
		case *wire.End:
			over = true
		case *wire.Failed:
			t.Fatalf("after %d answers: %+v", read, m)
		}
	}
	expect[*wire.Scored](other)
}

// TestChainsThroughARun: the kept steps of a run in the page read as any model does,
// for whoever may ask them; what a run never kept does not.
func TestChainsThroughARun(t *testing.T) {
	r := trainer(t, t.TempDir())
	c, other := r.reader(nil), r.reader(nil)
	c.say(short(2))
	st := until(c, "run1", wire.StatusDone)
	var names []string
	for _, k := range st.Checkpoints {
		names = append(names, k.Model)
	}
	if len(names) != 3 {
		t.Fatalf("kept %v", names)
	}
	other.say(through(question(), names, []int32{5, 6, 7}))
	var first []float64
	for _, name := range names {
		got := expect[*wire.Scored](other)
		if got.Model != name {
			t.Fatalf("%s reads instead of %s", got.Model, name)
		}
		first = append(first, got.Variants[0].LogProbs[0])
	}
	expect[*wire.End](other)
	if first[0] == first[2] {
		t.Error("two steps of training changed nothing")
	}
	other.say(through(question(), []string{"world:base", "run1@7"}, []int32{5}))
	if f := expect[*wire.Failed](other); f.Code != wire.CodeNoModel {
		t.Errorf("have %+v", f)
	}
}
