package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/objective"
)

// A run is opened from its data up: each of these steps needs those before it.

// openStart finds the checkpoint to go on from, if there is one. It comes first:
// a run that goes on takes shape and tokenizer from it.
func (t *trainer) openStart() error {
	if len(t.c.Data.Train) == 0 {
		return &ConfigError{errors.New("data.train (--data): name at least one JSONL file")}
	}
	if t.c.Output.Resume == "" {
		return nil
	}
	if err := t.lockOutput(); err != nil {
		return err
	}
	all, err := OpenCheckpoints(t.c.Output.Dir, t.c.Output.Keep)
	if err != nil {
		return err
	}
	if t.c.Output.Resume == "latest" {
		t.from, err = all.Latest()
	} else {
		t.from, err = OpenCheckpoint(t.c.Output.Resume)
	}
	return err
}

// openChain settles how long chains are. It comes before the data, which may
// take minutes to read.
func (t *trainer) openChain() error {
	m := t.c.Model
	positions := m.Positions
	switch {
	case t.from != nil:
		shape, err := t.shape(nil)
		if err != nil {
			return err
		}
		positions = shape.MaxPositions
	case !m.New():
		source, err := t.env.Open(m.Path)
		if err != nil {
			return fmt.Errorf("model.path (--model): %w", err)
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
	t.c.Rollout.MaxChain = t.c.chainFor(positions)
	if t.from == nil {
		return nil
	}
	if changed := t.c.Changed(t.from.State.Config); len(changed) > 0 {
		return fmt.Errorf("resume %s: the configuration has changed: %s: restore it, or start a new run from that model with --model %s --output elsewhere", t.from.Path, changed[0], t.from.Path)
	}
	return nil
}

func (t *trainer) openData() (err error) {
	var skipped data.Skipped
	if t.train, skipped, err = data.Read(t.c.Data.Train, t.c.Data.Options()); err != nil {
		return err
	}
	t.note("%d training examples%s", len(t.train), after(skipped.String()))
	if len(t.c.Data.Eval) > 0 {
		o := t.c.Data.Options()
		o.Limit = 0
		if t.held, _, err = data.Read(t.c.Data.Eval, o); err != nil {
			return err
		}
	} else if t.c.Data.HeldOut > 0 {
		t.train, t.held = data.Split(t.train, t.c.Data.HeldOut, t.c.Train.Seed)
	}
	return nil
}

func (t *trainer) openModel() error {
	source, err := t.start()
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
	if t.from == nil || t.needsRef() {
		if t.model, err = t.fresh(source); err != nil {
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
		if t.model, err = t.load(os.DirFS(t.from.Path)); err != nil {
			return fmt.Errorf("resume %s: %w", t.from.Path, err)
		}
	}
	t.note("model %d parameters, %d layers, vocabulary %d, on %s", t.model.NumParams(), t.model.Config.Layers, t.model.Config.Vocab, t.dev.Name())
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

// ErrLocked says that another process works in a folder.
var ErrLocked = errors.New("another process is using it")

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
	if t.unlock, err = Lock(filepath.Join(dir, ".lock")); errors.Is(err, ErrLocked) {
		return fmt.Errorf("output.dir (--output) %s: another nrt train is writing there; wait for it, or name another folder", dir)
	} else if err != nil {
		return fmt.Errorf("output.dir (--output): %w", err)
	}
	return nil
}

// start opens the tokenizer, trains one, or takes the checkpoint's, as ids would
// otherwise not be what they were. It returns the folder of the model to start
// from: nil for a new model, and where a run goes on without a reference, which
// needs it no more.
func (t *trainer) start() (source fs.FS, err error) {
	m := t.c.Model
	if !m.New() && (t.from == nil || t.needsRef()) {
		if source, err = t.env.Open(m.Path); err != nil {
			if t.from != nil {
				err = fmt.Errorf("%w; the run's reference policy is read from there", err)
			}
			return nil, fmt.Errorf("model.path (--model): %w", err)
		}
	}
	files := source // of the tokenizer
	if m.Tokenizer != "" {
		files = os.DirFS(m.Tokenizer)
	}
	switch {
	case t.from != nil:
		t.tok, err = token.LoadDir(t.from.Path)
	case m.Tokenizer != "":
		t.tok, err = token.LoadDir(m.Tokenizer)
	case source != nil:
		t.tok, err = token.LoadFS(source)
	default:
		t.tok, err = token.TrainBPE(func(yield func(string) bool) {
			for _, e := range t.train {
				for _, s := range []string{e.Question, e.Answer, e.Text} {
					if s != "" && !yield(s) {
						return
					}
				}
			}
		}, token.TrainOptions{Vocab: m.Vocab, Pattern: "llama3", Special: []string{"<bos>", "<eos>", "<think>", "</think>"}})
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("model.tokenizer (--tokenizer): %w", err)
	case t.from == nil:
		err = t.record(source, files)
	case source != nil:
		err = t.compare(source, files)
	}
	return source, err
}

// load reads a model, and shows how far it is.
func (t *trainer) load(source fs.FS) (*llama.Model, error) {
	if !t.env.Terminal {
		return llama.Load(t.dev, source)
	}
	l := NewLoading(t.env.Log, t.env.Now)
	defer l.Done()
	return llama.Load(t.dev, source, l.Show)
}

// fresh loads or makes the model that the run starts from.
func (t *trainer) fresh(source fs.FS) (*llama.Model, error) {
	if source != nil {
		m, err := t.load(source)
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
	if t.from != nil {
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
	c.BOS, c.EOS = known(t.tok.BOS()), known(t.tok.EOS())
	return c, c.Validate()
}

// openQuestions turns examples into ids and leaves out what is too long.
func (t *trainer) openQuestions() error {
	var err error
	if t.questions, err = t.ask(t.train, "training"); err != nil {
		return err
	}
	if len(t.questions) == 0 {
		return errors.New("data.train (--data): no example is left to train on: a shorter --max-chain leaves more room for questions and answers")
	}
	held := t.held
	if n := t.c.Eval.N; n > 0 && len(held) > n {
		held = held[:n]
	}
	if t.exam, err = t.ask(held, "evaluation"); err != nil {
		return err
	}
	unknown := 0
	for _, list := range [][]Question{t.questions, t.exam} {
		for _, q := range list {
			unknown += Unknown(t.tok, q.Prompt, q.Answer)
		}
	}
	if note := UnknownNote(unknown, t.tok, "all questions and answers"); note != "" {
		t.note("%s", note)
	}
	used := make([]data.Example, len(t.questions))
	for i, q := range t.questions {
		used[i] = t.train[q.Index]
	}
	t.sampler, err = data.NewSampler(used, Seed(t.c.Train.Seed, "order"))
	if err != nil {
		return err
	}
	t.total = t.c.Train.Total(len(t.questions), t.c.Rollout.Questions)
	return nil
}

func (t *trainer) ask(examples []data.Example, what string) ([]Question, error) {
	var out []Question
	long := 0
	for i, e := range examples {
		q, err := t.askOne(e, i)
		if err != nil {
			return nil, err
		}
		room := t.model.Config.MaxPositions - t.chainRoom()
		if len(q.Prompt) > t.c.Data.MaxPrompt || len(q.Answer) > t.c.Data.MaxAnswer || len(q.Prompt)+len(q.Answer) > room {
			long++
			continue
		}
		out = append(out, q)
	}
	if long > 0 {
		t.note("%d of %d %s examples are left out: longer than --max-prompt, --max-answer, or the model's %d positions less %d for the chain",
			long, len(examples), what, t.model.Config.MaxPositions, t.chainRoom())
	}
	return out, nil
}

// askOne lays an example out. Plain language modelling learns all of it: the
// first token is the prompt.
func (t *trainer) askOne(e data.Example, index int) (Question, error) {
	if e.Text != "" {
		ids := t.tok.Encode(e.Text)
		if bos := t.tok.BOS(); bos >= 0 {
			ids = append([]int32{bos}, ids...)
		}
		ids = append(ids, t.format.End...)
		if t.c.Objective.Method != objective.LM {
			return Question{}, fmt.Errorf("%s:%d: text: --method %s needs questions and answers", e.File, e.Line, t.c.Objective.Method)
		}
		return Question{Prompt: ids[:1], Answer: ids[1:], Index: index}, nil
	}
	q, err := Ask(t.format, e, index)
	if err == nil && t.c.Objective.Method == objective.LM {
		all := append(append(append([]int32{}, q.Prompt...), t.format.Close...), q.Answer...)
		q.Prompt, q.Answer = all[:1], all[1:]
	}
	return q, err
}

// chainRoom is how many positions a chain and its boundary may take.
func (t *trainer) chainRoom() int {
	switch t.c.Objective.Method {
	case objective.LM:
		return 0
	case objective.SFT:
		return len(t.format.Close)
	}
	return t.c.Rollout.MaxChain + len(t.format.Close)
}

func (t *trainer) openLearner() error {
	obj, err := objective.New(t.c.Objective)
	if err != nil {
		return err
	}
	updates := t.total * t.c.Optim.UpdatesPerStep(t.c.Rollout.Questions)
	t.learner, err = NewLearner(t.model, obj, t.c.Optim.Options(), t.c.Optim.For(updates))
	if err != nil {
		return err
	}
	t.learner.MiniBatch, t.learner.Epochs, t.learner.MicroRows = t.c.Optim.MiniBatch, t.c.Optim.Iterations, t.c.Optim.MicroTokens
	t.learner.Recompute, t.learner.KeepLogits = t.c.Optim.Recompute, t.kept
	t.learner.InvTemp, t.learner.Close, t.learner.Right = 1/t.c.Rollout.Temperature, t.format.Close, RightBy(t.format)
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
	r := t.c.Rollout
	m := t.c.Objective.Method
	return Layout{
		K: r.K, Sampling: engine.Sampling{Temperature: r.Temperature, TopK: r.TopK, TopP: r.TopP, MinP: r.MinP},
		MaxChain: r.MaxChain, Close: t.format.Close, StopText: t.format.StopText, End: t.format.End, PolicyStops: t.format.End,
		Baseline: true, Answer: m == objective.STaR || m == objective.RLVR,
	}
}

func (t *trainer) openOutput() (err error) {
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
		t.state = State{MaxSteps: t.total, Config: t.c, ConfigHash: t.c.Hash(), Origin: t.origin}
	} else {
		if err := t.restore(); err != nil {
			return fmt.Errorf("resume %s: %w", t.from.Path, err)
		}
		after = t.state.Step
	}
	if t.metrics, err = OpenMetrics(o.Dir, after); err != nil {
		return err
	}
	if t.completions, err = OpenCompletions(o.Dir, after, o.Completions, 4096); err != nil {
		return err
	}
	t.progress = NewProgress(t.env.Log, t.env.Terminal, t.total, t.env.Now)
	return nil
}

// restore goes back to the checkpoint's counters; the model is loaded already.
func (t *trainer) restore() (err error) {
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
	if err := t.learner.Optim.Load(r); err != nil {
		return err
	}
	if _, err := t.checkpoints.Rewind(t.state.Step); err != nil {
		return err
	}
	t.note("going on from %s", t.from.Path)
	return nil
}
