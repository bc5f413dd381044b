package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nrt/trainer/objective"
	"nrt/trainer/recipe"
	"nrt/trainer/run"
	"nrt/web/wire"
)

// mostQuestions bounds how many of the small world's questions are drawn for a
// run; a longer run sees them again.
const mostQuestions = 20_000

// runInfo is run.json.
type runInfo struct {
	Owner     string  `json:"owner,omitempty"` // whose it is; see ownerOf
	Method    string  `json:"method"`
	Mode      string  `json:"mode,omitempty"`
	Model     string  `json:"model"` // where it started
	World     bool    `json:"world"` // on the small world's questions
	Steps     int     `json:"steps"`
	Questions int     `json:"questions"`
	K         int     `json:"k"`
	LR        float64 `json:"lr,omitempty"`
	Seed      uint64  `json:"seed"`
	Data      string  `json:"data"` // what it learns from, for people
	MaxChain  int     `json:"max_chain"`
	Status    string  `json:"status"`
	Seconds   float64 `json:"seconds"` // of work before the present one
	Message   string  `json:"message,omitempty"`
}

// training is one run. Its status is queued until begin, running until end, which says
// what comes then: done, failed, or what turn was told meanwhile.
type training struct {
	runs  *runs
	n     int
	began int // under runs.mu: of how many it was the last to begin

	saving sync.Mutex // held while run.json is written, before mu
	gone   bool       // under saving: its folder is removed

	taken func() // lets the next run take memory; nil before this one did

	mu     sync.Mutex
	info   runInfo
	points []wire.Point // one a step, in order
	evals  []wire.Point // by step
	steps  []int        // of kept checkpoints, ascending
	cancel context.CancelFunc
	ctx    context.Context
	want   string // status after the work that is being stopped; "" while it is not
	since  time.Time
}

func (t *training) name() string { return "run" + strconv.Itoa(t.n) }
func (t *training) dir() string  { return filepath.Join(t.runs.dir, t.name()) }
func (t *training) out() string  { return filepath.Join(t.dir(), "out") }

func (t *training) file(name string) string { return filepath.Join(t.dir(), name) }

// modelName is how readers name a kept step.
func (t *training) modelName(step int) string { return fmt.Sprintf("%s@%d", t.name(), step) }

// create makes the run's folder: its data first, run.json last.
func (t *training) create(source *model, upload string) error {
	if err := os.MkdirAll(t.dir(), 0o700); err != nil {
		return err
	}
	if upload == "" {
		t.info.MaxChain = recipe.MaxChain
		t.info.Data = "questions of the small world"
		w := t.runs.server.o.World
		n := min(t.info.Steps*t.perStep(), mostQuestions)
		if err := errors.Join(
			writeItems(t.file("train.jsonl"), w.Train(n, t.info.Seed)),
			writeItems(t.file("held.jsonl"), w.HeldOut(t.runs.server.o.held, 1)),
		); err != nil {
			return err
		}
	} else if err := t.createUpload(source, upload); err != nil {
		return err
	}
	if _, err := t.config(); err != nil {
		return failed(wire.CodeBadMessage, "train: %v", err)
	}
	return t.save()
}

func (t *training) createUpload(source *model, upload string) error {
	tok, form, err := source.vocab.open()
	if err != nil {
		return err
	}
	t.info.MaxChain = min(t.runs.server.o.Chain, source.reads/4)
	if source.World {
		t.info.MaxChain = recipe.MaxChain
	}
	list, err := readUpload(upload, tok, form, source.reads-t.info.MaxChain-len(form.Close))
	if err != nil {
		return err
	}
	train, held := hold(list, t.info.Seed)
	t.info.Data = fmt.Sprintf("%d uploaded questions, %d held out", len(train), len(held))
	return errors.Join(writeExamples(t.file("train.jsonl"), train), writeExamples(t.file("held.jsonl"), held))
}

// perStep is how many questions a step takes: without chains, as many sequences
// as a method with chains would train on.
func (t *training) perStep() int {
	if t.info.Method == "sft" {
		return t.info.Questions * t.info.K
	}
	return t.info.Questions
}

// config is the run for package run. It does not change while the run lives.
func (t *training) config() (run.Config, error) {
	method := t.info.Method
	if t.info.Mode != "" {
		method += ":" + t.info.Mode
	}
	p, err := recipe.NewPolicy(method, t.info.Seed)
	if err != nil {
		return run.Config{}, err
	}
	c := run.Default(p.Objective.Method)
	c.Objective = p.Objective
	c.Model.Path = t.info.Model
	c.Data.Train = []string{t.file("train.jsonl")}
	c.Rollout = run.RolloutConfig{K: t.info.K, Questions: t.perStep(), MaxChain: t.info.MaxChain, Temperature: 1, TopP: 1}
	if p.Objective.Method == objective.SFT {
		c.Rollout.K = 1
	}
	c.Optim.LR = p.LR
	if t.info.LR > 0 {
		c.Optim.LR = t.info.LR
	}
	c.Optim.Schedule, c.Optim.Warmup, c.Optim.Decay, c.Optim.MinLRRatio = "wsd", 0.125, 0.3, 0.1
	c.Optim.WeightDecay, c.Optim.MiniBatch = 0, 0
	c.Train.Steps, c.Train.Epochs, c.Train.Seed = t.info.Steps, 1, t.info.Seed
	if o := t.runs.server.o.Train; o.On != "" {
		c.Train.Device, c.Train.DType = o.On, o.Type
	}
	c.Output = run.OutputConfig{Dir: t.out(), SaveEvery: keepEvery(t.info.Steps), Keep: 0, LogEvery: 1, Completions: 2}
	return c, c.Validate()
}

