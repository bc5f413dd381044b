package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nrt/trainer/data"
	"nrt/trainer/objective"
)

// tryOutput refuses an output folder that cannot be written into, before anything is
// read. One that is not there is not made yet: a run that fails before it begins
// leaves none.
func (t *trainer) tryOutput(context.Context) error {
	dir := t.c.Output.Dir
	if t.c.Output.Resume == "latest" && !t.outputIsThere() {
		return nil // openStart refuses it
	}
	if err := WritableDir(dir); err != nil {
		return fmt.Errorf("output.dir (--output): %w", err)
	}
	return nil
}

func (t *trainer) outputIsThere() bool {
	_, err := os.Stat(t.c.Output.Dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// lockOutput keeps other runs out of the output folder: opening its checkpoints
// clears what a crash has left, which must not be what a run is writing.
func (t *trainer) lockOutput() (err error) {
	if t.unlock != nil {
		return nil
	}
	dir := t.c.Output.Dir
	if err := makeDir(osDisk{}, dir); err != nil {
		return fmt.Errorf("output.dir (--output): %w", err)
	}
	if t.unlock, err = Lock(filepath.Join(dir, lockFile)); errors.Is(err, ErrLocked) {
		return fmt.Errorf("output.dir (--output) %s: %w; wait for it, or name another folder", dir, err)
	} else if err != nil {
		return fmt.Errorf("output.dir (--output): %w", err)
	}
	return nil
}

// refuseMixing refuses a new run in a folder that has one, before data and model are
// read. Leftovers of a crash are looked at when the folder is opened for writing.
func (t *trainer) refuseMixing(context.Context) error {
	if t.c.Output.Resume != "" || !t.outputIsThere() {
		return nil
	}
	if err := t.lockOutput(); err != nil {
		return err
	}
	return (&Checkpoints{dir: t.c.Output.Dir}).Fresh()
}

func (t *trainer) openOutput(ctx context.Context) (err error) {
	if err := t.lockOutput(); err != nil {
		return err
	}
	o := t.c.Output
	if t.checkpoints, err = OpenCheckpoints(o.Dir, o.Keep); err != nil {
		return err
	}
	after := -1
	if t.from == nil {
		if err := t.checkpoints.Fresh(); err != nil {
			return err
		}
		if err := t.freshLogs(); err != nil {
			return err
		}
		t.state = State{MaxSteps: t.total, Config: t.c, Origin: t.origin}
	} else {
		if err := t.restore(ctx); err != nil {
			return fmt.Errorf("resume %s: %w", t.from.Path, err)
		}
		after = t.state.Step
	}
	t.compareExam()
	if err := t.begin(); err != nil {
		return err
	}
	if t.metrics, err = OpenMetrics(o.Dir, after); err != nil {
		return err
	}
	if t.completions, err = OpenCompletions(o.Dir, after, o.Completions, 4096); err != nil {
		return err
	}
	if o.TensorBoard {
		without := t.from != nil && !t.from.State.Config.Output.TensorBoard
		if t.board, err = openBoard(osDisk{}, o.Dir, after, without, t.env.Now); err != nil {
			return err
		}
	}
	t.progress = NewProgress(t.env.Log, t.env.Terminal, t.total, t.env.Now)
	if err := t.warnRoom(freeDisk(o.Dir)); err != nil {
		return err
	}
	t.note("%s of %s", stepCount(t.total), t.work()) // the first may take long
	return nil
}

// begin writes down what the run is: whoever looks at its folder before the first
// checkpoint knows nothing else of it.
func (t *trainer) begin() error {
	s := State{Format: stateFormat, MaxSteps: t.total, Config: t.c}
	path := filepath.Join(t.c.Output.Dir, beginFile)
	if err := WriteTo(path, func(w io.Writer) error { return encodeJSON(w, s) }); err != nil {
		return fmt.Errorf("output.dir (--output): %w", err)
	}
	return nil
}

// work is what a step is made of: "256 questions × 8 chains of up to 512 tokens".
func (t *trainer) work() string {
	r := t.c.Rollout
	switch m := t.c.Objective.Method; {
	case m == objective.LM:
		return fmt.Sprintf("%d documents or windows", r.Questions)
	case !m.Rollouts():
		return fmt.Sprintf("%d questions", r.Questions)
	}
	return fmt.Sprintf("%d questions × %d chains of up to %d tokens", r.Questions, r.K, r.MaxChain)
}

// restore goes back to the checkpoint's counters; the model is loaded already.
func (t *trainer) restore(ctx context.Context) (err error) {
	t.state = t.from.State
	t.state.Config, t.state.MaxSteps = t.c, t.total
	if err := t.sampler.Restore(t.state.Data); err != nil {
		return err
	}
	var s objective.State
	if err := json.Unmarshal(t.state.Objective, &s); err != nil {
		return fmt.Errorf("trainer_state.json: objective: %w", err)
	}
	if err := t.learner.Objective.SetState(s); err != nil {
		return err
	}
	r, err := t.from.Optimizer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := t.learner.Optim.Load(data.Until(ctx, r)); err != nil {
		return err
	}
	moved, err := t.checkpoints.Rewind(t.state.Step)
	if err != nil {
		return err
	}
	if len(moved) > 0 {
		t.note("set aside, since the run goes on from before them: %s", strings.Join(moved, ", "))
	}
	// With a smaller --keep there may be room again before the next one is written.
	if err := t.checkpoints.prune(&t.state); err != nil {
		return fmt.Errorf("remove old checkpoints: %w", err)
	}
	if !t.checkpoints.holds(t.from.Path) {
		if err := t.freshLogs(); err != nil {
			return err
		}
		t.note("%s begins after step %d; what was before is in %s", t.c.Output.Dir, t.state.Step, filepath.Dir(t.from.Path))
	}
	t.note("going on from %s", t.from.Path)
	return nil
}

// freshLogs makes room for a run's own logs.
func (t *trainer) freshLogs() error {
	moved, err := setLogsAside(osDisk{}, t.c.Output.Dir)
	if len(moved) > 0 {
		t.note("set aside, since the run that wrote them left no checkpoint to go on from: %s", strings.Join(moved, ", "))
	}
	return err
}
