package optim

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Schedule gives the learning rate of each update.
//
// With W = Warmup, T = Total and u = 1 … T the update's number, the rate is LR
// times
//
//	u/W                                   while u ≤ W          (all kinds)
//	1                                     after it             (constant)
//	m + (1−m)·(1 + cos πt)/2              t = (u−1−W)/(T−W)    (cosine)
//	m + (1−m)·(1−t)                       t = (u−1−W)/(T−W)    (linear)
//	1, then m + (1−m)·(1−t)               t = (u−1−S)/(T−S)    (wsd)
//
// where m = MinRatio and wsd ("warm-up, stable, decay") starts to fall after
// update S = max(W, T − ⌈Decay·T⌉). No update has the rate 0 unless LR is: the
// first has LR/W, the last the value one update before the end of the fall.
// Updates past T have LR·m (LR for constant).
type Schedule struct {
	Kind     string  // constant, linear, cosine or wsd
	LR       float64 // the highest rate
	MinRatio float64 // the rate at the end, as a share of LR
	Warmup   int     // updates of warm-up
	Total    int     // updates in the whole run
	Decay    float64 // wsd: the share of the run over which the rate falls
}

// Kinds lists the schedules.
func Kinds() []string { return []string{"constant", "linear", "cosine", "wsd"} }

// Validate names the field that is wrong.
func (s Schedule) Validate() error {
	switch {
	case !slices.Contains(Kinds(), s.Kind):
		return fmt.Errorf("schedule: unknown kind %q: want one of %s", s.Kind, strings.Join(Kinds(), ", "))
	case !(s.LR >= 0) || math.IsInf(s.LR, 0):
		return fmt.Errorf("schedule: learning rate: want >= 0, have %v", s.LR)
	case !(s.MinRatio >= 0 && s.MinRatio <= 1):
		return fmt.Errorf("schedule: lowest rate as a share: want 0 to 1, have %v", s.MinRatio)
	case s.Warmup < 0:
		return fmt.Errorf("schedule: warm-up: want >= 0 updates, have %d", s.Warmup)
	case s.Total < 0:
		return fmt.Errorf("schedule: total: want >= 0 updates, have %d", s.Total)
	case s.Kind == "wsd" && !(s.Decay > 0 && s.Decay <= 1):
		return fmt.Errorf("schedule: decay share of wsd: want above 0 and at most 1, have %v", s.Decay)
	}
	return nil
}

// At is the learning rate of update u, counted from 1.
func (s Schedule) At(u int) float64 {
	u = max(u, 1)
	if u <= s.Warmup {
		return s.LR * float64(u) / float64(s.Warmup)
	}
	start := s.Warmup
	switch s.Kind {
	case "constant":
		return s.LR
	case "wsd":
		start = max(start, s.Total-int(math.Ceil(s.Decay*float64(s.Total))))
	}
	done := u - 1 - start
	if done <= 0 {
		return s.LR
	}
	if u > s.Total {
		return s.LR * s.MinRatio
	}
	t := float64(done) / float64(s.Total-start)
	fall := 1 - t
	if s.Kind == "cosine" {
		fall = (1 + math.Cos(math.Pi*t)) / 2
	}
	return s.LR * (s.MinRatio + (1-s.MinRatio)*fall)
}

// WarmupUpdates turns a configured warm-up into updates: below 1 it is a share
// of total, from 1 on a number of updates.
func WarmupUpdates(warmup float64, total int) int {
	if warmup < 1 {
		return int(math.Round(warmup * float64(total)))
	}
	return int(math.Round(warmup))
}
