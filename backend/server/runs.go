package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"nrt/trainer/run"
	"nrt/trainer/world"
	"nrt/web/wire"
)

// runs are the training runs of this server, each in a folder of its own:
//
//	run3/run.json       what was asked for and where it stands
//	run3/train.jsonl    what it learns from;  held.jsonl  what it is measured on
//	run3/evals.jsonl    measurements
//	run3/out/           what trainer/run writes: checkpoints, metrics.jsonl
//
// A run's training is package run's, which goes on from its latest checkpoint as
// if it had never stopped; so a run survives everything that its folder survives.
type runs struct {
	server *Server
	dir    string
	unlock func() error

	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	taking chan struct{} // has the run that takes its memory, up to its first step

	mu    sync.Mutex
	list  []*training // oldest first
	next  int         // number of the next run
	atOne int         // runs at work
	turn  int         // counts runs that began
}

// errInUse: two servers must not train in one folder.
var errInUse = errors.New("another nrt serve uses it; give this one a folder of its own with --state")

// openRuns reads the folder; dispatch lets the runs work.
func openRuns(s *Server) (*runs, error) {
	dir := filepath.Join(s.o.Train.Dir, "runs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder %s (nrt serve --state names another): %w", s.o.Train.Dir, err)
	}
	unlock, err := run.Lock(filepath.Join(s.o.Train.Dir, "lock"))
	if errors.Is(err, run.ErrLocked) {
		err = errInUse
	}
	if err != nil {
		return nil, fmt.Errorf("state folder %s: %w", s.o.Train.Dir, err)
	}
	r := &runs{server: s, dir: dir, unlock: unlock, next: 1, taking: make(chan struct{}, 1)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	var numbers []int
	for _, e := range entries {
		if n, ok := runNumber(e.Name()); ok && e.IsDir() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers) // a run may have started from what an older one kept
	for _, n := range numbers {
		r.next = n + 1
		t, err := loadTraining(r, n)
		name := "run" + strconv.Itoa(n)
		if errors.Is(err, fs.ErrNotExist) {
			// Never begun: its folder was made, its run.json was not.
			err = os.RemoveAll(filepath.Join(dir, name))
		}
		if err != nil {
			// One run that cannot be read must not take the page away.
			s.log.Error("training run not read whole", "run", name, "error", err)
		}
		if t != nil {
			r.list = append(r.list, t)
		}
	}
	return r, nil
}

// runNumber is N of "runN".
func runNumber(name string) (int, bool) {
	text, ok := strings.CutPrefix(name, "run")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil && n > 0 && strconv.Itoa(n) == text
}

// close pauses nothing: runs at work save a checkpoint and go on when a server
// opens their folder again.
func (r *runs) close() error {
	r.mu.Lock() // dispatch has begun a run, or begins none
	r.stop()
	r.mu.Unlock()
	r.work.Wait()
	return r.unlock()
}

// find is the run of that name, or an error for the reader.
func (r *runs) find(name string) (*training, error) {
	for _, t := range r.all() {
		if t.name() == name {
			return t, nil
		}
	}
	return nil, failed(wire.CodeNoRun, "there is no run %q here", clip(name, 64))
}

// findFor is find for a reader who means to pause, stop or go on with the run.
func (r *runs) findFor(x *session, name string) (*training, error) {
	t, err := r.find(name)
	if err == nil && !t.of(x) {
		err = failed(wire.CodeForbidden, "%s is another reader's run. It can be watched; only who started it can pause or stop it", name)
	}
	return t, err
}

// start begins a run.
func (r *runs) start(x *session, m *wire.Train) error {
	if m.Steps > r.server.o.Steps {
		return failed(wire.CodeBadMessage, "train: steps: want 1 to %d, have %d", r.server.o.Steps, m.Steps)
	}
	if m.Method != "sft" && m.K < 2 {
		return failed(wire.CodeBadMessage, "train: k: want 2 or more for %s, which compares the chains of a question, have %d", m.Method, m.K)
	}
	base := m.Model
	if base == "" {
		base = r.server.o.Train.Base
	}
	source := r.server.hub.find(base)
	if source == nil {
		return failed(wire.CodeNoModel, "there is no model %q here", clip(base, 200))
	}
	if m.Upload == "" && (!source.World || r.server.o.World == nil) {
		return failed(wire.CodeUpload, "a file is missing: %s does not know the small world, so it needs questions and answers of its own", base)
	}
	r.mu.Lock()
	_, err := r.room(base, x.owner) // before any work is done for it
	n := r.next
	if err == nil {
		r.next++
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	t := &training{runs: r, n: n, info: runInfo{
		Owner:  x.owner,
		Method: m.Method, Mode: m.Mode, Model: base, Steps: m.Steps, Questions: m.Questions, K: m.K, LR: m.LR, Seed: m.Seed,
		Status: wire.StatusQueued, World: m.Upload == "",
	}}
	if m.Method != "nrt" {
		t.info.Mode = ""
	}
	if err = t.create(source, m.Upload); err == nil {
		err = r.admit(t)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(t.dir()))
		r.mu.Lock()
		if r.next == n+1 {
			r.next = n // the number was not used
		}
		r.mu.Unlock()
		return err
	}
	x.watch(t.name())
	t.answer(x, m.ID)
	r.tell(t, x)
	r.dispatch()
	return nil
}

// admit lists a run that has its folder, in the place of another where too many are
// kept.
func (r *runs) admit(t *training) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, err := r.room(t.info.Model, t.info.Owner)
	if err != nil {
		return err
	}
	if i >= 0 {
		old := r.list[i]
		r.list = slices.Delete(r.list, i, i+1)
		r.server.hub.drop(old.kept()...)
		if err := old.remove(); err != nil {
			r.server.log.Error("old training run", "run", old.name(), "error", err)
		}
	}
	r.list = append(r.list, t)
	return nil
}

