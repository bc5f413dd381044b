package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/web/wire"
)

// trainer starts a server that trains in dir.
func trainer(t *testing.T, dir string, change ...func(*Options)) *rig {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return start(t, func(o *Options) {
		o.Train.Device, o.Train.Dir, o.held = dev, dir, 14
		for _, f := range change {
			f(o)
		}
	})
}

// paced is a device that waits for every step to be let.
type paced struct {
	device.Device
	step chan struct{} // one may be let beforehand
	now  int
}

func (p *paced) AdamW(w, g, m, v device.Buffer, o device.AdamW) {
	if o.Step != p.now { // the first of its parts
		<-p.step
		p.now = o.Step
	}
	p.Device.AdamW(w, g, m, v, o)
}

func short(steps int) *wire.Train {
	return &wire.Train{Head: wire.Head{ID: "t1"}, Method: "nrt", Mode: "ws-logp", Steps: steps, Questions: 2, K: 2, Seed: 5}
}

// until reads states of a run until it has one of the given status.
func until(c *client, run, status string) *wire.State {
	c.t.Helper()
	for {
		switch m := c.next().(type) {
		case *wire.State:
			if m.Run == run && m.Status == status {
				return m
			}
			if m.Status == wire.StatusFailed && status != m.Status {
				c.t.Fatalf("the run failed: %s", m.Message)
			}
		case *wire.Failed:
			c.t.Fatalf("failed: %+v", m)
		}
	}
}

// report is what /api/runs/{run} says.
func (r *rig) report(run string) runReport {
	r.t.Helper()
	resp, body := r.get("/api/runs/" + run)
	if resp.StatusCode != 200 {
		r.t.Fatalf("%s: %s", resp.Status, body)
	}
	var rep runReport
	if err := json.Unmarshal([]byte(body), &rep); err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func TestRun(t *testing.T) {
	r := trainer(t, t.TempDir())
	c, other := r.reader(nil), r.reader(nil)
	c.say(short(4))
	st := expect[*wire.State](c)
	if st.ID != "t1" || st.Run != "run1" || st.Of != 4 || st.Mode != "ws-logp" {
		t.Fatalf("have %+v", st)
	}
	var steps, evals []int
	for done := false; !done; {
		switch m := c.next().(type) {
		case *wire.Step:
			for _, p := range m.Points {
				steps = append(steps, p.Step)
				for _, v := range []string{wire.ValueReward, wire.ValueBase, wire.ValueEntropy, wire.ValueLength, wire.ValueZeroVariance, wire.ValueLoss} {
					if _, ok := p.Values[v]; !ok {
						t.Errorf("step %d has no %s: %v", p.Step, v, p.Values)
					}
				}
			}
		case *wire.Eval:
			for _, p := range m.Points {
				evals = append(evals, p.Step)
				if a := p.Values[wire.ValueAccuracy]; a < 0 || a > 1 || p.Values[wire.ValueLow] > a || p.Values[wire.ValueHigh] < a {
					t.Errorf("eval %d: %v", p.Step, p.Values)
				}
			}
		case *wire.State:
			done = m.Status == wire.StatusDone
			if m.Status == wire.StatusFailed {
				t.Fatalf("failed: %s", m.Message)
			}
			st = m
		}
	}
	if !reflect.DeepEqual(steps, []int{1, 2, 3, 4}) || !reflect.DeepEqual(evals, []int{0, 1, 2, 3, 4}) {
		t.Errorf("steps %v, evals %v", steps, evals)
	}
	if n := len(st.Checkpoints); n != 5 || st.Checkpoints[0].Model != "world:base" || st.Checkpoints[4].Model != "run1@4" {
		t.Errorf("checkpoints %v", st.Checkpoints)
	}
	// Somebody who did not watch knows of the run and its models.
	if o := until(other, "run1", wire.StatusDone); len(o.Checkpoints) != 5 {
		t.Errorf("another reader: %+v", o)
	}
	w := r.reader(nil).welcome
	if len(w.Runs) != 1 || len(w.Models) != 5 || w.Models[4].Name != "run1@4" || w.Models[4].Run != "run1" || w.Models[4].Step != 4 || w.Models[4].Vocab != w.Models[0].Vocab {
		t.Errorf("welcome: %+v", w)
	}
	other.say(&wire.Watch{Run: "run1", After: 2})
	if m := expect[*wire.Step](other); len(m.Points) != 2 || m.Points[0].Step != 3 {
		t.Errorf("after 2: %+v", m.Points)
	}
	ask := question()
	ask.Model = "run1@4"
	other.say(ask)
	expect[*wire.End](other)
}

// TestRunPausesAndGoesOn: what a paused run and a closed server leave behind goes
// on as if nothing had happened.
func TestRunPausesAndGoesOn(t *testing.T) {
	steps := 12
	if testing.Short() {
		steps = 6
	}
	whole := trainer(t, t.TempDir())
	c := whole.reader(nil)
	c.say(short(steps))
	until(c, "run1", wire.StatusDone)
	want := whole.report("run1")

	dir := t.TempDir()
	step := make(chan struct{}, 1)
	free := sync.OnceFunc(func() { close(step) })
	r := trainer(t, dir, func(o *Options) { o.Train.Device = &paced{Device: o.Train.Device, step: step} })
	t.Cleanup(free)
	c = r.reader(nil)
	c.say(short(steps))
	step <- struct{}{}
	expect[*wire.Step](c)
	c.say(&wire.TrainPause{Head: wire.Head{ID: "p"}, Run: "run1"})
	x := r.runs.list[0]
	settled(t, "the pause", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return x.want == wire.StatusPaused })
	step <- struct{}{}
	if st := until(c, "run1", wire.StatusPaused); st.Step < 1 || st.Step >= steps {
		t.Fatalf("paused: %+v", st)
	}
	c.say(&wire.TrainResume{Head: wire.Head{ID: "r"}, Run: "run1"})
	step <- struct{}{}
	expect[*wire.Step](c)
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	<-r.runs.ctx.Done()
	free()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	info, err := os.ReadFile(filepath.Join(dir, "runs", "run1", "run.json"))
	if err != nil || !strings.Contains(string(info), `"status": "running"`) {
		t.Fatalf("run.json: %v\n%s", err, info)
	}

	r = trainer(t, dir)
	c = r.reader(nil)
	if len(c.welcome.Runs) != 1 {
		t.Fatalf("welcome: %+v", c.welcome)
	}
	c.say(&wire.Watch{Run: "run1"})
	until(c, "run1", wire.StatusDone)
	have := r.report("run1")
	if !reflect.DeepEqual(have.Steps, want.Steps) {
		t.Errorf("the values differ from those of a run that never stopped:\n%v\n%v", have.Steps, want.Steps)
	}
	// Stopping kept steps of its own; the others are measured alike.
	at := map[int]map[string]float64{}
	for _, p := range have.Evals {
		at[p.Step] = p.Values
	}
	for _, p := range want.Evals {
		if !reflect.DeepEqual(at[p.Step], p.Values) {
			t.Errorf("eval %d: %v, want %v", p.Step, at[p.Step], p.Values)
		}
	}
}

