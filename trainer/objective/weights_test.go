package objective

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"nrt/trainer/reward"
)

// TestOnPolicy: on the first optimizer step every ratio is 1, and the weights
// are to the last bit those of a policy that has not moved.
func TestOnPolicy(t *testing.T) {
	const seed = 4
	r := rand.New(rand.NewPCG(seed, 0))
	for _, m := range Methods() {
		c := DefaultConfig(m)
		c.KL, c.Entropy = .1, .01
		groups := rollout(r, 3, 4, 5)
		p := mustPlan(t, mustNew(t, c), groups)
		for i, g := range groups {
			for k, s := range g.Samples {
				a, sa := mustWeights(t, p, i, k, nil)
				b, sb := mustWeights(t, p, i, k, &Current{Chain: s.Chain, Boundary: s.Boundary})
				if !reflect.DeepEqual(a, b) || sa != sb {
					t.Errorf("seed %d %s: ratio 1 gives %+v %+v, no ratio %+v %+v", seed, m, b, sb, a, sa)
				}
			}
		}
	}
}

// TestRatio is the clamp-and-drop rule, token by token.
func TestRatio(t *testing.T) {
	c := DefaultConfig(NRT)
	c.Reward.Mode, c.SigmaFloor = reward.AM, false
	c.LengthConstant = 1
	sample := func(answer float64) Sample {
		return Sample{Chain: []float64{-2, -2, -2, -2}, Boundary: []float64{-1}, Closed: true, Answer: []float64{math.Log(answer)}}
	}
	p := mustPlan(t, mustNew(t, c), []Group{{Samples: []Sample{sample(.9), sample(.5)}, Baseline: []float64{math.Log(.1)}}})
	ratios := []float64{1.5, 1.2, .7, .9}
	now := &Current{Boundary: []float64{-1 + math.Log(1.1)}}
	for _, x := range ratios {
		now.Chain = append(now.Chain, -2+math.Log(x))
	}
	a := 1 / math.Sqrt2
	w, s := mustWeights(t, p, 0, 0, now) // A > 0
	for i, want := range []float64{0, 1.2, .8, .9} {
		equal(t, fmt.Sprintf("A > 0, r = %v", ratios[i]), w.Chain[i], a/2*want)
	}
	equal(t, "boundary", w.Boundary[0], a/2*1.1)
	rho := 1.5 * 1.2 * .7 * .9 * 1.1 // 1.2474, inside the range
	equal(t, "ρ·g'/σ/K", w.Answer[0], rho*.9/(.4*a)/2)
	if s.Tokens != 5 || s.High != 1 || s.Low != 0 || s.SequenceClipped != 0 {
		t.Errorf("stats %+v", s)
	}
	x, u := mustWeights(t, p, 0, 1, now) // A < 0
	for i, want := range []float64{1.28, 1.2, 0, .9} {
		equal(t, fmt.Sprintf("A < 0, r = %v", ratios[i]), x.Chain[i], -a/2*want)
	}
	if u.Low != 1 || u.High != 0 {
		t.Errorf("stats %+v", u)
	}
	s.Add(u)
	m := s.Metrics()
	equal(t, "low_mean", m["clip_ratio/low_mean"], .1)
	equal(t, "high_mean", m["clip_ratio/high_mean"], .1)
	equal(t, "region_mean", m["clip_ratio/region_mean"], .2)
	equal(t, "low_min", m["clip_ratio/low_min"], 0)
	equal(t, "high_max", m["clip_ratio/high_max"], .2)
	equal(t, "ratio_max", m["nrt/ratio_max"], 1.5)
	equal(t, "ratio_mean", m["nrt/ratio_mean"], (1.5+1.2+.7+.9+1.1)/5)
	equal(t, "shift_max", m["nrt/logprob_shift_max"], math.Log(1.5))
	equal(t, "shift_mean", m["nrt/logprob_shift_mean"], math.Log(1.5*1.2/.7/.9*1.1)/5)

	// ρ is clamped, never dropped.
	for i := range now.Chain {
		now.Chain[i] = -1
	}
	w, s = mustWeights(t, p, 0, 0, now)
	equal(t, "clamped ρ", w.Answer[0], 1.28*.9/(.4*a)/2)
	if s.SequenceClipped != 1 {
		t.Errorf("stats %+v", s)
	}

	// Without the ratio the present policy does not matter.
	c.Ratio = false
	p = mustPlan(t, mustNew(t, c), p.groups)
	w, s = mustWeights(t, p, 0, 0, now)
	equal(t, "no ratio", w.Chain[0], a/2)
	equal(t, "no ratio", w.Answer[0], .9/(.4*a)/2)
	if s.High != 0 {
		t.Errorf("dropped without a ratio: %+v", s)
	}
}

