package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/eval"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
)

// Env is what a run needs from its surroundings.
type Env struct {
	Device   device.Device
	Open     func(model string) (fs.FS, error) // the folder that model.path names; nil is os.DirFS
	Log      io.Writer                         // progress and notes; nil is silent
	Terminal bool                              // Log can rewrite a line
	Free     int64                             // bytes of memory that the run may take; 0 if not known
	Now      func() time.Time                  // nil is time.Now
}

// defaults are for what may be nil.
func (e *Env) defaults() error {
	if e.Device == nil {
		return errors.New("no device to compute with")
	}
	if e.Open == nil {
		e.Open = func(model string) (fs.FS, error) { return os.DirFS(model), nil }
	}
	if e.Log == nil {
		e.Log = io.Discard
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	return nil
}

// ConfigError is a configuration that the model it names cannot be trained with.
type ConfigError struct{ error }

// Unwrap is what is wrong.
func (c *ConfigError) Unwrap() error { return c.error }

// Train runs a configuration from its start, or from a checkpoint, to its end.
// A run that was stopped at any moment and resumed gives the same metrics and
// weights, bit for bit, as one that never stopped. When ctx ends, a checkpoint
// of the last finished step is saved and ctx's error returned. The error is ErrLocked
// where another run writes into the same folder.
func Train(ctx context.Context, c Config, env Env) (err error) {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := env.defaults(); err != nil {
		return err
	}
	c.settle()
	t := &trainer{c: c, env: env, dev: env.Device, free: env.Free}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := t.open(ctx); err != nil {
		return err
	}
	return t.loop(ctx)
}

// trainer holds what a run is made of, in the order in which it is opened.
type trainer struct {
	c   Config
	env Env
	dev device.Device

	free  int64 // bytes of memory, 0 if not known
	cache int64 // of the engine; 0 is its own choice
	kept  int   // tokens of a pass whose logits are kept for its backward pass

	train, held []data.Example
	from        *Checkpoint // resumed from; nil for a fresh run
	origin      *Origin     // of a fresh run

	model  *llama.Model
	tok    *token.Tokenizer
	format *token.Format
	ref    *engine.Engine // the policy before training, if the objective asks for it

	questions, exam []Question // training and evaluation
	longest         int        // tokens of the longest reference of both
	extract         eval.Extract
	sampler         *data.Sampler

	engine   *engine.Engine
	rollouts Rollouts
	learner  *Learner

	unlock      func() error // of the output folder; nil before it is locked
	checkpoints *Checkpoints
	metrics     *Metrics
	completions *Completions
	board       *board // nil without TensorBoard
	progress    *Progress
	state       State
	times       []float64 // of the steps since the last line of metrics
	total       int
}

func (t *trainer) close() error {
	var errs []error
	if t.progress != nil {
		t.progress.Done() // an error begins on a line of its own
	}
	if t.metrics != nil {
		errs = append(errs, t.metrics.Close())
	}
	if t.completions != nil {
		errs = append(errs, t.completions.Close())
	}
	if t.board != nil {
		errs = append(errs, t.board.Close())
	}
	if t.engine != nil {
		t.engine.Close()
	}
	if t.ref != nil {
		t.ref.Close()
		t.ref.Model().Free()
	}
	if t.learner != nil {
		t.learner.Free()
	}
	if t.model != nil {
		t.model.Free()
	}
	if t.unlock != nil {
		errs = append(errs, t.unlock())
	}
	return errors.Join(errs...)
}

// loop is the run: one rollout, its updates, its logs, and again.
func (t *trainer) loop(ctx context.Context) (err error) {
	defer func() {
		switch {
		case onDisk(err):
			err = t.checkpoints.mendable(err, t.state.Step)
		case diverged(err) && t.learner.Optim.Updates() == 0:
			err = fmt.Errorf("%w; no update has been made: it is the model that the run begins with (--model)", err)
		case diverged(err):
			err = fmt.Errorf("%w; the model has diverged, and --resume would repeat it: begin a new run with a lower --lr or --max-grad-norm, from the start or with --model from a checkpoint", err)
		}
	}()
	saved := t.state.Step
	// stopped saves what there is when err is that ctx ended.
	stopped := func(err error) error {
		if why := ctx.Err(); why != nil && errors.Is(err, why) && t.state.Step != saved {
			err = errors.Join(err, t.save())
		}
		return err
	}
	if t.from == nil || t.state.Unevaluated {
		if err := t.evaluate(ctx); err != nil {
			return err
		}
		if t.state.Unevaluated {
			t.state.Unevaluated = false
			if err := t.progress.Pause(t.save); err != nil {
				return err
			}
		}
	}
	for t.state.Step < t.total {
		if err := ctx.Err(); err != nil { // not every method samples, and asks it
			return stopped(err)
		}
		if err := t.step(ctx); err != nil {
			// What a cut step drew follows from counters: nothing of it is kept.
			return stopped(err)
		}
		s, o := t.state.Step, t.c.Output
		last, best := s == t.total, t.state.Best
		if last || t.c.Eval.Every > 0 && s%t.c.Eval.Every == 0 {
			if err := t.evaluate(ctx); err != nil {
				t.state.Unevaluated = true
				return stopped(err)
			}
		}
		// An evaluation that is the best so far is worth its checkpoint, or there
		// would be none of it to keep.
		if last || o.SaveEvery > 0 && (s%o.SaveEvery == 0 || t.state.Best != best) {
			if err := t.progress.Pause(t.save); err != nil {
				return err
			}
			saved = s
		}
	}
	final, err := t.checkpoints.saveFinal(t.export)
	if err != nil {
		return err
	}
	var g gains
	if x := t.state.Exam; x != nil {
		g.from = x.From
	}
	if err := eachMetrics(t.c.Output.Dir, g.add); err != nil { // somebody has taken it away
		t.note("what the run has gained cannot be said: %v", err)
	}
	for _, line := range g.text() {
		t.note("%s", line)
	}
	t.note("done: %s", final)
	return nil
}

// diverged tells whether an error is of numbers that no sound model has.
func diverged(err error) bool {
	var odd *objective.NotFiniteError
	var steep *optim.NonFiniteError
	return errors.As(err, &odd) || errors.As(err, &steep) || errors.Is(err, engine.ErrNotFinite)
}

// step is one rollout and its updates.
func (t *trainer) step(ctx context.Context) error {
	began := t.env.Now()
	next := t.state.Step + 1
	before := t.sampler.State()
	questions := make([]Question, 0, t.c.Rollout.Questions)
	for i, at := range t.sampler.Next(t.c.Rollout.Questions) {
		q := t.questions[at]
		q.Seed = Seed(t.c.Train.Seed, "rollout", next, i)
		questions = append(questions, q)
	}
	rolls, err := t.rollouts.Rollout(ctx, questions, t.state.Updates)
	if err == nil && t.ref != nil {
		err = Consult(ctx, t.ref, t.layout(), t.c.Objective.KL != 0, rolls)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("step %d: %w", next, err), t.sampler.Restore(before))
	}
	// From the first update on the step cannot be undone; it is not interrupted.
	v, plan, err := t.learner.Learn(context.WithoutCancel(ctx), rolls)
	if err != nil {
		return fmt.Errorf("step %d: %w", next, err)
	}
	t.state.Step, t.state.Updates = next, t.learner.Optim.Updates()
	t.state.NumTokens += int64(v["num_tokens"])
	tokens := int(v["num_tokens"])
	for _, r := range rolls {
		for _, c := range r.Chains {
			tokens += len(c.Tokens)
		}
	}
	t.state.Epoch = t.sampler.Epoch()
	v["num_tokens"], v["epoch"] = float64(t.state.NumTokens), t.state.Epoch
	t.state.Remember(next, v)
	t.times = append(t.times, t.env.Now().Sub(began).Seconds())
	if every := t.c.Output.LogEvery; next%every == 0 || next == t.total {
		line := t.state.Recent((next-1)%every + 1)
		for _, s := range t.times { // not in the state: a resumed run has other times
			line["step_time"] += s / float64(len(t.times))
		}
		if err := t.log(next, line); err != nil {
			return err
		}
		t.times = t.times[:0]
	}
	if err := t.completions.Log(next, t.describe(rolls, plan)); err != nil {
		return err
	}
	known := func(name string) float64 {
		if x, ok := v[name]; ok {
			return x
		}
		return math.NaN()
	}
	t.progress.Step(Status{Step: next, Reward: known("reward"), Loss: v["loss"], Entropy: known("entropy"), Tokens: tokens})
	return nil
}

