package objective

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
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
	return &Current{Chain: shift(s.Chain), Boundary: shift(s.Boundary)}
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
	if c := DefaultConfig(RLPR); c.Reward.Mode != reward.AM || c.TokenLoss != Off || c.ClipHigh != .27 || c.FilterBeta != .5 || c.FilterFrom != 11 || !c.FixedBaseline || !c.Ratio || c.FormatReward != .1 {
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

// TestFloorOfOneGroup: where the average is of one σ it is that σ, whatever rounding makes
// of it, and no group is floored.
func TestFloorOfOneGroup(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		g := Group{Baseline: []float64{-9}}
		for range 4 {
			g.Samples = append(g.Samples, Sample{Chain: []float64{-1}, Closed: r.IntN(2) == 0, Answer: []float64{-8 * r.Float64()}})
		}
		g.RefBaseline = g.Baseline
		for _, m := range []Method{NRT, RLPR, RLVR} {
			for k := range g.Samples {
				g.Samples[k].Matched = k == 0
			}
			c := DefaultConfig(m)
			c.SigmaFloor = true
			if m == NRT {
				c.Reward.Mode = reward.Modes()[r.IntN(len(reward.Modes()))]
			}
			p := mustPlan(t, mustNew(t, c), []Group{g})
			if x := p.Metrics()["nrt/floored_groups"]; x != 0 {
				t.Fatalf("%s %v: %v of one group is floored by its own σ %v", m, c.Reward.Mode, x, p.Metrics()["nrt/sigma_floor"])
			}
		}
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
	if !p.Counts(0) || p.Counts(1) || !p.Counts(2) {
		t.Errorf("the groups count: %t, %t, %t", p.Counts(0), p.Counts(1), p.Counts(2))
	}
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

// A method of one's own is one function and its row: here the shorter of a question's
// chains are worth more.
func TestMethodIsOneFunction(t *testing.T) {
	defer func(was []method) { methods = was }(methods)
	methods = append(methods, method{name: "short", samples: true, plan: func(p *Plan, next *State) error {
		rewards := make([][]float64, len(p.groups))
		for i, g := range p.groups {
			for _, s := range g.Samples {
				rewards[i] = append(rewards[i], -float64(len(s.Chain)))
			}
		}
		p.describeRewards(rewards, p.advantages(next, rewards))
		return nil
	}})
	p := mustPlan(t, mustNew(t, DefaultConfig("short")), []Group{{Samples: []Sample{{Chain: []float64{-1, -1}}, {Chain: []float64{-1}}}}})
	long, _ := mustWeights(t, p, 0, 0, nil)
	short, _ := mustWeights(t, p, 0, 1, nil)
	want := 1 / (math.Sqrt2 * 2 * 512) // (R − μ)/σ of −2 and −1 is ∓1/√2, over N·K·C
	equal(t, "weight of the shorter", short.Chain[0], want)
	equal(t, "weight of the longer", long.Chain[1], -want)
	equal(t, "reward", p.Metrics()["reward"], -1.5)
}
