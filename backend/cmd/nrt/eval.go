package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/eval"
	"nrt/trainer/recipe"
	"nrt/trainer/run"
	"nrt/trainer/world"
)

func evalCommand() *command {
	return &command{
		name: "eval", group: groupAsk, args: "[--model M] [--data F.jsonl | world] [flags]",
		short: "measure a model on questions with known answers",
		long: `
Each question is asked once: the model writes a chain, then an answer. Reported
are the share of right answers, the mean log-probability of the reference per
token (after the chain, and after an empty one), and the chains' entropy and
length. An answer is right if it equals the reference; in the small world, if
its key words are right, however it is phrased (--exact asks for equality).

--data names a file as for "nrt train", or a split of the small world:
world (as world:heldout), world:longer, world:train.`,
		examples: []string{
			"nrt eval --model world:nrt",
			"nrt eval --model world:sft --no-chain",
			"nrt eval --model out/nrt/final --data test.jsonl --n 200 --max-chain 48 --json",
		},
		bind: func(f *flags) func(*env) error {
			var m modelFlags
			m.bind(f)
			a := evalArgs{data: "world", n: 420, worldSeed: worldSeed, k: 1}
			f.text(&a.data, "data", "F", "JSONL file, or a split of the small world")
			f.integer(&a.n, "n", "N", "questions; 0 takes all of a file")
			f.seed(&a.worldSeed, "world-seed", "S", "which small world (the embedded models know number 1)")
			f.text(&a.format, "format", "NAME", "layout of question, chain and answer; empty takes the tokenizer's")
			f.integer(&a.chain, "max-chain", "N", "longest chain, in tokens; 0 takes 20 in the small world, else 256 or what fits")
			f.integer(&a.answer, "max-answer", "N", "longest answer, in tokens; 0 takes the longest reference and half as much again")
			f.integer(&a.k, "k", "K", "chains per question, over which all is averaged")
			f.toggle(&a.noChain, "no-chain", "answer at once, after the empty chain")
			f.toggle(&a.exact, "exact", "in the small world too, only the reference itself is right")
			f.number(&a.temperature, "temperature", "X", "0 always takes the likeliest token")
			f.seed(&a.seed, "seed", "S", "the same seed draws the same tokens")
			f.json(&a.json)
			return func(e *env) error { return e.eval(m, a) }
		},
	}
}

// evalArgs are the flags of nrt eval.
type evalArgs struct {
	data                 string
	n, chain, answer, k  int
	worldSeed, seed      uint64
	temperature          float64
	format               string
	noChain, exact, json bool
}

func (e *env) eval(m modelFlags, a evalArgs) (err error) {
	if err := checkChains("k", a.k); err != nil {
		return err
	}
	drawn := samplingFlags{Sampling: engine.Sampling{Temperature: a.temperature}}
	if err := drawn.check(); err != nil {
		return err
	}
	switch {
	case a.n < 0:
		return usagef("--n: want 0 or more, have %d", a.n)
	case a.chain < 0:
		return usagef("--max-chain: want 0 or more, have %d", a.chain)
	case a.answer < 0:
		return usagef("--max-answer: want 0 or more, have %d", a.answer)
	}
	l, err := e.openText(m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	f, err := l.tok.Format(a.format)
	if err != nil {
		return usagef("--format: %v", err)
	}
	var items []eval.Item
	if split, ok := worldSplit(a.data); ok {
		items, err = worldItems(l.tok, f, a, split)
	} else {
		items, err = fileItems(l.tok, f, a)
	}
	if err != nil {
		return err
	}
	unknown := 0
	for _, it := range items {
		unknown += run.Unknown(l.tok, it.Prompt, it.Reference)
	}
	e.warnUnknown(l.tok, unknown, "all questions and answers")
	if err := a.fit(items, f, l); err != nil {
		return err
	}
	if len(items) > 0 {
		longest := slices.MaxFunc(items, func(a, b eval.Item) int {
			return cmp.Compare(len(a.Prompt)+len(a.Reference), len(b.Prompt)+len(b.Reference))
		})
		ask := engine.Request{Prompt: longest.Prompt, N: a.k, MaxChain: a.chain, Close: f.Close, Reference: longest.Reference, MaxAnswer: a.answer, Baseline: true}
		if err := l.afford(ask, "--k, --max-chain or --max-answer"); err != nil {
			return err
		}
	}
	r, err := eval.Run(e.ctx, l.engine, items, eval.Options{
		MaxChain: a.chain, MaxAnswer: a.answer, Close: f.Close, StopText: f.StopText, End: f.End,
		Sampling: engine.Sampling{Temperature: a.temperature}, Seed: a.seed, K: a.k, NoChain: a.noChain,
	})
	if err != nil {
		return err
	}
	if a.json {
		return e.printJSON(r, true)
	}
	e.printReport(m.name, a.data, r)
	return nil
}

// fit chooses the lengths that were left open and refuses those that do not fit
// the model beside the longest question and reference.
func (a *evalArgs) fit(items []eval.Item, f *token.Format, l *loaded) (err error) {
	prompt, reference := 0, 0
	for _, it := range items {
		prompt, reference = max(prompt, len(it.Prompt)), max(reference, len(it.Reference))
	}
	used := prompt + len(f.Close)
	if a.answer == 0 {
		a.answer = reference + reference/2
	} else if _, err := l.room("max-answer", a.answer, used, 0); err != nil {
		return err
	}
	if a.noChain {
		a.chain = 1 // of which nothing is used
		return nil
	}
	most := 256
	if _, world := worldSplit(a.data); world {
		most = recipe.MaxChain
	}
	a.chain, err = l.room("max-chain", a.chain, used+max(a.answer, reference), most)
	return err
}

// worldSplit is the split that --data names, if it names the small world.
func worldSplit(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "world")
	if !ok || rest != "" && rest[0] != ':' {
		return "", false
	}
	if rest == "" {
		return world.SplitHeldOut, true
	}
	return rest[1:], true
}

