package main

import (
	"errors"
	"fmt"

	"nrt/backend/server"
	"nrt/trainer/run"
	"nrt/trainer/world"
	"nrt/web/view"
	"nrt/web/wire"
)

// bakedModel answers the page's saved examples: untrained in reasoning, so that
// its chains are of every kind.
const bakedModel = "world:base"

// bakedQuestions are the families that the page's saved examples come from; the
// first is what a reader sees before anything runs, and the one of them that anybody
// can follow by counting along.
var bakedQuestions = []struct{ family, title string }{
	{"step", "How many coins are left"},
	{"kin", "Who is related to whom"},
	{"cups", "Which cup holds the ball"},
}

func bakeCommand() *command {
	var on deviceFlags
	out, model := "web/static/"+server.Baked, bakedModel
	return &command{
		name: "bake", group: groupAbout, short: "write the examples that the page shows before anything runs",
		args: "[--out F] [--model M]",
		long: `
Asks a built-in model held-out questions of the small world, eight chains each,
with several seeds, and keeps the group that shows most: rewards far apart, chains
that differ. What a reader would have been sent goes into the file, which the
next build embeds, with what each kept step of the built-in models' training
makes of the same chains, and what the model that was trained writes itself.`,
		examples: []string{"nrt bake", "nrt bake --model world:base --out examples.json"},
		bind: func(f *flags) func(*env) error {
			f.text(&out, "out", "F", "file to write; - is standard output")
			f.text(&model, "model", "M", "a built-in model")
			on.bind(f)
			return func(e *env) error { return e.bake(model, out, on) }
		},
	}
}

func (e *env) bake(model, out string, on deviceFlags) (err error) {
	b := e.builtin(model)
	if b == nil {
		return usagef("--model: no built-in model %q (there are %s)", model, e.builtinNames())
	}
	if out != "-" {
		if err := run.Writable(out); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	dev, err := e.compute(on)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	w := world.New(worldSeed)
	choice := view.DefaultChoice()
	var list []server.Wanted
	for _, q := range bakedQuestions {
		item := w.HeldOut(1, 7, q.family)[0]
		list = append(list, server.Wanted{
			Name: q.family, Title: q.title, Seeds: 20,
			Ask: wire.Ask{
				Head: wire.Head{ID: q.family}, Model: b.Name, Question: item.Question, Answer: item.Answer,
				K: choice.K, Temperature: 1, TopP: 1, Seed: 1, MaxChain: 24,
			},
		})
	}
	runs, err := savedRuns()
	if err != nil {
		return err
	}
	sources := []server.Source{b.source()}
	for _, x := range e.builtins {
		if x.Name != b.Name {
			sources = append(sources, x.source())
		}
	}
	baked, err := server.Bake(e.ctx, dev, w, sources, runs, list)
	if err != nil {
		return err
	}
	raw, err := view.WriteExamples(baked)
	if err != nil {
		return err
	}
	if out == "-" {
		_, err := e.out.Write(raw)
		return err
	}
	return run.WriteFile(out, raw)
}
