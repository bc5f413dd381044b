package reward

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestAdvantages: rewards of another kind follow the rules of a group whose chains earn
// just that, in whatever unit they are: am of one token is its probability.
func TestAdvantages(t *testing.T) {
	const seed = 5
	random := rand.New(rand.NewPCG(seed, 0))
	for trial := range 300 {
		k := 1 + random.IntN(6)
		unit := []float64{1, 1e-3, 1e-30}[trial%3]
		r := make([]float64, k)
		for i := range r {
			r[i] = unit * random.Float64()
			if trial%5 == 0 || i > 0 && random.IntN(3) == 0 {
				r[i] = r[0]
			}
		}
		o := Options{Mode: AM, NoStd: trial%2 == 0, SigmaFloor: []float64{0, 1e-12 * unit, unit / 3}[random.IntN(3)]}
		g := mustScore(t, logs(one(r)), []float64{0}, o)
		a := make([]float64, k)
		sp := Advantages(a, r, o.SigmaFloor, o.NoStd)
		what := fmt.Sprintf("seed %d: %v, floor %v, no std %t", seed, r, o.SigmaFloor, o.NoStd)
		close(t, what+": mean", sp.Mean/unit, g.Mean/unit, 1e-12)
		close(t, what+": σ", sp.Sigma/unit, g.Sigma/unit, 1e-12)
		if sp.ZeroVariance != g.ZeroVariance || !o.NoStd && sp.Floored != g.Floored {
			t.Errorf("%s: %+v, want ties %t, floored %t", what, sp, g.ZeroVariance, g.Floored)
		}
		scale := 1.0
		if o.NoStd {
			scale = unit
		}
		for i, c := range g.Chains {
			close(t, what+": A", a[i]/scale, c.Advantage/scale, 1e-9)
			weight := 0.0 // without a divisor there is none
			if sp.Divisor > 0 {
				weight = c.G[0] / sp.Divisor
			}
			close(t, what+": token weight", weight/scale, c.TokenWeight[0]/scale, 1e-9)
		}
	}
}

// one is each number as a list of its own.
func one(x []float64) [][]float64 {
	list := make([][]float64, len(x))
	for i := range x {
		list[i] = x[i : i+1]
	}
	return list
}

// TestAdvantagesByHand: three rewards, centred alone and divided by their σ, and by a
// floor above it.
func TestAdvantagesByHand(t *testing.T) {
	r, a := []float64{1, 2, 6}, make([]float64, 3)
	sigma := math.Sqrt(7) // (4 + 1 + 9)/2
	for _, c := range []struct {
		floor   float64
		noStd   bool
		want    [3]float64
		divisor float64
		floored bool
	}{
		{0, true, [3]float64{-3, -1.5, 4.5}, 1, false}, // each less the mean of the others
		{9, true, [3]float64{-3, -1.5, 4.5}, 1, false},
		{0, false, [3]float64{-2 / sigma, -1 / sigma, 3 / sigma}, sigma, false},
		{1, false, [3]float64{-2 / sigma, -1 / sigma, 3 / sigma}, sigma, false},
		{4, false, [3]float64{-.5, -.25, .75}, 4, true},
	} {
		sp := Advantages(a, r, c.floor, c.noStd)
		if sp.Mean != 3 || sp.ZeroVariance || sp.Floored != c.floored {
			t.Errorf("%+v: %+v", c, sp)
		}
		near(t, "σ", sp.Sigma, sigma)
		near(t, "divisor", sp.Divisor, c.divisor)
		for i, want := range c.want {
			near(t, fmt.Sprintf("%+v: A", c), a[i], want)
		}
	}
	// Ties have no advantage; only a floor gives their tokens weights.
	for floor, divisor := range map[float64]float64{0: 0, 2: 2} {
		sp := Advantages(a, []float64{.5, .5, .5}, floor, false)
		if !sp.ZeroVariance || sp.Sigma != 0 || sp.Divisor != divisor || sp.Floored != (floor > 0) || a[0] != 0 || a[2] != 0 {
			t.Errorf("ties with floor %v: %+v, A %v", floor, sp, a)
		}
	}
}
