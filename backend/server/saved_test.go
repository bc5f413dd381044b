package server

import (
	"net/http"
	"strings"
	"testing"

	"nrt/trainer/run"
	"nrt/web/wire"
)

// A saved run is listed and watched like any other, on a server that does not
// train, too; it cannot go on.
func TestSavedRuns(t *testing.T) {
	r := start(t, func(o *Options) {
		o.Saved = []SavedRun{{
			State:   wire.State{Run: "gsm/nrt", Method: "nrt", Mode: "ws-logp", Status: wire.StatusDone, Step: 2, Of: 2},
			Metrics: []run.Values{{"step": 1, "entropy": 0.5}, {"step": 2, "entropy": 0.25, "nrt/reward_raw": 0.3}},
			Evals:   []wire.Point{{Step: 2, Values: map[string]float64{wire.ValueAccuracy: 1}}},
		}}
	})
	c := r.reader(nil)
	if list := c.welcome.Runs; len(list) != 1 || !list[0].Saved || list[0].Run != "gsm/nrt" {
		t.Fatalf("the welcome has %+v", list)
	}
	c.say(&wire.Watch{Run: "gsm/nrt"})
	if m := expect[*wire.Step](c); m.Of != 2 || len(m.Points) != 2 || m.Points[0].Values[wire.ValueEntropy] != 0.5 || m.Points[1].Values[wire.ValueReward] != 0.3 {
		t.Errorf("its steps are %+v", m)
	}
	if m := expect[*wire.Eval](c); len(m.Points) != 1 || m.Points[0].Step != 2 {
		t.Errorf("its measurements are %+v", m)
	}
	c.say(&wire.TrainResume{Head: wire.Head{ID: "t"}, Run: "gsm/nrt"})
	if m := expect[*wire.Failed](c); m.Code != wire.CodeForbidden {
		t.Errorf("going on with it: %+v", m)
	}
	for path, want := range map[string]string{"/api/runs": `"saved":true`, "/api/runs/gsm/nrt": `"entropy":0.25`} {
		if resp, body := r.get(path); resp.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}
