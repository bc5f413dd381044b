package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/objective"
)

// A run is opened from its data up: each of these steps needs those before it. What
// may take minutes in them (files to read, texts to encode) ends when ctx does.

// open makes a trainer ready for its loop.
func (t *trainer) open(ctx context.Context) error {
	for _, open := range []func(context.Context) error{t.tryOutput, t.openStart, t.refuseMixing, t.openChain, t.openTokenizer, t.tryData, t.openData, t.openModel, t.openQuestions, t.planRun, t.openLearner, t.openOutput} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openStart finds the checkpoint to go on from, if there is one. It comes before all
// that is read: a run that goes on takes shape and tokenizer from it.
func (t *trainer) openStart(ctx context.Context) error {
	if err := t.openFrom(ctx); err != nil {
		return err
	}
	if t.from != nil && t.from.State.Config.Objective.Method != t.c.Objective.Method { // nor are all its defaults the run's
		return t.changed(fmt.Sprintf("objective.method (--method): %q, was %q", t.c.Objective.Method, t.from.State.Config.Objective.Method))
	}
	if len(t.c.Data.Train) == 0 {
		return &ConfigError{errors.New("data.train (--data): name at least one JSONL or Parquet file")}
	}
	return nil
}

// openFrom opens the checkpoint that --resume names, or finds.
func (t *trainer) openFrom(ctx context.Context) (err error) {
	if t.c.Output.Resume == "" {
		return nil
	}
	resume := t.c.Output.Resume
	if err := checkResume(resume); err != nil {
		return err
	}
	if !t.outputIsThere() {
		switch resume {
		case "latest":
			return nothingIn(t.c.Output.Dir)
		case "auto":
			return nil
		}
		t.from, err = OpenCheckpoint(ctx, resume)
		return err
	}
	if err := t.lockOutput(); err != nil {
		return err
	}
	all, err := OpenCheckpoints(t.c.Output.Dir, t.c.Output.Keep)
	if err != nil {
		return err
	}
	switch resume {
	case "latest":
		t.from, err = all.Latest(ctx)
		return err
	case "auto":
		steps, err := all.Steps()
		if err != nil {
			return err
		}
		if len(steps) == 0 {
			return all.Fresh() // the run begins
		}
		t.from, err = all.Latest(ctx)
		return err
	default:
		if t.from, err = OpenCheckpoint(ctx, resume); err != nil || all.holds(resume) {
			return err
		}
		if err := all.Fresh(); err != nil {
			return fmt.Errorf("resume %s: it is no checkpoint of output.dir (--output), where two runs would mix: %w", resume, err)
		}
		return nil
	}
}

// checkResume refuses what is neither a word that --resume knows nor a folder.
func checkResume(resume string) error {
	if resume == "latest" || resume == "auto" {
		return nil
	}
	switch info, err := os.Stat(resume); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("output.resume (--resume): %w", err)
	case err != nil || !info.IsDir():
		return &ConfigError{fmt.Errorf("output.resume (--resume): want latest, auto or the folder of a checkpoint, have %q, where there is no folder", resume)}
	}
	if last, err := LastCheckpoint(resume); err == nil && last != "" {
		return &ConfigError{fmt.Errorf("output.resume (--resume): %s holds a whole run: --output %[1]s --resume goes on with it, and --resume %s begins a new one from there", resume, last)}
	}
	return nil
}

