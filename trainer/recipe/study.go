package recipe

import (
	"context"
	"fmt"
	"math"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/trainer/eval"
	"nrt/trainer/objective"
	"nrt/trainer/run"
	"nrt/trainer/world"
)

// Trial is one method trained once, as measured.
type Trial struct {
	Method   string       `json:"method"`
	Families []string     `json:"families,omitempty"` // trained and tested on; all if empty
	Seed     uint64       `json:"seed"`
	Seconds  float64      `json:"train_seconds"`
	Points   []TrialPoint `json:"evaluations"`
	Curve    []run.Values `json:"curve"` // per step: what is plotted
	HeldOut  eval.Report  `json:"heldout"`
	Sampled  eval.Report  `json:"heldout_sampled"` // at temperature 1
	Longer   eval.Report  `json:"longer"`
	// Chained is SFT asked to write a chain first, which it was not trained to:
	// greedy, and at temperature 1. Nil for the others.
	Chained, ChainedSampled *eval.Report         `json:",omitempty"`
	Policy                  *llama.Model         `json:"-"`
	Kept                    map[int]*llama.Model `json:"-"`
}

// TrialPoint is an evaluation during training, greedy, on held-out questions.
type TrialPoint struct {
	Step     int     `json:"step"`
	Seconds  float64 `json:"seconds"`
	Accuracy float64 `json:"accuracy"`
}

// Run trains a method from the base and tests it. The policy's weights stay
// until Free.
func Run(ctx context.Context, base *llama.Model, w *world.World, name string, p Policy, report func(step int, v run.Values)) (*Trial, error) {
	t, err := p.Train(ctx, base, w, report)
	if err != nil {
		return nil, fmt.Errorf("%s, seed %d: %w", name, p.Seed, err)
	}
	trial := &Trial{Method: name, Families: p.Families, Seed: p.Seed, Seconds: t.Seconds, Policy: t.Model, Kept: t.Kept}
	for _, x := range t.Points {
		trial.Points = append(trial.Points, TrialPoint{x.Step, x.Seconds, x.HeldOut.Accuracy})
	}
	for i, v := range t.Metrics {
		trial.Curve = append(trial.Curve, plotted(i+1, v))
	}
	f, err := w.Tokenizer().Format("world")
	if err != nil {
		return nil, err
	}
	e := engine.New(t.Model, nil, engine.Options{})
	defer e.Close()
	noChain := p.Objective.Method == objective.SFT
	for _, x := range []struct {
		to    *eval.Report
		items []world.Item
		o     EvalOptions
	}{
		{&trial.HeldOut, w.HeldOut(p.EvalN, evalSeed, p.Families...), EvalOptions{NoChain: noChain}},
		{&trial.Sampled, w.HeldOut(p.EvalN, evalSeed, p.Families...), EvalOptions{NoChain: noChain, Temperature: 1, Seed: p.Seed}},
		{&trial.Longer, w.Longer(p.EvalN, evalSeed, p.Families...), EvalOptions{NoChain: noChain}},
	} {
		if *x.to, err = Evaluate(ctx, e, w, f, x.items, x.o); err != nil {
			return nil, err
		}
	}
	if noChain {
		trial.Chained, trial.ChainedSampled = new(eval.Report), new(eval.Report)
		for to, o := range map[*eval.Report]EvalOptions{trial.Chained: {}, trial.ChainedSampled: {Temperature: 1, Seed: p.Seed}} {
			if *to, err = Evaluate(ctx, e, w, f, w.HeldOut(p.EvalN, evalSeed, p.Families...), o); err != nil {
				return nil, err
			}
		}
	}
	return trial, nil
}

// plotted picks what a step's plot shows.
func plotted(step int, v run.Values) run.Values {
	out := run.Values{"step": float64(step)}
	for k, x := range v {
		switch {
		case k == "reward", k == "entropy", k == "frac_reward_zero_std", k == "completions/mean_length", strings.HasPrefix(k, "nrt/kind/"):
			out[k] = x
		}
	}
	return out
}

// Free gives the trial's weights back.
func (t *Trial) Free() {
	t.Policy.Free()
	for _, m := range t.Kept {
		m.Free()
	}
}