// log writes a line of metrics, wherever they are wanted.
func (t *trainer) log(step int, v Values) error {
	if err := t.metrics.Log(step, v); err != nil || t.board == nil {
		return err
	}
	return t.board.Log(step, v)
}

// evaluate asks the evaluation questions and logs what came out.
func (t *trainer) evaluate(ctx context.Context) error {
	if len(t.exam) == 0 {
		return nil
	}
	m := t.c.Objective.Method
	items := make([]eval.Item, len(t.exam))
	for i, q := range t.exam {
		items[i] = eval.Item{Prompt: q.Prompt, Reference: q.Answer}
		if t.c.Eval.Answers && m != objective.LM {
			want := t.held[q.Index].Answer
			items[i].MaxAnswer = t.answerRoom(q)
			items[i].Grade = func(answer []int32) bool { return t.extract.Same(t.format.AnswerText(answer), want) }
		}
	}
	o := eval.Options{
		MaxChain: t.c.Rollout.MaxChain, Close: t.format.Close, StopText: t.format.StopText, End: t.format.End,
		Sampling: t.c.Rollout.sampling(), Seed: Seed(t.c.Train.Seed, "eval"), K: t.c.Eval.K, NoChain: !m.Rollouts(),
	}
	if m == objective.LM {
		o.Close = nil // a document goes on from its first token
	}
	return t.progress.Pause(func() error {
		p := NewEvaluating(t.env.Log, t.env.Terminal, t.env.Now)
		o.Progress = p.Show
		r, err := eval.Run(ctx, t.engine, items, o)
		if p.Done(); err != nil {
			return err
		}
		v := Values{"eval/reference_logprob": r.RefLogProb}
		best := math.Inf(-1)
		if b := t.state.Best; b != nil {
			best = b.Value
		}
		if r.RefLogProb > best {
			t.state.Best = &Best{Step: t.state.Step, Metric: "eval/reference_logprob", Value: r.RefLogProb}
		}
		if m == objective.LM {
			t.progress.Note("step %d: %d held-out texts: log-prob %.4f a token", t.state.Step, r.N, r.RefLogProb)
			return t.log(t.state.Step, v)
		}
		v["eval/baseline_logprob"], v["eval/entropy"] = r.BaseLogProb, r.ChainEntropy
		v["eval/mean_length"], v["eval/closed_share"] = r.ChainLength, r.ClosedShare
		if gain, ok := r.HardGain(); ok {
			v["eval/hard_gain"] = gain
		}
		right := ""
		if r.Accuracy >= 0 {
			v["eval/accuracy"] = r.Accuracy
			how := "right"
			if t.extract.All() {
				how = "the reference word for word"
			}
			right = fmt.Sprintf("%.1f %% %s, ", 100*r.Accuracy, how)
		}
		t.progress.Note("step %d: %d held-out questions: %sreference log-prob %.4f a token (empty chain %.4f), chain %.1f tokens",
			t.state.Step, r.N, right, r.RefLogProb, r.BaseLogProb, r.ChainLength)
		return t.log(t.state.Step, v)
	})
}

