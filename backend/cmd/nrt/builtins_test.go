package main

import (
	"path/filepath"
	"strings"
	"testing"

	"nrt/trainer/eval"
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

// Without a file the small world asks, of which the trained model knows more than the
// one before it. Its questions are for its models alone.
func TestEvalAsksTheSmallWorld(t *testing.T) {
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	s := setting{builtins: list}
	right := func(model string, flags ...string) float64 {
		var r eval.Report
		decode(t, s.ok(t, append([]string{"eval", "--model", model, "--n", "70", "--json"}, flags...)...), &r)
		if r.N != 70 || len(r.Families) != 7 || len(r.Kinds) == 0 {
			t.Errorf("%s: %+v", model, r)
		}
		return r.Accuracy
	}
	base, trained, longer, exact := right("world:base"), right("world:nrt"), right("world:nrt", "--data", "world:longer"), right("world:nrt", "--exact")
	if base > 0.5 || trained < 0.95 || longer < 0.95 || exact > trained/2 {
		t.Errorf("right: %g before training, %g after, %g of longer ones, %g to the letter", base, trained, longer, exact)
	}
	text := s.ok(t, "eval", "--n", "14")
	for _, want := range []string{"world:nrt on world, 14 questions\n", "\n  right answers ", "\n  kinds of chain ", "\n  kin "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if code, _, stderr := s.nrt(t, "eval", "--data", "world:new"); code != exitUsage || !strings.Contains(stderr, "want world:heldout") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	if code, _, stderr := s.nrt(t, "eval", "--model", wordModel(t)); code != exitFailure || !strings.Contains(stderr, "was not made for the small world") {
		t.Errorf("exit %d, %s", code, stderr)
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
