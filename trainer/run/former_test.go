package run

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

// formerRun is a folder with two checkpoints of runs that differ from the default.
func formerRun(t *testing.T) (dir string, older, latest Config) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "out")
	older, latest = Default(objective.RLPR), Default(objective.RLPR)
	for step, c := range map[int]*Config{9: &older, 10: &latest} {
		c.Data.Train = []string{"a.jsonl", "b.jsonl"}
		c.Optim.LR, c.Output.LogEvery = 0.5, step
		c.Output.Dir = "moved since" // what the folder was called then
		c.Output.Resume = "begun/from/checkpoint-3"
		at := filepath.Join(dir, (&Checkpoints{}).Path(step))
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := writeJSON(osDisk{}, filepath.Join(at, stateFile), State{Format: stateFormat, Step: step, Config: *c}); err != nil {
			t.Fatal(err)
		}
		c.Output.Dir = dir
	}
	return dir, older, latest
}

// A run goes on with its own configuration: what is not said again holds as it was,
// and what is said again is compared by the run.
func TestResumeTakesTheRunsConfiguration(t *testing.T) {
	dir, older, latest := formerRun(t)
	other := t.TempDir()
	file := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(file, []byte("optim: {lr: 0.25}"), 0o644); err != nil {
		t.Fatal(err)
	}
	as := func(c Config, change func(*Config)) Config {
		change(&c)
		return c
	}
	nine := filepath.Join(dir, "checkpoint-9")
	begun := func(resume string) string {
		c, at := older, t.TempDir()
		c.Output.Resume = resume
		check(t, writeJSON(osDisk{}, filepath.Join(at, beginFile), State{Format: stateFormat, Config: c}))
		return at
	}
	begunAuto, begunFresh, begunFrom := begun("auto"), begun(""), begun(nine)
	for name, c := range map[string]struct {
		args []string
		want Config
	}{
		"latest":            {[]string{"--resume", "--output", dir}, as(latest, func(c *Config) { c.Output.Resume = "latest" })},
		"auto":              {[]string{"--output", dir, "--resume=auto"}, as(latest, func(c *Config) { c.Output.Resume = "auto" })},
		"a folder":          {[]string{"--resume", nine + "/"}, as(older, func(c *Config) { c.Output.Resume = nine + "/" })},
		"into another":      {[]string{"--resume", nine, "--output", other}, as(older, func(c *Config) { c.Output.Resume, c.Output.Dir = nine, other })},
		"the same again":    {[]string{"--resume", "--output", dir, "--method", "rlpr", "--data", "a.jsonl"}, as(latest, func(c *Config) { c.Output.Resume, c.Data.Train = "latest", []string{"a.jsonl"} })},
		"a change":          {[]string{"--resume", "--output", dir, "--lr", "0.1"}, as(latest, func(c *Config) { c.Output.Resume, c.Optim.LR = "latest", 0.1 })},
		"auto, none yet":    {[]string{"--output", other, "--resume=auto"}, as(Default(objective.NRT), func(c *Config) { c.Output.Resume, c.Output.Dir = "auto", other })},
		"auto, begun":       {[]string{"--output", begunAuto, "--resume=auto"}, as(older, func(c *Config) { c.Output.Resume, c.Output.Dir = "auto", begunAuto })},
		"auto, begun fresh": {[]string{"--output", begunFresh, "--resume=auto", "--lr", "0.1"}, as(older, func(c *Config) { c.Output.Resume, c.Output.Dir, c.Optim.LR = "auto", begunFresh, 0.1 })},
		"auto, begun from":  {[]string{"--output", begunFrom, "--resume=auto"}, as(older, func(c *Config) { c.Output.Resume, c.Output.Dir = nine, begunFrom })},
		"latest, begun":     {[]string{"--output", begunFresh, "--resume"}, as(Default(objective.NRT), func(c *Config) { c.Output.Resume, c.Output.Dir = "latest", begunFresh })},
		"no resume":         {[]string{"--output", dir}, as(Default(objective.NRT), func(c *Config) { c.Output.Dir = dir })},
		"a file":            {[]string{"--resume", "--output", dir, "--config", file}, as(Default(objective.NRT), func(c *Config) { c.Output.Resume, c.Output.Dir, c.Optim.LR = "latest", dir, 0.25 })},
		"of another method": {[]string{"--resume", "--output", dir, "--method", "star"}, as(Default(objective.STaR), func(c *Config) { c.Output.Resume, c.Output.Dir = "latest", dir })},
	} {
		if have, err := parse(t, c.args...); err != nil || !reflect.DeepEqual(have, c.want) {
			t.Errorf("%s: %v, changed %v\nhave %+v\nwant %+v", name, err, have.Changed(c.want), have.Output, c.want.Output)
		}
	}
}