// save writes checkpoint-N; metrics are flushed before, so that no checkpoint is
// ahead of its log.
func (t *trainer) save() error {
	err := errors.Join(t.metrics.Sync(), t.completions.Sync())
	if t.board != nil {
		err = errors.Join(err, t.board.Sync())
	}
	if err != nil {
		return err
	}
	obj, err := json.Marshal(t.learner.Objective.State())
	if err != nil {
		return err
	}
	t.state.Objective, t.state.Data = obj, t.sampler.State()
	_, err = t.checkpoints.Save(Parts{
		Model: func(dir string) error {
			if t.c.LoRA.On() {
				return errors.Join(t.model.SaveAdapter(dir, t.c.Model.Path), t.settings().Save(dir))
			}
			return errors.Join(t.model.Save(dir, safetensors.F32), t.settings().Save(dir))
		},
		Tokenizer: t.saveTokenizer, Optimizer: t.learner.Optim.Save, State: &t.state,
	})
	return err
}

// export writes the trained model by itself, in the type asked for. LoRA's factors
// are merged into it, and lie in a folder of it by themselves too.
func (t *trainer) export(dir string) error {
	if err := t.model.Save(dir, saveTypes[t.c.Model.SaveDType]); err != nil {
		return err
	}
	if t.c.LoRA.On() {
		alone := filepath.Join(dir, adapterName)
		if err := errors.Join(t.model.SaveAdapter(alone, t.c.Model.Path), t.saveTokenizer(alone), t.settings().Save(alone)); err != nil {
			return err
		}
	}
	return errors.Join(t.saveTokenizer(dir), t.settings().Save(dir))
}

// saveTokenizer writes it with the layout that the run asks questions in, which may not
// be its own.
func (t *trainer) saveTokenizer(dir string) error { return t.tok.SaveFor(dir, t.format.Name) }

// settings are what those who ask the model should know.
func (t *trainer) settings() Settings {
	if !t.c.Objective.Method.Rollouts() {
		return Settings{}
	}
	return Settings{MaxChain: t.c.Rollout.MaxChain}
}

func (t *trainer) note(format string, args ...any) {
	if t.progress != nil {
		t.progress.Note(format, args...)
		return
	}
	// A log that cannot be written to must not stop a run.
	if _, err := fmt.Fprintf(t.env.Log, format+"\n", args...); err != nil {
		t.env.Log = io.Discard
	}
}