func TestRunsQueueAndStop(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.Runs = 1
	c := r.reader(nil)
	c.say(short(500))
	until(c, "run1", wire.StatusRunning)
	c.say(short(500))
	if st := until(c, "run2", wire.StatusQueued); st.ID != "t1" {
		t.Errorf("have %+v", st)
	}
	c.say(&wire.TrainStop{Run: "run1"})
	until(c, "run1", wire.StatusStopped)
	until(c, "run2", wire.StatusRunning)
	c.say(&wire.TrainStop{Run: "run2"})
	until(c, "run2", wire.StatusStopped)
	settled(t, "runs", func() bool { return r.runs.busy() == 0 })
}

// TestOneRunBesideMany: a reader's run goes before the second of another who started
// many, of whom half the places are left.
func TestOneRunBesideMany(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.Runs, r.o.KeepRuns = 1, 6
	many, one := r.owned("many"), r.owned("one")
	for _, run := range []string{"run1", "run2", "run3"} {
		many.say(short(500))
		until(many, run, wire.StatusQueued)
	}
	many.say(short(500))
	if f := expect[*wire.Failed](many); f.Code != wire.CodeBusy || !strings.Contains(f.Message, "3 runs of yours") {
		t.Errorf("have %+v", f)
	}
	one.say(short(1))
	until(one, "run4", wire.StatusQueued)
	many.say(&wire.TrainStop{Run: "run1"})
	until(one, "run4", wire.StatusDone)
	many.say(short(500))
	until(many, "run5", wire.StatusQueued)
	many.say(&wire.TrainResume{Run: "run1"}) // which would be one more
	if f := expect[*wire.Failed](many); f.Code != wire.CodeBusy {
		t.Errorf("have %+v", f)
	}
	for _, run := range []string{"run2", "run3", "run5"} {
		many.say(&wire.TrainStop{Run: run})
		until(many, run, wire.StatusStopped)
	}
}

func TestUploadedRun(t *testing.T) {
	r := trainer(t, t.TempDir())
	var lines strings.Builder
	for _, item := range r.o.World.Train(30, 3) {
		if err := json.NewEncoder(&lines).Encode(map[string]string{"question": item.Question, "answer": item.Answer}); err != nil {
			t.Fatal(err)
		}
	}
	c := r.reader(nil)
	m := short(2)
	m.Method, m.Mode, m.Upload = "sft", "", lines.String()
	c.say(m)
	st := until(c, "run1", wire.StatusDone)
	if !strings.Contains(st.Data, "uploaded") {
		t.Errorf("data: %q", st.Data)
	}
	rep := r.report("run1")
	if len(rep.Steps) != 2 || len(rep.Evals) != 3 {
		t.Errorf("%d steps, %d evals", len(rep.Steps), len(rep.Evals))
	}
	if _, ok := rep.Steps[0].Values[wire.ValueReward]; ok {
		t.Error("sft has a reward")
	}
}