func worldItems(tok *token.Tokenizer, f *token.Format, a evalArgs, split string) ([]eval.Item, error) {
	w := world.New(a.worldSeed)
	draw := map[string]func(int, uint64, ...string) []world.Item{
		world.SplitHeldOut: w.HeldOut, world.SplitLonger: w.Longer, world.SplitTrain: w.Train,
	}[split]
	if draw == nil {
		return nil, usagef("--data world:%s: want world:heldout, world:longer or world:train", split)
	}
	if a.n == 0 {
		return nil, usagef("--n: the small world has no end; want 1 or more questions")
	}
	for _, word := range w.Words() {
		if _, ok := tok.ID(word); !ok {
			return nil, fmt.Errorf("this model was not made for the small world: its tokenizer lacks %q; name a --data file", word)
		}
	}
	grade := w.Key
	if a.exact {
		grade = w.Exact
	}
	var items []eval.Item
	for _, it := range draw(a.n, 1) {
		items = append(items, eval.Item{
			Prompt: f.Prompt(it.Question), Reference: f.Answer(it.Answer), Family: it.Family,
			Grade: func(answer []int32) bool { return grade(it, tok.Decode(answer, true)) },
			Kind:  func(chain []int32) string { return w.Kind(it, tok.Decode(chain, true)) },
		})
	}
	return items, nil
}

func fileItems(tok *token.Tokenizer, f *token.Format, a evalArgs) ([]eval.Item, error) {
	examples, _, err := data.Read([]string{a.data}, data.Options{Limit: a.n})
	if err != nil {
		return nil, err
	}
	var items []eval.Item
	for i, x := range examples {
		if x.Text != "" {
			return nil, fmt.Errorf("%s:%d: text: an evaluation needs questions and answers", x.File, x.Line)
		}
		q, err := run.Ask(f, x, i)
		if err != nil {
			return nil, err
		}
		items = append(items, eval.Item{
			Prompt: q.Prompt, Reference: q.Answer, Family: x.Family,
			Grade: func(answer []int32) bool { return f.Says(answer, x.Answer) },
		})
	}
	return items, nil
}

// printReport is the report for people.
func (e *env) printReport(model, data string, r eval.Report) {
	fmt.Fprintf(e.out, "%s on %s, %d questions\n\n", model, data, r.N)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(e.out, "  %-28s "+format+"\n", append([]any{name}, args...)...)
	}
	row("right answers", "%.1f %% (95 %%: %.1f to %.1f)", 100*r.Accuracy, 100*r.Low, 100*r.High)
	row("reference log-prob a token", "%.4f after the chain, %.4f after none", r.RefLogProb, r.BaseLogProb)
	row("chain", "%.1f tokens, entropy %.3f nats a token, %.0f %% closed", r.ChainLength, r.ChainEntropy, 100*r.ClosedShare)
	if len(r.Kinds) > 0 {
		parts := []string{}
		for _, k := range world.Kinds() {
			parts = append(parts, fmt.Sprintf("%s %.0f %%", k, 100*r.Kinds[k]))
		}
		row("kinds of chain", "%s", strings.Join(parts, ", "))
	}
	if len(r.Families) < 2 {
		return
	}
	fmt.Fprint(e.out, "\n  family        right   log-prob      n\n")
	names := make([]string, 0, len(r.Families))
	for name := range r.Families {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		x := r.Families[name]
		fmt.Fprintf(e.out, "  %-10s %6.1f %%  %9.4f  %5d\n", name, 100*x.Accuracy, x.RefLogProb, x.N)
	}
}
