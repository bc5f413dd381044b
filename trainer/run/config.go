package run

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/eval"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
)

// Config is all that a person can choose about a run. Each part goes to those
// who need it; nobody is handed the whole. What the fields mean, what they are
// called in YAML and on the command line and what they may be stands once, in
// options.go.
type Config struct {
	Model     ModelConfig
	LoRA      LoRAConfig
	Data      DataConfig
	Rollout   RolloutConfig
	Objective objective.Config
	Optim     OptimConfig
	Train     TrainConfig
	Eval      EvalConfig
	Output    OutputConfig
}

// ModelConfig says which model is trained, or of what shape a new one is.
type ModelConfig struct {
	Path         string
	Tokenizer    string
	Template     string
	Hidden       int
	Layers       int
	Heads        int
	KVHeads      int
	Intermediate int
	Positions    int
	Vocab        int
	Tie          bool
	SaveDType    string
}

// New tells whether a model is made instead of loaded.
func (m ModelConfig) New() bool { return m.Path == "" }

// LoRAConfig says which factors learn in place of the model's parameters, if any.
type LoRAConfig struct {
	Rank    int      // 0: the parameters themselves learn
	Alpha   float64  // 0: twice the rank
	Modules []string // none: all of llama.LoRAModules
}

// On tells whether factors learn.
func (l LoRAConfig) On() bool { return l.Rank > 0 }

// factors is the same with what was left open filled in.
func (l LoRAConfig) factors() llama.LoRA {
	f := llama.LoRA{Rank: l.Rank, Alpha: l.Alpha, Modules: llama.LoRAModules()}
	if f.Alpha == 0 {
		f.Alpha = 2 * float64(f.Rank)
	}
	if len(l.Modules) > 0 {
		f.Modules = slices.DeleteFunc(f.Modules, func(name string) bool { return !slices.Contains(l.Modules, name) })
	}
	return f
}

// DataConfig says what is read and what of it is used.
type DataConfig struct {
	Train []string
	Eval  []string
	Form  string
	// QuestionField and AnswerField are what the form question calls its fields;
	// "" is question and answer.
	QuestionField, AnswerField string
	BadLines                   string
	Limit                      int
	HeldOut                    float64
	MaxPrompt                  int
	MaxAnswer                  int
	// AnswerRegex says what of an answer is compared; see eval.ParseExtract.
	AnswerRegex string
}

// Options are those for data.Read. The form has been checked by Validate.
func (d DataConfig) Options() data.Options {
	return data.Options{Form: data.Form(d.Form), Question: d.QuestionField, Answer: d.AnswerField, Skip: d.BadLines == "skip", Limit: d.Limit}
}

// RolloutConfig says how chains are sampled, and from which of the model's tokens
// evaluations sample.
type RolloutConfig struct {
	K           int
	Questions   int
	MaxChain    int
	Temperature float64
	TopP        float64
	TopK        int
	MinP        float64
}

func (r RolloutConfig) sampling() engine.Sampling {
	return engine.Sampling{Temperature: r.Temperature, TopK: r.TopK, TopP: r.TopP, MinP: r.MinP}
}

// OptimConfig says how parameters are updated.
type OptimConfig struct {
	LR          float64
	Schedule    string
	Warmup      float64
	Decay       float64
	MinLRRatio  float64
	WeightDecay float64
	Beta1       float64
	Beta2       float64
	Eps         float64
	Moments     int
	MaxGradNorm float64
	MiniBatch   int
	Iterations  int
	MicroTokens int // 0: what settle says
	Recompute   bool
}

// Options are those of the optimizer.
func (o OptimConfig) Options() optim.Options {
	return optim.Options{Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps, WeightDecay: o.WeightDecay, MaxGradNorm: o.MaxGradNorm, Moments8: o.Moments == 8}
}

// For is the learning-rate schedule of a run of so many updates.
func (o OptimConfig) For(updates int) optim.Schedule {
	return optim.Schedule{
		Kind: o.Schedule, LR: o.LR, MinRatio: o.MinLRRatio,
		Warmup: optim.WarmupUpdates(o.Warmup, updates), Total: updates, Decay: o.Decay,
	}
}

// UpdatesPerStep is how many updates follow one rollout of the given number of
// questions.
func (o OptimConfig) UpdatesPerStep(questions int) int {
	mini := o.MiniBatch
	if mini == 0 || mini > questions {
		mini = questions
	}
	return (questions + mini - 1) / mini * o.Iterations
}

// TrainConfig says how long the run is and where it computes.
type TrainConfig struct {
	Steps   int
	Epochs  float64
	Seed    uint64
	Device  string
	DType   string
	Threads int
}

// kind is what computes, whichever of the cards it is.
func (t TrainConfig) kind() string {
	kind, _, _ := strings.Cut(t.Device, ":")
	return kind
}

// Total is the number of steps over so many examples, of which each step takes
// so many questions.
func (t TrainConfig) Total(examples, questions int) int {
	if t.Steps > 0 {
		return t.Steps
	}
	return max(1, int(math.Ceil(t.Epochs*float64(examples)/float64(questions))))
}

