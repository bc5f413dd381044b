package objective

import (
	"math"

	"nrt/trainer/reward"
)

// Metrics of a rollout. Names are TRL's where TRL has the thing, else nrt/….
//
//	reward                  mean over chains of what is normalised: R' (nrt), r
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
//	nrt/matched             share of chains whose sampled answer is right
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

// describeRewards reports rewards of another kind; spreads may be nil.
func (p *Plan) describeRewards(rewards [][]float64, spreads []reward.Spread) {
	var sum, chains, sigma, zero, floored float64
	for i, r := range rewards {
		s := reward.Advantages(make([]float64, len(r)), r, 0, true)
		sigma += s.Sigma
		zero += truth(s.ZeroVariance)
		if spreads != nil {
			floored += truth(spreads[i].Divisor > s.Sigma && !p.cfg.Reward.NoStd)
		}
		for _, x := range r {
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

// describe reports what every method has.
func (p *Plan) describe() {
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
	if p.cfg.Method == SFT || p.cfg.Method == LM {
		return
	}
	m["nrt/signal_groups"] = signals / float64(len(p.groups))
	m["nrt/advantage_abs"], m["nrt/advantage_max"] = abs/chains, top
	m["nrt/closed"], m["nrt/matched"] = closed/chains, matched/chains
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

// TokenStats counts what one call of Weights saw. Add those of an optimizer step
// together, then ask for Metrics.
type TokenStats struct {
	Tokens    int // sampled tokens
	Low, High int // dropped: A < 0 and r < 1−ClipLow; A > 0 and r > 1+ClipHigh
	// LowMin and HighMax are the least and largest share dropped in one chain.
	LowMin, HighMax      float64
	RatioSum, RatioMax   float64 // of r
	AbsLogSum, AbsLogMax float64 // of |log r|
	Chains               int     // chains with at least one sampled token
	SequenceClipped      int     // chains whose Π r left the clip range
	KLSum                float64 // Σ k3
	KLTokens             int
}

func newTokenStats() TokenStats { return TokenStats{} }

func (s *TokenStats) token(d, ratio float64, low, high bool) {
	s.Tokens++
	if low {
		s.Low++
	}
	if high {
		s.High++
	}
	ratio = min(ratio, math.MaxFloat32)
	s.RatioSum += ratio
	s.RatioMax = max(s.RatioMax, ratio)
	s.AbsLogSum += math.Abs(d)
	s.AbsLogMax = max(s.AbsLogMax, math.Abs(d))
}

// sequence closes one chain's statistics.
func (s *TokenStats) sequence(logRho float64, c Config) {
	if s.Tokens == 0 {
		return
	}
	s.Chains = 1
	s.LowMin = float64(s.Low) / float64(s.Tokens)
	s.HighMax = float64(s.High) / float64(s.Tokens)
	if r := math.Exp(logRho); r < 1-c.ClipLow || r > 1+c.ClipHigh {
		s.SequenceClipped = 1
	}
}

// Add takes in the statistics of other samples.
func (s *TokenStats) Add(t TokenStats) {
	if t.Chains > 0 {
		if s.Chains == 0 {
			s.LowMin = t.LowMin
		}
		s.LowMin = min(s.LowMin, t.LowMin)
	}
	s.HighMax = max(s.HighMax, t.HighMax)
	s.Tokens += t.Tokens
	s.Low += t.Low
	s.High += t.High
	s.RatioSum += t.RatioSum
	s.RatioMax = max(s.RatioMax, t.RatioMax)
	s.AbsLogSum += t.AbsLogSum
	s.AbsLogMax = max(s.AbsLogMax, t.AbsLogMax)
	s.Chains += t.Chains
	s.SequenceClipped += t.SequenceClipped
	s.KLSum += t.KLSum
	s.KLTokens += t.KLTokens
}

// Metrics are TRL's clip_ratio/{low_mean,low_min,high_mean,high_max,region_mean}
// (low_min and high_max over chains) and kl, and ours: nrt/ratio_{mean,max},
// nrt/logprob_shift_{mean,max} (|log r|) and nrt/sequence_clipped. Empty without
// sampled tokens.
func (s TokenStats) Metrics() map[string]float64 {
	m := map[string]float64{}
	if s.Tokens > 0 {
		n := float64(s.Tokens)
		m["clip_ratio/low_mean"], m["clip_ratio/low_min"] = float64(s.Low)/n, s.LowMin
		m["clip_ratio/high_mean"], m["clip_ratio/high_max"] = float64(s.High)/n, s.HighMax
		m["clip_ratio/region_mean"] = float64(s.Low+s.High) / n
		m["nrt/ratio_mean"], m["nrt/ratio_max"] = s.RatioSum/n, s.RatioMax
		m["nrt/logprob_shift_mean"], m["nrt/logprob_shift_max"] = s.AbsLogSum/n, s.AbsLogMax
	}
	if s.Chains > 0 {
		m["nrt/sequence_clipped"] = float64(s.SequenceClipped) / float64(s.Chains)
	}
	if s.KLTokens > 0 {
		m["kl"] = s.KLSum / float64(s.KLTokens)
	}
	return m
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

// deviation is the unbiased standard deviation of two or more numbers.
func deviation(x []float64) float64 {
	m, ss := mean(x), 0.0
	for _, v := range x {
		ss += (v - m) * (v - m)
	}
	return math.Sqrt(ss / float64(len(x)-1))
}
