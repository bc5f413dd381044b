package view

import (
	"math"
	"strings"
	"testing"

	"nrt/trainer/reward"
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

// The list of models says what each of them is; their names stay the command line's.
func TestModelLabel(t *testing.T) {
	kept := func(of string) []wire.Checkpoint {
		return []wire.Checkpoint{{Step: 0, Model: "world:base"}, {Step: 40, Model: of + "@40"}, {Step: 80, Model: of}}
	}
	s := State{
		Runs: []Run{
			{State: wire.State{Run: "world:nrt", Method: "nrt", Mode: "ws-logp", Saved: true, Checkpoints: kept("world:nrt")}},
			{State: wire.State{Run: "world:rlpr", Method: "rlpr", Saved: true, Checkpoints: kept("world:rlpr")}},
			{State: wire.State{Run: "run1", Method: "nrt", Mine: true, Checkpoints: []wire.Checkpoint{{Step: 0, Model: "models/llama"}, {Step: 5, Model: "run1@5"}}}},
		},
		Models: []wire.Model{{Name: "run1@5", Run: "run1", Step: 5}},
	}
	for name, want := range map[string]string{
		"world:base": "before training", "world:nrt@40": "NRT, step 40", "world:rlpr": "RLPR, step 80", "world:sft": "SFT",
		"run1@5": "run1, step 5", "models/llama": "models/llama",
	} {
		if have := s.ModelLabel(name); have != want {
			t.Errorf("%s is called %q, want %q", name, have, want)
		}
	}
	s.Run = "world:rlpr"
	for name, want := range map[string]string{"world:rlpr@40": "step 40", "world:nrt": "step 80 of NRT ws-logp", "run1@5": "step 5 of NRT · run1"} {
		if have := s.stepName(name); have != want {
			t.Errorf("in a sentence %s is called %q, want %q", name, have, want)
		}
	}
}

// The models of a run stand together, before training first; others stay where the server
// has them.
func TestModelMenu(t *testing.T) {
	s := State{Runs: []Run{
		{State: wire.State{Run: "world:rlpr", Saved: true, Checkpoints: []wire.Checkpoint{{Step: 0, Model: "base"}, {Step: 40, Model: "rlpr@40"}, {Step: 80, Model: "rlpr"}}}},
		{State: wire.State{Run: "world:nrt", Saved: true, Checkpoints: []wire.Checkpoint{{Step: 0, Model: "base"}, {Step: 40, Model: "nrt@40"}, {Step: 80, Model: "nrt"}}}},
	}}
	for _, name := range []string{"mine", "nrt", "base", "sft", "rlpr", "rlpr@40", "nrt@40", "run1@9", "other", "run1@5"} {
		m := wire.Model{Name: name}
		if step, ok := strings.CutPrefix(name, "run1@"); ok {
			m.Run, m.Step = "run1", int(step[0]-'0')
		}
		s.Models = append(s.Models, m)
	}
	var have []string
	for _, m := range s.ModelMenu() {
		have = append(have, m.Name)
	}
	if want := "mine base nrt@40 nrt rlpr@40 rlpr sft run1@5 run1@9 other"; strings.Join(have, " ") != want {
		t.Errorf("have %v, want %s", have, want)
	}
}

// A run that another process trains says where it stands; those that came with the
// program are only saved.
func TestShownRunSaysWhereItStands(t *testing.T) {
	r := Run{State: wire.State{Run: "study/mine", Method: "nrt", Saved: true, Step: 40, Of: 80}}
	for status, want := range map[string]string{wire.StatusRunning: "training, now at 40", wire.StatusDone: "done", wire.StatusStopped: "stopped at 40"} {
		if r.Status = status; statusText(&r) != want {
			t.Errorf("%s: %q, want %q", status, statusText(&r), want)
		}
	}
	r.Status = wire.StatusRunning
	s := State{Runs: []Run{r}}
	s.Run = "study/mine"
	s = s.runState(&wire.State{Run: "study/mine", Method: "nrt", Saved: true, Status: wire.StatusDone, Step: 80, Of: 80})
	if want := "Training run study/mine: done."; s.Say != want {
		t.Errorf("a reader hears %q, want %q", s.Say, want)
	}
	r.Step = 0
	s.Runs[0] = r
	if have := statusText(&r); have != "training, no step done yet" || !strings.Contains(Curves(&s), `"why":"no step yet"`) {
		t.Errorf("before its first step it is %q, the charts say %s", have, Curves(&s))
	}
	if r.State.Run = "world:nrt"; statusText(&r) != "saved" {
		t.Errorf("a run that came with the program: %q", statusText(&r))
	}
}

// What the shown question earned is drawn on a run's rewards: under the run's formula,
// whatever the reader has chosen, and not where the run's rewards are of another kind.
func TestMarksAreOfTheRunsFormula(t *testing.T) {
	s, id := live(t)
	for _, m := range pieces(id) {
		s = s.receives(m)
	}
	means := map[string]float64{}
	for _, m := range reward.Modes() {
		for _, c := range s.scores().groups[m].Chains {
			means[m.String()] += c.R / float64(len(s.scores().chains))
		}
	}
	s.Mode, s.Normalize = reward.GM, true
	for run, want := range map[string]string{
		"nrt ws-logp": "ws-logp", "nrt ws-1/p": "ws-1/p", "rlpr ": "am", "verifree ": "p",
		"jepo ": "", "rlvr ": "", "star ": "", "sft ": "", "lm ": "",
	} {
		method, mode, _ := strings.Cut(run, " ")
		marks := s.marks(&Run{State: wire.State{Run: "r", Method: method, Mode: mode, Checkpoints: []wire.Checkpoint{{Step: 7, Model: s.Reading.Ask.Model}}}})
		switch {
		case want == "" && len(marks) > 0:
			t.Errorf("%s: have %v, want none", run, marks)
		case want != "" && (len(marks) != 1 || marks[0].Step != 7 || math.Abs(marks[0].Reward-means[want]) > 1e-12):
			t.Errorf("%s: have %v, want %v", run, marks, means[want])
		}
	}
}

// A run may remove the model that the page shows: its numbers and its place in the list of
// models stay until the page shows another.
func TestARunRemovesWhatIsShown(t *testing.T) {
	s := New([]Example{courseExample()})
	s, _ = s.Receive(courseWelcome())
	s, _ = s.Do("step", "1")
	st := testCourse
	st.Checkpoints = []wire.Checkpoint{testCourse.Checkpoints[0], testCourse.Checkpoints[2]}
	s = s.receives(&st)
	if have := Fragment(&s, "train"); s.Reading.By != "r@10" || !strings.Contains(have, "step 0 <small>of 20 · done · the page shows r@10<") {
		t.Errorf("read by %q: %s", s.Reading.By, have)
	}
	list := &wire.Models{Models: []wire.Model{{Name: "test"}, {Name: "r@20"}}}
	for range 2 {
		if s = s.receives(list); len(s.Models) != 3 || s.Models[2].Name != "r@10" {
			t.Errorf("the models are %v", s.Models)
		}
	}
	s, _ = s.Do("slide", "new")
	if s = s.receives(list); s.Model != "r@10" || len(s.Models) != 3 {
		t.Errorf("%s is asked, the models are %v", s.Model, s.Models)
	}
	s, _ = s.Do("model", "test")
	if s = s.receives(list); len(s.Models) != 2 || len(list.Models) != 2 {
		t.Errorf("the models are %v", s.Models)
	}
}

// A run may have gone for a newer one without the page hearing of it: whoever asks its
// trained model is told so.
func TestModelOfARunThatIsNotKept(t *testing.T) {
	s := testState()
	s.Link = Live
	done := wire.State{Run: "run7", Status: wire.StatusDone, Mine: true, Step: 8, Checkpoints: []wire.Checkpoint{{Step: 0, Model: "test"}, {Step: 8, Model: "run7@8"}}}
	s = s.receives(&done)
	s.Run = "run7"
	s, out := s.Do("train-read", "")
	if len(out) != 1 || out[0].Type() != "ask" {
		t.Fatalf("have %v", out)
	}
	s = s.receives(&wire.Failed{Head: wire.Head{ID: out[0].Header().ID}, Code: wire.CodeNoModel, Message: "there is no model “run7@8” here"})
	wants(t, Fragment(&s, "notes"), "The training run run7 is not kept any more", "Choose another one")
	if s.Model != "test" || s.Reading.Status != Complete {
		t.Errorf("the page shows %q, status %v", s.Model, s.Reading.Status)
	}
}
