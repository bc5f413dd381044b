package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nrt/trainer/data"
	"nrt/trainer/objective"
)

// parts is a checkpoint of a step: several files, one of them below a folder,
// none of them flushed by those who write them.
func parts(d disk, step int) Parts {
	file := func(path, text string) error {
		f, err := d.Create(path)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f, text)
		return errors.Join(err, f.Close())
	}
	return Parts{
		Model: func(dir string) error {
			if err := d.MkdirAll(filepath.Join(dir, "sub")); err != nil {
				return err
			}
			return errors.Join(
				file(filepath.Join(dir, "model.safetensors"), strings.Repeat(fmt.Sprintf("weights of %d ", step), 10)),
				file(filepath.Join(dir, "sub", "more.bin"), fmt.Sprint(step)))
		},
		Tokenizer: func(dir string) error { return file(filepath.Join(dir, "tokenizer.json"), "{}") },
		Optimizer: func(w io.Writer) error { _, err := fmt.Fprintf(w, "moments of %d", step); return err },
		State:     &State{Step: step, MaxSteps: 9, Config: Default(objective.NRT)},
	}
}

func open(t *testing.T, dir string, keep int) *Checkpoints {
	t.Helper()
	c, err := OpenCheckpoints(dir, keep)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func save(t *testing.T, c *Checkpoints, p Parts) string {
	t.Helper()
	path, err := c.Save(p)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func steps(t *testing.T, c *Checkpoints) []int {
	t.Helper()
	s, err := c.Steps()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCheckpointRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	c := open(t, dir, 2)
	if err := c.Fresh(); err != nil {
		t.Error(err)
	}
	if _, err := c.Latest(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("latest of none: %v", err)
	}
	p := parts(osDisk{}, 12)
	p.State.Epoch, p.State.NumTokens, p.State.Updates = 0.30000000000000004, 1<<40, 48
	p.State.Data = data.Position{Seed: math.MaxUint64, Epoch: 3, Index: 7, Examples: 9, Fingerprint: "ab"}
	p.State.Objective = json.RawMessage(`{"sigma": 0.30000000000000004}`)
	p.State.Best = &Best{Step: 10, Metric: "eval/reference_logprob", Value: -1.5}
	p.State.Config.Data.Train = []string{"a <b>.jsonl", "c"}
	p.State.Remember(12, Values{"loss": 1.25, "kl": math.NaN()})
	path := save(t, c, p)
	if path != filepath.Join(dir, "checkpoint-12") || path != c.Path(12) {
		t.Errorf("path %s", path)
	}
	k, err := c.Latest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if k.Path != path {
		t.Errorf("path %s", k.Path)
	}
	want := *p.State
	want.Format = stateFormat
	h := k.State.LogHistory
	if len(h) != 1 || h[0]["loss"] != 1.25 || h[0]["step"] != 12 || !math.IsNaN(h[0]["kl"]) {
		t.Errorf("history %v", h)
	}
	var sigma struct{ Sigma float64 }
	if err := json.Unmarshal(k.State.Objective, &sigma); err != nil || sigma.Sigma != 0.30000000000000004 {
		t.Errorf("objective %s: %v", k.State.Objective, err)
	}
	k.State.LogHistory, want.LogHistory = nil, nil // NaN is not equal to itself
	k.State.Objective, want.Objective = nil, nil   // indented
	if !reflect.DeepEqual(k.State, want) {
		t.Errorf("have %+v\nwant %+v", k.State, want)
	}
	f, err := k.Optimizer()
	if err != nil {
		t.Fatal(err)
	}
	moments, err := io.ReadAll(f)
	if err != nil || string(moments) != "moments of 12" {
		t.Errorf("optimizer: %q, %v", moments, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Fresh(); err == nil || !strings.Contains(err.Error(), "already holds a run (checkpoint-12): resume it with --resume") {
		t.Errorf("have %v", err)
	}
	// People put notes into checkpoints.
	if err := os.WriteFile(filepath.Join(path, "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCheckpoint(t.Context(), path); err != nil {
		t.Error(err)
	}
}

func TestKeep(t *testing.T) {
	c := open(t, t.TempDir(), 2)
	best := &Best{}
	for step := 1; step <= 6; step++ {
		p := parts(osDisk{}, step)
		if step >= 2 {
			best.Step = 2
			p.State.Best = best
		}
		save(t, c, p)
	}
	if got := steps(t, c); !slices.Equal(got, []int{2, 5, 6}) {
		t.Errorf("kept %v", got)
	}
	all := open(t, t.TempDir(), 0)
	for step := range 5 {
		save(t, all, parts(osDisk{}, step))
	}
	if got := steps(t, all); len(got) != 5 {
		t.Errorf("kept %v of all", got)
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("leftovers: %v, %v", entries, err)
	}
}

func TestRewind(t *testing.T) {
	c := open(t, t.TempDir(), 0)
	for _, step := range []int{2, 10, 100} {
		save(t, c, parts(osDisk{}, step))
	}
	for _, end := range []string{".aside", ".aside.2", ".aside.3"} { // none replaces another
		moved, err := c.Rewind(2)
		if err != nil || len(moved) != 2 || filepath.Base(moved[0]) != "checkpoint-10"+end {
			t.Fatal(moved, err)
		}
		if got := steps(t, c); !slices.Equal(got, []int{2}) {
			t.Errorf("left %v", got)
		}
		save(t, c, parts(osDisk{}, 10))
		save(t, c, parts(osDisk{}, 100))
	}
	// Opening does not clear what was set aside.
	for _, end := range []string{".aside", ".aside.2", ".aside.3"} {
		if _, err := OpenCheckpoint(t.Context(), open(t, c.dir, 1).Path(10)+end); err != nil {
			t.Error(err)
		}
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"checkpoint-", "checkpoint-x", "checkpoint--1", "checkpoint-01", "checkpoint-1e3", "checkpoints.tmp", "a.old", "checkpoint-99999999999999999999"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint-5"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := steps(t, open(t, dir, 0)); len(got) != 0 {
		t.Errorf("have %v", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 9 {
		t.Errorf("opening removed what is not ours: %v, %v", entries, err)
	}
}

func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		want   string
	}{
		{"truncated", func(dir string) error { return os.Truncate(filepath.Join(dir, "model.safetensors"), 7) },
			"is damaged: model.safetensors: has 7 bytes, was written with 130"},
		{"flipped", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, optimizerFile), []byte("moments of 6"), 0o644)
		}, "is damaged: optimizer.bin: its content is not what was written (SHA-256 differs)"},
		{"missing", func(dir string) error { return os.Remove(filepath.Join(dir, "sub", "more.bin")) },
			"is damaged: sub/more.bin: is missing"},
		{"no sums", func(dir string) error { return os.Remove(filepath.Join(dir, sumsFile)) },
			"is damaged: checksums.json: is missing; a model folder without it is no checkpoint"},
		{"bad sums", func(dir string) error { return os.WriteFile(filepath.Join(dir, sumsFile), []byte("{"), 0o644) },
			"is damaged: checksums.json: unexpected end of JSON input"},
		{"empty sums", func(dir string) error { return os.WriteFile(filepath.Join(dir, sumsFile), []byte("{}"), 0o644) },
			"is damaged: checksums.json: does not list optimizer.bin"},
		{"escape", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, sumsFile), []byte(`{"../x": {}, "optimizer.bin": {}, "trainer_state.json": {}}`), 0o644)
		}, `is damaged: checksums.json: lists "../x", which is not a name inside the folder`},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := open(t, t.TempDir(), 0)
			save(t, all, parts(osDisk{}, 3))
			save(t, all, parts(osDisk{}, 4))
			last := save(t, all, parts(osDisk{}, 5))
			if err := c.damage(last); err != nil {
				t.Fatal(err)
			}
			_, err := all.Latest(t.Context())
			var d *DamagedError
			if !errors.As(err, &d) || !strings.HasPrefix(err.Error(), last+" "+c.want) {
				t.Errorf("have %v\nwant %s", err, c.want)
			}
			if want := "the one before it is sound: --resume=" + all.Path(4); !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("have %v\nwant %s", err, want)
			}
			if err := os.Truncate(filepath.Join(all.Path(4), stateFile), 1); err != nil {
				t.Fatal(err)
			}
			if _, err := all.Latest(t.Context()); !strings.Contains(fmt.Sprint(err), "--resume="+all.Path(3)) {
				t.Errorf("have %v", err)
			}
			if err := os.RemoveAll(all.Path(3)); err != nil {
				t.Fatal(err)
			}
			if _, err := all.Latest(t.Context()); !strings.Contains(fmt.Sprint(err), "no earlier checkpoint is sound") {
				t.Errorf("have %v", err)
			}
		})
	}
	if _, err := OpenCheckpoint(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v", err)
	}
}