// EvalConfig says when and on how much the policy is evaluated.
type EvalConfig struct {
	Every   int
	N       int
	K       int
	Answers bool
}

// OutputConfig says where results go and what is kept of them.
type OutputConfig struct {
	Dir         string
	SaveEvery   int
	Keep        int
	Resume      string
	LogEvery    int
	Completions int
	TensorBoard bool
}

// Default is the configuration of a method: its published settings, and where
// it has none those of NRT's authors. An unknown method fails in Validate.
func Default(m objective.Method) Config {
	c := Config{
		Model: ModelConfig{
			Hidden: 128, Layers: 4, Heads: 4, Positions: 1024, Vocab: 1024, Tie: true, SaveDType: "float32",
		},
		Data:    DataConfig{Form: "auto", BadLines: "stop", MaxPrompt: 4096, MaxAnswer: 4096},
		Rollout: RolloutConfig{K: 8, Questions: 256, Temperature: 1, TopP: 1},
		Optim: OptimConfig{
			LR: 2e-6, Schedule: "cosine", Warmup: 0.1, Decay: 0.4, WeightDecay: 0.01,
			Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Moments: 32, MaxGradNorm: 1, MiniBatch: 64, Iterations: 1,
		},
		Train:  TrainConfig{Epochs: 1, Seed: 42, Device: "auto", DType: "auto"},
		Eval:   EvalConfig{N: 256, K: 1, Answers: true},
		Output: OutputConfig{Dir: "output", SaveEvery: 100, Keep: 2, LogEvery: 1, Completions: 8},
	}
	c.method(m)
	return c
}

// method sets what a method's publication says: the objective, and the learning
// rate.
func (c *Config) method(m objective.Method) {
	c.Objective = objective.DefaultConfig(m)
	c.Optim.LR = 2e-6
	switch m {
	case objective.RLPR, objective.VeriFree:
		c.Optim.LR = 1e-6
	}
}

// Validate checks every field and names the first that is wrong, as in YAML and
// as a flag.
func (c Config) Validate() error {
	for _, o := range c.options() {
		if err := o.check(); err != nil {
			return err
		}
	}
	if _, err := device.ParseChoice(c.Train.Device); err != nil {
		return fmt.Errorf("train.device (--device): %w", err)
	}
	m := c.Model
	if m.New() && c.LoRA.On() {
		return fmt.Errorf("lora.rank (--lora-rank): want model.path (--model) to name the model that the factors stand beside, or 0, which lets all of a new model learn, have %d", c.LoRA.Rank)
	}
	if m.New() {
		kv := m.KVHeads
		if kv == 0 {
			kv = m.Heads
		}
		switch {
		case m.Hidden%m.Heads != 0 || m.Hidden/m.Heads%2 != 0:
			return fmt.Errorf("model.hidden (--hidden): want an even multiple of model.heads %d, have %d", m.Heads, m.Hidden)
		case m.Heads%kv != 0:
			return fmt.Errorf("model.kv_heads (--kv-heads): want a divisor of model.heads %d, have %d", m.Heads, kv)
		}
		if least := 256 + len(newSpecials); m.Tokenizer == "" && m.Vocab < least {
			return fmt.Errorf("model.vocab (--vocab): want at least %d, which are 256 bytes and %d special tokens, have %d", least, len(newSpecials), m.Vocab)
		}
		if err := m.checkShape(); err != nil {
			return err
		}
		if err := c.checkChain(m.Positions); err != nil {
			return err
		}
	}
	if names := token.FormatNames(); c.Model.Template != "" && !slices.Contains(names, c.Model.Template) {
		return fmt.Errorf("model.template (--template): want one of %s, or none for the tokenizer's, have %q", strings.Join(names, ", "), c.Model.Template)
	}
	if c.Objective.KL != 0 && c.Rollout.Temperature != 1 {
		return fmt.Errorf("objective.kl (--kl): want rollout.temperature 1, which the reference policy is read at, have %v", c.Rollout.Temperature)
	}
	if d := c.Data; (d.QuestionField != "" || d.AnswerField != "") && d.Form != string(data.Auto) && d.Form != string(data.QuestionAnswer) {
		return fmt.Errorf("data.form (--form): want auto or question where data.question_field (--question-field) or data.answer_field (--answer-field) names a field, have %q", d.Form)
	}
	if _, err := eval.ParseExtract(c.Data.AnswerRegex); err != nil {
		return fmt.Errorf("data.answer_regex (--answer-regex): %w", err)
	}
	if c.Output.Dir == "" { // as of a shell's variable that is not set
		return errors.New("output.dir (--output): want the name of a folder, have none")
	}
	if c.Data.HeldOut > 0 && len(c.Data.Eval) > 0 {
		return fmt.Errorf("data.held_out (--held-out): want 0 when data.eval (--eval-data) names files, have %v", c.Data.HeldOut)
	}
	if err := c.Objective.Validate(); err != nil {
		return c.named(err)
	}
	return c.checkGroup()
}

