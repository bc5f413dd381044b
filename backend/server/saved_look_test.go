package server

import (
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nrt/trainer/run"
	"nrt/web/wire"
)

// elsewhere is a run that another process trains, as a test has it stand.
type elsewhere struct {
	mu  sync.Mutex
	run SavedRun
	err error
}

func (x *elsewhere) look(time.Time) (SavedRun, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.run
	r.State.Checkpoints, r.Look = slices.Clone(r.State.Checkpoints), x.look
	return r, x.err
}

func (x *elsewhere) change(change func(r *SavedRun)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	change(&x.run)
}

// step is a line of metrics.
func step(n int, reward float64) run.Values {
	return run.Values{"step": float64(n), "nrt/reward_raw": reward}
}

// keeps gives the run a model, the files of an embedded one.
func (x *elsewhere) keeps(t *testing.T, n int, name, of string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, embedded(t, of)); err != nil {
		t.Fatal(err)
	}
	x.change(func(r *SavedRun) {
		r.Models = append([]Source{{Name: name, Files: os.DirFS(dir), World: true, Made: time.Unix(int64(n), 0)}}, r.Models...)
		r.State.Checkpoints = append(r.State.Checkpoints, wire.Checkpoint{Step: n, Model: name})
	})
	return dir
}

// newElsewhere is a run with one step and one model.
func newElsewhere(t *testing.T) (x *elsewhere, dir string) {
	x = &elsewhere{run: SavedRun{
		State:   wire.State{Run: "study/mine", Method: "nrt", Mode: "ws-logp", Status: wire.StatusRunning, Step: 10, Of: 80, Checkpoints: []wire.Checkpoint{{Model: "world:base"}}},
		Metrics: []run.Values{step(10, 0.25)},
	}}
	return x, x.keeps(t, 10, "study/mine/checkpoint-10", "world:nrt")
}

// shows starts a server that shows the run, its models before the others.
func (x *elsewhere) shows(t *testing.T) *rig {
	return start(t, func(o *Options) {
		r, _ := x.look(time.Time{})
		o.Saved, o.Models = []SavedRun{r}, append(slices.Clone(r.Models), o.Models...)
	})
}

func names(list []wire.Model) string {
	var out []string
	for _, m := range list {
		out = append(out, m.Name)
	}
	return strings.Join(out, " ")
}

