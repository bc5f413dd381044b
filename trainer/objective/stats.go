package objective

import "math"

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
