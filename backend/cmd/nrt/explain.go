package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/trainer/reward"
	"nrt/trainer/run"
	"nrt/trainer/verdict"
)

// explainFlags are what explain was asked.
type explainFlags struct {
	model            modelFlags
	sampling         samplingFlags
	reward           rewardFlags
	question, answer string
	sample           int
	k, maxChain      int
	format, color    string
	json             bool
}

func explainCommand() *command {
	x := explainFlags{sample: 1, k: 8, color: "auto"}
	return &command{
		name: "explain", group: groupWatch, short: "watch chains being written and rewarded, word by word",
		args: "[--model M] [--question Q --answer A] [--mode MODE] [--k N] [--json]",
		long: `
Samples K chains of reasoning for a question and shows them as they are written.
Then it asks, for each chain: how probable is each token of the reference answer
after this chain (c), compared with no chain at all (b)? Purple and ▲ mean that
the chain made the token likelier, orange and ▼ less likely, grey no change.

The reward R sums this up (--mode says how); R′ is 0 for a chain that does not
beat the empty one; the advantage A compares a chain with the others. A is what
training multiplies the chain's gradient with; where a group's rewards differ less
than the run's on average, it takes less ("nrt train --sigma-floor").

Without a question, a built-in model, or one trained from it, is asked a sample
question.`,
		examples: []string{
			"nrt explain",
			"nrt explain --sample 2 --mode am --k 4 --seed 7",
			"nrt explain --model runs/gsm8k/checkpoint-200 --question 'What is 3 times 4?' --answer '12'",
			"nrt explain --json | jq '.chains[] | [.rank, .R, .A]'",
		},
		bind: func(f *flags) func(*env) error {
			x.model.bind(f)
			f.text(&x.question, "question", "Q", "what to ask; - reads standard input")
			f.text(&x.answer, "answer", "A", "the reference answer")
			f.integer(&x.sample, "sample", "N", "which sample question, from 1")
			f.integer(&x.k, "k", "K", "how many chains")
			f.amount(&x.maxChain, "max-chain", "N", "longest chain in tokens; 0 is what fits, up to 512")
			x.reward.bind(f)
			x.sampling.bind(f)
			f.text(&x.format, "format", "NAME", "how question and answer are laid out; empty goes by the tokenizer")
			colorFlag(f, &x.color)
			f.json(&x.json)
			return func(e *env) error {
				if err := x.check(e, f); err != nil {
					return err
				}
				return x.run(e)
			}
		},
	}
}

// check completes the flags or says what is wrong with them.
func (x *explainFlags) check(e *env, f *flags) error {
	if err := x.reward.parse(); err != nil {
		return err
	}
	if err := checkChains("k", x.k); err != nil {
		return err
	}
	if err := x.sampling.check(); err != nil {
		return err
	}
	switch q, a := f.given("question"), f.given("answer"); {
	case (q || a) && f.given("sample"):
		return usagef("--sample: names a sample question, which --question and --answer take the place of")
	case q && a:
		var err error
		if x.question, err = e.asked("question", x.question, false); err != nil {
			return err
		}
		if problem := textProblem(x.answer, false); problem != "" {
			return usagef("--answer: %s", problem)
		}
		return nil
	case q || a:
		return usagef("--question and --answer go together")
	}
	files, err := e.modelFiles(x.model.name)
	if err != nil {
		return err // before asking for what only an existing model needs
	}
	b := e.builtin(x.model.name)
	if b == nil {
		b = e.kin(files)
	}
	if b == nil {
		return usagef("want --question and --answer: only built-in models, and those trained from them, have sample questions (there are %s)", e.builtinNames())
	}
	if x.sample < 1 || x.sample > len(b.Samples) {
		return usagef("--sample: want 1 to %d, have %d", len(b.Samples), x.sample)
	}
	x.question, x.answer = b.Samples[x.sample-1].Question, b.Samples[x.sample-1].Answer
	return nil
}