// room is which run goes for one of owner's that starts from the model base, −1 if all
// can stay: the oldest that owner has ended, so that nobody's runs go for the many of
// another; else the oldest ended one; without one, the oldest paused run whose reader
// is not here, since nobody else can stop it. r.mu is held.
func (r *runs) room(base, owner string) (int, error) {
	if err := r.fair(owner); err != nil {
		return -1, err
	}
	if len(r.list) < r.server.o.KeepRuns {
		return -1, nil
	}
	here := map[string]bool{}
	for _, x := range r.server.everyone() {
		here[x.owner] = true
	}
	own := func(t *training) bool { return t.ended() && t.info.Owner == owner }
	for _, goes := range []func(t *training) bool{own, (*training).ended, func(t *training) bool { return t.left(here) }} {
		if i := slices.IndexFunc(r.list, func(t *training) bool { return goes(t) && !r.needed(t, base) }); i >= 0 {
			return i, nil
		}
	}
	return -1, failed(wire.CodeBusy, "%d runs are under way, paused, or what others start from; try again when one has ended, or stop one of yours", len(r.list))
}

// fair refuses one more run under way of owner's where half of the places would not be
// left to others. r.mu is held.
func (r *runs) fair(owner string) error {
	n := 0
	for _, t := range r.list {
		if t.info.Owner == owner && !t.ended() {
			n++
		}
	}
	if n < max(1, r.server.o.KeepRuns/2) {
		return nil
	}
	return failed(wire.CodeBusy, "%d runs of yours have not ended, as many as one reader may have; stop one first, or wait for it", n)
}

// needed reports whether t kept what a run starts from that has not ended, or base: it
// is read again when the run goes on.
func (r *runs) needed(t *training, base string) bool {
	kept := t.kept()
	return slices.Contains(kept, base) ||
		slices.ContainsFunc(r.list, func(u *training) bool { return !u.ended() && slices.Contains(kept, u.info.Model) })
}

// dispatch lets queued runs work while there is room.
func (r *runs) dispatch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.ctx.Err() == nil && r.atOne < r.server.o.Runs {
		queue := r.order()
		i := slices.IndexFunc(queue, (*training).begin)
		if i < 0 {
			return
		}
		t := queue[i]
		r.turn++
		t.began = r.turn
		r.atOne++
		r.work.Add(1)
		go func() {
			defer r.work.Done()
			t.work()
			r.mu.Lock()
			r.atOne--
			r.mu.Unlock()
			r.dispatch()
		}()
	}
}

// order is the runs, who may begin first: those of readers of whom the fewest are at
// work, then of readers whose latest began longest ago, then the oldest, so that one run
// does not wait for the many of another. r.mu is held.
func (r *runs) order() []*training {
	working, latest := map[string]int{}, map[string]int{}
	for _, t := range r.list {
		if t.state().Status == wire.StatusRunning {
			working[t.info.Owner]++
		}
		latest[t.info.Owner] = max(latest[t.info.Owner], t.began)
	}
	return slices.SortedStableFunc(slices.Values(r.list), func(a, b *training) int {
		x, y := a.info.Owner, b.info.Owner
		return cmp.Or(working[x]-working[y], latest[x]-latest[y])
	})
}

func (r *runs) busy() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.atOne
}

// halt pauses or stops a run.
func (r *runs) halt(x *session, name, id, status string) error {
	t, err := r.findFor(x, name)
	if err != nil {
		return err
	}
	if t.turn(status) {
		r.tell(t, nil)
	}
	t.answer(x, id)
	return nil
}

// resume goes on with a paused or stopped run, or tries a failed one again.
func (r *runs) resume(x *session, name, id string) error {
	t, err := r.findFor(x, name)
	if err != nil {
		return err
	}
	if t.ended() {
		r.mu.Lock()
		err = r.fair(t.info.Owner)
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	t.turn(wire.StatusQueued)
	if _, err := r.find(name); err != nil {
		return err // it went for another run meanwhile
	}
	x.watch(name)
	t.answer(x, id)
	r.tell(t, x)
	r.dispatch()
	return nil
}

// watch sends a run's state and values, and subscribes to what follows.
func (r *runs) watch(x *session, name, id string, after int) error {
	t, err := r.find(name)
	if err != nil {
		return err
	}
	t.join(x, id, after)
	return nil
}

// all is the runs, oldest first.
func (r *runs) all() []*training {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// states is all runs as x sees them, oldest first.
func (r *runs) states(x *session) []wire.State {
	var out []wire.State
	for _, t := range r.all() {
		out = append(out, t.stateFor(x))
	}
	return out
}

// models is what the runs have kept.
func (r *runs) models() []wire.Model {
	var out []wire.Model
	for _, t := range r.all() {
		for _, name := range t.kept() {
			if m := r.server.hub.find(name); m != nil {
				out = append(out, m.wire())
			}
		}
	}
	return out
}

func (r *runs) report(name string) (runReport, bool) {
	t, err := r.find(name)
	if err != nil {
		return runReport{}, false
	}
	return t.report(), true
}

// tell sends a run's state to everybody (but one).
func (r *runs) tell(t *training, but *session) {
	for _, x := range r.server.everyone() {
		if x != but {
			st := t.stateFor(x)
			x.say(&st)
		}
	}
}

// writeJSON writes a small file so that it is whole or absent.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return run.WriteFile(path, append(raw, '\n'))
}

// writeItems writes the small world's questions as JSON lines.
func writeItems(path string, items []world.Item) error {
	return run.WriteTo(path, func(w io.Writer) error { return world.WriteItems(w, items) })
}