// TestStats: shares are over tokens, the extremes over chains; chains without
// sampled tokens count nowhere.
func TestStats(t *testing.T) {
	var s TokenStats
	for _, c := range []TokenStats{
		{Tokens: 4, Low: 2, LowMin: .5, Chains: 1, RatioSum: 4, RatioMax: 1.5, AbsLogSum: 2, AbsLogMax: 1},
		{},
		{Tokens: 6, Low: 1, High: 3, LowMin: 1. / 6, HighMax: .5, Chains: 1, SequenceClipped: 1, RatioSum: 8, RatioMax: 3, KLSum: 1, KLTokens: 4},
		{Tokens: 10, Low: 5, LowMin: .5, Chains: 1, RatioSum: 10, RatioMax: 1},
	} {
		s.Add(c)
	}
	want := map[string]float64{
		"clip_ratio/low_mean": .4, "clip_ratio/low_min": 1. / 6, "clip_ratio/high_mean": .15, "clip_ratio/high_max": .5,
		"clip_ratio/region_mean": .55, "nrt/ratio_mean": 1.1, "nrt/ratio_max": 3, "nrt/logprob_shift_mean": .1,
		"nrt/logprob_shift_max": 1, "nrt/sequence_clipped": 1. / 3, "kl": .25,
	}
	got := s.Metrics()
	if len(got) != len(want) {
		t.Errorf("metrics %v, want %v", got, want)
	}
	for name, x := range want {
		equal(t, name, got[name], x)
	}
}

// TestLengths: the three normalisers on chains of different lengths.
func TestLengths(t *testing.T) {
	b := []float64{math.Log(.1), math.Log(.1)}
	ans := func(p float64) []float64 { return []float64{math.Log(p), math.Log(p)} }
	groups := []Group{
		{Baseline: b, Samples: []Sample{
			{Chain: make([]float64, 3), Boundary: make([]float64, 1), Closed: true, Answer: ans(.6)}, // n = 6
			{Chain: make([]float64, 8), Boundary: make([]float64, 1), Answer: ans(.3)},               // n = 10
		}},
		{Baseline: b, Samples: []Sample{
			{Boundary: make([]float64, 1), Answer: ans(.7)},                                          // n = 2
			{Chain: make([]float64, 1), Boundary: make([]float64, 1), Closed: true, Answer: ans(.2)}, // n = 4
		}},
	}
	a := 1 / math.Sqrt2
	for norm, want := range map[string][]float64{
		NormConstant: {1. / (4 * 16), 1. / (4 * 16), 1. / (4 * 16), 1. / (4 * 16)},
		NormToken:    {1. / 22, 1. / 22, 1. / 22, 1. / 22},
		NormSequence: {1. / (4 * 6), 1. / (4 * 10), 1. / (4 * 2), 1. / (4 * 4)},
	} {
		c := DefaultConfig(NRT)
		c.Reward.Mode, c.SigmaFloor, c.Format = reward.AM, false, 0
		c.LengthNorm, c.LengthConstant = norm, 16
		p := mustPlan(t, mustNew(t, c), groups)
		for i, g := range groups {
			for k := range g.Samples {
				w, _ := mustWeights(t, p, i, k, nil)
				sign := 1 - 2*float64(k)
				for _, x := range w.Chain {
					equal(t, norm+" chain", x, sign*a*want[2*i+k])
				}
				equal(t, norm+" answer", w.Answer[0], p.signals[i][k].token[0]*want[2*i+k])
				if g.Samples[k].Closed {
					equal(t, norm+" boundary", w.Boundary[0], sign*a*want[2*i+k])
				} else if w.Boundary[0] != 0 {
					t.Errorf("%s: a forced boundary has weight %v", norm, w.Boundary[0])
				}
			}
		}
		// Without a token term answers do not count as length.
		c.TokenLoss = Off
		p = mustPlan(t, mustNew(t, c), groups)
		if w, _ := mustWeights(t, p, 0, 0, nil); norm == NormSequence {
			equal(t, "trace only", w.Chain[0], a/(4*4))
		}
	}
}

