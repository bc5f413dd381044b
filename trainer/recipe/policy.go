package recipe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/eval"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
	"nrt/trainer/reward"
	"nrt/trainer/run"
	"nrt/trainer/world"
)

// The lengths of the small world, in tokens: the longest chain it needs is 18.
const (
	MaxChain  = 20
	MaxAnswer = 24
)

// evalSeed draws the held-out questions: the same for all policies.
const evalSeed = 1

// Policy says how a policy is trained from the base.
type Policy struct {
	Objective objective.Config
	Steps     int
	Questions int // per step
	K         int // chains per question; 1 for SFT
	LR        float64
	Seed      uint64
	Families  []string // of the training questions; all if empty
	EvalEvery int      // steps; 0 evaluates only at the ends
	EvalN     int      // held-out questions per evaluation
	Keep      []int    // steps whose weights are kept
}

// NewPolicy is a method's policy with the small world's settings: "sft", "rlpr",
// "verifree", "jepo", "star", "rlvr", or "nrt:MODE" for a reward mode. All get
// the same number of updates and of trained sequences per update. What the
// published settings say about large models does not carry over and is the same
// for all here: a learning rate of 3e-4 and, where chains are sampled, a length
// constant of 16 and a cap of 5 on a token's derived weight, which holds small
// groups' 1/σ and jepo's K·P/ΣP (8 at most) down. All else is each method's own.
func NewPolicy(name string, seed uint64) (Policy, error) {
	method, mode, named := strings.Cut(name, ":")
	c := objective.DefaultConfig(objective.Method(method))
	if c.Method == objective.LM {
		return Policy{}, fmt.Errorf("method %q: is for text, and a policy learns from questions and answers", name)
	}
	if named {
		if c.Method != objective.NRT {
			return Policy{}, fmt.Errorf("method %q: only nrt comes in modes, as nrt:gm", name)
		}
		var err error
		if c.Reward.Mode, err = reward.ParseMode(mode); err != nil {
			return Policy{}, fmt.Errorf("method %q: %w", name, err)
		}
	}
	p := Policy{Steps: 80, Questions: 16, K: 8, LR: 3e-4, Seed: seed, EvalEvery: 20, EvalN: 420}
	if c.Method == objective.SFT {
		p.Questions, p.K = p.Questions*p.K, 1
	} else {
		c.LengthNorm, c.LengthConstant = objective.NormConstant, 16
		c.TokenCap = 5
	}
	p.Objective = c
	return p, c.Validate()
}

// Point is an evaluation during training.
type Point struct {
	Step    int
	Seconds float64     // of training, evaluations excluded
	HeldOut eval.Report // greedy
}

// Trained is what a run leaves behind.
type Trained struct {
	Model   *llama.Model
	Points  []Point
	Metrics []run.Values         // of every step
	Kept    map[int]*llama.Model // by step
	Seconds float64
}