// A state that another version wrote, or that makes no sense, is refused although
// its checksum is right.
func TestStateCheck(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`"format": 1`, `"format": 2`, "format: want 1, have 2: it was written by another version"},
		{`"global_step": 5`, `"global_step": -5`, "global_step: want >= 0"},
		{`"updates": 0`, `"updates": -1`, "updates: want >= 0"},
		{`"max_steps": 9`, `"max_steps": "9"`, "cannot unmarshal string"},
		{`"layers"`, `"lairs"`, "unknown key model.lairs"},
	} {
		all := open(t, t.TempDir(), 0)
		path := save(t, all, parts(osDisk{}, 5))
		raw, err := os.ReadFile(filepath.Join(path, stateFile))
		if err != nil || !bytes.Contains(raw, []byte(c.old)) {
			t.Fatalf("no %s in %s: %v", c.old, raw, err)
		}
		raw = bytes.Replace(raw, []byte(c.old), []byte(c.new), 1)
		if err := os.WriteFile(filepath.Join(path, stateFile), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		sums, err := checksums(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(osDisk{}, filepath.Join(path, sumsFile), sums); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCheckpoint(t.Context(), path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), stateFile) {
			t.Errorf("have %v, want %s", err, c.want)
		}
	}
}

// The history is as long as a line of the log needs it, too.
func TestHistoryTail(t *testing.T) {
	for every, want := range map[int]int{1: historyTail, 130: 130} {
		var s State
		s.Config.Output.LogEvery = every
		v := Values{"loss": 1}
		for i := range 250 {
			s.Remember(i, v)
		}
		if len(s.LogHistory) != want || s.LogHistory[0]["step"] != float64(250-want) || len(v) != 1 {
			t.Errorf("--log-every %d: %d lines, first %v", every, len(s.LogHistory), s.LogHistory[0])
		}
	}
}

func TestSaveErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, change := range map[string]func(*Parts){
		"model":         func(p *Parts) { p.Model = func(string) error { return broken } },
		"tokenizer":     func(p *Parts) { p.Tokenizer = func(string) error { return broken } },
		"optimizer.bin": func(p *Parts) { p.Optimizer = func(io.Writer) error { return broken } },
	} {
		c := open(t, t.TempDir(), 0)
		p := parts(osDisk{}, 1)
		change(&p)
		if _, err := c.Save(p); !errors.Is(err, broken) || !strings.Contains(err.Error(), "checkpoint-1: "+name+": ") {
			t.Errorf("%s: %v", name, err)
		}
		if got := steps(t, c); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
		p = parts(osDisk{}, 1)
		p.Tokenizer = nil
		save(t, c, p) // over the leftover
	}
}