// keepEvery is the distance of kept steps: a round number that gives at most ten.
func keepEvery(steps int) int {
	for unit := 1; ; unit *= 10 {
		for _, n := range []int{unit, 2 * unit, 5 * unit} {
			if steps <= 10*n {
				return n
			}
		}
	}
}

// loadTraining reads the folder of run n. fs.ErrNotExist: it has no run.json.
func loadTraining(r *runs, n int) (*training, error) {
	t := &training{runs: r, n: n}
	raw, err := os.ReadFile(t.file("run.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &t.info); err != nil {
		return nil, fmt.Errorf("run.json: %w", err)
	}
	if t.info.Status == wire.StatusRunning {
		t.info.Status = wire.StatusQueued
	}
	st := t.state()
	if err := st.Validate(); err != nil {
		return nil, fmt.Errorf("run.json: %w", err)
	}
	if err := t.readMetrics(&reader{}); err != nil {
		return nil, err
	}
	if t.evals, err = readPoints(t.file("evals.jsonl")); err != nil {
		return nil, err
	}
	return t, t.findKept()
}

// save writes run.json. Of several at once the last one writes what is newest.
func (t *training) save() error {
	t.saving.Lock()
	defer t.saving.Unlock()
	if t.gone {
		return nil
	}
	t.mu.Lock()
	info := t.info
	t.mu.Unlock()
	return writeJSON(t.file("run.json"), info)
}

// remove takes the run's folder away, for good: what ended just now does not write it
// again.
func (t *training) remove() error {
	t.saving.Lock()
	defer t.saving.Unlock()
	t.gone = true
	return os.RemoveAll(t.dir())
}

// saved is save for where there is nobody to tell but the log.
func (t *training) saved() {
	if err := t.save(); err != nil {
		t.runs.server.log.Error("training run", "run", t.name(), "error", err)
	}
}

// state is the run for readers.
func (t *training) state() wire.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stateLocked()
}

// ownerOf is what a reader's secret is kept as: run.json does not tell it.
func ownerOf(secret string) string {
	sum := sha256.Sum256([]byte("nrt owner " + secret))
	return hex.EncodeToString(sum[:])
}

// of reports whether x may pause, stop and go on with the run.
func (t *training) of(x *session) bool {
	return x != nil && (x.manager || x.owner == t.info.Owner) // info.Owner never changes
}

// left reports whether the run is paused and its reader is not among those here.
func (t *training) left(here map[string]bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.info.Status == wire.StatusPaused && !here[t.info.Owner]
}

// stateFor is the run as x sees it.
func (t *training) stateFor(x *session) wire.State {
	st := t.state()
	st.Mine = t.of(x)
	return st
}

// answer tells x the run's state, which it has asked for as id.
func (t *training) answer(x *session, id string) {
	st := t.stateFor(x)
	st.ID = id
	x.say(&st)
}

func (t *training) stateLocked() wire.State {
	st := wire.State{
		Run: t.name(), Method: t.info.Method, Mode: t.info.Mode, Status: t.info.Status, Of: t.info.Steps,
		Seconds: t.info.Seconds, Data: clip(t.info.Data, 200), Message: clip(t.info.Message, 1<<10),
		Checkpoints: []wire.Checkpoint{{Step: 0, Model: t.info.Model}},
	}
	if !t.since.IsZero() {
		st.Seconds += time.Since(t.since).Seconds()
	}
	if n := len(t.points); n > 0 {
		st.Step = t.points[n-1].Step
	}
	for _, s := range t.steps {
		st.Checkpoints = append(st.Checkpoints, wire.Checkpoint{Step: s, Model: t.modelName(s)})
	}
	return st
}

func (t *training) report() runReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	return runReport{State: t.stateLocked(), Steps: slices.Clone(t.points), Evals: slices.Clone(t.evals)}
}

// kept is the names of the models that the run has kept.
func (t *training) kept() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, s := range t.steps {
		out = append(out, t.modelName(s))
	}
	return out
}

func (t *training) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.info.Status {
	case wire.StatusDone, wire.StatusStopped, wire.StatusFailed:
		return true
	}
	return false
}

// begin turns a queued run into a running one.
func (t *training) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.info.Status != wire.StatusQueued {
		return false
	}
	t.info.Status, t.info.Message, t.want = wire.StatusRunning, "", ""
	t.since = time.Now()
	t.ctx, t.cancel = context.WithCancel(t.runs.ctx)
	return true
}