// A run that another process trains goes on before the readers' eyes: its points, its
// status, the models that it keeps and those that it keeps no more.
func TestRunTrainedElsewhere(t *testing.T) {
	x, dir := newElsewhere(t)
	r := x.shows(t)
	look := func() { r.look(r.saved[0]) }
	c := r.reader(nil)
	c.say(&wire.Watch{Run: "study/mine", After: 3}) // of what a page knew from another server
	if st := expect[*wire.State](c); st.Status != wire.StatusRunning || !st.Saved || len(st.Checkpoints) != 2 {
		t.Errorf("at first: %+v", st)
	}
	if m := expect[*wire.Step](c); !m.Whole || len(m.Points) != 1 {
		t.Errorf("its points: %+v", m)
	}
	asks := func(id, model string) wire.Message {
		t.Helper()
		q := question()
		q.ID, q.Model, q.K = id, model, 1
		c.say(q)
		for {
			switch m := c.next().(type) {
			case *wire.End, *wire.Failed:
				return m
			}
		}
	}
	if m, ok := asks("a", "study/mine/checkpoint-10").(*wire.End); !ok {
		t.Fatalf("its model: %+v", m)
	}

	x.keeps(t, 20, "study/mine/checkpoint-20", "world:base")
	x.change(func(r *SavedRun) { r.State.Step, r.Metrics = 20, append(r.Metrics, step(20, 0.5)) })
	look()
	if m := expect[*wire.Step](c); m.Whole || len(m.Points) != 1 || m.Points[0].Step != 20 || m.Points[0].Values[wire.ValueReward] != 0.5 {
		t.Errorf("a new step: %+v", m)
	}
	if st := expect[*wire.State](c); st.Step != 20 || len(st.Checkpoints) != 3 || !st.Saved {
		t.Errorf("a new model: %+v", st)
	}
	if have := names(expect[*wire.Models](c).Models); have != "study/mine/checkpoint-20 study/mine/checkpoint-10 world:base" {
		t.Errorf("the models are %s", have)
	}

	// The trainer keeps only its last ones. Who has one loaded goes on with it.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	x.change(func(r *SavedRun) {
		r.Models, r.State.Status = r.Models[:1], wire.StatusStopped
		r.State.Checkpoints = slices.Delete(r.State.Checkpoints, 1, 2)
	})
	look()
	if st := expect[*wire.State](c); st.Status != wire.StatusStopped || len(st.Checkpoints) != 2 || st.Checkpoints[1].Step != 20 {
		t.Errorf("a model less: %+v", st)
	}
	if have := names(expect[*wire.Models](c).Models); have != "study/mine/checkpoint-20 world:base" {
		t.Errorf("the models are %s", have)
	}
	if m, ok := asks("b", "study/mine/checkpoint-10").(*wire.End); !ok {
		t.Errorf("a model that is loaded: %+v", m)
	}
	r.hub.mu.Lock()
	m := r.hub.models["study/mine/checkpoint-10"]
	idle := m.idle
	m.idle = nil
	r.hub.mu.Unlock()
	for _, x := range idle {
		x.free()
	}
	for _, id := range []string{"c", "d"} { // before the server has forgotten it, and after
		if m, ok := asks(id, "study/mine/checkpoint-10").(*wire.Failed); !ok || m.Code != wire.CodeNoModel || !strings.Contains(m.Message, "no longer there") {
			t.Errorf("a model that is gone: %+v", m)
		}
		settled(t, "places", func() bool { return len(m.room) == cap(m.room) })
		look()
	}
	if r.hub.find("study/mine/checkpoint-10") != nil {
		t.Error("the server still knows a model that is gone")
	}

	// Another model takes the name, as of a run that went back.
	before := r.hub.find("study/mine/checkpoint-20")
	x.change(func(r *SavedRun) {
		r.Models = []Source{r.Models[0]}
		r.Models[0].Made = time.Unix(99, 0)
		r.Metrics = []run.Values{step(10, 0.25), step(20, 0.75)}
	})
	look()
	if m := expect[*wire.Step](c); !m.Whole || len(m.Points) != 2 || m.Points[1].Values[wire.ValueReward] != 0.75 {
		t.Errorf("another history: %+v", m)
	}
	if r.hub.find("study/mine/checkpoint-20") == before || !before.dead {
		t.Error("the old model bears the name still")
	}

	// What cannot be read, or told, changes nothing.
	for _, bad := range []func(r *SavedRun){
		func(*SavedRun) { x.err = errors.New("not now") },
		func(r *SavedRun) { r.State.Of = 0 },
		func(r *SavedRun) { r.Metrics = []run.Values{step(-1, 1)} },
		func(r *SavedRun) {
			r.Models = []Source{{Name: "study/mine/final", Files: os.DirFS(t.TempDir())}}
		},
	} {
		good := x.run
		x.change(bad)
		look()
		x.change(func(r *SavedRun) { *r, x.err = good, nil })
		if rep := r.saved[0].now(); rep.State.Of != 80 || len(rep.Steps) != 2 {
			t.Errorf("have %+v", rep)
		}
	}
	x.keeps(t, 30, "study/mine/checkpoint-30", "world:base")
	x.change(func(r *SavedRun) { r.Models[0].Files = os.DirFS(t.TempDir()) })
	look()
	late := r.reader(nil)
	if st := late.welcome.Runs[0]; len(st.Checkpoints) != 2 || names(late.welcome.Models) != "study/mine/checkpoint-20 world:base" {
		t.Errorf("with a model that cannot be read a new reader is told %+v, %s", st, names(late.welcome.Models))
	}
	if resp, body := r.get("/readyz"); resp.StatusCode != http.StatusOK {
		t.Errorf("not ready: %s", body)
	}
}

