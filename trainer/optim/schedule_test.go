package optim

import (
	"math"
	"strings"
	"testing"
)

// Worked out by hand from the definition.
func TestScheduleGolden(t *testing.T) {
	cos := func(t float64) float64 { return (1 + math.Cos(math.Pi*t)) / 2 }
	for _, c := range []struct {
		name string
		s    Schedule
		want map[int]float64
	}{
		{"constant", Schedule{Kind: "constant", LR: 2, Warmup: 4, Total: 10},
			map[int]float64{1: 0.5, 2: 1, 4: 2, 5: 2, 10: 2, 99: 2}},
		{"linear", Schedule{Kind: "linear", LR: 1, Warmup: 2, Total: 10},
			map[int]float64{1: 0.5, 2: 1, 3: 1, 4: 0.875, 7: 0.5, 10: 0.125, 11: 0}},
		{"linear to a tenth", Schedule{Kind: "linear", LR: 1, MinRatio: 0.1, Total: 5},
			map[int]float64{1: 1, 2: 0.82, 5: 0.28, 6: 0.1}},
		{"cosine", Schedule{Kind: "cosine", LR: 1, Warmup: 2, Total: 10},
			map[int]float64{2: 1, 3: 1, 5: cos(0.25), 7: 0.5, 9: cos(0.75), 10: cos(0.875), 11: 0}},
		{"wsd", Schedule{Kind: "wsd", LR: 1, Warmup: 2, Total: 20, Decay: 0.4},
			map[int]float64{1: 0.5, 3: 1, 12: 1, 13: 1, 14: 0.875, 17: 0.5, 20: 0.125, 21: 0}},
		{"wsd, warm-up longer than the rest", Schedule{Kind: "wsd", LR: 1, Warmup: 8, Total: 10, Decay: 1},
			map[int]float64{8: 1, 9: 1, 10: 0.5}},
		{"all warm-up", Schedule{Kind: "cosine", LR: 1, Warmup: 10, Total: 10},
			map[int]float64{10: 1, 11: 1, 12: 0}},
		{"one update", Schedule{Kind: "cosine", LR: 1, Total: 1}, map[int]float64{0: 1, 1: 1, 2: 0}},
		{"none", Schedule{Kind: "linear", LR: 1}, map[int]float64{1: 1, 2: 0}},
	} {
		for u, want := range c.want {
			if got := c.s.At(u); math.Abs(got-want) > 1e-15 {
				t.Errorf("%s: update %d: have %v, want %v", c.name, u, got, want)
			}
		}
	}
}

// Never above LR, never below the floor, never rising after the warm-up, never 0
// within the run.
func TestScheduleProperties(t *testing.T) {
	for _, kind := range Kinds() {
		for total := 1; total < 60; total++ {
			for _, warmup := range []int{0, 1, total / 3, total} {
				for _, m := range []float64{0, 0.3} {
					s := Schedule{Kind: kind, LR: 3, MinRatio: m, Warmup: warmup, Total: total, Decay: 0.4}
					if err := s.Validate(); err != nil {
						t.Fatal(err)
					}
					for u := 1; u <= total; u++ {
						r := s.At(u)
						if !(r > 0 && r <= 3) || u > warmup && (r < 3*m || r > s.At(u-1) && u-1 > warmup) {
							t.Fatalf("%+v: update %d has rate %v, the one before %v", s, u, r, s.At(u-1))
						}
					}
				}
			}
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	good := Schedule{Kind: "wsd", LR: 1, Total: 10, Decay: 0.4}
	for _, c := range []struct {
		want   string
		change func(*Schedule)
	}{
		{"unknown kind", func(s *Schedule) { s.Kind = "step" }},
		{"learning rate", func(s *Schedule) { s.LR = -1 }},
		{"learning rate", func(s *Schedule) { s.LR = math.NaN() }},
		{"learning rate", func(s *Schedule) { s.LR = math.Inf(1) }},
		{"lowest rate", func(s *Schedule) { s.MinRatio = 1.5 }},
		{"warm-up", func(s *Schedule) { s.Warmup = -1 }},
		{"total", func(s *Schedule) { s.Total = -1 }},
		{"decay share", func(s *Schedule) { s.Decay = 0 }},
	} {
		s := good
		c.change(&s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: have %v, want %s", s, err, c.want)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWarmupUpdates(t *testing.T) {
	for _, c := range []struct {
		warmup float64
		total  int
		want   int
	}{{0, 100, 0}, {0.1, 100, 10}, {0.1, 14, 1}, {0.999, 10, 10}, {1, 100, 1}, {25, 100, 25}} {
		if got := WarmupUpdates(c.warmup, c.total); got != c.want {
			t.Errorf("%v of %d: have %d, want %d", c.warmup, c.total, got, c.want)
		}
	}
}