func TestRefusedRuns(t *testing.T) {
	r := trainer(t, t.TempDir())
	c := r.reader(nil)
	good := `{"question":"ben","answer":"anna"}` + "\n"
	for _, x := range []struct {
		code, want string
		change     func(*wire.Train)
	}{
		{wire.CodeBadMessage, "k: want 2", func(m *wire.Train) { m.K = 1 }},
		{wire.CodeBadMessage, "steps: want 1 to 2000", func(m *wire.Train) { m.Steps = 2001 }},
		{wire.CodeNoModel, "no model", func(m *wire.Train) { m.Model = "/etc" }},
		{wire.CodeUpload, "line 2 of the file: ", func(m *wire.Train) { m.Upload = good + "{\n" }},
		{wire.CodeUpload, "messages, or text", func(m *wire.Train) { m.Upload = `{"prompts":"a"}` }},
		{wire.CodeUpload, "line 2 of the file: answer", func(m *wire.Train) { m.Upload = good + `{"question":"ben"}` }},
		{wire.CodeUpload, `line 1 of the file: question: the model does not know the word "zebra"`, func(m *wire.Train) { m.Upload = `{"question":"ben zebra","answer":"anna"}` }},
		{wire.CodeUpload, "line 1 of the file: question: ", func(m *wire.Train) {
			m.Upload = `{"question":"` + strings.Repeat("ben ", 200) + `","answer":"anna"}`
		}},
		{wire.CodeUpload, "lines", func(m *wire.Train) { m.Upload = strings.Repeat(good, maxUploadLines+1) }},
		{wire.CodeUpload, "lines", func(m *wire.Train) { m.Upload = strings.Repeat("\n", maxUploadLines) + "x" }},
	} {
		m := short(3)
		x.change(m)
		c.say(m)
		if f := expect[*wire.Failed](c); f.Code != x.code || f.ID != "t1" || !strings.Contains(f.Message, x.want) {
			t.Errorf("have %+v, want %s %q", f, x.code, x.want)
		}
		r.session(c.welcome.Session).rate.have = 12 // the allowance is tested elsewhere
	}
	for _, m := range []wire.Message{&wire.TrainPause{Run: "run9"}, &wire.TrainStop{Run: "../.."}, &wire.TrainResume{Run: "x"}, &wire.Watch{Run: "run0"}} {
		c.say(m)
		if f := expect[*wire.Failed](c); f.Code != wire.CodeNoRun {
			t.Errorf("%s: have %+v", m.Type(), f)
		}
	}
	entries, err := os.ReadDir(filepath.Join(r.o.Train.Dir, "runs"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestServerWithoutTraining(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	if l := c.welcome.Limits; l.Steps != 0 || l.Upload != 0 {
		t.Errorf("limits: %+v", l)
	}
	c.say(short(3))
	if f := expect[*wire.Failed](c); f.Code != wire.CodeForbidden {
		t.Errorf("have %+v", f)
	}
}

func TestOldestEndedRunGoes(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.KeepRuns = 2
	c := r.reader(nil)
	for _, run := range []string{"run1", "run2", "run3"} {
		c.say(short(1))
		until(c, run, wire.StatusDone)
	}
	list := r.runs.states(nil)
	if len(list) != 2 || list[0].Run != "run2" {
		t.Errorf("have %+v", list)
	}
	if _, err := os.Stat(filepath.Join(r.o.Train.Dir, "runs", "run1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("run1's folder: %v", err)
	}
	if r.hub.find("run1@1") != nil {
		t.Error("run1's model is still offered")
	}
}

// TestRunStartedFromAnother: the oldest run stays as long as one that started from
// its checkpoint has not ended.
func TestRunStartedFromAnother(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.KeepRuns = 2
	c := r.reader(nil)
	c.say(short(1))
	until(c, "run1", wire.StatusDone)
	m := short(200)
	m.Model = "run1@1"
	c.say(m)
	until(c, "run2", wire.StatusRunning)
	c.say(&wire.TrainPause{Run: "run2"})
	until(c, "run2", wire.StatusPaused)
	c.say(short(1))
	if f := expect[*wire.Failed](c); f.Code != wire.CodeBusy {
		t.Errorf("have %+v", f)
	}
	if r.hub.find("run1@1") == nil {
		t.Error("what a paused run started from is gone")
	}
}

// TestRefusedRunRemovesNone: a request that is refused after all costs nobody an old
// run, and a run never goes for one that starts from it.
func TestRefusedRunRemovesNone(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.KeepRuns = 1
	c := r.reader(nil)
	c.say(short(1))
	until(c, "run1", wire.StatusDone)
	m := short(1)
	m.Upload = `{"question":"ben zebra","answer":"anna"}`
	c.say(m)
	if f := expect[*wire.Failed](c); f.Code != wire.CodeUpload {
		t.Errorf("an unknown word: have %+v", f)
	}
	m = short(1)
	m.Model = "run1@1"
	c.say(m)
	if f := expect[*wire.Failed](c); f.Code != wire.CodeBusy {
		t.Errorf("a run from the only one there is: have %+v", f)
	}
	if list := r.runs.states(nil); len(list) != 1 || list[0].Run != "run1" || r.hub.find("run1@1") == nil {
		t.Errorf("have %+v", list)
	}
}

// TestStoppedRunThatFailed: what went wrong while a run was being stopped is told, and
// not taken for the stop.
func TestStoppedRunThatFailed(t *testing.T) {
	r := trainer(t, t.TempDir())
	for _, c := range []struct {
		err          error
		status, said string
	}{
		{context.Canceled, wire.StatusPaused, ""},
		{fmt.Errorf("evaluate: %w", context.Canceled), wire.StatusPaused, ""},
		{errors.Join(context.Canceled, errors.New("save checkpoint-3: no space left on device")), wire.StatusFailed, "no space left"},
	} {
		x := &training{runs: r.runs, n: 1, info: runInfo{Status: wire.StatusRunning}, want: wire.StatusPaused, cancel: func() {}}
		x.end(c.err)
		if x.info.Status != c.status || !strings.Contains(x.info.Message, c.said) {
			t.Errorf("%v: have %s, %q", c.err, x.info.Status, x.info.Message)
		}
	}
}

// TestRunIsSavedWhole: a run's work and its reader may save at once.
func TestRunIsSavedWhole(t *testing.T) {
	r := trainer(t, t.TempDir())
	x := &training{runs: r.runs, n: 1}
	if err := os.MkdirAll(x.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 5 {
				if err := x.save(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestTwoServersDoNotShareAFolder(t *testing.T) {
	r := trainer(t, t.TempDir())
	o := r.o
	if _, err := New(o); !errors.Is(err, errInUse) {
		t.Errorf("have %v", err)
	}
}

// TestRunsAreReadInOrder: what run10 kept is of the kind of what it started from, which
// run2 kept, after the server starts again too.
func TestRunsAreReadInOrder(t *testing.T) {
	dir := t.TempDir()
	r := trainer(t, dir)
	c := r.reader(nil)
	r.runs.next = 2
	c.say(short(1))
	until(c, "run2", wire.StatusDone)
	r.runs.next = 10
	m := short(1)
	m.Model, m.Upload = "run2@1", `{"question":"ben","answer":"anna"}`
	c.say(m)
	until(c, "run10", wire.StatusDone)
	if !r.hub.find("run10@1").World {
		t.Fatal("run10's model does not know the small world")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r = trainer(t, dir); !r.hub.find("run10@1").World {
		t.Error("after a restart run10's model does not know the small world")
	}
	if list := r.runs.states(nil); len(list) != 2 || list[0].Run != "run2" || r.runs.next != 11 {
		t.Errorf("have %+v, next %d", list, r.runs.next)
	}
}

// TestDamagedRunIsLeftOut: the page comes up whatever the folder holds.
func TestDamagedRunIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"runs/run1/run.json": "{", "runs/run2/run.json": `{"method":"nrt","status":"odd"}`, "runs/run3/train.jsonl": "", "runs/notes/x": "", "runs/run07/run.json": "{}",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := trainer(t, dir)
	c := r.reader(nil)
	if len(c.welcome.Runs) != 0 {
		t.Errorf("have %+v", c.welcome.Runs)
	}
	c.say(short(1))
	until(c, "run4", wire.StatusDone) // numbers are not used twice
}

// TestDamagedMeasurements: the log can name the file.
func TestDamagedMeasurements(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evals.jsonl")
	if err := os.WriteFile(path, []byte("{\"step\":0}\n{\"step\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readPoints(path); err == nil || !strings.Contains(err.Error(), "evals.jsonl: ") {
		t.Errorf("have %v", err)
	}
}

func TestKeepEvery(t *testing.T) {
	for steps, want := range map[int]int{1: 1, 10: 1, 11: 2, 20: 2, 21: 5, 80: 10, 100: 10, 101: 20, 2000: 200, 9999: 1000} {
		if have := keepEvery(steps); have != want {
			t.Errorf("%d steps: every %d, want %d", steps, have, want)
		}
	}
}
