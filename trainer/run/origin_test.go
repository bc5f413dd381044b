package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

// tinyBase trains a model to start other runs from, and returns its folder.
func tinyBase(t *testing.T, seed uint64) string {
	t.Helper()
	c := tinyRun(t, objective.SFT)
	c.Train.Steps, c.Train.Seed, c.Optim.LR = 2, seed, 1e-2
	if err := train(context.Background(), newCPU(t), c, io.Discard); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(c.Output.Dir, "final")
}

// put makes dir a copy of the folder from.
func put(t *testing.T, dir, from string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(from))); err != nil {
		t.Fatal(err)
	}
}

// stopped runs c until the given step and returns it as the run to go on with.
func stopped(t *testing.T, c Config, at string) Config {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := train(ctx, newCPU(t), c, &stopper{cancel: cancel, at: at}); !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped at %s: %v", at, err)
	}
	c.Output.Resume = "latest"
	return c
}

// The reference of a run is the model that it started from, whatever stands in
// its folder when the run goes on; a run without one needs the folder no more.
func TestResumeFromItsOwnStart(t *testing.T) {
	dev := newCPU(t)
	one, other := tinyBase(t, 1), tinyBase(t, 2)
	base := filepath.Join(t.TempDir(), "base")
	start := func(change func(*Config)) Config {
		put(t, base, one)
		c := tinyRun(t, objective.NRT)
		c.Model.Path, c.Train.Steps = base, 3
		change(&c)
		return stopped(t, c, "step 2/")
	}
	for name, change := range map[string]func(*Config){
		"kl":             func(c *Config) { c.Objective.KL = 0.5 },
		"fixed baseline": func(c *Config) { c.Objective.FixedBaseline = true },
	} {
		c := start(change)
		put(t, base, other)
		err := train(context.Background(), dev, c, io.Discard)
		if err == nil || !strings.Contains(err.Error(), base+" is not the model that the run started from") || !strings.Contains(err.Error(), "model.safetensors has SHA-256 ") {
			t.Errorf("%s: another model: %v", name, err)
		}
		put(t, base, one)
		if err := os.WriteFile(filepath.Join(base, "tokenizer_config.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := train(context.Background(), dev, c, io.Discard); err == nil || !strings.Contains(err.Error(), "the tokenizer of "+base) {
			t.Errorf("%s: another tokenizer: %v", name, err)
		}
		if err := os.RemoveAll(base); err != nil {
			t.Fatal(err)
		}
		if err := train(context.Background(), dev, c, io.Discard); err == nil || !strings.Contains(err.Error(), "the run needs what is there as the reference policy") {
			t.Errorf("%s: no model: %v", name, err)
		}
		// It is known wherever it lies, and goes on from there.
		moved := c
		moved.Model.Path = other
		if err := train(context.Background(), dev, moved, io.Discard); err == nil || !strings.Contains(err.Error(), other+" is not the model that the run started from") {
			t.Errorf("%s: another model elsewhere: %v", name, err)
		}
		copied := filepath.Join(t.TempDir(), "out")
		put(t, copied, c.Output.Dir)
		moved.Model.Path, moved.Output.Dir = one, copied
		if err := train(context.Background(), dev, moved, io.Discard); err != nil {
			t.Errorf("%s: its own model elsewhere: %v", name, err)
		}
		put(t, base, one)
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Errorf("%s: its own model: %v", name, err)
		}
		_, there, _ := outcome(t, moved)
		if _, here, _ := outcome(t, c); !bytes.Equal(there, here) {
			t.Errorf("%s: from a model elsewhere it becomes another", name)
		}
	}

	whole := start(func(*Config) {})
	if err := train(context.Background(), dev, whole, io.Discard); err != nil {
		t.Fatal(err)
	}
	_, want, _ := outcome(t, whole)
	for name, then := range map[string]func() error{
		"gone": func() error { return os.RemoveAll(base) },
		"changed": func() error {
			put(t, base, other)
			return os.WriteFile(filepath.Join(base, "tokenizer.json"), []byte("{}"), 0o600)
		},
	} {
		c := start(func(*Config) {})
		if err := then(); err != nil {
			t.Fatal(err)
		}
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Errorf("without a reference, base %s: %v", name, err)
			continue
		}
		if _, have, _ := outcome(t, c); !bytes.Equal(have, want) {
			t.Errorf("without a reference, base %s: other weights", name)
		}
	}
}

// A checkpoint from before there were origins goes on, and says what it cannot know.
func TestOriginOfOlderCheckpoints(t *testing.T) {
	c := tinyRun(t, objective.NRT)
	c.Model.Path, c.Train.Steps, c.Objective.KL = tinyBase(t, 1), 3, 0.5
	c = stopped(t, c, "step 2/")
	path := filepath.Join(c.Output.Dir, "checkpoint-2")
	k, err := OpenCheckpoint(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if k.State.Origin == nil || k.State.Origin.Model["model.safetensors"].Size == 0 || k.State.Origin.Tokenizer["tokenizer.json"].Size == 0 {
		t.Fatalf("origin %+v", k.State.Origin)
	}
	k.State.Origin = nil
	raw, err := json.Marshal(k.State)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, stateFile), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	sums, err := checksums(path)
	if err == nil {
		err = writeJSON(osDisk{}, filepath.Join(path, sumsFile), sums)
	}
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	if err := train(context.Background(), newCPU(t), c, &log); err != nil || !strings.Contains(log.String(), "cannot be checked") {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// A tokenizer with more tokens than the model has embeddings for is refused
// before the model is loaded, and so is a layout that the tokenizer cannot have.
func TestTokenizerOfAnotherModel(t *testing.T) {
	small := tinyRun(t, objective.SFT)
	small.Train.Steps, small.Model.Vocab = 1, 262
	if err := train(context.Background(), newCPU(t), small, io.Discard); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(small.Output.Dir, "final")
	if err := os.Remove(filepath.Join(base, "model.safetensors")); err != nil { // it is not read
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"model.tokenizer (--tokenizer): the tokenizer of ":                  func(c *Config) { c.Model.Tokenizer = tinyBase(t, 1) },
		`model.template (--template): chat format "llama3": token "<|start`: func(c *Config) { c.Model.Template = "llama3" },
	} {
		for _, m := range []objective.Method{objective.SFT, objective.NRT} {
			c := tinyRun(t, m)
			c.Model.Path = base
			change(&c)
			err := train(context.Background(), newCPU(t), c, io.Discard)
			var wrong *ConfigError
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: have %v, want %s", m, err, want)
			}
		}
	}
}
