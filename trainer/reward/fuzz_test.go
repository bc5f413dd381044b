package reward

import (
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzScoreGroup: finite log-probabilities give finite results or an error.
func FuzzScoreGroup(f *testing.F) {
	f.Add(uint64(1), uint8(2), uint8(3), 1.0, .1, uint8(0))
	f.Add(uint64(2), uint8(8), uint8(1), 700.0, 1e-12, uint8(31))
	f.Add(uint64(3), uint8(4), uint8(9), 1e90, 0.0, uint8(13))
	f.Add(uint64(4), uint8(3), uint8(5), 1e-300, 1e300, uint8(7))
	f.Fuzz(func(t *testing.T, seed uint64, k, n uint8, size, floor float64, flags uint8) {
		if !(size > 0 && size < 1e97) || !(floor >= 0) || math.IsInf(floor, 0) {
			return
		}
		r := rand.New(rand.NewPCG(seed, 1))
		s, logb := random(r, 1+int(k%9), 1+int(n%40))
		for i := range logb {
			logb[i] *= size
			for j := range s {
				s[j][i] *= size
			}
		}
		o := Options{Mode: Mode(flags % 6), Clip: flags&8 != 0, NoStd: flags&16 != 0, NormalizeWeights: flags&32 != 0, SigmaFloor: floor}
		if flags&64 != 0 {
			o.BaseFloor = 1e-30
		}
		g, err := ScoreGroup(s, logb, o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		for _, c := range g.Chains {
			for _, x := range [][]float64{{c.R, c.LogR, c.Base, c.Clipped, c.Advantage, g.Mean, g.Sigma}, c.C, c.W, c.Contribution, c.G, c.TokenWeight} {
				for _, v := range x {
					if math.IsNaN(v) || math.IsInf(v, 0) {
						t.Fatalf("%+v: not finite: %+v in %+v", o, c, g)
					}
				}
			}
			if c.Clipped < 0 && o.Clip {
				t.Fatalf("%+v: R' = %v", o, c.Clipped)
			}
		}
	})
}

// BenchmarkFrame is what the page computes when a slider moves: 16 chains of 256
// tokens under every mode, the ws normalised too. A frame lasts 16.7 ms.
func BenchmarkFrame(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 0))
	s, logb := random(r, 16, 256)
	var g Group
	var all []Options
	for _, o := range allOptions() {
		if o.Clip && !o.NoStd {
			all = append(all, o)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, o := range all {
			if err := g.Score(s, logb, o); err != nil {
				b.Fatal(err)
			}
		}
	}
}
