package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"nrt/trainer/data"
	"nrt/trainer/eval"
	"nrt/trainer/reward"
	"nrt/trainer/run"
)

// wordsFlags are what words was asked.
type wordsFlags struct {
	in, before string
	steps, n   int
	reward     rewardFlags
	own        bool // the reward is the run's
	json       bool
}

func wordsCommand() *command {
	w := wordsFlags{n: 12}
	return &command{
		name: "words", group: groupTrain, short: "which words chains came to use in training, and which went",
		args: "--in RUN|F.jsonl [--before RUN|F.jsonl] [--json]",
		long: `
Reads chains, of a run (its completions.jsonl) or of "nrt eval --completions", and
compares which of them have a word: at a run's end with its beginning, or in one
file with another (--before). "before" and "after" are shares of chains. "A" is
the advantage of chains with the word among those of the same question: above 0,
training repeats such chains. It is under the reward that the run of --in trained
with, or under that of --mode and the flags below it.

Listed are words whose share changed by more than two standard errors; of words
that did not change, chance lists about one in twenty. What is counted is
questions, since chains of one question are alike. A run keeps 8 chains of a step
("nrt train --completions 128" keeps more), and 4096 bytes of each.`,
		examples: []string{
			"nrt words --in out",
			"nrt words --in nrt.jsonl --before base.jsonl",
			"nrt words --in out/nrt --before out/rlpr --steps 50 --json",
		},
		bind: func(f *flags) func(*env) error {
			f.text(&w.in, "in", "F", "a run's folder, or a file of chains")
			f.text(&w.before, "before", "F", "what to compare with; empty takes the beginning of the run")
			f.amount(&w.steps, "steps", "N", "how many steps of a run are its beginning and its end; 0 takes a fifth")
			f.amount(&w.n, "n", "N", "how many words to list that came, and that went; 0 lists all")
			w.reward.bind(f)
			f.json(&w.json)
			return func(e *env) error {
				if w.in == "" {
					return usagef("want --in")
				}
				if err := w.reward.parse(); err != nil {
					return err
				}
				if !slices.ContainsFunc([]string{"mode", "normalize-weights", "clip", "no-std"}, f.given) {
					w.takeOwn()
				}
				return w.run(e)
			}
		},
	}
}

// compared is what words prints with --json.
type compared struct {
	Before chainSample `json:"before"`
	After  chainSample `json:"after"`
	Words  []eval.Word `json:"words"` // those that came the most first, those that went last
}

// chainSample says which chains were read.
type chainSample struct {
	File      string `json:"file"`
	From      int    `json:"from_step,omitempty"` // 0: the file has no steps
	To        int    `json:"to_step,omitempty"`
	Questions int    `json:"questions"`
	Chains    int    `json:"chains"`
}

func (s chainSample) String() string {
	steps := ""
	if s.To > 0 {
		steps = fmt.Sprintf(", steps %d to %d", s.From, s.To)
	}
	return fmt.Sprintf("%s%s: %s of %s", s.File, steps, plural(s.Chains, "chain"), plural(s.Questions, "question"))
}

// takeOwn takes the reward that the run was trained with, if it is a run's and its
// method has one.
func (w *wordsFlags) takeOwn() {
	if c, err := run.OpenCourse(w.in, time.Now()); err == nil && c.Config.Objective.Method.Scores() {
		w.reward.Options, w.own = c.Config.Objective.Reward, true
	}
}

func (w *wordsFlags) run(e *env) error {
	after := chainFile{path: w.in}
	before := chainFile{path: w.before}
	if err := after.open(e.ctx, w.steps); err != nil {
		return err
	}
	if w.before != "" {
		if err := before.open(e.ctx, w.steps); err != nil {
			return err
		}
	} else if err := before.beginning(after); err != nil {
		return err
	}
	var out compared
	var was, is eval.Vocabulary
	var err error
	if out.Before, err = before.read(e.ctx, w.reward.Options, &was); err != nil {
		return err
	}
	if out.After, err = after.read(e.ctx, w.reward.Options, &is); err != nil {
		return err
	}
	out.Words = eval.Changes(&was, &is)
	if w.json {
		return e.printJSON(out, true)
	}
	w.print(e, out)
	return nil
}

