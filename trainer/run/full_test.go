package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"nrt/trainer/objective"
)

// fullDisk is a disk with room for so many bytes more.
type fullDisk struct {
	quickDisk
	room int
}

type fullFile struct {
	diskFile
	path string
	d    *fullDisk
}

func (d *fullDisk) Create(path string) (diskFile, error) {
	f, err := d.quickDisk.Create(path)
	return fullFile{f, path, d}, err
}

func (f fullFile) Write(p []byte) (int, error) {
	n, err := f.diskFile.Write(p[:min(len(p), f.d.room)])
	if f.d.room -= n; n < len(p) && err == nil {
		err = &fs.PathError{Op: "write", Path: f.path, Err: syscall.ENOSPC}
	}
	return n, err
}

// TestDiskIsFull: a run whose disk is full ends with what is lost, what is kept and what
// to do, and leaves nothing of what it could not write. With room again it goes on.
func TestDiskIsFull(t *testing.T) {
	dev := newCPU(t)
	for _, k := range []struct {
		every int
		kept  string // checkpoints
		says  string // of the folder DIR
	}{
		{4, "", "save DIR/checkpoint-4: optimizer.bin: save optimizer: write DIR/checkpoint-4/optimizer.bin: no space left on device; no checkpoint is kept: once that is mended, the same command begins the run again"},
		{2, "checkpoint-2", "save DIR/checkpoint-4: optimizer.bin: save optimizer: write DIR/checkpoint-4/optimizer.bin: no space left on device; lost is what came after step 2 (2 steps): once that is mended, --resume goes on from DIR/checkpoint-2"},
	} {
		c := tinyRun(t, objective.SFT)
		c.Train.Steps, c.Output.SaveEvery, c.Eval.Every = 4, k.every, 0
		c.settle()
		x := &trainer{c: c, dev: dev, env: Env{Device: dev}}
		check(t, x.env.defaults(), x.open(t.Context()))
		full := &fullDisk{room: 100}
		if k.every == 2 { // the first has room, the second has not
			x.total = 2
			saved := x.save
			check(t, x.step(t.Context()), x.step(t.Context()), saved())
			x.total = 4
		}
		x.checkpoints.disk = full
		err := x.loop(t.Context())
		if want := strings.ReplaceAll(k.says, "DIR", c.Output.Dir); !errors.Is(err, syscall.ENOSPC) || err.Error() != want {
			t.Errorf("have %v\nwant %s", err, want)
		}
		check(t, x.close())
		var left []string
		entries, err := os.ReadDir(c.Output.Dir)
		check(t, err)
		for _, e := range entries {
			if e.IsDir() {
				left = append(left, e.Name())
			}
		}
		if strings.Join(left, " ") != k.kept {
			t.Errorf("left are %v", left)
		}
		c.Output.Resume = "auto"
		check(t, train(t.Context(), dev, c, &strings.Builder{}))
		if _, err := os.Stat(filepath.Join(c.Output.Dir, "final", "tokenizer.json")); err != nil {
			t.Error(err)
		}
	}
}

// TestLogIsTakenAway: a run whose log somebody moves away while it trains ends well.
func TestLogIsTakenAway(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.SFT)
	c.Train.Steps = 2
	c.settle()
	var log strings.Builder
	x := &trainer{c: c, dev: dev, env: Env{Device: dev, Log: &log}}
	check(t, x.env.defaults(), x.open(t.Context()), os.Remove(filepath.Join(c.Output.Dir, "metrics.jsonl")), x.loop(t.Context()), x.close())
	if !strings.Contains(log.String(), "cannot be said: read metrics: ") || !strings.Contains(log.String(), "done: ") {
		t.Errorf("it says %s", log.String())
	}
}

// TestFinalIsWhole: final/ is there with all that belongs into it or not at all. What
// somebody puts into one stays when the run goes on.
func TestFinalIsWhole(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 0)
	fill := func(err error) func(string) error {
		return func(to string) error {
			return errors.Join(os.WriteFile(filepath.Join(to, "model"), nil, 0o666), err)
		}
	}
	full := &fs.PathError{Op: "write", Path: filepath.Join(dir, "final.tmp", "tokenizer.json"), Err: syscall.ENOSPC}
	if _, err := c.saveFinal(fill(full)); err == nil || strings.Contains(err.Error(), ".tmp") {
		t.Errorf("have %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	check(t, os.Mkdir(filepath.Join(dir, "final.tmp"), 0o777))
	c = open(t, dir, 0)
	path, err := c.saveFinal(fill(nil))
	check(t, err, os.WriteFile(filepath.Join(path, "notes"), nil, 0o666))
	_, err = c.saveFinal(fill(nil))
	check(t, err)
	left, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if want := []string{filepath.Join(path, "model"), filepath.Join(path, "notes")}; err != nil || !slices.Equal(left, want) {
		t.Errorf("have %v, want %v", left, want)
	}
}

// TestLogIsCutOnAFullDisk: a log that cannot be cut for a run that goes on is as it was,
// with nothing beside it.
func TestLogIsCutOnAFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	const log = "{\"step\": 1}\n{\"step\": 2}\n"
	check(t, os.WriteFile(path, []byte(log), 0o666))
	err := cutLines(&fullDisk{room: 5}, path, 1)
	if err == nil || strings.Contains(err.Error(), ".tmp") || !strings.Contains(err.Error(), path) {
		t.Errorf("have %v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != log {
		t.Errorf("have %q, %v", raw, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