// TestSFTWeights: every answer token of the batch weighs the same, and nothing
// else weighs anything.
func TestSFTWeights(t *testing.T) {
	groups := []Group{{Samples: []Sample{{Chain: make([]float64, 4), Boundary: make([]float64, 1), Answer: make([]float64, 3)}}}, {Samples: []Sample{{Answer: make([]float64, 7)}}}}
	p := mustPlan(t, mustNew(t, DefaultConfig(SFT)), groups)
	for i := range groups {
		w, _ := mustWeights(t, p, i, 0, nil)
		for _, x := range w.Answer {
			equal(t, "sft", x, .1)
		}
		for _, x := range append(w.Chain, w.Boundary...) {
			equal(t, "sft outside the answer", x, 0)
		}
	}
	if len(p.Metrics()) != 0 {
		t.Errorf("sft has no rewards, but reports %v", p.Metrics())
	}
	p = mustPlan(t, mustNew(t, DefaultConfig(LM)), groups)
	w, s := mustWeights(t, p, 0, 0, nil)
	for _, x := range append(append(w.Chain, w.Boundary...), w.Answer...) {
		equal(t, "lm", x, 1./15)
	}
	if len(s.Metrics()) != 0 {
		t.Errorf("lm has no ratios, but reports %v", s.Metrics())
	}
}

// TestFormat: forced boundaries alone, as a mean that does not shrink with C, or
// per length.
func TestFormat(t *testing.T) {
	groups := []Group{{Baseline: []float64{-1}, Samples: []Sample{
		{Boundary: []float64{-1, -1}, Answer: []float64{-2}},
		{Boundary: []float64{-1, -1}, Closed: true, Answer: []float64{-2}},
		{Boundary: []float64{-1, -1}, Answer: []float64{-2}},
	}}}
	c := DefaultConfig(NRT)
	for _, perLength := range []bool{false, true} {
		c.FormatPerLength = perLength
		p := mustPlan(t, mustNew(t, c), groups)
		want := .3 / 3 / 2
		if perLength {
			want = .3 / 3 / 512
		}
		for k := range 3 {
			w, _ := mustWeights(t, p, 0, k, nil)
			x := want
			if k == 1 {
				x = 0 // all harmful: no advantage either
			}
			equal(t, fmt.Sprintf("per length %v, chain %d", perLength, k), w.Boundary[0], x)
			equal(t, fmt.Sprintf("per length %v, chain %d", perLength, k), w.Boundary[1], x)
		}
	}
}