// TestEveryMethodResumes: of whatever method a run is, --resume alone goes on with it, and
// with one that an older version has stopped.
func TestEveryMethodResumes(t *testing.T) {
	dev := newCPU(t)
	for _, m := range objective.Methods() {
		c := tinyRun(t, m)
		c.Train.Steps, c.Output.SaveEvery, c.Optim.Schedule, c.Optim.Warmup = 2, 1, "constant", 0
		if err := train(t.Context(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		older := filepath.Join(c.Output.Dir, "checkpoint-2", stateFile)
		state, err := readStateFile(older)
		if err != nil {
			t.Fatal(err)
		}
		for _, steps := range []string{"3", "4"} {
			next, err := parse(t, "--resume", "--output", c.Output.Dir, "--steps", steps)
			if err == nil {
				err = train(t.Context(), dev, next, io.Discard)
			}
			if err != nil {
				t.Errorf("%s: %v", m, err)
			}
		}
		if m.Rollouts() {
			continue
		}
		state.Config.Rollout.MaxChain = 48
		if err := writeJSON(osDisk{}, filepath.Join(c.Output.Dir, "checkpoint-4", stateFile), state); err != nil {
			t.Fatal(err)
		}
		if next, err := parse(t, "--resume", "--output", c.Output.Dir); err != nil || len(next.Changed(state.Config)) > 0 {
			t.Errorf("%s of an older version: %v", m, err)
		}
	}
}

// TestResumeWithDataElsewhere: a run goes on with its data wherever they lie by then, and
// says so where it does not find them.
func TestResumeWithDataElsewhere(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.SFT)
	c.Train.Steps, c.Optim.Schedule, c.Optim.Warmup = 2, "constant", 0
	check(t, train(t.Context(), dev, c, io.Discard))
	moved := filepath.Join(t.TempDir(), "moved.jsonl")
	check(t, os.Rename(c.Data.Train[0], moved))
	c.Output.Resume, c.Train.Steps = "latest", 3
	if err := train(t.Context(), dev, c, io.Discard); err == nil || !strings.Contains(err.Error(), c.Data.Train[0]) || !strings.HasSuffix(err.Error(), "is for --data and --eval-data to say") {
		t.Errorf("have %v", err)
	}
	c.Data.Train = []string{moved}
	check(t, train(t.Context(), dev, c, io.Discard))
}

// Where there is nothing to go on from, that is what is said, and not that the
// data are missing.
func TestResumeOfNothing(t *testing.T) {
	c := Default(objective.NRT)
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "mistyped")} {
		c.Output.Dir, c.Output.Resume = dir, "latest"
		if err := (&trainer{c: c}).openStart(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no checkpoint to resume from") {
			t.Error(err)
		}
	}
	if _, err := os.Stat(c.Output.Dir); err == nil {
		t.Error("a folder was made for nothing")
	}
	c.Output.Dir = t.TempDir()
	check(t, writeJSON(osDisk{}, filepath.Join(c.Output.Dir, beginFile), State{Format: stateFormat, Config: c}))
	if err := (&trainer{c: c}).openStart(t.Context()); err == nil || !strings.Contains(err.Error(), "resume from, --resume=auto begins its run again") {
		t.Error(err)
	}
}
