package run

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

// TestChainRoom: without --max-chain a chain gets half of the model's positions,
// and one that leaves no room is refused before any data is read.
func TestChainRoom(t *testing.T) {
	c := Default(objective.NRT)
	for positions, want := range map[int]int{1: 1, 2: 1, 96: 48, 1024: 512, 4096: 2048, 131072: 2048} {
		if have := c.chainFor(positions); have != want {
			t.Errorf("%d positions: chains of %d, want %d", positions, have, want)
		}
	}
	dev := newCPU(t)
	small := tinyRun(t, objective.NRT)
	small.Train.Steps = 1
	if err := train(context.Background(), dev, small, io.Discard); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"rollout.max_chain (--max-chain): want at most 1022, since question and answer share the 1024 positions (model.positions, --positions) with the chain, have 1023": func(c *Config) { c.Rollout.MaxChain = 1023 },
		"rollout.max_chain (--max-chain): want at most 94, since question and answer share the 96 positions of that model (max_position_embeddings) with the chain, have 2000": func(c *Config) {
			c.Rollout.MaxChain, c.Model.Path = 2000, filepath.Join(small.Output.Dir, "final")
		},
	} {
		c := Default(objective.NRT)
		c.Data.Train = []string{"nowhere.jsonl"}
		change(&c)
		if err := train(context.Background(), dev, c, io.Discard); err == nil || err.Error() != want {
			t.Errorf("have %v\nwant %s", err, want)
		}
	}
	for _, m := range []objective.Method{objective.SFT, objective.LM} {
		c := Default(m)
		c.Rollout.MaxChain = 5000
		if err := c.Validate(); err != nil {
			t.Errorf("%s samples no chains: %v", m, err)
		}
	}
	// What was settled is what is kept: the run resumes with the length open too.
	small.Output.Dir, small.Train.Steps, small.Rollout.MaxChain = t.TempDir(), 2, 0
	if err := train(context.Background(), dev, small, io.Discard); err != nil {
		t.Fatal(err)
	}
	last, err := OpenCheckpoint(t.Context(), filepath.Join(small.Output.Dir, "checkpoint-2"))
	if err != nil || last.State.Config.Rollout.MaxChain != 48 {
		t.Fatalf("%v: the checkpoint has chains of %d, want 48", err, last.State.Config.Rollout.MaxChain)
	}
	for n, ok := range map[int]bool{0: true, 48: true, 47: false} {
		small.Output.Resume, small.Rollout.MaxChain = "latest", n
		if err := train(context.Background(), dev, small, io.Discard); (err == nil) != ok || !ok && !strings.Contains(err.Error(), "--max-chain") {
			t.Errorf("resumed with max_chain %d: %v", n, err)
		}
	}
}

// TestBareRun: a run with nothing but data and a folder has room for all of it.
func TestBareRun(t *testing.T) {
	c := Default(objective.NRT)
	c.Data.Train, c.Output.Dir = tinyRun(t, objective.NRT).Data.Train, t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // opened, not trained: that would take minutes
	var log strings.Builder
	if err := train(ctx, newCPU(t), c, &log); !errors.Is(err, context.Canceled) || strings.Contains(log.String(), "left out") {
		t.Errorf("%v\n%s", err, log.String())
	}
}
