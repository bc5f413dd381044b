package objective

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"

	"nrt/trainer/reward"
)

// rollout makes n groups of k chains with answers of t tokens.
func rollout(r *rand.Rand, n, k, t int) []Group {
	logs := func(n int, scale float64) []float64 {
		s := make([]float64, n)
		for i := range s {
			s[i] = -scale * r.ExpFloat64()
		}
		return s
	}
	groups := make([]Group, n)
	for i := range groups {
		g := &groups[i]
		g.Baseline, g.RefBaseline = logs(t, 2), logs(t, 2)
		for range k {
			s := Sample{Chain: logs(r.IntN(6), 1), Closed: r.IntN(3) > 0, Boundary: logs(2, 1), Answer: logs(t, 1), Matched: r.IntN(2) == 0}
			g.Samples = append(g.Samples, s)
			g.Ref = append(g.Ref, RefLogProbs{Chain: logs(len(s.Chain), 1), Boundary: logs(2, 1)})
		}
	}
	return groups
}

// moved is a view of s by a policy that has changed by about d per token.
func moved(r *rand.Rand, s Sample, d float64) *Current {
	shift := func(x []float64) []float64 {
		y := make([]float64, len(x))
		for i := range x {
			y[i] = min(0, x[i]+d*r.NormFloat64())
		}
		return y
	}
	return &Current{Chain: shift(s.Chain), Boundary: shift(s.Boundary), Answer: shift(s.Answer)}
}