// openChain settles how long chains are. It comes before the data, which may
// take minutes to read.
func (t *trainer) openChain(context.Context) error {
	m := t.c.Model
	positions := m.Positions
	switch {
	case t.from != nil && t.c.LoRA.On() != t.from.State.Config.LoRA.On(): // of which one has no config.json
		return t.checkChanged()
	case t.from != nil && !t.c.LoRA.On():
		shape, err := t.shape(nil)
		if err != nil {
			return err
		}
		positions = shape.MaxPositions
	case !m.New():
		source, err := t.openBase()
		if err != nil {
			return err
		}
		if _, err := fs.Stat(source, llama.AdapterConfig); err == nil && t.c.LoRA.On() {
			return &ConfigError{fmt.Errorf("model.path (--model) %s: is an adapter itself, and factors stand beside whole models: merge it into one with \"nrt export\", or train with --lora-rank 0", m.Path)}
		}
		shape, err := t.shape(source)
		if err != nil {
			return err
		}
		positions = shape.MaxPositions
	}
	if err := t.c.checkChain(positions); err != nil {
		return &ConfigError{err}
	}
	if t.c.Objective.Method.Rollouts() {
		t.c.Rollout.MaxChain = t.c.chainFor(positions)
	}
	if t.from == nil {
		return nil
	}
	return t.checkChanged()
}

// openBase opens the folder of the model that the run starts from.
func (t *trainer) openBase() (fs.FS, error) {
	source, err := t.env.Open(t.c.Model.Path)
	if err != nil && t.from != nil {
		err = fmt.Errorf("%w; the run needs what is there as %s: say with --model where it lies now", err, t.baseIs())
	}
	if err != nil {
		return nil, fmt.Errorf("model.path (--model): %w", err)
	}
	return source, nil
}

// checkChanged refuses to go on with another configuration. The run's length may
// change where the learning rate does not depend on it. Where the model lies that the
// run started from may change too: compare knows it by its files.
func (t *trainer) checkChanged() error {
	was := t.from.State.Config
	if o := t.from.State.Origin; o != nil && o.Model != nil {
		was.Model.Path = t.c.Model.Path
	}
	if t.c.Optim.Schedule == "constant" {
		was.Train.Steps, was.Train.Epochs = t.c.Train.Steps, t.c.Train.Epochs
	}
	changed := t.c.Changed(was)
	if len(changed) == 0 {
		return nil
	}
	length := ""
	if was.Train.Steps != t.c.Train.Steps || was.Train.Epochs != t.c.Train.Epochs {
		length = fmt.Sprintf(" (a run of another length would have had other learning rates from its start on, as --schedule %s spreads them over the whole: one with --schedule constant may be made longer)", was.Optim.Schedule)
	}
	return t.changed(changed[0] + length)
}

// changed refuses to go on with another configuration, of which what says what is other.
func (t *trainer) changed(what string) error {
	model := t.from.Path
	if t.from.State.Config.LoRA.On() { // factors do not stand beside an adapter
		model = fmt.Sprintf("what \"nrt export --model %s\" makes of it", model)
	}
	return fmt.Errorf("resume %s: the configuration has changed: %s: restore it, or start a new run from that model with --model %s --output elsewhere", t.from.Path, what, model)
}

// checkLength refuses a length at which the run would not be the one it was so
// far, and says what a new one means.
func (t *trainer) checkLength() error {
	if t.from == nil || t.total == t.from.State.MaxSteps {
		return nil
	}
	was, o := t.from.State, t.c.Optim
	if t.total < was.Step {
		return &ConfigError{fmt.Errorf("train.steps (--steps): want at least the %d that %s has done, have %d", was.Step, t.from.Path, t.total)}
	}
	each := o.UpdatesPerStep(t.c.Rollout.Questions)
	before, now := o.For(was.MaxSteps*each).Warmup, o.For(t.total*each).Warmup
	if done := was.Step * each; before != now && done < max(before, now) {
		return &ConfigError{fmt.Errorf("optim.warmup (--warmup): the share %v is %d updates of a run of %d steps, and %d of %d: after the %d of %s the learning rates would be neither's; go on from a checkpoint after the warm-up", o.Warmup, before, was.MaxSteps, now, t.total, done, t.from.Path)}
	}
	t.note("the run had %s and has %d now", stepCount(was.MaxSteps), t.total)
	if before != now {
		t.note("its warm-up was of %d updates; that of a run of %d steps from the start would have been of %d (--warmup %v)", before, t.total, now, o.Warmup)
	}
	return nil
}