// A run goes on while the server starts: a model that is there no more when it is to be
// read is not missed.
func TestRunTrainedElsewhereWentOn(t *testing.T) {
	x, dir := newElsewhere(t)
	r := start(t, func(o *Options) {
		r, _ := x.look(time.Time{})
		o.Saved, o.Models = []SavedRun{r}, append(slices.Clone(r.Models), o.Models...)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		x.change(func(r *SavedRun) { r.Models, r.State.Checkpoints = nil, r.State.Checkpoints[:1] })
		x.keeps(t, 20, "study/mine/checkpoint-20", "world:base")
	})
	if c := r.reader(nil); names(c.welcome.Models) != "study/mine/checkpoint-20 world:base" || len(c.welcome.Runs[0].Checkpoints) != 2 {
		t.Errorf("have %s, %+v", names(c.welcome.Models), c.welcome.Runs[0])
	}
}

// Readers who come, while the run goes on and back, have each point once.
func TestRunTrainedElsewhereHasReaders(t *testing.T) {
	x, dir := newElsewhere(t)
	r := x.shows(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if resp, body := r.get("/readyz"); resp.StatusCode != http.StatusOK { // others share its tokenizer
		t.Errorf("not ready: %s", body)
	}
	const last = 400
	var all sync.WaitGroup
	for range 4 {
		c := r.reader(nil)
		all.Go(func() {
			c.say(&wire.Watch{Run: "study/mine"})
			var have []wire.Point
			for len(have) == 0 || have[len(have)-1].Step != last {
				m := expect[*wire.Step](c)
				if m.Whole {
					have = nil
				}
				have = append(have, m.Points...)
			}
			want := r.saved[0].now().Steps
			if !slices.EqualFunc(have, want, func(a, b wire.Point) bool { return a.Step == b.Step && maps.Equal(a.Values, b.Values) }) {
				t.Errorf("have %v", have)
			}
		})
	}
	for n := 11; n <= last; n++ {
		x.change(func(r *SavedRun) {
			if n == 200 {
				r.Metrics = r.Metrics[:50:50]
			}
			r.Metrics = append(slices.Clone(r.Metrics), step(n, float64(n)))
		})
		r.look(r.saved[0])
	}
	all.Wait()
}

// A run is shown before it has done a step or kept a model. The models that it keeps
// later are asked first, and may be of a vocabulary that the server has not seen before.
func TestRunTrainedElsewhereBegins(t *testing.T) {
	x := &elsewhere{run: SavedRun{State: wire.State{Run: "study/mine", Method: "nrt", Mode: "ws-logp", Status: wire.StatusRunning, Of: 80}}}
	r := x.shows(t)
	c := r.reader(nil)
	c.say(&wire.Watch{Run: "study/mine"})
	if st := expect[*wire.State](c); st.Step != 0 || len(st.Checkpoints) != 0 {
		t.Errorf("at first: %+v", st)
	}
	if m := expect[*wire.Step](c); !m.Whole || len(m.Points) != 0 {
		t.Errorf("its points: %+v", m)
	}
	x.change(func(r *SavedRun) { r.State.Step, r.Metrics = 1, append(r.Metrics, step(1, 0.5)) })
	r.look(r.saved[0])
	if m := expect[*wire.Step](c); len(m.Points) != 1 || m.Points[0].Step != 1 {
		t.Errorf("a step before the first model: %+v", m)
	}
	dir := x.keeps(t, 10, "study/mine/checkpoint-10", "world:nrt")
	chat := []byte(`{"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<eos>"}`)
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), chat, 0o666); err != nil {
		t.Fatal(err)
	}
	r.look(r.saved[0])
	list := expect[*wire.Models](c).Models
	if list[0].Name != "study/mine/checkpoint-10" || list[1].Name != r.o.Models[0].Name {
		t.Errorf("the models are %s", names(list))
	}
	if slices.ContainsFunc(list[1:], func(m wire.Model) bool { return m.Vocab == list[0].Vocab }) {
		t.Error("the test wants a vocabulary of its own")
	}
	if resp, body := r.get("/vocab/" + list[0].Vocab); resp.StatusCode != http.StatusOK {
		t.Errorf("its vocabulary: %d %s", resp.StatusCode, body)
	}
	q := question()
	q.Model, q.K = list[0].Name, 1
	c.say(q)
	for {
		switch m := c.next().(type) {
		case *wire.End:
			return
		case *wire.Failed:
			t.Fatalf("its model: %+v", m)
		}
	}
}
