package llama

import (
	"math"
	"testing"
)

func TestInvFreqUnscaled(t *testing.T) {
	c := Config{HeadDim: 8, RopeTheta: 10000}
	for i, want := range []float64{1, 0.1, 0.01, 0.001} {
		if got := invFreq(c)[i]; math.Abs(got-want) > 1e-15 {
			t.Errorf("pair %d: have %v, want %v", i, got, want)
		}
	}
}

// TestInvFreqLlama3 checks the three ranges by hand: with OriginalMax 2π·1000,
// a frequency f turns 1000·f times within the original range.
func TestInvFreqLlama3(t *testing.T) {
	s := &RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4}
	s.OriginalMax = 6283 // ≈ 2π·1000, so turns ≈ 1000·f
	turn := 2 * math.Pi / 6283
	for _, c := range []struct{ turns, want float64 }{
		{1000, 1000}, {4.001, 4.001}, // fast: as it was
		{0.999, 0.999 / 8}, {0.01, 0.01 / 8}, // slow: stretched
		{4, 4}, {1, 1.0 / 8}, // the ends meet
		{2.5, 0.5*2.5/8 + 0.5*2.5}, // half way between
		{1.75, 0.75*1.75/8 + 0.25*1.75},
	} {
		if got := s.scale(c.turns*turn) / turn; math.Abs(got-c.want) > 1e-9*c.want {
			t.Errorf("%v turns: have %v, want %v", c.turns, got, c.want)
		}
	}
}

// TestInvFreqProperties: scaling never speeds a pair up, never slows it by more
// than Factor, and keeps the order of the pairs.
func TestInvFreqProperties(t *testing.T) {
	for _, dim := range []int{2, 6, 64, 128} {
		for _, theta := range []float64{100, 10000, 500000} {
			c := Config{HeadDim: dim, RopeTheta: theta}
			plain := invFreq(c)
			c.RopeScaling = &RopeScaling{Type: "llama3", Factor: 32, LowFreq: 1, HighFreq: 4, OriginalMax: 8192}
			scaled := invFreq(c)
			if len(plain) != dim/2 || len(scaled) != dim/2 {
				t.Fatalf("dim %d: %d and %d pairs", dim, len(plain), len(scaled))
			}
			for i := range scaled {
				if scaled[i] > plain[i] || scaled[i] < plain[i]/32*(1-1e-12) {
					t.Errorf("dim %d θ %g pair %d: %v from %v", dim, theta, i, scaled[i], plain[i])
				}
				if i > 0 && scaled[i] > scaled[i-1] {
					t.Errorf("dim %d θ %g pair %d: faster than the pair before", dim, theta, i)
				}
			}
		}
	}
}