// TestMethodWeights checks VeriFree, JEPO, STaR and RLVR in numbers.
func TestMethodWeights(t *testing.T) {
	group := Group{Baseline: []float64{-1}, Samples: []Sample{
		{Chain: []float64{-1}, Closed: true, Answer: []float64{math.Log(.5)}, Matched: true},
		{Chain: []float64{-1}, Closed: true, Answer: []float64{math.Log(.2)}},
		{Chain: []float64{-1}, Closed: true, Answer: []float64{math.Log(.1)}},
	}}
	for _, c := range []struct {
		m            Method
		trace, token []float64
	}{
		{VeriFree, []float64{.5 - .15, .2 - .3, .1 - .35}, []float64{.5, .2, .1}},
		{JEPO, []float64{3 * math.Log(.8/3/.15), 3 * math.Log(.8/3/.3), 3 * math.Log(.8/3/.35)}, []float64{3 * .5 / .8, 3 * .2 / .8, 3 * .1 / .8}},
		{STaR, []float64{1, 0, 0}, []float64{1, 0, 0}},
		{RLVR, []float64{2 / math.Sqrt(3), -1 / math.Sqrt(3), -1 / math.Sqrt(3)}, []float64{math.Sqrt(3), 0, 0}},
	} {
		cfg := DefaultConfig(c.m)
		cfg.LengthNorm, cfg.LengthConstant = NormConstant, 1
		p := mustPlan(t, mustNew(t, cfg), []Group{group})
		for k := range group.Samples {
			w, _ := mustWeights(t, p, 0, k, nil)
			equal(t, fmt.Sprintf("%s trace %d", c.m, k), w.Chain[0], c.trace[k]/3)
			equal(t, fmt.Sprintf("%s token %d", c.m, k), w.Answer[0], c.token[k]/3)
		}
	}
	// STaR divides by kept tokens.
	p := mustPlan(t, mustNew(t, DefaultConfig(STaR)), []Group{group})
	w, _ := mustWeights(t, p, 0, 0, nil)
	equal(t, "star", w.Chain[0], .5)
	// A single chain is no bound.
	group.Samples = group.Samples[:1]
	if _, err := mustNew(t, DefaultConfig(JEPO)).Plan([]Group{group}); err == nil || !strings.Contains(err.Error(), "group 0: jepo needs at least 2 chains, have 1") {
		t.Errorf("jepo with one chain: %v", err)
	}
}

// TestLongAnswers: JEPO's shares survive answers whose P underflows.
func TestLongAnswers(t *testing.T) {
	long := func(d float64) Sample {
		s := Sample{Chain: []float64{-1}, Answer: make([]float64, 5000)}
		for i := range s.Answer {
			s.Answer[i] = -20
		}
		s.Answer[0] += d
		return s
	}
	c := DefaultConfig(JEPO)
	c.LengthConstant = 1
	p := mustPlan(t, mustNew(t, c), []Group{{Samples: []Sample{long(0), long(math.Log(3))}}})
	for k, want := range []float64{.25, .75} {
		w, _ := mustWeights(t, p, 0, k, nil)
		if math.Abs(w.Answer[0]-want) > 1e-9 {
			t.Errorf("share %d = %v, want %v", k, w.Answer[0], want)
		}
	}
}

// TestJEPOTies: chains that tie have no trace weight, by which no token is clipped
// either, and a token weight of 1 each.
func TestJEPOTies(t *testing.T) {
	const seed = 15
	r := rand.New(rand.NewPCG(seed, 0))
	c := DefaultConfig(JEPO)
	c.Ratio, c.LengthConstant = true, 1
	for k := 2; k <= 9; k++ {
		s := Sample{Chain: []float64{-1}, Answer: []float64{-.1 * r.Float64(), -.01 * r.Float64()}}
		p := mustPlan(t, mustNew(t, c), []Group{{Samples: slices.Repeat([]Sample{s}, k)}})
		if a := p.Metrics()["nrt/advantage_max"]; a != 0 {
			t.Errorf("%d equal chains: an advantage of %g", k, a)
		}
		equal(t, "groups that tie", p.Metrics()["frac_reward_zero_std"], 1)
		for _, now := range []float64{-3, -.1} {
			w, stats := mustWeights(t, p, 0, 0, &Current{Chain: []float64{now}})
			if w.Chain[0] != 0 || stats.Low+stats.High != 0 {
				t.Errorf("%d equal chains: chain token weighs %g, dropped %d", k, w.Chain[0], stats.Low+stats.High)
			}
		}
		w, _ := mustWeights(t, p, 0, 0, nil)
		equal(t, fmt.Sprintf("token of %d equal chains", k), w.Answer[0], 1/float64(k))
	}
}