// kin is a built-in model whose words a model on disk has all, as one that was trained
// from it, or nil.
func (e *env) kin(files fs.FS) *builtin {
	b := e.builtin(defaultModel)
	tok, err := token.LoadFS(files)
	if b == nil || err != nil {
		return nil // what is wrong with the files is said when they are read
	}
	form, err := tok.Format("")
	if err != nil || form.Name != "world" || run.Unknown(tok, form.Prompt(b.Samples[0].Question), form.Answer(b.Samples[0].Answer)) > 0 {
		return nil
	}
	return b
}

func (x *explainFlags) run(e *env) (err error) {
	d, err := e.parseColor(x.color)
	if err != nil {
		return err
	}
	l, err := e.openText(x.model)
	if err != nil {
		return err
	}
	defer closing(l, &err)
	form, err := l.tok.Format(x.format)
	if err != nil {
		return usagef("--format: %w", err)
	}
	prompt, reference := form.Prompt(x.question), form.Answer(x.answer)
	e.warnUnknown(l.tok, run.Unknown(l.tok, prompt, reference), "question and answer")
	longest, err := l.room("max-chain", x.maxChain, len(prompt)+len(form.Close)+len(reference), 512)
	if err != nil {
		return err
	}
	req := engine.Request{
		Prompt: prompt, N: x.k, Sampling: x.sampling.Sampling, Seed: x.sampling.seed,
		MaxChain: longest, Stop: form.End, Close: form.Close, StopText: form.StopText,
		Reference: reference, Baseline: true,
	}
	if err := l.afford("--k or --max-chain", req); err != nil {
		return err
	}
	var emit func(engine.Event)
	p := &explainer{env: e, depth: d, tok: l.tok, mode: x.reward.Options.Mode, req: &req}
	if !x.json {
		p.heading(l.name, x)
		emit = p.chains()
	}
	results, err := l.engine.Generate(e.ctx, []engine.Request{req}, emit)
	if err != nil {
		return err
	}
	v, g, err := l.judge(x.question, x.answer, form, reference, results[0], x.reward.Options)
	if err != nil {
		return err
	}
	if x.json {
		return e.printJSON(v, true)
	}
	p.strips(v, g)
	p.table(v, g)
	p.why(v, g)
	return nil
}

// explainer prints an explanation for people.
type explainer struct {
	*env
	depth depth
	tok   *token.Tokenizer
	mode  reward.Mode
	req   *engine.Request
}

// indent is where text begins after its label.
const indent = 11

func (p *explainer) heading(model string, x *explainFlags) {
	fmt.Fprintf(p.out, "%s · reward %s · %s · temperature %g · seed %d\n\n", model, x.reward.Mode, plural(x.k, "chain"), x.sampling.Temperature, x.sampling.seed)
	for _, line := range [][2]string{{"question", x.question}, {"reference", x.answer}} {
		w := newWrapper(p.out, line[0], indent)
		for _, word := range strings.SplitAfter(line[1], " ") {
			w.write(" "+strings.TrimSuffix(word, " "), nil)
		}
		fmt.Fprintln(p.out)
	}
	fmt.Fprintln(p.out)
}

// chains shows the chains as they grow.
func (p *explainer) chains() func(engine.Event) {
	var w *wrapper
	s := speller{tok: p.tok}
	n, last, closed := 0, int32(-1), false
	show := &inOrder{
		begin: func(chain int) {
			w = newWrapper(p.out, fmt.Sprintf("chain %d", chain+1), indent)
			n, closed = 0, true
		},
		token: func(ev engine.Event) {
			switch ev.Part {
			case engine.PartChain:
				n++
				last = ev.Token.ID
				w.write(s.push(ev.Token.ID), nil)
			case engine.PartBoundary:
				closed = false
			}
			if p.terminal {
				p.out.Flush()
			}
		},
		end: func() {
			w.write(s.rest(), nil)
			if !closed {
				why := fmt.Sprintf(" (cut off after %s)", plural(n, "token"))
				if slices.Contains(p.req.Stop, last) {
					why = " (ended without closing)"
				}
				w.write(why, p.depth.faint)
			}
			fmt.Fprintln(p.out)
		},
	}
	return show.event
}

