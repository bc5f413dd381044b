package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nrt/web/wire"
)

// TestRunThatCannotBeKept: a reader is told why a run cannot begin, and not where it
// would have been; it does not count, and its number is free.
func TestRunThatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	r := trainer(t, dir)
	c := r.reader(nil)
	if err := os.WriteFile(filepath.Join(dir, "runs", "run1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.say(short(1))
	if f := expect[*wire.Failed](c); f.Code != wire.CodeInternal || f.ID != "t1" || !strings.Contains(f.Message, "run1") || strings.Contains(f.Message, dir) {
		t.Errorf("have %+v", f)
	}
	if list := r.runs.states(nil); len(list) != 0 {
		t.Errorf("have %+v", list)
	}
	c.say(short(1))
	until(c, "run1", wire.StatusDone)
}

// TestMistakeEndsTheRunAlone: a panic while a run trains, or is measured, fails the run.
// The server lives, also when it is started again with the run.
func TestMistakeEndsTheRunAlone(t *testing.T) {
	var wrong atomic.Bool
	wrong.Store(true)
	dir := t.TempDir()
	bad := func(o *Options) { o.Models[0].Files = faulty{o.Models[0].Files, "model.safetensors", &wrong} }
	r := trainer(t, dir, bad)
	c := r.reader(nil)
	c.say(short(1))
	if st := until(c, "run1", wire.StatusFailed); !strings.HasPrefix(st.Message, errMistake.Error()) {
		t.Errorf("have %q", st.Message)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = trainer(t, dir, bad)
	if list := r.runs.states(nil); len(list) != 1 || list[0].Status != wire.StatusFailed {
		t.Errorf("have %+v", list)
	}
}

// TestNoRunBeginsBesideTheClose: the end does not fall between a dispatch's look at it
// and the run that it then begins, which nobody would wait for.
func TestNoRunBeginsBesideTheClose(t *testing.T) {
	r := trainer(t, t.TempDir()).runs
	r.mu.Lock() // as dispatch
	closed := make(chan error, 1)
	go func() { closed <- r.close() }()
	time.Sleep(50 * time.Millisecond)
	if r.ctx.Err() != nil {
		t.Error("the end came beside a dispatch")
	}
	r.mu.Unlock()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	r.unlock = func() error { return nil } // the server closes them too
}

// TestRunThatGoesIsGone: a run whose place another takes, just when its work ends, does
// not write its folder again, which the next server would find.
func TestRunThatGoesIsGone(t *testing.T) {
	r := trainer(t, t.TempDir(), func(o *Options) { o.KeepRuns = 1 })
	c := r.reader(nil)
	c.say(short(1))
	until(c, "run1", wire.StatusDone)
	old := r.runs.list[0]
	c.say(short(1))
	until(c, "run2", wire.StatusDone)
	if err := old.save(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(old.dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder: %v", err)
	}
}

// TestOwnRunsGoFirst: who starts many runs loses ended ones of their own, and nobody
// else's while there are some.
func TestOwnRunsGoFirst(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.KeepRuns = 3
	one, many := r.owned("one"), r.owned("many")
	one.say(short(1))
	until(one, "run1", wire.StatusDone)
	for _, run := range []string{"run2", "run3", "run4", "run5"} {
		many.say(short(1))
		until(many, run, wire.StatusDone)
	}
	have := ""
	for _, st := range r.runs.states(nil) {
		have += st.Run + " "
	}
	if have != "run1 run4 run5 " {
		t.Errorf("kept are %s", have)
	}
	one.say(short(1))
	until(one, "run6", wire.StatusDone)
	if r.hub.find("run1@1") != nil {
		t.Error("the reader's own oldest run stayed")
	}
}