func (t *trainer) openData(ctx context.Context) (err error) {
	var skipped data.Skipped
	o := t.c.Data.Options()
	o.Several = func(file string, forms []data.Form) {
		t.note("%s has the fields of several forms, %v: the first is taken, and --form names another", file, forms)
	}
	if t.train, skipped, err = data.Read(ctx, t.c.Data.Train, o); err != nil {
		return err
	}
	t.note("%d training examples%s", len(t.train), after(skipped.String()))
	if len(t.c.Data.Eval) > 0 {
		o.Limit = 0
		if t.held, skipped, err = data.Read(ctx, t.c.Data.Eval, o); err != nil {
			return err
		}
		t.note("%d evaluation examples%s", len(t.held), after(skipped.String()))
		n := 0
		if err := unlessDone(ctx, func() { n = data.Shared(t.train, t.held) }); err != nil {
			return err
		}
		if n > 0 {
			t.note("warning: %d of the %d evaluation examples have a question that is trained on too: what an evaluation says of them is no measure of unseen ones", n, len(t.held))
		}
	} else if t.c.Data.HeldOut > 0 {
		var train, held []data.Example
		if err := unlessDone(ctx, func() { train, held = data.Split(t.train, t.c.Data.HeldOut, t.c.Train.Seed) }); err != nil {
			return err
		}
		if len(train) == 0 {
			return &ConfigError{fmt.Errorf("data.held_out (--held-out): want a share that leaves something to train on: %v of these %d examples are all", t.c.Data.HeldOut, len(held))}
		}
		t.train, t.held = train, held
		t.note("%d of them are held out for evaluations", len(t.held))
	}
	return nil
}

