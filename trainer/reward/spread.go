package reward

import "math"

// Spread is what Advantages found in a group of K rewards.
type Spread struct {
	Mean         float64
	Sigma        float64 // unbiased, before the floor; 0 when ZeroVariance
	ZeroVariance bool
	// Divisor is what a token weight is to be divided by: max(σ, floor), or 1
	// without std; 0 when the group has no σ and hence no token weight.
	Divisor float64
	Floored bool // as Group's
}

// Advantages sets a_k = (r_k − μ)/max(σ, floor) for rewards of any other kind
// than an answer's probability, such as exact match; with noStd a_k is r_k minus
// the mean of the others. The rules are Group's. a and r have the same length
// K ≥ 1 and may be the same slice; r must be finite.
func Advantages(a, r []float64, floor float64, noStd bool) Spread {
	k := float64(len(r))
	var sum, scale float64
	for _, x := range r {
		sum += x
		scale = max(scale, math.Abs(x))
	}
	sp := Spread{Mean: sum / k}
	ss := 0.0
	for _, x := range r {
		ss += (x - sp.Mean) * (x - sp.Mean)
	}
	sp.Sigma = unbiased(ss, len(r), equal*scale)
	sp.ZeroVariance = sp.Sigma == 0
	switch {
	case noStd:
		sp.Divisor = 1
	case max(sp.Sigma, floor) > equal*scale:
		sp.Divisor, sp.Floored = max(sp.Sigma, floor), floors(floor, sp.Sigma, equal*scale)
	}
	for i, x := range r {
		switch {
		case sp.ZeroVariance:
			a[i] = 0
		case noStd:
			a[i] = k / (k - 1) * (x - sp.Mean)
		default:
			a[i] = (x - sp.Mean) / sp.Divisor
		}
	}
	return sp
}

// floors tells whether a floor divides in the place of σ, by more than rounding: the
// average of a single σ may be an ulp above it.
func floors(floor, sigma, noise float64) bool { return floor > max(noise, sigma*(1+equal)) }

// unbiased is sqrt(ss/(k−1)), or 0 where that is no more than noise.
func unbiased(ss float64, k int, noise float64) float64 {
	if k < 2 {
		return 0
	}
	if s := math.Sqrt(ss / float64(k-1)); s > noise {
		return s
	}
	return 0
}