// turns are the statuses that a reader can give to a run, and those of a run at rest
// that may get it.
var turns = map[string][]string{
	wire.StatusPaused:  {wire.StatusQueued},
	wire.StatusStopped: {wire.StatusQueued, wire.StatusPaused},
	wire.StatusQueued:  {wire.StatusPaused, wire.StatusStopped, wire.StatusFailed},
}

// turn gives the run a status of turns and reports whether it has it now. One at work
// ends its step and saves first; then it has what was asked for last. Where the status
// does not follow, nothing changes.
func (t *training) turn(to string) bool {
	t.mu.Lock()
	from := t.info.Status
	now := slices.Contains(turns[to], from)
	switch {
	case now:
		t.info.Status = to
		if to == wire.StatusQueued {
			t.info.Message = ""
		}
	case from == wire.StatusRunning && (to != wire.StatusQueued || t.want != ""):
		t.want = to
		t.cancel()
	}
	t.mu.Unlock()
	if now {
		t.saved()
	}
	return now
}

// work trains until the run is done, stopped, or the server closes.
func (t *training) work() {
	t.saved()
	t.runs.tell(t, nil)
	t.end(t.train(t.ctx))
	t.saved()
	t.runs.tell(t, nil)
}

// end says how the run's work ended.
func (t *training) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.info.Seconds += time.Since(t.since).Seconds()
	t.since = time.Time{}
	t.cancel()
	stopped := run.OnlyStopped(err)
	switch {
	case err == nil:
		t.info.Status = wire.StatusDone
	case stopped && t.want != "":
		t.info.Status = t.want
	case t.runs.ctx.Err() != nil:
		// Stays running in run.json: the next server goes on.
	default:
		t.info.Status = wire.StatusFailed
		t.info.Message = clip(strings.ReplaceAll(err.Error(), t.dir()+string(filepath.Separator), ""), 1<<10)
	}
	if err != nil && !stopped {
		t.runs.server.log.Error("training run", "run", t.name(), "error", err)
	}
}

// train is one stretch of the run, with those who read along.
func (t *training) train(ctx context.Context) error {
	c, err := t.config()
	if err != nil {
		return err
	}
	source := t.runs.server.hub.find(c.Model.Path)
	if source == nil {
		return fmt.Errorf("the model %s that it started from is gone", c.Model.Path)
	}
	if found, err := run.OpenCheckpoints(t.out(), 0); err != nil {
		return err
	} else if steps, err := found.Steps(); err != nil {
		return err
	} else if len(steps) > 0 {
		c.Output.Resume = "latest"
	}
	// What is free is known when the run before has taken what it needs.
	select {
	case t.runs.taking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.taken = sync.OnceFunc(func() { <-t.runs.taking })
	defer t.taken()
	steps := make(chan struct{}, 1)
	judge, err := t.newJudge(source)
	if err != nil {
		return err
	}
	if !t.runs.server.o.Train.Device.Lazy() { // on a card a run takes nine tenths of what is left
		t.runs.server.hub.clear()
	}
	free := func() int64 {
		debug.FreeOSMemory() // what Go has got back, of the run before, say, does not look free before
		n := t.runs.server.o.Train.Free()
		if n > 0 {
			n = max(1, n-judge.bytes)
		}
		return n
	}
	env := run.Env{
		Device: t.runs.server.o.Train.Device, Open: func(string) (fs.FS, error) { return source.Files, nil },
		Log: &nudge{steps}, Terminal: true, Now: time.Now, Free: free(),
	}
	over := make(chan struct{})
	var along sync.WaitGroup
	along.Go(func() { t.follow(steps, over, judge) })
	judged := make(chan error, 1)
	caught := t.runs.server.caught
	go func() { judged <- caught(t.name(), func() error { return judge.run(ctx) }) }()
	learn := func() error { return caught(t.name(), func() error { return run.Train(ctx, c, env) }) }
	if err = learn(); errors.Is(err, run.ErrMemory) && t.runs.server.hub.clear() { // models that nobody asks go for it
		env.Free = free()
		err = learn()
	}
	close(over)
	along.Wait()
	judge.last()
	return errors.Join(err, <-judged)
}

// join sends a reader what has been and subscribes it to what comes: nothing is
// missed or doubled in between.
func (t *training) join(x *session, id string, after int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x.watch(t.name())
	st := t.stateLocked()
	st.ID, st.Mine = id, t.of(x)
	x.say(&st)
	later := func(list []wire.Point) []wire.Point {
		if after == 0 {
			return slices.Clone(list) // from the start, step 0 included
		}
		return slices.DeleteFunc(slices.Clone(list), func(p wire.Point) bool { return p.Step <= after })
	}
	if list := later(t.points); len(list) > 0 {
		x.say(&wire.Step{Head: wire.Head{ID: id}, Run: t.name(), Of: t.info.Steps, Points: list})
	}
	if list := later(t.evals); len(list) > 0 {
		x.say(&wire.Eval{Head: wire.Head{ID: id}, Run: t.name(), Points: list})
	}
}