// Train trains a copy of base on the world's questions and answers.
func (p Policy) Train(ctx context.Context, base *llama.Model, w *world.World, report func(step int, v run.Values)) (*Trained, error) {
	tok := w.Tokenizer()
	f, err := tok.Format("world")
	if err != nil {
		return nil, err
	}
	m, err := base.Clone(device.Master)
	if err != nil {
		return nil, err
	}
	obj, err := objective.New(p.Objective)
	if err != nil {
		return nil, err
	}
	l, err := run.NewLearner(m, obj,
		optim.Options{Beta1: .9, Beta2: .95, Eps: 1e-8, MaxGradNorm: 1},
		optim.Schedule{Kind: "wsd", LR: p.LR, MinRatio: .1, Warmup: 10, Total: p.Steps, Decay: .3})
	if err != nil {
		return nil, err
	}
	l.Close, l.Right = f.Close, run.RightBy(f, eval.Extract{})
	defer l.Free()
	e := engine.New(m, nil, engine.Options{})
	defer e.Close()
	layout := Layout(f, p.K)
	layout.Answer = p.Objective.Method.Verifies()
	rollouts := run.NewLocal(e, layout)
	if p.Objective.Method == objective.SFT {
		rollouts = run.NewSupervised(f.Close)
	}
	var ref *engine.Engine
	if p.Objective.FixedBaseline || p.Objective.KL != 0 {
		ref = engine.New(base, nil, engine.Options{})
		defer ref.Close()
	}
	items := w.Train(p.Steps*p.Questions, p.Seed, p.Families...)
	held := w.HeldOut(p.EvalN, evalSeed, p.Families...)
	t := &Trained{Model: m, Kept: map[int]*llama.Model{}}
	for step := 0; ; step++ {
		if step == p.Steps || p.EvalEvery > 0 && step%p.EvalEvery == 0 {
			r, err := Evaluate(ctx, e, w, f, held, EvalOptions{Seed: 1, NoChain: p.Objective.Method == objective.SFT})
			if err != nil {
				return nil, err
			}
			t.Points = append(t.Points, Point{Step: step, Seconds: t.Seconds, HeldOut: r})
		}
		if slices.Contains(p.Keep, step) {
			if t.Kept[step], err = m.Clone(device.Master); err != nil {
				return nil, err
			}
		}
		if step == p.Steps {
			return t, nil
		}
		start := time.Now()
		rolls, err := rollouts.Rollout(ctx, p.questions(f, items, step), step)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", step+1, err)
		}
		if ref != nil {
			if err := run.Consult(ctx, ref, layout, p.Objective.KL != 0, rolls); err != nil {
				return nil, fmt.Errorf("step %d: %w", step+1, err)
			}
		}
		v, _, err := l.Learn(ctx, rolls)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", step+1, err)
		}
		if p.Objective.Method != objective.SFT {
			addKinds(v, w, tok, f, items[step*p.Questions:], rolls)
		}
		t.Seconds += time.Since(start).Seconds()
		t.Metrics = append(t.Metrics, v)
		if report != nil {
			report(step+1, v)
		}
	}
}

// questions are a step's, of those of the whole run.
func (p Policy) questions(f *token.Format, items []world.Item, step int) []run.Question {
	list := make([]run.Question, p.Questions)
	for i := range list {
		n := step*p.Questions + i
		list[i] = run.Question{
			Prompt: f.Prompt(items[n].Question), Answer: f.Answer(items[n].Answer),
			Seed: run.Seed(p.Seed, "rollout", n), Index: n,
		}
	}
	return list
}

// Layout is how chains of the small world are sampled.
func Layout(f *token.Format, k int) run.Layout {
	return run.Layout{
		K: k, Sampling: engine.Sampling{Temperature: 1}, MaxChain: MaxChain,
		Close: f.Close, End: f.End, PolicyStops: f.End, Baseline: true,
	}
}

// addKinds adds the share of each kind of chain to a step's metrics.
func addKinds(v run.Values, w *world.World, tok *token.Tokenizer, f *token.Format, items []world.Item, rolls []run.Rollout) {
	n := 0
	for i, r := range rolls {
		for _, c := range r.Chains {
			n++
			v["nrt/kind/"+w.Kind(items[i], chainText(tok, f, c))]++
		}
	}
	for _, k := range world.Kinds() {
		v["nrt/kind/"+k] /= float64(n)
	}
}

// chainText is a chain as the world's graders read it.
func chainText(tok *token.Tokenizer, f *token.Format, c engine.Chain) string {
	ids := engine.IDsOf(c.Tokens)
	if c.Closed {
		ids = ids[:len(ids)-len(f.Close)]
	}
	return tok.Decode(ids, false)
}

// EvalOptions choose how a policy is asked. Temperature 0 is greedy.
type EvalOptions struct {
	Temperature float64
	Seed        uint64
	NoChain     bool
}

// Evaluate asks world questions and grades the answers by their key words.
func Evaluate(ctx context.Context, e *engine.Engine, w *world.World, f *token.Format, items []world.Item, o EvalOptions) (eval.Report, error) {
	tok := w.Tokenizer()
	asked := make([]eval.Item, len(items))
	for i, it := range items {
		asked[i] = eval.Item{
			Prompt: f.Prompt(it.Question), Reference: f.Answer(it.Answer), Family: it.Family,
			Grade: func(answer []int32) bool { return w.Key(it, tok.Decode(answer, false)) },
			Kind:  func(chain []int32) string { return w.Kind(it, tok.Decode(chain, false)) },
		}
	}
	return eval.Run(ctx, e, asked, eval.Options{
		MaxChain: MaxChain, MaxAnswer: MaxAnswer, Close: f.Close, End: f.End,
		Sampling: engine.Sampling{Temperature: o.Temperature}, Seed: o.Seed, NoChain: o.NoChain,
	})
}