// Summary is a method's trials, over seeds.
type Summary struct {
	Method, Families                 string
	Seeds                            int
	HeldOut, HeldOutSD               float64
	Sampled, Longer                  float64
	Right, ZeroStd, Entropy, Seconds float64 // share of right chains and of zero-variance groups, and entropy, over the last ten steps
	At                               map[int]float64
}

// Summarize averages trials of the same method and families, in order of first
// appearance.
func Summarize(trials []*Trial) []Summary {
	var order []string
	groups := map[string][]*Trial{}
	for _, t := range trials {
		key := t.Method + " " + strings.Join(t.Families, ",")
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], t)
	}
	var out []Summary
	for _, key := range order {
		list := groups[key]
		n := float64(len(list))
		s := Summary{Method: list[0].Method, Families: strings.Join(list[0].Families, ", "), Seeds: len(list), At: map[int]float64{}}
		for _, t := range list {
			s.HeldOut += t.HeldOut.Accuracy / n
			s.Sampled += t.Sampled.Accuracy / n
			s.Longer += t.Longer.Accuracy / n
			s.Seconds += t.Seconds / n
			last := t.Curve[max(0, len(t.Curve)-10):]
			for _, v := range last {
				s.Right += v["nrt/kind/right"] / n / float64(len(last))
				s.ZeroStd += v["frac_reward_zero_std"] / n / float64(len(last))
				s.Entropy += v["entropy"] / n / float64(len(last))
			}
			for _, p := range t.Points {
				s.At[p.Step] += p.Accuracy / n
			}
		}
		for _, t := range list {
			d := t.HeldOut.Accuracy - s.HeldOut
			s.HeldOutSD += d * d / max(1, n-1)
		}
		s.HeldOutSD = math.Sqrt(s.HeldOutSD)
		out = append(out, s)
		if list[0].Chained != nil {
			c := Summary{Method: s.Method + ", made to write a chain", Families: s.Families, Seeds: s.Seeds}
			for _, t := range list {
				c.HeldOut += t.Chained.Accuracy / n
				c.Sampled += t.ChainedSampled.Accuracy / n
				c.Right += t.ChainedSampled.Kinds[world.Right] / n
				c.Entropy += t.ChainedSampled.ChainEntropy / n
			}
			out = append(out, c)
		}
	}
	return out
}

// Markdown is the table of a study: held-out accuracy during training and after
// it (greedy), then sampled, on longer questions, and what the chains were like
// in the last ten steps.
func Markdown(list []Summary, steps []int) string {
	var b strings.Builder
	b.WriteString("| method | trained on |")
	for _, s := range steps {
		fmt.Fprintf(&b, " step %d |", s)
	}
	b.WriteString(" end | sampled | longer | right chains | groups without variance | entropy |\n|---|---|")
	b.WriteString(strings.Repeat("---|", len(steps)+6) + "\n")
	cell := func(format string, x float64, known bool) {
		if !known {
			b.WriteString(" – |")
			return
		}
		fmt.Fprintf(&b, " "+format+" |", x)
	}
	for _, s := range list {
		families := s.Families
		if families == "" {
			families = "all"
		}
		fmt.Fprintf(&b, "| %s | %s |", s.Method, families)
		trained, chains := s.At != nil, s.Method != string(objective.SFT)
		for _, step := range steps {
			at, measured := s.At[step]
			cell("%.1f", 100*at, measured)
		}
		if trained {
			fmt.Fprintf(&b, " %.1f ± %.1f |", 100*s.HeldOut, 100*s.HeldOutSD)
		} else {
			cell("%.1f", 100*s.HeldOut, true)
		}
		cell("%.1f", 100*s.Sampled, true)
		cell("%.1f", 100*s.Longer, trained)
		cell("%.0f %%", 100*s.Right, chains)
		cell("%.0f %%", 100*s.ZeroStd, chains && trained)
		cell("%.2f", s.Entropy, chains)
		b.WriteString("\n")
	}
	return b.String()
}

// Methods are those that the small world's study compares.
var Methods = []string{"sft", "rlpr", "verifree", "jepo", "star", "rlvr", "nrt:logp", "nrt:p", "nrt:gm", "nrt:am", "nrt:ws-1/p", "nrt:ws-logp"}
