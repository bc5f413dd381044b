package objective

import (
	"math"

	"nrt/trainer/reward"
)

// Metrics of a rollout. Names are TRL's where TRL has the thing, else nrt/….
//
//	reward                  mean over chains of what is normalised: R' (nrt, verifree), r
//	                        (rlpr), 1[right] (rlvr, star), the bound (jepo)
//	reward_std              mean over groups of σ
//	frac_reward_zero_std    share of groups whose chains tie
//	nrt/reward_raw          mean R before the clip;  nrt/reward_base  mean R_base
//	nrt/harmful             share of chains with R ≤ R_base
//	nrt/all_harmful_groups  share of groups that clipping silenced
//	nrt/sigma_floor         the floor;  nrt/floored_groups  share it divided
//	nrt/advantage_abs       mean |trace coefficient|;  nrt/advantage_max  the largest
//	nrt/token_weight        mean answer coefficient;  nrt/token_weight_max
//	nrt/token_capped        share of answer coefficients at TokenCap
//	nrt/signal_groups       share of groups with any coefficient but 0
//	nrt/filtered_groups     share that rlpr's filter dropped
//	nrt/closed              share of chains that closed themselves
//	nrt/matched             share of chains whose sampled answer is right (star, rlvr)
//	nrt/answer_logprob      mean s over answer tokens;  nrt/answer_prob  mean c
//	nrt/base_prob           mean b
//
// A method without rewards (sft, lm) reports none of them.

// Metrics describes the rollout; see metrics.go for the names. The map is the
// Plan's own.
func (p *Plan) Metrics() map[string]float64 { return p.metrics }

// describeScored reports what package reward found.
func (p *Plan) describeScored(groups []reward.Group) {
	var raw, base, clipped, harmful, chains, all, zero, floored, sigma float64
	for i := range groups {
		g := &groups[i]
		for k := range g.Chains {
			c := &g.Chains[k]
			p.earned[i][k] = Earned{Reward: c.R, Base: c.Base, Clipped: c.Clipped}
			chains++
			raw += c.R
			base += c.Base
			clipped += c.Clipped
			harmful += truth(c.Harmful)
		}
		all += truth(g.AllHarmful)
		zero += truth(g.ZeroVariance)
		floored += truth(g.Floored)
		sigma += g.Sigma
	}
	n := float64(len(groups))
	m := p.metrics
	m["reward"], m["reward_std"], m["frac_reward_zero_std"] = clipped/chains, sigma/n, zero/n
	m["nrt/reward_raw"], m["nrt/reward_base"] = raw/chains, base/chains
	m["nrt/harmful"], m["nrt/all_harmful_groups"], m["nrt/floored_groups"] = harmful/chains, all/n, floored/n
}

// describeRewards reports rewards of another kind, which may stand on those of
// describeScored; spreads may be nil.
func (p *Plan) describeRewards(rewards [][]float64, spreads []reward.Spread) {
	var sum, chains, sigma, zero, floored float64
	for i, r := range rewards {
		s := reward.Advantages(make([]float64, len(r)), r, 0, true)
		sigma += s.Sigma
		zero += truth(s.ZeroVariance)
		if spreads != nil {
			floored += truth(spreads[i].Floored)
		}
		for k, x := range r {
			p.earned[i][k].Reward = x
			sum += x
			chains++
		}
	}
	n := float64(len(rewards))
	m := p.metrics
	m["reward"], m["reward_std"], m["frac_reward_zero_std"] = sum/chains, sigma/n, zero/n
	if spreads != nil {
		m["nrt/floored_groups"] = floored / n
	}
}

// describe reports what every method with chains has.
func (p *Plan) describe() {
	if !p.cfg.Method.Rollouts() {
		return
	}
	var abs, top, tok, ntok, tokTop, signals float64
	var closed, matched, chains, logp, prob, answers, base, bases float64
	for i := range p.groups {
		g := &p.groups[i]
		any := false
		for k := range g.Samples {
			s, sig := &g.Samples[k], &p.signals[i][k]
			chains++
			closed += truth(s.Closed)
			matched += truth(s.Matched)
			abs += math.Abs(sig.trace)
			top = max(top, math.Abs(sig.trace))
			any = any || sig.trace != 0
			for _, x := range sig.token {
				tok += x
				ntok++
				tokTop = max(tokTop, x)
				any = any || x != 0
			}
			for _, x := range s.Answer {
				logp += x
				prob += math.Exp(x)
				answers++
			}
		}
		for _, x := range g.Baseline {
			base += math.Exp(x)
			bases++
		}
		signals += truth(any)
	}
	m := p.metrics
	m["nrt/signal_groups"] = signals / float64(len(p.groups))
	m["nrt/advantage_abs"], m["nrt/advantage_max"] = abs/chains, top
	m["nrt/closed"] = closed / chains
	if p.cfg.Method.Verifies() {
		m["nrt/matched"] = matched / chains
	}
	if ntok > 0 {
		m["nrt/token_weight"], m["nrt/token_weight_max"] = tok/ntok, tokTop
	}
	if answers > 0 {
		m["nrt/answer_logprob"], m["nrt/answer_prob"] = logp/answers, prob/answers
	}
	if bases > 0 {
		m["nrt/base_prob"] = base / bases
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
