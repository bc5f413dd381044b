package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/trainer/recipe"
	"nrt/trainer/run"
	"nrt/trainer/world"
)

func worldCommand() *command {
	return &command{
		name: "world", group: groupTrain, args: "[--out DIR | --models DIR | --study FILE] [flags]",
		short: "the small world: its questions, its models, its study",
		long: `
The small world is a generator of questions in seven families (kinship, cups,
arithmetic, boolean expressions, coins, reasons, dates) and of the text that a
base model reads before it is trained on them. Without flags it shows examples.

--out DIR     write text.jsonl (for "nrt train --method lm"), train.jsonl,
              heldout.jsonl and longer.jsonl
--models DIR  pretrain the base model, put it through its gate, train SFT, RLPR
              and NRT from it, and write all of them
--study FILE  train every method from a base, with several seeds, and write
              what was measured as JSON; prints a table`,
		examples: []string{
			"nrt world",
			"nrt world --out data/world",
			"nrt world --models trainer/world/models",
			"nrt world --study study.json --seeds 3",
			"nrt world --study free.json --methods nrt:ws-logp,rlvr --families step,why,date --steps 40",
		},
		bind: func(f *flags) func(*env) error {
			a := worldArgs{worldSeed: worldSeed, docs: 300_000, train: 20_000, tests: 1000, base: "world:base", seeds: 3, steps: 80, methods: strings.Join(recipe.Methods, ",")}
			f.seed(&a.worldSeed, "world-seed", "S", "which small world (the embedded models know number 1)")
			f.text(&a.out, "out", "DIR", "write questions and text here")
			f.integer(&a.docs, "docs", "N", "documents of text: for --out and for the base of --models")
			f.integer(&a.train, "train", "N", "training questions for --out")
			f.integer(&a.tests, "tests", "N", "questions of each test for --out; fewer where a family has no more that differ")
			f.text(&a.models, "models", "DIR", "make the models here")
			f.toggle(&a.keepBase, "keep-base", "with --models: take the base model that DIR holds instead of pretraining one")
			f.text(&a.study, "study", "FILE", "write the study here")
			f.text(&a.base, "base", "M", "base model of the study")
			f.integer(&a.seeds, "seeds", "N", "seeds of the study")
			f.integer(&a.steps, "steps", "N", "training steps of the study")
			f.text(&a.methods, "methods", "LIST", "methods of the study")
			f.text(&a.families, "families", "LIST", "families of the study; empty takes all")
			a.on.bind(f)
			return func(e *env) error {
				only := map[string][]string{
					"docs": {"out", "models"}, "train": {"out"}, "tests": {"out"}, "keep-base": {"models"},
					"base": {"study"}, "seeds": {"study"}, "steps": {"study"}, "methods": {"study"}, "families": {"study"},
				}
				for _, i := range f.list {
					if with, ok := only[i.name]; ok && f.given(i.name) && !slices.ContainsFunc(with, f.given) {
						return usagef("--%s: is for --%s, which this call lacks", i.name, strings.Join(with, " or --"))
					}
				}
				return e.world(a)
			}
		},
	}
}

// worldArgs are the flags of nrt world.
type worldArgs struct {
	worldSeed          uint64
	out, models, study string
	docs, train, tests int
	base               string
	seeds, steps       int
	on                 deviceFlags
	methods, families  string
	keepBase           bool
}