func (w *wordsFlags) print(e *env, c compared) {
	whose := "--mode"
	if w.own {
		whose = "the run's own"
	}
	fmt.Fprintf(e.out, "before  %s\nafter   %s\nA       under %s (%s)\n", c.Before, c.After, w.reward.Mode, whose)
	var came, went []eval.Word
	for _, x := range c.Words {
		switch {
		case x.Z > 2:
			came = append(came, x)
		case x.Z < -2:
			went = append(went, x)
		}
	}
	slices.Reverse(went)
	for _, part := range []struct {
		name  string
		words []eval.Word
	}{{"came", came}, {"went", went}} {
		if len(part.words) == 0 {
			fmt.Fprintf(e.out, "\nno word %s, as far as so few questions show\n", part.name)
			continue
		}
		fmt.Fprintf(e.out, "\n%-20s   before    after       A\n", part.name)
		for i, x := range part.words {
			if w.n > 0 && i == w.n {
				fmt.Fprintf(e.out, "… and %d more\n", len(part.words)-i)
				break
			}
			advantage := "" // no question has chains with and without it
			if x.Questions > 0 {
				advantage = signed(x.Advantage)
			}
			fmt.Fprintf(e.out, "%s  %5.1f %%  %5.1f %%   %5s\n", pad(clip(visible(x.Word), 20), 20), 100*x.Before, 100*x.After, advantage)
		}
	}
}

// chainFile is a file of chains, of which the lines of some steps count.
type chainFile struct {
	path        string
	first, last int // steps in it; both 0 where it has none
	from, to    int // those that count
}

// chainLine is what is read of a line.
type chainLine struct {
	Step  int        `json:"step"`
	Group int        `json:"group"`
	Text  *string    `json:"completion"`
	C     []*float64 `json:"c"` // null where it was no number
	B     []*float64 `json:"b"`
}

// open finds which steps the file has. Its last ones count, steps of them or, if that is
// 0, a fifth of all.
func (c *chainFile) open(ctx context.Context, steps int) error {
	switch info, err := os.Stat(c.path); {
	case err == nil && info.IsDir():
		c.path = filepath.Join(c.path, "completions.jsonl")
	case err == nil && !info.Mode().IsRegular():
		return usagef("%s: want a file, which can be read twice", c.path)
	}
	c.first = math.MaxInt
	err := c.each(ctx, func(l chainLine) error {
		c.first, c.last = min(c.first, l.Step), max(c.last, l.Step)
		return nil
	})
	if err != nil {
		return err
	}
	if c.first == math.MaxInt {
		return fmt.Errorf("%s: no chains in it", c.path)
	}
	if n := c.last - c.first + 1; steps == 0 {
		steps = (n + 4) / 5
	} else if c.last == 0 {
		return usagef("--steps: the chains of %s have no steps", c.path)
	}
	c.from, c.to = max(c.first, c.last-steps+1), c.last
	return nil
}

// beginning are as many steps of a file, its first ones.
func (c *chainFile) beginning(of chainFile) error {
	*c = of
	switch c.to = c.first + of.to - of.from; {
	case of.last == 0:
		return usagef("%s has no steps, so no beginning: name with --before what to compare it with", of.path)
	case c.to >= of.from:
		return usagef("%s has the chains of %s: too few for a beginning and an end of %d", of.path, plural(of.last-of.first+1, "step"), of.to-of.from+1)
	}
	c.from = c.first
	return nil
}

// each hands over every line, until ctx ends.
func (c *chainFile) each(ctx context.Context, take func(chainLine) error) (err error) {
	f, err := data.Open(c.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := bufio.NewReaderSize(f, 1<<16)
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := in.ReadBytes('\n')
		switch {
		case err == io.EOF && !json.Valid(line): // nothing, or a line that is being written
			return nil
		case err != nil && err != io.EOF:
			return fmt.Errorf("%s:%d: %w", c.path, n, err)
		}
		var l chainLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("%s:%d: not a line of chains: %w", c.path, n, err)
		}
		if l.Text == nil {
			return fmt.Errorf("%s:%d: completion: is missing", c.path, n)
		}
		if err := take(l); err != nil {
			return err
		}
	}
}

// read adds the chains of the steps that count to a vocabulary, question by question.
func (c *chainFile) read(ctx context.Context, o reward.Options, v *eval.Vocabulary) (chainSample, error) {
	type question struct{ step, group int }
	var at question
	var texts []string
	var logc [][]float64
	var logb []float64
	flush := func() {
		var advantages []float64
		if g, err := reward.ScoreGroup(logc, logb, o); err == nil {
			for _, x := range g.Chains {
				advantages = append(advantages, x.Advantage)
			}
		}
		v.Add(texts, advantages)
		texts, logc = nil, nil
	}
	err := c.each(ctx, func(l chainLine) error {
		if l.Step < c.from || l.Step > c.to {
			return nil
		}
		if q := (question{l.Step, l.Group}); q != at {
			flush()
			at = q
		}
		texts, logc, logb = append(texts, run.Uncut(*l.Text)), append(logc, logs(l.C)), logs(l.B)
		return nil
	})
	flush()
	return chainSample{c.path, c.from, c.to, v.Questions, v.Chains}, err
}

// logs are the logarithms of probabilities, NaN of what was no number: no reward comes of it.
func logs(p []*float64) []float64 {
	out := make([]float64, len(p))
	for i, x := range p {
		out[i] = math.NaN()
		if x != nil {
			out[i] = math.Log(*x)
		}
	}
	return out
}
