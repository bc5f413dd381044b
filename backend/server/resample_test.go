package server

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nrt/backend/engine"
	"nrt/trainer/reward"
	"nrt/web/wire"
)

// again asks for an ask's chain to be written afresh.
func again(ask *wire.Ask, of int, chain []int32, cuts ...int) *wire.Resample {
	return &wire.Resample{Head: wire.Head{ID: "f1"}, Model: ask.Model, Question: ask.Question, Answer: ask.Answer,
		Chain: chain, Of: of, Cuts: cuts, N: 8, Temperature: ask.Temperature, TopP: ask.TopP, Seed: ask.Seed, MaxChain: ask.MaxChain}
}

// fresh is all that the server says to a resample, by place.
func fresh(t *testing.T, c *client, m *wire.Resample) map[int][]wire.Fresh {
	t.Helper()
	c.say(m)
	out := map[int][]wire.Fresh{}
	for {
		switch got := c.next().(type) {
		case *wire.Resampled:
			if got.ID != m.ID || out[got.Cut] != nil || !slices.Contains(m.Cuts, got.Cut) || len(got.Fresh) != m.N {
				t.Fatalf("have %d chains of %q from %d on", len(got.Fresh), got.ID, got.Cut)
			}
			out[got.Cut] = got.Fresh
		case *wire.End:
			if got.ID != m.ID || got.Cancelled || got.Seconds <= 0 || len(out) != len(m.Cuts) {
				t.Fatalf("after %d places of %d: %+v", len(out), len(m.Cuts), got)
			}
			return out
		case *wire.Failed:
			t.Fatalf("%s: %s", got.Code, got.Message)
		}
	}
}

// TestResampledIsWhatScoreSays: the numbers after a chain written afresh are those
// that a score of the same tokens has, and the reward is the same under every
// formula. Nothing is longer than the ask allowed.
func TestResampledIsWhatScoreSays(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	for _, most := range []int{24, 7} {
		ask := question()
		ask.MaxChain = most
		h := asked(t, c, ask)
		base := engine.LogProbsOf(h.tokens["-1/baseline"])
		_, tok, _ := direct(t, ask)
		closed := 0
		for of := range ask.K {
			chain := engine.IDsOf(h.tokens[fmt.Sprintf("%d/chain", of)])
			cuts := []int{0}
			for _, at := range []int{1, len(chain) / 2, len(chain) - 1} {
				if at > cuts[len(cuts)-1] && at < len(chain) {
					cuts = append(cuts, at)
				}
			}
			got := fresh(t, c, again(ask, of, chain, cuts...))
			var whole [][]int32 // in the order of cuts
			var list []wire.Fresh
			for _, cut := range cuts {
				for _, f := range got[cut] {
					all := slices.Concat(chain[:cut], f.IDs)
					whole, list = append(whole, all), append(list, f)
					if len(all) > most || len(f.IDs) == 0 {
						t.Errorf("a chain of %d tokens; the ask allows %d", len(all), most)
					}
					have, want := tok.Decode(chain[:cut], false)+f.Text, tok.Decode(all, false)
					if strings.HasPrefix(want, have) && want != have {
						closed++
					} else if want != have {
						t.Errorf("from %d on: text %q, want %q", cut, have, want)
					}
				}
			}
			c.say(whatIfs(ask, whole...))
			for i, v := range expect[*wire.Scored](c).Variants {
				for _, mode := range reward.Modes() {
					have, err := reward.Score(list[i].LogProbs, base, reward.Options{Mode: mode})
					if err != nil {
						t.Fatal(err)
					}
					want, err := reward.Score(v.LogProbs, base, reward.Options{Mode: mode})
					if err != nil {
						t.Fatal(err)
					}
					if math.Abs(have.R-want.R) > 1e-6*max(1, math.Abs(want.R)) {
						t.Errorf("chain %d, %d of %d, %s: R %g, by score %g", of, i, len(list), mode, have.R, want.R)
					}
				}
			}
		}
		if closed == 0 {
			t.Error("no chain closed itself: the test needs some")
		}
	}
}

