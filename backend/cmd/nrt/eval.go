package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"nrt/backend/device"
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
To each question the model writes a chain, or --k of them, then an answer.
Reported are the share of right answers, the mean log-probability of the
reference per token (after the chain, and after an empty one), the chains' entropy
and length, and where chains help: how probable the reference's tokens are after
the chain, by how sure the model is of them without one.

An answer is right if it equals the reference; in the small world, if its key
words are right, however it is phrased (--exact asks for equality).
--answer-regex compares only a part: '#### (.*)' is what follows the last ####.

--data names a file as for "nrt train", or a split of the small world:
world (as world:heldout), world:longer, world:train. Where lines have a field
"family", each family is reported apart too. A question for which the model has
too few positions is left out and named. Of the small world, whose families have
only so many, no question is asked twice.`,
		examples: []string{
			"nrt eval --model world:nrt",
			"nrt eval --model world:sft --no-chain",
			"nrt eval --model out/nrt/final --data test.jsonl --n 200 --max-chain 48 --json",
			"nrt eval --model world:nrt --temperature 1 --k 8 --completions nrt.jsonl",
		},
		bind: func(f *flags) func(*env) error {
			var m modelFlags
			m.bind(f)
			a := evalArgs{data: "world", worldSeed: worldSeed, k: 1}
			f.text(&a.data, "data", "F", "JSONL or Parquet file, or a split of the small world")
			f.amount(&a.n, "n", "N", "questions, the first of a file; 0 takes all of it, of the small world 420")
			f.text(&a.question, "question-field", "NAME", "the file's field of the question, if it is not one that \"nrt train\" knows")
			f.text(&a.reference, "answer-field", "NAME", "the file's field of the reference answer")
			f.text(&a.regex, "answer-regex", "RE", "regular expression with one group: what its last match holds in answer and\nreference is compared")
			f.seed(&a.worldSeed, "world-seed", "S", "which small world (the embedded models know number 1)")
			f.text(&a.format, "format", "NAME", "layout of question, chain and answer; empty takes the tokenizer's")
			f.amount(&a.chain, "max-chain", "N", "longest chain, in tokens; 0 takes what the model was trained with, 20 in the\nsmall world, else 256 or what fits")
			f.amount(&a.answer, "max-answer", "N", "longest answer, in tokens; 0 takes the longest reference and half as much again")
			f.integer(&a.k, "k", "K", "chains per question, over which all is averaged\nseveral want a --temperature above 0")
			f.text(&a.completions, "completions", "F", "write every chain and answer, judged, as JSON lines to this new file, for people\nand \"nrt words\" to read")
			f.toggle(&a.noChain, "no-chain", "answer at once, after the empty chain")
			f.toggle(&a.exact, "exact", "in the small world too, only the reference itself is right")
			f.number(&a.temperature, "temperature", "X", "0 always takes the likeliest token")
			f.seed(&a.seed, "seed", "S", "the same seed draws the same tokens")
			f.json(&a.json)
			return func(e *env) error {
				for _, flag := range []string{"k", "max-chain"} {
					if a.noChain && f.given(flag) {
						return usagef("--%s: there is no chain with --no-chain, which it says something of", flag)
					}
				}
				if _, world := worldSplit(a.data); world {
					for _, flag := range []string{"question-field", "answer-field", "answer-regex"} {
						if f.given(flag) {
							return usagef("--%s: is for a file, not for the small world", flag)
						}
					}
					if a.n > mostQuestions {
						return usagef("--n: want 0 to %d of the small world, have %d", mostQuestions, a.n)
					}
				} else {
					for _, flag := range []string{"exact", "world-seed"} {
						if f.given(flag) {
							return usagef("--%s: is for the small world, not for a file", flag)
						}
					}
				}
				return e.eval(m, a)
			}
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
	question, reference  string // fields of a file
	regex                string
	completions          string // file
	noChain, exact, json bool
}

func (e *env) eval(m modelFlags, a evalArgs) (err error) {
	if a.completions != "" { // a mistake in a file is told before a model has been read
		if _, err := os.Lstat(a.completions); err == nil {
			return fmt.Errorf("--completions: %s exists; name a new file, or remove it", a.completions)
		}
		if err := run.Writable(a.completions); err != nil {
			return fmt.Errorf("--completions: %w", err)
		}
	}
	if err := checkChains("k", a.k); err != nil {
		return err
	}
	drawn := samplingFlags{Sampling: engine.Sampling{Temperature: a.temperature}}
	if err := drawn.check(); err != nil {
		return err
	}
	if a.k > 1 && (device.SampleRow{Temperature: a.temperature}).Greedy() {
		return usagef("--k: all chains of a question are the same at --temperature %g: name a higher one, such as 1, for %d that differ", a.temperature, a.k)
	}
	extract, err := eval.ParseExtract(a.regex)
	if err != nil {
		return usagef("--answer-regex: %w", err)
	}
	split, small := worldSplit(a.data)
	var examples []data.Example
	if !small {
		if examples, _, err = data.Read(e.ctx, []string{a.data}, data.Options{Limit: a.n, Question: a.question, Answer: a.reference}); err != nil {
			return err
		}
	}
	l, err := e.openText(m)
	if err != nil {
		return err
	}
	defer closing(l, &err)
	f, err := l.tok.Format(a.format)
	if err != nil {
		return usagef("--format: %v", err)
	}
	var q exam
	if small {
		err = q.world(e.ctx, l.tok, f, a, split)
	} else {
		err = q.file(e.ctx, f, examples, extract)
	}
	if err != nil {
		return err
	}
	if n := q.all - len(q.items); n > 0 {
		fmt.Fprintf(e.err, "nrt: left out, since they came before: %s; the small world has no more of some families\n", plural(n, "question"))
	}
	unknown := 0
	for _, it := range q.items {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		unknown += run.Unknown(l.tok, it.Prompt, it.Reference)
	}
	e.warnUnknown(l.tok, unknown, "all questions and answers")
	trained, err := e.trainedChain(m.name)
	if err != nil {
		return err
	}
	if err := e.fit(&a, &q, trained, f, l); err != nil {
		return err
	}
	how := eval.Options{
		MaxChain: a.chain, MaxAnswer: a.answer, Close: f.Close, StopText: f.StopText, End: f.End,
		Sampling: engine.Sampling{Temperature: a.temperature}, Seed: a.seed, K: a.k, NoChain: a.noChain,
	}
	for from := 0; from < len(q.items); from += eval.Batch {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		var together []engine.Request
		for i, it := range q.items[from:min(from+eval.Batch, len(q.items))] {
			together = append(together, how.Request(it, from+i))
		}
		if err := l.afford("--k, --max-chain or --max-answer", together...); err != nil {
			return err
		}
	}
	progress := run.NewEvaluating(e.err, e.watched, time.Now)
	how.Progress = progress.Show
	var r eval.Report
	ask := func() (err error) {
		r, err = eval.Run(e.ctx, l.engine, q.items, how)
		progress.Done()
		return err
	}
	if a.completions != "" {
		err = writeCompletions(a.completions, l.tok, f, q.items, &how, ask)
	} else {
		err = ask()
	}
	if err != nil {
		return err
	}
	if a.json {
		return e.printJSON(r, true)
	}
	e.printReport(m.name, a.data, q.asked(), r)
	return nil
}

// exam is what a model is asked.
type exam struct {
	items []eval.Item
	where []string // each item's file and line; nil for the small world
	all   int      // lines read, or questions drawn
}

// mostQuestions is how many questions of the small world are drawn at once: more is a
// slip of the hand, and they lie in memory.
const mostQuestions = 1_000_000

// asked says how many of how many, where that is not all.
func (q *exam) asked() string {
	if n := len(q.items); n < q.all {
		return fmt.Sprintf("%d of %s", n, plural(q.all, "question"))
	}
	return plural(len(q.items), "question")
}

// trainedChain is how long chains were when the model was trained, 0 if its
// folder does not say.
func (e *env) trainedChain(model string) (int, error) {
	files, err := e.files(model)
	if err != nil {
		return 0, err
	}
	s, err := run.ReadSettings(files)
	if err != nil {
		return 0, fmt.Errorf("model %q: %w", model, err)
	}
	return s.MaxChain, nil
}

// leaveOut takes out the questions that have no room for a chain of so many tokens
// and names them. It returns the longest reference's tokens and the most positions
// that one of the others leaves.
func (e *env) leaveOut(q *exam, f *token.Format, positions, chain int) (reference, roomiest int, err error) {
	var items []eval.Item
	var out []string
	for i, it := range q.items {
		left := positions - len(it.Prompt) - len(f.Close)
		if left-len(it.Reference) < chain {
			where := fmt.Sprintf("question %d", i+1)
			if q.where != nil {
				where = q.where[i]
			}
			out = append(out, fmt.Sprintf("%s: %d tokens of question and reference", where, len(it.Prompt)+len(it.Reference)))
			continue
		}
		reference, roomiest = max(reference, len(it.Reference)), max(roomiest, left)
		items = append(items, it)
	}
	if len(items) == 0 && len(out) > 0 {
		return 0, 0, fmt.Errorf("no question fits the model's %d positions (max_position_embeddings): %s", positions, out[0])
	}
	if len(out) > 0 {
		fmt.Fprintf(e.err, "nrt: left out, since they do not fit the model's %d positions (max_position_embeddings): %s\n", positions, plural(len(out), "question"))
		for i, line := range out {
			if i == 5 {
				fmt.Fprintf(e.err, "  … and %d more\n", len(out)-i)
				break
			}
			fmt.Fprintf(e.err, "  %s\n", line)
		}
	}
	q.items = items
	return reference, roomiest, nil
}

// fit chooses the lengths that were left open, and gives each question the room
// that the model has beside it, so that a long one shortens nobody else's chain.
// trained is how long chains were in training, 0 if that is not known.
func (e *env) fit(a *evalArgs, q *exam, trained int, f *token.Format, l *loaded) error {
	positions := l.model.Config.MaxPositions
	least := 1 // token of a chain
	if a.noChain {
		least = 0
	}
	reference, roomiest, err := e.leaveOut(q, f, positions, least)
	if err != nil {
		return err
	}
	items := q.items
	// What was asked for must fit one question at least.
	if _, err := l.room("max-answer", a.answer, positions-roomiest, 0); err != nil && len(items) > 0 {
		return err
	}
	if a.answer == 0 {
		a.answer = reference + reference/2
	}
	wanted := a.chain
	switch _, small := worldSplit(a.data); {
	case a.noChain:
		a.chain = 1 // of which nothing is used
	case wanted > 0:
		if _, err := l.room("max-chain", wanted, positions-roomiest+1, 0); err != nil && len(items) > 0 {
			return err
		}
	case trained > 0:
		a.chain, wanted = trained, trained
	case small:
		a.chain = recipe.MaxChain
	default:
		a.chain = 256
	}
	short := 0
	for i := range items {
		it := &items[i]
		left := positions - len(it.Prompt) - len(f.Close)
		if a.noChain {
			it.MaxAnswer = min(a.answer, left)
			continue
		}
		// A chain length that was asked for goes before the answer's own length.
		answer := max(a.answer, len(it.Reference))
		if wanted > 0 || answer >= left {
			answer = len(it.Reference)
		}
		it.MaxChain = min(a.chain, left-answer)
		it.MaxAnswer = min(a.answer, left-it.MaxChain)
		if it.MaxChain < wanted {
			short++
		}
	}
	if short > 0 {
		fmt.Fprintf(e.err, "nrt: %s of %d have room for shorter chains than %d only\n", plural(short, "question"), len(items), wanted)
	}
	return nil
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

// world draws questions of the small world, until ctx ends.
func (q *exam) world(ctx context.Context, tok *token.Tokenizer, f *token.Format, a evalArgs, split string) error {
	w := world.New(a.worldSeed)
	draw := map[string]func(int, uint64, ...string) []world.Item{
		world.SplitHeldOut: w.HeldOut, world.SplitLonger: w.Longer, world.SplitTrain: w.Train,
	}[split]
	if draw == nil {
		return usagef("--data world:%s: want world:heldout, world:longer or world:train", split)
	}
	for _, word := range w.Words() {
		if _, ok := tok.ID(word); !ok {
			return fmt.Errorf("this model was not made for the small world: its tokenizer lacks %q; name a --data file", word)
		}
	}
	grade := w.Key
	if a.exact {
		grade = w.Exact
	}
	n := a.n
	if n == 0 {
		n = 420
	}
	drawn := make(chan []world.Item, 1)
	go func() { drawn <- draw(n, 1) }() // takes seconds for a million
	var items []world.Item
	select {
	case items = <-drawn:
	case <-ctx.Done():
	}
	q.all = len(items)
	for _, it := range world.Distinct(items) {
		if ctx.Err() != nil {
			break
		}
		q.items = append(q.items, eval.Item{
			Prompt: f.Prompt(it.Question), Reference: f.Answer(it.Answer), Family: it.Family,
			Grade: func(answer []int32) bool { return grade(it, tok.Decode(answer, true)) },
			Kind:  func(chain []int32) string { return w.Kind(it, tok.Decode(chain, true)) },
		})
	}
	return ctx.Err()
}

// file lays the examples of a file out, until ctx ends.
func (q *exam) file(ctx context.Context, f *token.Format, examples []data.Example, extract eval.Extract) error {
	q.all = len(examples)
	for i, x := range examples {
		if err := ctx.Err(); err != nil {
			return err
		}
		where := fmt.Sprintf("%s:%d", x.File, x.Line)
		if x.Text != "" {
			return fmt.Errorf("%s: text: an evaluation needs questions and answers", where)
		}
		if _, ok := extract.From(x.Answer); !ok {
			return fmt.Errorf("%s: the reference holds nothing that --answer-regex %s matches: nothing could equal it", where, extract)
		}
		asked, err := run.Ask(f, x, i)
		if err != nil {
			return err
		}
		q.where = append(q.where, where)
		q.items = append(q.items, eval.Item{
			Prompt: asked.Prompt, Reference: asked.Answer, Family: x.Family,
			Grade: func(answer []int32) bool { return extract.Same(f.AnswerText(answer), x.Answer) },
		})
	}
	return nil
}

// printReport is the report for people.
func (e *env) printReport(model, data, asked string, r eval.Report) {
	fmt.Fprintf(e.out, "%s on %s, %s\n\n", model, data, asked)
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
	if len(r.Hardness) > 0 {
		fmt.Fprint(e.out, "\n  sure of a token                 mean\n  without a chain    tokens    without     with\n")
	}
	for _, h := range r.Hardness {
		name := fmt.Sprintf("%.0f %% to %.0f %%", 100*h.From, 100*h.To)
		fmt.Fprintf(e.out, "  %-16s %6.1f %%  %7.1f %%  %5.1f %%\n", name, 100*float64(h.Tokens)/float64(r.ReferenceToks), 100*h.Base, 100*h.After)
	}
	if len(r.Families) < 2 {
		return
	}
	fmt.Fprint(e.out, "\n  family        right   log-prob      n\n")
	for _, name := range slices.Sorted(maps.Keys(r.Families)) {
		x := r.Families[name]
		fmt.Fprintf(e.out, "  %-10s %6.1f %%  %9.4f  %5d\n", name, 100*x.Accuracy, x.RefLogProb, x.N)
	}
}