// TestRLPRTies: rewards that differ by rounding tie, however little they are above the
// baseline's, unless the format tells the chains apart.
func TestRLPRTies(t *testing.T) {
	for _, closed := range []int{0, 1, 4} {
		g := Group{RefBaseline: []float64{-1e-11}}
		for k := range 4 {
			g.Samples = append(g.Samples, Sample{Chain: []float64{-1}, Answer: []float64{float64(-k) * 1e-12}, Closed: k < closed})
		}
		m := mustPlan(t, mustNew(t, DefaultConfig(RLPR)), []Group{g}).Metrics()
		if a, tie := m["nrt/advantage_max"], m["frac_reward_zero_std"]; (a == 0) != (closed != 1) || (tie == 1) != (closed != 1) {
			t.Errorf("%d of 4 closed: the largest advantage is %g, %g of the groups tie", closed, a, tie)
		}
	}
}

// TestWeightsArePure: calling Weights again, and from many goroutines, gives the
// same.
func TestWeightsArePure(t *testing.T) {
	const seed = 14
	r := rand.New(rand.NewPCG(seed, 0))
	c := DefaultConfig(NRT)
	c.KL = .1
	groups := rollout(r, 4, 4, 4)
	p := mustPlan(t, mustNew(t, c), groups)
	var all sync.WaitGroup
	for i := range groups {
		for k, s := range groups[i].Samples {
			now := moved(r, s, .3)
			want, _ := mustWeights(t, p, i, k, now)
			for range 4 {
				all.Go(func() {
					got, _, err := p.Weights(i, k, now)
					if err != nil || !reflect.DeepEqual(got, want) {
						t.Errorf("seed %d: weights changed between calls: %v", seed, err)
					}
				})
			}
		}
	}
	all.Wait()
}

// FuzzWeights: finite log-probabilities give finite weights and metrics.
func FuzzWeights(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint8(3), 1.0, .1)
	f.Add(uint64(2), uint8(11), uint8(1), 800.0, 900.0)
	f.Add(uint64(3), uint8(29), uint8(9), 1e95, 1e-9)
	f.Fuzz(func(t *testing.T, seed uint64, flags, n uint8, size, drift float64) {
		if !(size > 0 && size < 1e96) || !(drift >= 0 && drift < 1e96) {
			return
		}
		r := rand.New(rand.NewPCG(seed, 2))
		c := DefaultConfig(Methods()[int(flags)%8])
		if c.Method == NRT {
			c.Reward.Mode = reward.Modes()[r.IntN(6)]
			c.Reward.Clip, c.Reward.NoStd = r.IntN(2) == 0, r.IntN(2) == 0
		}
		c.SigmaFloor = flags&8 != 0
		c.KL, c.Entropy, c.Format, c.FilterFrom = .1, .01, .3, 1
		c.LengthNorm = []string{NormConstant, NormToken, NormSequence}[r.IntN(3)]
		o := mustNew(t, c)
		for range 2 {
			groups := rollout(r, 2, 2+int(n%6), 1+int(n%5))
			for i := range groups {
				for _, s := range groups[i].Samples {
					for _, x := range [][]float64{s.Chain, s.Boundary, s.Answer} {
						for j := range x {
							x[j] *= size
						}
					}
				}
			}
			p := mustPlan(t, o, groups)
			var sum TokenStats
			for i := range groups {
				for k, s := range groups[i].Samples {
					w, st := mustWeights(t, p, i, k, moved(r, s, drift))
					sum.Add(st)
					for _, x := range [][]float64{w.Chain, w.Boundary, w.Answer, {w.ChainEntropy, w.BoundaryEntropy}} {
						for _, v := range x {
							if !finite(v) {
								t.Fatalf("%+v: weight %v of %+v", c, v, s)
							}
						}
					}
				}
			}
			for _, m := range []map[string]float64{p.Metrics(), sum.Metrics()} {
				for name, v := range m {
					if !finite(v) {
						t.Fatalf("%+v: %s = %v", c, name, v)
					}
				}
			}
		}
	})
}