func mustNew(t *testing.T, c Config) *Objective {
	t.Helper()
	o, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func mustPlan(t *testing.T, o *Objective, groups []Group) *Plan {
	t.Helper()
	p, err := o.Plan(groups)
	if err != nil {
		t.Fatalf("%s: %v", o.cfg.Method, err)
	}
	return p
}

func mustWeights(t *testing.T, p *Plan, g, k int, now *Current) (Weights, TokenStats) {
	t.Helper()
	w, s, err := p.Weights(g, k, now)
	if err != nil {
		t.Fatal(err)
	}
	return w, s
}

func equal(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-12*(1+math.Abs(want))) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func TestDefaults(t *testing.T) {
	for _, m := range Methods() {
		c := DefaultConfig(m)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back Config
		if err := json.Unmarshal(text, &back); err != nil || back != c {
			t.Errorf("%s: %s reads back as %+v, %v", m, text, back, err)
		}
	}
	if c := DefaultConfig(NRT); c.Reward.Mode != reward.WSLogP || !c.Reward.Clip || !c.SigmaFloor || c.TokenLoss != Derived || c.KL != 0 || c.Entropy != 0 || c.Format != .3 || c.ClipHigh != .28 {
		t.Errorf("nrt: %+v", c)
	}
	if c := DefaultConfig(RLPR); c.Reward.Mode != reward.AM || c.TokenLoss != Off || c.ClipHigh != .27 || c.FilterBeta != .5 || c.FilterFrom != 11 || !c.FixedBaseline {
		t.Errorf("rlpr: %+v", c)
	}
	if c := DefaultConfig(VeriFree); c.Reward.Mode != reward.P || c.Reward.Clip || !c.Reward.NoStd || c.Ratio {
		t.Errorf("verifree: %+v", c)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		method Method
		change func(*Config)
		want   string
	}{
		{"grpo", func(*Config) {}, `method: want one of [nrt sft lm rlpr verifree jepo star rlvr], have "grpo"`},
		{NRT, func(c *Config) { c.Reward.Mode = 12 }, "reward: mode: want"},
		{NRT, func(c *Config) { c.Reward.SigmaFloor = 1 }, "sigma floor"},
		{NRT, func(c *Config) { c.TokenLoss = "" }, "token_loss: want derived, nll or off"},
		{NRT, func(c *Config) { c.LambdaTrace = -1 }, "lambda_trace: want"},
		{NRT, func(c *Config) { c.LambdaToken = math.NaN() }, "lambda_token: want"},
		{NRT, func(c *Config) { c.TokenCap = math.Inf(1) }, "token_cap: want"},
		{NRT, func(c *Config) { c.EMADecay = 1 }, "ema_decay: want"},
		{NRT, func(c *Config) { c.ClipLow = 1.2 }, "clip_low: want 0 to 1, have 1.2"},
		{NRT, func(c *Config) { c.ClipHigh = -.1 }, "clip_high: want"},
		{NRT, func(c *Config) { c.LengthNorm = "mean" }, `length_norm: want constant, token or sequence, have "mean"`},
		{NRT, func(c *Config) { c.LengthConstant = 0 }, "length_constant: want > 0"},
		{NRT, func(c *Config) { c.Format = -1 }, "format: want"},
		{NRT, func(c *Config) { c.KL = -1 }, "kl: want"},
		{NRT, func(c *Config) { c.Entropy = math.Inf(-1) }, "entropy: want"},
		{RLPR, func(c *Config) { c.FormatReward = 2 }, "format_reward: want"},
		{RLPR, func(c *Config) { c.FilterBeta = -2 }, "filter_beta: want"},
		{RLPR, func(c *Config) { c.FilterFrom = -2 }, "filter_from: want"},
		{RLPR, func(c *Config) { c.Reward.Mode = reward.GM }, "rlpr: reward.mode: want am, have gm"},
		{RLPR, func(c *Config) { c.TokenLoss = NLL }, "rlpr: token_loss: want off, have nll"},
		{VeriFree, func(c *Config) { c.Reward.Mode = reward.GM }, "verifree: reward.mode: want p"},
		{SFT, func(c *Config) { c.TokenLoss = Off }, "sft: token_loss: want nll"},
		{STaR, func(c *Config) { c.TokenLoss = NLL }, "star: token_loss: want derived"},
	} {
		cfg := DefaultConfig(c.method)
		c.change(&cfg)
		_, err := New(cfg)
		if err == nil || !strings.HasPrefix(err.Error(), "objective: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

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
				b, sb := mustWeights(t, p, i, k, &Current{Chain: s.Chain, Boundary: s.Boundary, Answer: s.Answer})
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

// TestAllHarmful: no weight anywhere, and the metrics say why.
func TestAllHarmful(t *testing.T) {
	good := Group{Baseline: []float64{-3, -3}, Samples: []Sample{{Chain: []float64{-1}, Closed: true, Answer: []float64{-1, -1}}, {Chain: []float64{-1}, Closed: true, Answer: []float64{-2, -3}}}}
	bad := Group{Baseline: []float64{-1, -1}, Samples: []Sample{{Chain: []float64{-1}, Closed: true, Answer: []float64{-1, -2}}, {Chain: []float64{-1}, Closed: true, Answer: []float64{-4, -1}}}}
	for _, mode := range reward.Modes() {
		c := DefaultConfig(NRT)
		c.Reward.Mode = mode
		p := mustPlan(t, mustNew(t, c), []Group{good, bad})
		for k := range bad.Samples {
			w, _ := mustWeights(t, p, 1, k, nil)
			for _, x := range append(w.Chain, w.Answer...) {
				if x != 0 {
					t.Errorf("%v: weight %v from an all-harmful group", mode, x)
				}
			}
		}
		m := p.Metrics()
		equal(t, "all harmful", m["nrt/all_harmful_groups"], .5)
		equal(t, "zero std", m["frac_reward_zero_std"], .5)
		equal(t, "signal", m["nrt/signal_groups"], .5)
		equal(t, "harmful", m["nrt/harmful"], .5)
	}
}

// TestSigmaFloor follows the average over three rollouts by hand.
func TestSigmaFloor(t *testing.T) {
	// am without clipping: two chains with answers p and q have σ = |p−q|/√2.
	group := func(p, q float64) Group {
		return Group{Baseline: []float64{math.Log(.1)}, Samples: []Sample{{Chain: []float64{-1}, Answer: []float64{math.Log(p)}}, {Chain: []float64{-1}, Answer: []float64{math.Log(q)}}}}
	}
	c := DefaultConfig(NRT)
	c.Reward.Mode, c.Reward.Clip = reward.AM, false
	c.LengthConstant, c.Format = 1, 0
	o := mustNew(t, c)
	s := 1 / math.Sqrt2
	// Step 1: σ = .4s and .2s, and a tie that does not count: floor .3s.
	p := mustPlan(t, o, []Group{group(.7, .3), group(.6, .4), group(.5, .5)})
	floor := .3 * s
	equal(t, "floor 1", p.Metrics()["nrt/sigma_floor"], floor)
	equal(t, "floored", p.Metrics()["nrt/floored_groups"], 2./3)
	w, _ := mustWeights(t, p, 0, 0, nil)
	equal(t, "above the floor", w.Chain[0], s/6)
	equal(t, "above the floor", w.Answer[0], .7/(.4*s)/6)
	w, _ = mustWeights(t, p, 1, 0, nil)
	equal(t, "below the floor", w.Chain[0], .1/floor/6)
	equal(t, "below the floor", w.Answer[0], .6/floor/6)
	w, _ = mustWeights(t, p, 2, 0, nil)
	equal(t, "tie", w.Chain[0], 0)
	equal(t, "equal good chains teach the answer", w.Answer[0], .5/floor/6)
	// Step 2: only ties; the average stays.
	p = mustPlan(t, o, []Group{group(.5, .5)})
	equal(t, "floor 2", p.Metrics()["nrt/sigma_floor"], floor)
	// Step 3.
	p = mustPlan(t, o, []Group{group(.9, .1)})
	equal(t, "floor 3", p.Metrics()["nrt/sigma_floor"], (.99*.3+.8)/1.99*s)
	// Off: the paper's form.
	c.SigmaFloor = false
	p = mustPlan(t, mustNew(t, c), []Group{group(.6, .6-1e-4), group(.9, .1)})
	w, _ = mustWeights(t, p, 0, 0, nil)
	if math.Abs(w.Answer[0]-.6/(1e-4*s)/4) > 1e-6*w.Answer[0] {
		t.Errorf("without floor g/σ = %v", w.Answer[0])
	}
	// Capped.
	c.TokenCap = 5
	p = mustPlan(t, mustNew(t, c), []Group{group(.6, .6-1e-4), group(.9, .1)})
	w, _ = mustWeights(t, p, 0, 0, nil)
	equal(t, "cap", w.Answer[0], 5./4)
	equal(t, "capped", p.Metrics()["nrt/token_capped"], .5)
}

// TestRLPRFilter: from step FilterFrom, groups below β·average(std) of the
// earlier steps are dropped, and the others share the batch.
func TestRLPRFilter(t *testing.T) {
	b := []float64{math.Log(.01)}
	group := func(p, q float64) Group {
		return Group{RefBaseline: b, Samples: []Sample{
			{Chain: []float64{-1, -1}, Boundary: []float64{-1}, Answer: []float64{math.Log(p)}},
			{Chain: []float64{-1, -1}, Boundary: []float64{-1}, Answer: []float64{math.Log(q)}}}}
	}
	c := DefaultConfig(RLPR)
	c.LengthNorm, c.LengthConstant = NormConstant, 1
	c.Format = .3
	o := mustNew(t, c)
	for step := 1; step <= 10; step++ {
		p := mustPlan(t, o, []Group{group(.9, .1), group(.5, .5)})
		equal(t, fmt.Sprintf("step %d filtered", step), p.Metrics()["nrt/filtered_groups"], 0)
	}
	std := .9 * .8 / math.Sqrt2
	equal(t, "average", o.State().Std.Value(), std/2)
	p := mustPlan(t, o, []Group{group(.9, .1), group(.5, .32), group(.5, .29)}) // bar: .2·.9/√2
	equal(t, "filtered", p.Metrics()["nrt/filtered_groups"], 1./3)
	w, _ := mustWeights(t, p, 1, 0, nil)
	for _, x := range append(append(w.Chain, w.Boundary...), w.Answer...) {
		equal(t, "dropped group", x, 0)
	}
	w, _ = mustWeights(t, p, 0, 0, nil)
	equal(t, "kept group over N = 2", w.Chain[0], 1/math.Sqrt2/4)
	equal(t, "answer", w.Answer[0], 0)
	equal(t, "format over N = 2", w.Boundary[0], .3/4)

	// Everything filtered: no weights, no division by zero.
	p = mustPlan(t, o, []Group{group(.5, .5)})
	w, _ = mustWeights(t, p, 0, 0, nil)
	equal(t, "nothing left", w.Chain[0], 0)

	// The reward: 0.9·max(0, B − A) + 0.1·format.
	g := group(.9, .1)
	g.Samples[1].Closed = true
	p = mustPlan(t, mustNew(t, c), []Group{g})
	equal(t, "reward", p.Metrics()["reward"], (.9*.89+.9*.09+.1)/2)
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

// TestPermutation: neither the order of groups nor of chains matters.
func TestPermutation(t *testing.T) {
	const seed = 6
	r := rand.New(rand.NewPCG(seed, 0))
	for _, m := range Methods() {
		groups := rollout(r, 4, 5, 3)
		gp, kp := r.Perm(4), r.Perm(5)
		turned := make([]Group, 4)
		for i, j := range gp {
			turned[i] = Group{Baseline: groups[j].Baseline, RefBaseline: groups[j].RefBaseline}
			for _, k := range kp {
				turned[i].Samples = append(turned[i].Samples, groups[j].Samples[k])
			}
		}
		p, q := mustPlan(t, mustNew(t, DefaultConfig(m)), groups), mustPlan(t, mustNew(t, DefaultConfig(m)), turned)
		for i, j := range gp {
			for l, k := range kp {
				a, _ := mustWeights(t, p, j, k, nil)
				b, _ := mustWeights(t, q, i, l, nil)
				for n := range a.Answer {
					equal(t, fmt.Sprintf("seed %d %s answer", seed, m), b.Answer[n], a.Answer[n])
				}
				for n := range a.Chain {
					equal(t, fmt.Sprintf("seed %d %s chain", seed, m), b.Chain[n], a.Chain[n])
				}
			}
		}
	}
}

// TestState: a run resumed from saved JSON gives the same weights bit for bit.
func TestState(t *testing.T) {
	const seed = 12
	for _, m := range Methods() {
		r := rand.New(rand.NewPCG(seed, 0))
		c := DefaultConfig(m)
		c.FilterFrom = 2
		o := mustNew(t, c)
		for range 3 {
			mustPlan(t, o, rollout(r, 6, 4, 3))
		}
		text, err := json.Marshal(o.State())
		if err != nil {
			t.Fatal(err)
		}
		var s State
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		resumed := mustNew(t, c)
		if err := resumed.SetState(s); err != nil {
			t.Fatal(err)
		}
		groups := rollout(r, 6, 4, 3)
		a, b := mustPlan(t, o, groups), mustPlan(t, resumed, groups)
		if !reflect.DeepEqual(a, b) || o.State() != resumed.State() {
			t.Errorf("seed %d %s: the resumed run differs", seed, m)
		}
		if o.State().Step != 4 {
			t.Errorf("%s: step %d, want 4", m, o.State().Step)
		}
	}
	o := mustNew(t, DefaultConfig(NRT))
	for _, c := range []struct {
		s    State
		want string
	}{
		{State{Method: SFT}, `method: want "nrt", have "sft"`},
		{State{Method: NRT, Step: -1}, "step: want"},
		{State{Method: NRT, Sigma: reward.EMA{Decay: .99, Sum: math.NaN()}}, "sigma: not an average"},
		{State{Method: NRT, Std: reward.EMA{Decay: .99, Weight: 3}}, "std: not an average"},
	} {
		if err := o.SetState(c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// TestBadRollouts: errors name group, chain and token, and leave the state.
func TestBadRollouts(t *testing.T) {
	const seed = 13
	for _, c := range []struct {
		m      Method
		change func(g []Group) []Group
		want   string
	}{
		{NRT, func(g []Group) []Group { return nil }, "no groups"},
		{NRT, func(g []Group) []Group { g[1].Samples = nil; return g }, "group 1: no samples"},
		{NRT, func(g []Group) []Group { g[1].Baseline = nil; return g }, "group 1: no baseline"},
		{RLPR, func(g []Group) []Group { g[0].RefBaseline = nil; return g }, "group 0: no baseline from before training"},
		{NRT, func(g []Group) []Group { g[1].Samples[2].Answer[1] = math.NaN(); return g }, "group 1: chain 2: answer token 1: want a log-probability (finite, ≤ 0), have NaN"},
		{JEPO, func(g []Group) []Group { g[0].Samples[1].Boundary[0] = math.Inf(-1); return g }, "group 0: chain 1: boundary token 0"},
		{NRT, func(g []Group) []Group { g[0].Samples[1].Chain = []float64{-1, 2}; return g }, "group 0: chain 1: chain token 1"},
		{NRT, func(g []Group) []Group { g[0].Baseline[2] = math.NaN(); return g }, "group 0: reward: baseline: token 2"},
		{NRT, func(g []Group) []Group { g[1].Samples[0].Answer = []float64{-1}; return g }, "group 1: reward: chain 0: want 3 answer tokens"},
		{NRT, func(g []Group) []Group { g[1].Ref = nil; return g }, "group 1: kl > 0 wants reference log-probs of 3 chains, have 0"},
		{NRT, func(g []Group) []Group { g[1].Ref[2].Chain = make([]float64, 99); return g }, "group 1: chain 2: reference log-probs: want"},
		{NRT, func(g []Group) []Group { g[1].Samples[1].Closed, g[1].Ref[1].Boundary = true, nil; return g }, "group 1: chain 1: reference log-probs: want 2 boundary tokens, have 0"},
	} {
		cfg := DefaultConfig(c.m)
		cfg.KL = .1
		o := mustNew(t, cfg)
		before := o.State()
		_, err := o.Plan(c.change(rollout(rand.New(rand.NewPCG(seed, 0)), 2, 3, 3)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("seed %d: error %v, want %q", seed, err, c.want)
		}
		if o.State() != before {
			t.Errorf("%q: a failed plan changed the state", c.want)
		}
	}
	p := mustPlan(t, mustNew(t, DefaultConfig(NRT)), rollout(rand.New(rand.NewPCG(seed, 0)), 1, 2, 3))
	s := p.groups[0].Samples[1]
	bad := append([]float64(nil), s.Boundary...)
	bad[1] = math.NaN()
	if _, _, err := p.Weights(0, 1, &Current{Chain: s.Chain, Boundary: bad}); err == nil || !strings.Contains(err.Error(), "group 0: chain 1: current boundary token 1") {
		t.Errorf("a diverged policy: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("lengths that differ must panic")
		}
	}()
	_, _, _ = p.Weights(0, 1, &Current{Chain: make([]float64, 50)})
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

// BenchmarkStep plans and weighs 16 questions × 8 chains of 20 tokens with
// answers of 16, one rollout of the small world.
func BenchmarkStep(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	groups := rollout(r, 16, 8, 16)
	for i := range groups {
		for k := range groups[i].Samples {
			groups[i].Samples[k].Chain = make([]float64, 20)
		}
	}
	o, err := New(DefaultConfig(NRT))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := o.Plan(groups)
		if err != nil {
			b.Fatal(err)
		}
		for i := range groups {
			for k := range groups[i].Samples {
				if _, _, err := p.Weights(i, k, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
}
