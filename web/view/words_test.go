package view

import (
	"math"
	"strings"
	"testing"

	"nrt/trainer/reward"
)

// in is the example's page under a formula.
func in(mode reward.Mode) State {
	s, _ := testState().Do("mode", mode.String())
	return s
}

// What the table says of its column is what the column does.
func TestTheColumnAddsUpAsItSays(t *testing.T) {
	for _, mode := range reward.Modes() {
		s := in(mode)
		sc := s.chainScore(s.chain())
		sum := 0.0
		for _, x := range sc.Contribution {
			sum += x
		}
		says, want := "add up the column", sc.R
		if mode == reward.P || mode == reward.GM {
			says, want = "the column adds up to log R", sc.LogR
		}
		if math.Abs(sum-want) > 1e-9 {
			t.Errorf("%s: the column adds up to %g, want %g", mode, sum, want)
		}
		if html := Why(&s); !strings.Contains(html, ">"+says+"<") {
			t.Errorf("%s: the table does not say %q", mode, says)
		}
	}
}
