package view

import (
	"strings"
	"testing"

	"nrt/web/wire"
)

// Of two saved runs the numbers come one after the other. Until both are there nothing is
// said, so that the pickers beside them stay in their row.
func TestAccuraciesWaitForBoth(t *testing.T) {
	evals := []wire.Point{{Values: map[string]float64{wire.ValueAccuracy: 0.2}}, {Step: 80, Values: map[string]float64{wire.ValueAccuracy: 1}}}
	saved := func(name, method string) Run {
		return Run{State: wire.State{Run: name, Method: method, Status: wire.StatusDone, Saved: true}}
	}
	s := State{Runs: []Run{saved("world:nrt", "nrt"), saved("world:rlpr", "rlpr")}}
	s.Run, s.Against = "world:nrt", "world:rlpr"
	said := func() string {
		var p page
		s.runPicks(&p, &s.Runs[0])
		return p.String()
	}
	s.Runs[0].Evals = evals
	if have := said(); strings.Contains(have, "Held-out") {
		t.Errorf("before the second run's numbers: %s", have)
	}
	s.Runs[1].Evals = evals
	if have := said(); !strings.Contains(have, "Held-out right: NRT") || !strings.Contains(have, "RLPR") {
		t.Errorf("with both: %s", have)
	}
	s.Runs[1] = Run{State: wire.State{Run: "run1", Method: "rlpr", Status: wire.StatusRunning}}
	s.Against = "run1" // it may never be measured
	if have := said(); !strings.Contains(have, "Held-out questions right") {
		t.Errorf("beside a run that is not measured: %s", have)
	}
}
