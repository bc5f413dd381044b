package objective

import (
	"maps"
	"math"
	"slices"
	"testing"

	"nrt/trainer/reward"
)

// TestMetricsByHand: two groups of two chains and a reference of one token. In the first
// one a chain helps and the other harms, in the second one both harm.
func TestMetricsByHand(t *testing.T) {
	chain := func(c float64, closed, matched bool) Sample {
		return Sample{Chain: []float64{-1}, Closed: closed, Boundary: []float64{-1}, Answer: []float64{math.Log(c)}, Matched: matched}
	}
	groups := []Group{
		{Baseline: []float64{math.Log(.2)}, RefBaseline: []float64{math.Log(.2)}, Samples: []Sample{chain(.6, true, true), chain(.1, false, false)}},
		{Baseline: []float64{math.Log(.5)}, RefBaseline: []float64{math.Log(.5)}, Samples: []Sample{chain(.1, true, false), chain(.2, true, false)}},
	}
	root := math.Sqrt2
	of := func(m Method, set func(*Config)) map[string]float64 {
		c := DefaultConfig(m)
		c.Reward.Mode, c.SigmaFloor = reward.AM, true
		if set != nil {
			set(&c)
		}
		return mustPlan(t, mustNew(t, c), groups).Metrics()
	}
	answers := map[string]float64{
		"nrt/closed": .75, "nrt/answer_logprob": math.Log(.6*.1*.1*.2) / 4, "nrt/answer_prob": .25, "nrt/base_prob": .35,
	}
	scored := map[string]float64{"nrt/reward_raw": .25, "nrt/reward_base": .35, "nrt/harmful": .75, "nrt/all_harmful_groups": .5}
	// R' is 0.4, 0, 0, 0.
	capped := map[string]float64{
		"reward": .1, "reward_std": .4 / root / 2, "frac_reward_zero_std": .5,
		"nrt/sigma_floor": .4 / root, "nrt/floored_groups": .5, "nrt/signal_groups": .5,
		"nrt/advantage_abs": .5 / root, "nrt/advantage_max": 1 / root,
		"nrt/token_weight": 2. / 4, "nrt/token_weight_max": 2, "nrt/token_capped": .25, // of 0.6·√2/0.4
	}
	// r is 0.9·0.4 + 0.1, 0, 0.1, 0.1.
	format := map[string]float64{
		"reward": .66 / 4, "reward_std": .46 / root / 2, "frac_reward_zero_std": .5,
		"nrt/sigma_floor": .46 / root, "nrt/floored_groups": .5, "nrt/signal_groups": .5, "nrt/filtered_groups": 0,
		"nrt/advantage_abs": .5 / root, "nrt/advantage_max": 1 / root,
	}
	matched := map[string]float64{
		"reward": .25, "reward_std": 1 / root / 2, "frac_reward_zero_std": .5,
		"nrt/sigma_floor": 1 / root, "nrt/floored_groups": .5, "nrt/signal_groups": .5, "nrt/matched": .25,
		"nrt/advantage_abs": .5 / root, "nrt/advantage_max": 1 / root,
		"nrt/token_weight": root / 4, "nrt/token_weight_max": root,
	}
	// P is 0.6, 0.1 and 0.1, 0.2; with two chains the others' mean is the other one.
	bound := map[string]float64{
		"reward": math.Log(.35*.15) / 2, "reward_std": math.Log(6*2) / root / 2, "frac_reward_zero_std": 0, "nrt/signal_groups": 1,
		"nrt/advantage_abs": (math.Log(.35/.1) + math.Log(.6/.35) + math.Log(.2/.15) + math.Log(.15/.1)) * 2 / 4,
		"nrt/advantage_max": 2 * math.Log(.35/.1),
		"nrt/token_weight":  1, "nrt/token_weight_max": 2 * .6 / .7,
	}
	for _, c := range []struct {
		method Method
		set    func(*Config)
		want   []map[string]float64
	}{
		{NRT, func(c *Config) { c.TokenCap = 2 }, []map[string]float64{answers, scored, capped}},
		{RLPR, nil, []map[string]float64{answers, scored, format}},
		{RLVR, nil, []map[string]float64{answers, matched}},
		{JEPO, nil, []map[string]float64{answers, bound}},
	} {
		want := map[string]float64{}
		for _, part := range c.want {
			maps.Copy(want, part)
		}
		have := of(c.method, c.set)
		if h, w := slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)); !slices.Equal(h, w) {
			t.Errorf("%s: have %v\nwant %v", c.method, h, w)
		}
		for name, x := range want {
			equal(t, string(c.method)+": "+name, have[name], x)
		}
	}
}
