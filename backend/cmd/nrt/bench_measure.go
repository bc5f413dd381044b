package main

import (
	"slices"
	"time"

	"nrt/backend/cpu/peak"
)

// spread is how fast something went: the median of its runs, the slowest and the
// fastest.
type spread struct {
	median, slowest, fastest float64
	runs                     int
}

// rates is the spread of work divided by each run's seconds.
func rates(work float64, seconds []float64) spread {
	s := slices.Sorted(slices.Values(seconds))
	n := len(s)
	middle := (s[(n-1)/2] + s[n/2]) / 2
	return spread{work / middle, work / s[n-1], work / s[0], n}
}

// scaled is in another unit.
func (s spread) scaled(by float64) spread {
	return spread{by * s.median, by * s.slowest, by * s.fastest, s.runs}
}

// minRuns is how often a line is measured, however long it takes.
const minRuns = 3

// repeat calls run, which returns the seconds that count of its time: once to
// warm up, then at least minRuns times and until seconds have passed. For a
// profiler it is profiledRuns in all.
func (b *bench) repeat(seconds float64, run func() (float64, error)) ([]float64, error) {
	var times []float64
	least := minRuns
	if b.o.profile {
		least, seconds = profiledRuns-1, 0
	}
	began, warm := time.Now(), false
	for len(times) < least || time.Since(began).Seconds() < seconds {
		if err := b.e.ctx.Err(); err != nil {
			return nil, err
		}
		t, err := run()
		if err != nil {
			return nil, err
		}
		if !warm {
			warm, began = true, time.Now()
			continue
		}
		times = append(times, t)
	}
	return times, nil
}

// clock makes a run of something that is timed as a whole.
func clock(do func() error) func() (float64, error) {
	return func() (float64, error) {
		began := peak.Now()
		err := do()
		return (peak.Now() - began).Seconds(), err
	}
}

// burst repeats something short, so that a clock can tell its time: a run is at
// least five milliseconds, ends when all is done, and counts as one.
func burst(do func(), done func() error) func() (float64, error) {
	n := 1
	return func() (float64, error) {
		for {
			began := peak.Now()
			for range n {
				do()
			}
			if err := done(); err != nil {
				return 0, err
			}
			t := peak.Now() - began
			if t >= 5*time.Millisecond || n >= 1<<20 {
				return t.Seconds() / float64(n), nil
			}
			n *= 2
		}
	}
}