// TestResampledByTheSeed: the same request has the same answer, a place the same in
// any request, and another seed, chain or place another one. A greedy model writes
// the rest of its greedy chain.
func TestResampledByTheSeed(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	ask := question()
	h := asked(t, c, ask)
	chain := engine.IDsOf(h.tokens["0/chain"])
	cuts := []int{0, 2, len(chain) - 1}
	first := fresh(t, c, again(ask, 0, chain, cuts...))
	if twice := fresh(t, c, again(ask, 0, chain, cuts...)); !reflect.DeepEqual(first, twice) {
		t.Error("the same request has another answer")
	}
	if alone := fresh(t, c, again(ask, 0, chain, 2)); !reflect.DeepEqual(alone[2], first[2]) {
		t.Error("a place asked alone has another answer")
	}
	m := again(ask, 0, chain, 0)
	m.N = 3
	if few := fresh(t, c, m); !reflect.DeepEqual(few[0], first[0][:3]) {
		t.Error("fewer chains are not the first of more")
	}
	m = again(ask, 1, chain, 0)
	if other := fresh(t, c, m); reflect.DeepEqual(other[0], first[0]) {
		t.Error("another chain's number has the same answer")
	}
	m.Of, m.Seed = 0, ask.Seed+1
	if other := fresh(t, c, m); reflect.DeepEqual(other[0], first[0]) {
		t.Error("another seed has the same answer")
	}
	seen := map[uint64]bool{}
	for seed := range uint64(20) {
		for of := range 16 {
			for cut := range 20 {
				seen[seedAt(seed, of, cut)] = true
			}
		}
	}
	if len(seen) != 20*16*20 {
		t.Errorf("%d seeds for %d places", len(seen), 20*16*20)
	}

	ask.Temperature, ask.K = 0, 1
	h = asked(t, c, ask)
	chain = engine.IDsOf(h.tokens["0/chain"])
	for cut, list := range fresh(t, c, again(ask, 0, chain, 0, 1, len(chain)-1)) {
		for _, f := range list {
			if !slices.Equal(f.IDs, chain[cut:]) {
				t.Errorf("greedily from %d on: %v, want %v", cut, f.IDs, chain[cut:])
			}
		}
	}
}

func TestRefusedResamples(t *testing.T) {
	r := start(t, func(o *Options) { o.Chain = 40 })
	c := r.reader(nil)
	_, _, form := direct(t, question())
	for _, x := range []struct {
		code, field string
		change      func(*wire.Resample)
	}{
		{wire.CodeNoModel, "model", func(m *wire.Resample) { m.Model = "../../etc/passwd" }},
		{wire.CodeBadMessage, "max_chain", func(m *wire.Resample) { m.MaxChain = 41 }},
		{wire.CodeBadMessage, "chain", func(m *wire.Resample) { m.Chain[5] = 1 << 20 }},
		{wire.CodeBadMessage, "cuts", func(m *wire.Resample) { m.Chain[1] = form.Close[0] }},
		{wire.CodeBadMessage, "cuts", func(m *wire.Resample) { m.Chain[1] = form.End[0] }},
		{wire.CodeTooLong, "cuts", func(m *wire.Resample) { m.Question, m.Cuts = strings.Repeat("one ", 96), []int{9} }},
		{wire.CodeTooLong, "", func(m *wire.Resample) { m.Question = strings.Repeat("one ", 500) }},
	} {
		m := again(question(), 0, []int32{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, 0, 3)
		x.change(m)
		c.say(m)
		if f := expect[*wire.Failed](c); f.Code != x.code || f.Field != x.field || f.ID != "f1" || f.Message == "" {
			t.Errorf("have %+v, want code %s, field %q", f, x.code, x.field)
		}
	}
	m := again(question(), 0, []int32{5, 6, 7, form.Close[0]}, 0, 3) // what ends the chain comes after the cut
	fresh(t, c, m)
	_, body := r.get("/metrics")
	for _, want := range []string{`nrt_resamples_total{result="done"} 1`, `nrt_resamples_total{result="failed"} 5`, "nrt_resample_seconds_count"} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, "nrt_scores_total{") || strings.Contains(body, "nrt_asks_total{") {
		t.Error("chains written afresh are counted as something else")
	}
}

func TestResamplesAreRated(t *testing.T) {
	r := start(t, still)
	c := r.reader(nil)
	m := again(question(), 0, []int32{5, 6}, 1)
	m.N, m.MaxChain = 1, 2
	for i := range 60 {
		m.ID = fmt.Sprint("f", i)
		c.say(m)
		switch got := c.next().(type) {
		case *wire.Failed:
			if got.Code != wire.CodeRate || got.Retry <= 0 || i != askBurst {
				t.Fatalf("resample %d: %+v", i, got)
			}
			return
		case *wire.Resampled:
			expect[*wire.End](c)
		}
	}
	t.Error("sixty at once were all taken")
}

// TestCancelResample: waiting or at work, it ends when it is told to, and what was
// said of places before stays said.
func TestCancelResample(t *testing.T) {
	r := start(t, func(o *Options) { o.Slots = 1; o.onToken = func() { time.Sleep(5 * time.Millisecond) } })
	c := r.reader(nil)
	running := question()
	running.K = 16
	c.say(running)
	expect[*wire.Frame](c)
	m := again(running, 0, []int32{5, 6, 7, 8}, 0, 1, 2, 3)
	r.cancelled(c, running.ID, m)
	m.Cuts = m.Cuts[:1]
	fresh(t, c, m)
}

// TestResampleSurvivesReconnect: what was written while the reader was away follows.
func TestResampleSurvivesReconnect(t *testing.T) {
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(time.Millisecond / 4) } })
	c := r.reader(nil)
	c.say(again(question(), 0, []int32{5, 6, 7}, 0, 2))
	c = r.away(c)
	seen := map[int]bool{}
	for range 2 {
		seen[expect[*wire.Resampled](c).Cut] = true
	}
	if e := expect[*wire.End](c); !seen[0] || !seen[2] || e.Cancelled {
		t.Errorf("have places %v, %+v", seen, e)
	}
}
