package main

import (
	"path/filepath"
	"strings"
	"testing"

	"nrt/web/wire"
)

// Every model inside the program can be read and asked, the default one first.
func TestBuiltinModels(t *testing.T) {
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	s := setting{builtins: list}
	if find := (&env{builtins: list}).builtin(defaultModel); find == nil {
		t.Errorf("no built-in model %s", defaultModel)
	}
	for _, b := range list {
		d, err := describe(b.Name, b.Files)
		if err != nil {
			t.Error(err)
			continue
		}
		if d.Format != "world" || b.About == "" || len(b.Samples) == 0 {
			t.Errorf("%s: have %+v, about %q, %d samples", b.Name, d, b.About, len(b.Samples))
		}
		s.ok(t, "explain", "--model", b.Name, "--k", "2", "--sample", "2")
		s.ok(t, "generate", "--model", b.Name, "--question", b.Samples[0].Question)
	}
	// A model on disk that was trained from one has its questions.
	dir := filepath.Join(t.TempDir(), "mine")
	s.ok(t, "export", "--model", defaultModel, "--output", dir)
	mine, its := s.ok(t, "explain", "--model", dir, "--k", "2", "--sample", "2"), s.ok(t, "explain", "--k", "2", "--sample", "2")
	if strings.ReplaceAll(mine, dir, defaultModel) != its {
		t.Errorf("have\n%s\nwant\n%s", mine, its)
	}
	if code, _, stderr := s.nrt(t, "explain", "--model", wordModel(t)); code != exitUsage || !strings.Contains(stderr, "want --question and --answer") {
		t.Errorf("a model of something else: exit %d, %s", code, stderr)
	}
}

// What the page shows of the embedded models' training is theirs: every kept step
// is a built-in model with the accuracy that index.json has for it.
func TestSavedRunsAreOfBuiltins(t *testing.T) {
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	e := &env{builtins: list}
	runs, err := savedRuns()
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) == 0 {
		t.Fatal("there are none")
	}
	for _, r := range runs {
		if err := r.State.Validate(); err != nil {
			t.Errorf("%s: %v", r.State.Run, err)
		}
		if len(r.Metrics) != r.State.Of {
			t.Errorf("%s: metrics of %d steps of %d", r.State.Run, len(r.Metrics), r.State.Of)
		}
		for i, c := range r.State.Checkpoints {
			b := e.builtin(c.Model)
			if b == nil {
				t.Errorf("%s: no model %s", r.State.Run, c.Model)
			} else if have := r.Evals[i].Values[wire.ValueAccuracy]; have != b.Accuracy {
				t.Errorf("%s: accuracy %g, index.json says %g", c.Model, have, b.Accuracy)
			}
		}
	}
}
