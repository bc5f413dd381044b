package view

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"nrt/trainer/reward"
)

// shown reads a number as the page writes it.
func shown(t *testing.T, s string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(strings.ReplaceAll(s, "−", "-"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// What is shown adds up as it is shown: the words' parts to the total, R less the
// base to the gain, and the change without a sentence to the reward without it.
func TestShownNumbersAddUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	close := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	s := testState()
	for range 300 {
		refs := [][]float64{make([]float64, len(testBase)), make([]float64, len(testBase))}
		base := make([]float64, len(testBase))
		for i := range base {
			base[i], refs[0][i], refs[1][i] = -3*rng.Float64(), -2*rng.Float64(), -2*rng.Float64()
		}
		for _, m := range reward.Modes() {
			s.Mode = m
			g, err := reward.ScoreGroup(refs, base, s.Options())
			if err != nil {
				t.Fatal(err)
			}
			score := &g.Chains[0]
			total := s.total(score)
			if math.Abs(total) >= 0.01 {
				sum := 0.0
				for _, x := range parts(score.Contribution, total) {
					sum += shown(t, x)
				}
				if !close(sum, shown(t, number(total))) {
					t.Fatalf("%s: %v add up to %v, the total is %s", m, parts(score.Contribution, total), sum, number(total))
				}
			}
			if math.Min(math.Abs(score.R), math.Abs(score.Base)) < 0.01 {
				continue
			}
			if d := math.Abs(score.R - score.Base); d < 0.0005 {
				continue // said as a power of ten
			}
			if have := shown(t, gain(score.R, score.Base)); !close(have, shown(t, number(score.R))-shown(t, number(score.Base))) {
				t.Fatalf("%s: %s − %s = %v", m, number(score.R), number(score.Base), have)
			}
			loss := score.Base - score.R
			if have := shown(t, lossText(score, loss)); !close(have, shown(t, number(score.Base))-shown(t, number(score.R))) {
				t.Fatalf("%s: from %s to %s is %v", m, number(score.R), number(score.Base), have)
			}
		}
	}
}