// strips prints the reference answer once per chain, best first, each token
// coloured by how far the chain moved its probability.
func (p *explainer) strips(v verdict.Verdict, g reward.Group) {
	fmt.Fprintf(p.out, "\nThe reference after each chain: %s likelier than without, %s less likely, %s much the same.\n",
		p.depth.paint("purple ▲", shade(0.5)), p.depth.paint("orange ▼", shade(-0.5)), p.depth.paint("grey", shade(0)))
	strip := func(label string, c []verdict.Number) {
		w := newWrapper(p.out, label, indent)
		for i, t := range v.Tokens {
			d := float64(c[i] - v.B[i])
			w.write(visible(t.Text)+mark(d), func(s string) string { return p.depth.paint(s, shade(d)) })
		}
		fmt.Fprintln(p.out)
	}
	strip("no chain", v.B)
	for _, i := range ranking(g) {
		strip(fmt.Sprintf("chain %d", i+1), v.Chains[i].C)
	}
}

// table prints rank, rewards and advantage of each chain.
func (p *explainer) table(v verdict.Verdict, g reward.Group) {
	fmt.Fprintf(p.out, "\n%s\n", p.depth.bold("rank  chain  tokens         R        R′       A"))
	for _, i := range ranking(g) {
		c := v.Chains[i]
		clipped := ""
		if g.Chains[i].Harmful {
			clipped = "  no better than no chain"
			if c.Clipped == 0 {
				clipped = "  clipped to 0"
			}
		}
		fmt.Fprintf(p.out, "%4d  %5d  %6d  %s  %s  %s%s\n", c.Rank, i+1, len(c.Tokens),
			padLeft(decimal(float64(c.R)), 8), padLeft(decimal(float64(c.Clipped)), 8), padLeft(signed(float64(c.Advantage)), 6), clipped)
	}
	fmt.Fprintf(p.out, "no chain             %s  R_base: below it a chain gains nothing\n", padLeft(decimal(g.Base), 8))
	if v.Note != "" {
		fmt.Fprintf(p.out, "\n%s\n", p.depth.bold(v.Note))
	}
}

// why lists the ten tokens that move the best chain's reward most: weight times
// change, which sums to R − R_base (for p and gm, to its logarithm).
func (p *explainer) why(v verdict.Verdict, g reward.Group) {
	best := ranking(g)[0]
	c := g.Chains[best]
	gain := make([]float64, len(c.C))
	order := make([]int, len(c.C))
	for i := range gain {
		from, to := float64(v.B[i]), c.C[i]
		if p.mode.Log() {
			from, to = math.Log(from), math.Log(to)
		}
		gain[i], order[i] = c.W[i]*(to-from), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(math.Abs(gain[b]), math.Abs(gain[a])) })
	order = order[:min(10, len(order))]
	slices.Sort(order)
	width := 5
	for _, i := range order {
		width = max(width, columns(alone(v.Tokens[i].Text)))
	}
	fmt.Fprintf(p.out, "\nWhere the reward of chain %d comes from: weight × change of each token of the reference\n%s\n",
		best+1, p.depth.bold(pad("token", width)+"  no chain  chain    weight      gain"))
	for _, i := range order {
		line := fmt.Sprintf("%s  %8s  %5s  %8s  %s %s", pad(alone(v.Tokens[i].Text), width), percent(float64(v.B[i])), percent(c.C[i]),
			decimal(c.W[i]), padLeft(decimal(gain[i]), 8), mark(c.C[i]-float64(v.B[i])))
		fmt.Fprintln(p.out, strings.TrimRight(line, " "))
	}
	if rest := len(gain) - len(order); rest > 0 {
		fmt.Fprintf(p.out, "… and %s that matter less\n", plural(rest, "more token"))
	}
}

// alone is how a token shows by itself: without the space before it, unless it
// is nothing else.
func alone(text string) string {
	if t := strings.TrimSpace(visible(text)); t != "" {
		return t
	}
	return strings.ReplaceAll(text, " ", "␣")
}