// unlessDone does what takes seconds for a gigabyte of data, and leaves it
// alone once ctx has ended.
func unlessDone(ctx context.Context, do func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// after puts a report behind a sentence, if there is one.
func after(s string) string {
	if s == "" {
		return ""
	}
	return "; " + s
}

func (t *trainer) openModel(ctx context.Context) error {
	source, err := t.start(ctx)
	if err != nil {
		return err
	}
	shape, err := t.shape(source)
	if err == nil {
		err = t.checkTokenizer(shape)
	}
	if err == nil {
		err = t.checkModel(shape)
	}
	if err != nil {
		return err
	}
	if t.c.LoRA.On() {
		err = t.openFactors(ctx, source)
	} else {
		err = t.openWhole(ctx, source)
	}
	if err != nil {
		return err
	}
	t.note("model %d parameters, %d layers, vocabulary %d, on %s", t.model.NumParams(), t.model.Config.Layers, t.model.Config.Vocab, t.dev.Name())
	if t.c.LoRA.On() {
		f := t.c.LoRA.factors()
		t.note("LoRA  %d parameters learn: rank %d, alpha %g, beside %s", t.model.Flat().Len(), f.Rank, f.Alpha, strings.Join(f.Modules, ", "))
		if lr := Default(t.c.Objective.Method).Optim.LR; t.c.Optim.LR == lr {
			t.note("LoRA  the learning rate %g is the one for all parameters; factors want about ten times as much (--lr %.3g)", lr, 10*lr)
		}
	}
	return nil
}

// openWhole loads or makes a model all of which learns, and the reference as a copy
// of it.
func (t *trainer) openWhole(ctx context.Context, source fs.FS) (err error) {
	if t.from == nil || t.needsRef() {
		if t.model, err = t.fresh(ctx, source); err != nil {
			return err
		}
	}
	if t.needsRef() {
		ref, err := t.model.Clone(device.Compute)
		if err != nil {
			return err
		}
		t.ref = engine.New(ref, t.tok, engine.Options{})
	}
	if t.from != nil {
		if t.model != nil {
			t.model.Free()
			t.model = nil
		}
		if t.model, err = t.load(ctx, os.DirFS(t.from.Path), llama.Load); err != nil {
			return fmt.Errorf("resume %s: %w", t.from.Path, err)
		}
	}
	return nil
}

// openFactors loads the model that LoRA's factors stand beside, which without them
// is the reference too, and the checkpoint's factors.
func (t *trainer) openFactors(ctx context.Context, source fs.FS) (err error) {
	t.model, err = t.load(ctx, source, func(dev device.Device, source fs.FS, show ...llama.Progress) (*llama.Model, error) {
		return llama.LoadLoRA(dev, source, t.c.LoRA.factors(), Seed(t.c.Train.Seed, "lora"), show...)
	})
	if err != nil {
		return fmt.Errorf("model.path (--model) %s: %w", t.c.Model.Path, err)
	}
	if t.from != nil {
		if err := t.model.ReadAdapter(os.DirFS(t.from.Path)); err != nil {
			return fmt.Errorf("resume %s: %w", t.from.Path, err)
		}
	}
	if t.needsRef() {
		t.ref = engine.New(t.model.Base(), t.tok, engine.Options{})
	}
	return nil
}

// checkTokenizer refuses, before the model is loaded, a tokenizer that the model
// lacks embeddings for, and chooses the layout.
func (t *trainer) checkTokenizer(shape llama.Config) (err error) {
	if n := t.tok.Size(); n > shape.Vocab {
		return &ConfigError{fmt.Errorf("model.tokenizer (--tokenizer): the tokenizer of %s has ids up to %d, but the model only %d embeddings (vocab_size): take the model's own, or one made for it", t.tokenizerFolder(), n-1, shape.Vocab)}
	}
	if t.format, err = t.tok.Format(t.c.Model.Template); err != nil {
		return &ConfigError{fmt.Errorf("model.template (--template): %w", err)}
	}
	return nil
}

// tryData refuses a file that cannot be opened before the others are read.
func (t *trainer) tryData(context.Context) error {
	err := data.Try(slices.Concat(t.c.Data.Train, t.c.Data.Eval)...)
	if t.from != nil && errors.Is(err, fs.ErrNotExist) { // moved, or named from another folder
		err = fmt.Errorf("%w: where the run's data lie now is for --data and --eval-data to say", err)
	}
	return err
}

// openTokenizer reads the tokenizer, unless one is trained on the data: of a run that
// goes on the checkpoint's, as ids would otherwise not be what they were.
func (t *trainer) openTokenizer(context.Context) (err error) {
	m := t.c.Model
	switch {
	case t.from != nil:
		t.tok, err = token.LoadDir(t.from.Path)
	case m.Tokenizer != "":
		t.tok, err = token.LoadDir(m.Tokenizer)
	case !m.New():
		source, sourceErr := t.openBase()
		if sourceErr != nil {
			return sourceErr
		}
		if t.tok, err = token.LoadFS(source); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("model.path (--model) %s: holds no tokenizer.json: name a tokenizer's folder with --tokenizer", m.Path)
		}
	}
	if err != nil {
		return fmt.Errorf("model.tokenizer (--tokenizer): %w", err)
	}
	return nil
}

// newSpecials are the special tokens of a tokenizer that is trained on the data.
var newSpecials = []string{"<bos>", "<eos>", "<think>", "</think>"}

// start trains a tokenizer, if there is none. It returns the folder of the model to
// start from: nil for a new model, and where a run goes on that needs it no more.
func (t *trainer) start(ctx context.Context) (source fs.FS, err error) {
	m := t.c.Model
	if !m.New() && (t.from == nil || t.needsBase()) {
		if source, err = t.openBase(); err != nil {
			return nil, err
		}
	}
	files := source // of the tokenizer
	if m.Tokenizer != "" {
		files = os.DirFS(m.Tokenizer)
	}
	if t.tok == nil {
		t.tok, err = token.TrainBPE(func(yield func(string) bool) {
			for _, e := range t.train {
				for _, s := range []string{e.Question, e.Answer, e.Text} {
					if s != "" && !yield(s) {
						return
					}
				}
			}
		}, token.TrainOptions{Vocab: m.Vocab, Pattern: "llama3", Special: newSpecials, Stopped: ctx.Err})
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("model.tokenizer (--tokenizer): %w", err)
	case t.from == nil:
		err = t.record(ctx, source, files)
	case source != nil:
		err = t.compare(ctx, source, files)
	}
	return source, err
}