// named says of an error of the objective which option it means: the objective
// knows its fields, not what they are called here.
func (c Config) named(err error) error {
	text := strings.TrimPrefix(err.Error(), "objective: ")
	rest, of := strings.CutPrefix(text, string(c.Objective.Method)+": ")
	if of {
		rest += ", for " + string(c.Objective.Method)
	}
	for _, o := range c.options() {
		if o.section != "objective" {
			continue
		}
		for _, field := range []string{o.key, "reward: " + o.key, "reward." + strings.TrimPrefix(o.key, "reward_"), "reward: " + strings.TrimPrefix(o.key, "reward_"), strings.TrimSuffix(o.key, "_weight")} {
			if what, ok := strings.CutPrefix(rest, field+": "); ok {
				return fmt.Errorf("%s: %s", o.where(), what)
			}
		}
	}
	return err
}

// checkGroup refuses groups too small for the method.
func (c Config) checkGroup() error {
	switch c.Objective.Method {
	case objective.SFT, objective.LM, objective.STaR:
		return nil
	}
	if c.Rollout.K < 2 {
		return fmt.Errorf("rollout.k (--k): want >= 2 for %s, which compares the chains of a question, have %d", c.Objective.Method, c.Rollout.K)
	}
	return nil
}

// shape is the configuration of a new model with so many tokens.
func (m ModelConfig) shape(vocab int) llama.Config {
	c := llama.Config{
		ModelType: "llama", Vocab: vocab, Hidden: m.Hidden, Intermediate: m.Intermediate, Layers: m.Layers,
		Heads: m.Heads, KVHeads: m.KVHeads, HeadDim: m.Hidden / m.Heads, MaxPositions: m.Positions,
		RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: m.Tie,
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.Intermediate == 0 {
		c.Intermediate = (c.Hidden*8/3 + 15) / 16 * 16
	}
	return c
}

// checkShape refuses a new model that cannot be, by the options' names instead
// of those of config.json.
func (m ModelConfig) checkShape() error {
	err := m.shape(m.Vocab).Validate()
	if err == nil {
		return nil
	}
	for file, option := range map[string]string{
		"vocab_size": "model.vocab (--vocab)", "hidden_size": "model.hidden (--hidden)",
		"intermediate_size": "model.intermediate (--intermediate)", "num_hidden_layers": "model.layers (--layers)",
		"num_attention_heads": "model.heads (--heads)", "num_key_value_heads": "model.kv_heads (--kv-heads)",
		"head_dim":                "model.hidden / model.heads (--hidden, --heads)",
		"max_position_embeddings": "model.positions (--positions)",
	} {
		if rest, ok := strings.CutPrefix(err.Error(), file+": "); ok {
			return fmt.Errorf("%s: %s", option, rest)
		}
	}
	return err
}

// mostChain is the longest chain that a run samples unless it was asked for
// more: the paper's.
const mostChain = 2048

// chainFor is how long chains are with a model of so many positions. Where
// nothing was asked for they get half, and questions and answers the rest.
func (c Config) chainFor(positions int) int {
	if c.Rollout.MaxChain > 0 {
		return c.Rollout.MaxChain
	}
	return max(1, min(mostChain, positions/2))
}

// checkChain refuses chains that leave no room for a question and an answer.
func (c Config) checkChain(positions int) error {
	switch c.Objective.Method {
	case objective.SFT, objective.LM:
		return nil // samples none
	}
	const least = 2 // a token of question and one of answer
	if n := c.Rollout.MaxChain; n > positions-least {
		of := "of that model (max_position_embeddings)"
		if c.Model.New() {
			of = "(model.positions, --positions)"
		}
		return fmt.Errorf("rollout.max_chain (--max-chain): want at most %d, since question and answer share the %d positions %s with the chain, have %d", positions-least, positions, of, n)
	}
	return nil
}

// settle fills in what depends on the device. A resume compares what came of it.
func (c *Config) settle() {
	if c.Optim.MicroTokens == 0 {
		c.Optim.MicroTokens = MicroRows
		if c.Train.onCard() {
			c.Optim.MicroTokens = CardRows
		}
	}
}

// Changed lists the options that decide the result and differ from those of an
// older run: "optim.lr (--lr): 1e-05, was 2e-06". A resume needs it empty to go
// on bit for bit.
func (c Config) Changed(old Config) []string {
	if old.Train.DType == "" && c.Train.DType != "" { // written when there was no other type
		old.Train.DType = "f32"
	}
	c.Train.Device, old.Train.Device = c.Train.kind(), old.Train.kind()
	if old.Optim.Moments == 0 && c.Optim.Moments != 0 {
		old.Optim.Moments = 32
	}
	if !c.Objective.Method.Rollouts() { // older versions wrote a length of chains that are not drawn
		old.Rollout.MaxChain = c.Rollout.MaxChain
	}
	var list []string
	was := old.options()
	for i, o := range c.options() {
		if now, before := o.text(), was[i].text(); !o.free && now != before {
			list = append(list, fmt.Sprintf("%s: %s, was %s", o.where(), now, before))
		}
	}
	return list
}