func (e *env) world(a worldArgs) error {
	for _, x := range []struct {
		name    string
		n, most int
	}{
		{"docs", a.docs, 1e9}, {"train", a.train, mostQuestions}, {"tests", a.tests, mostQuestions}, {"seeds", a.seeds, 1e6}, {"steps", a.steps, 1e5},
	} {
		if x.n < 1 || x.n > x.most {
			return usagef("--%s: want 1 to %d, have %d", x.name, x.most, x.n)
		}
	}
	w := world.New(a.worldSeed)
	families, err := a.check(w)
	if err != nil {
		return err
	}
	if a.out == "" && a.models == "" && a.study == "" {
		_, err := e.out.WriteString(w.Describe())
		return err
	}
	// Better now than after an hour of training.
	for flag, dir := range map[string]string{"out": a.out, "models": a.models} {
		if dir == "" {
			continue
		}
		if err := run.WritableDir(dir); err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
	}
	if runs, err := filepath.Glob(filepath.Join(a.models, "*", "metrics.jsonl")); a.models != "" && err == nil && len(runs) > 0 {
		return fmt.Errorf("--models: %s is a training run, and the models may take its place: name a folder of their own", filepath.Dir(runs[0]))
	}
	if a.out != "" {
		if err := e.writeWorld(w, a); err != nil {
			return err
		}
	}
	if a.models == "" && a.study == "" {
		return nil
	}
	if a.study != "" {
		if err := run.Writable(a.study); err != nil {
			return fmt.Errorf("--study: %w", err)
		}
		if _, err := os.Stat(a.study); err == nil { // hours of work, perhaps
			return fmt.Errorf("--study: %s exists; name a new file, or remove it", a.study)
		}
	}
	dev, err := e.compute(a.on)
	if err != nil {
		return err
	}
	if a.models != "" {
		began := time.Now()
		base := recipe.DefaultBase()
		base.Docs, base.World = a.docs, a.worldSeed
		maker := recipe.Maker{Dir: a.models, Base: base, Dev: dev, World: w, KeepBase: a.keepBase, Progress: func(format string, args ...any) {
			fmt.Fprintf(e.err, "%6.0f s  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
		}}
		err = maker.Make(e.ctx)
	}
	if err == nil && a.study != "" {
		err = e.study(w, dev, a, families)
	}
	return errors.Join(err, dev.Close())
}

// check refuses families and methods that there are not, before anything is
// made, and returns the families asked for.
func (a worldArgs) check(w *world.World) (families []string, err error) {
	if a.families != "" {
		families = strings.Split(a.families, ",")
		for _, name := range families {
			if !slices.Contains(w.Families(), name) {
				return nil, usagef("--families: want some of %s, have %q", strings.Join(w.Families(), ", "), name)
			}
		}
	}
	for _, name := range strings.Split(a.methods, ",") {
		if _, err := recipe.NewPolicy(name, 1); err != nil {
			return nil, usagef("--methods: %w", err)
		}
	}
	return families, nil
}

// writeWorld writes the questions and the text as JSON lines.
func (e *env) writeWorld(w *world.World, a worldArgs) error {
	if err := os.MkdirAll(a.out, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	for _, file := range []struct {
		name string
		fill func(io.Writer) error
	}{
		{"text.jsonl", func(out io.Writer) error { return world.WriteTexts(out, w.Pretrain(a.docs, 1)) }},
		{"train.jsonl", func(out io.Writer) error { return world.WriteItems(out, w.Train(a.train, 1)) }},
		{"heldout.jsonl", func(out io.Writer) error { return world.WriteItems(out, world.Distinct(w.HeldOut(a.tests, 1))) }},
		{"longer.jsonl", func(out io.Writer) error { return world.WriteItems(out, world.Distinct(w.Longer(a.tests, 1))) }},
	} {
		path := filepath.Join(a.out, file.name)
		if err := run.WriteTo(path, func(out io.Writer) error { return file.fill(untilDone{e.ctx, out}) }); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		fmt.Fprintln(e.out, path)
	}
	return nil
}

// untilDone is a writer that fails once its context has ended.
type untilDone struct {
	ctx context.Context
	io.Writer
}

func (u untilDone) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Writer.Write(p)
}

// study trains every method with every seed and reports.
func (e *env) study(w *world.World, dev device.Device, a worldArgs, families []string) error {
	files, err := e.modelFiles(a.base)
	if err != nil {
		return err
	}
	tok, err := e.tokenizer(a.base)
	if err != nil {
		return err
	}
	for id := range int32(w.Tokenizer().Size()) {
		if have, want := tok.Token(id), w.Tokenizer().Token(id); have != want {
			return fmt.Errorf("--base: model %q was not made for the small world: its token %d is %q, not %q", a.base, id, have, want)
		}
	}
	show, shown := e.loading()
	base, err := llama.Load(dev, files, show)
	shown()
	if err != nil {
		return fmt.Errorf("model %q: %w", a.base, err)
	}
	defer base.Free()
	var trials []*recipe.Trial
	failed := func() error {
		for _, name := range strings.Split(a.methods, ",") {
			for seed := range a.seeds {
				p, err := recipe.NewPolicy(name, uint64(seed+1))
				if err != nil {
					return err
				}
				p.Families, p.Steps = families, a.steps
				t, err := recipe.Run(e.ctx, base, w, name, p, nil)
				if err != nil {
					return err
				}
				t.Free()
				trials = append(trials, t)
				fmt.Fprintf(e.err, "%s, seed %d: %.1f %% held-out after %.1f s of training\n", name, seed+1, 100*t.HeldOut.Accuracy, t.Seconds)
			}
		}
		return nil
	}()
	return errors.Join(failed, e.writeStudy(a.study, trials, failed == nil))
}

// writeStudy writes the trials that ended, which are all if the study is whole: they
// may have taken hours, whatever stopped it then.
func (e *env) writeStudy(path string, trials []*recipe.Trial, whole bool) error {
	if len(trials) == 0 {
		return nil
	}
	raw, err := json.MarshalIndent(trials, "", " ")
	if err != nil {
		return err
	}
	if err := run.WriteFile(path, append(raw, '\n')); err != nil {
		return err
	}
	if !whole {
		fmt.Fprintf(e.err, "nrt: the study was stopped; %s holds the %s that had ended\n", path, plural(len(trials), "trial"))
	}
	_, err = e.out.WriteString(recipe.Markdown(recipe.Summarize(trials), []int{20, 40}))
	return err
}