// load reads a model until ctx ends, and shows how far it is.
func (t *trainer) load(ctx context.Context, source fs.FS, read func(device.Device, fs.FS, ...llama.Progress) (*llama.Model, error)) (*llama.Model, error) {
	l := NewLoading(t.env.Log, t.env.Terminal, t.env.Now)
	defer l.Done()
	return read(t.dev, source, func(done, all int64) error {
		l.Show(done, all)
		return ctx.Err()
	})
}

// fresh loads or makes the model that the run starts from.
func (t *trainer) fresh(ctx context.Context, source fs.FS) (*llama.Model, error) {
	if source != nil {
		m, err := t.load(ctx, source, llama.Load)
		if err != nil {
			return nil, fmt.Errorf("model.path (--model) %s: %w", t.c.Model.Path, err)
		}
		return m, nil
	}
	c, err := t.shape(nil)
	if err != nil {
		return nil, err
	}
	return llama.New(t.dev, c, Seed(t.c.Train.Seed, "weights"))
}

// shape is the configuration of the model that the run starts from.
func (t *trainer) shape(source fs.FS) (llama.Config, error) {
	if t.from != nil && !t.c.LoRA.On() { // whose checkpoints hold factors alone
		c, err := llama.ReadConfig(os.DirFS(t.from.Path))
		if err != nil {
			err = fmt.Errorf("resume %s: %w", t.from.Path, err)
		}
		return c, err
	}
	if source != nil {
		c, err := llama.ReadConfig(source)
		if err != nil {
			err = fmt.Errorf("model.path (--model) %s: %w", t.c.Model.Path, err)
		}
		return c, err
	}
	c := t.c.Model.shape(t.tok.Size())
	if id := t.tok.BOS(); id >= 0 {
		c.BOS = []int32{id}
	}
	if id := t.tok.EOS(); id >= 0 {
		c.EOS = []int32{id}
	}
	return c, c.Validate()
}

func (t *trainer) openLearner(context.Context) error {
	obj, err := objective.New(t.c.Objective)
	if err != nil {
		return err
	}
	if err := t.checkLength(); err != nil {
		return err
	}
	updates := t.total * t.c.Optim.UpdatesPerStep(t.c.Rollout.Questions)
	t.learner, err = NewLearner(t.model, obj, t.c.Optim.Options(), t.c.Optim.For(updates))
	if err != nil {
		return err
	}
	t.learner.MiniBatch, t.learner.Epochs, t.learner.MicroRows = t.c.Optim.MiniBatch, t.c.Optim.Iterations, t.c.Optim.MicroTokens
	t.learner.Recompute, t.learner.KeepLogits = t.c.Optim.Recompute, t.kept
	t.learner.InvTemp, t.learner.Close, t.learner.Right = 1/t.c.Rollout.Temperature, t.format.Close, RightBy(t.format, t.extract)
	t.engine = engine.New(t.model, t.tok, engine.Options{CacheBytes: t.cache})
	switch t.c.Objective.Method {
	case objective.LM:
		t.rollouts = NewSupervised(nil)
	case objective.SFT:
		t.rollouts = NewSupervised(t.format.Close)
	default:
		t.rollouts = NewLocal(t.engine, t.layout())
	}
	return nil
}

func (t *trainer) layout() Layout {
	l := Layout{
		K: t.c.Rollout.K, Sampling: t.c.Rollout.sampling(), MaxChain: t.c.Rollout.MaxChain,
		Close: t.format.Close, StopText: t.format.StopText, End: t.format.End, PolicyStops: t.format.End,
		Baseline: true, Answer: t.c.Objective.Method.Verifies(),
	}
	if !t.extract.All() { // what comes before the part that counts may be as long as any reference
		l.MaxAnswer = sampledRoom(t.longest)
	}
	return l
}
