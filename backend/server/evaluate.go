package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/data"
	"nrt/trainer/eval"
	"nrt/trainer/recipe"
	"nrt/trainer/run"
	"nrt/trainer/world"
	"nrt/web/wire"
)

// judge measures a run's kept steps on its held-out questions, beside the
// training, oldest first. What it has measured is in evals.jsonl, so that a run
// that goes on is measured where it was not yet.
type judge struct {
	of     *training
	source *model
	items  []world.Item // of the small world
	held   []data.Example
	bytes  int64 // of the model that it reads beside the one that learns
	wake   chan struct{}
	ending chan struct{}
}

func (t *training) newJudge(source *model) (*judge, error) {
	j := &judge{of: t, source: source, wake: make(chan struct{}, 1), ending: make(chan struct{})}
	f, err := os.Open(t.file("held.jsonl"))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		if t.info.World {
			j.items, err = world.ReadItems(f, "held.jsonl")
		} else {
			j.held, _, err = data.ReadFrom(f, "held.jsonl", data.Options{})
		}
	}
	if c, err := llama.ReadConfig(source.Files); err == nil && len(j.items)+len(j.held) > 0 {
		for _, t := range c.Tensors() {
			j.bytes += 4 * int64(t.Len())
		}
	}
	j.look()
	return j, errors.Join(err, f.Close())
}

// look says that there may be something to measure.
func (j *judge) look() { ring(j.wake) }

// last says that no further steps will be kept.
func (j *judge) last() { close(j.ending) }

// run measures until all is measured after last, or ctx ends.
func (j *judge) run(ctx context.Context) error {
	if len(j.items)+len(j.held) == 0 {
		return nil
	}
	for {
		step, files, found := j.next()
		if !found {
			select {
			case <-j.wake:
				continue
			case <-j.ending:
				if _, _, found := j.next(); found {
					continue
				}
				return ctx.Err()
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		p, err := j.measure(ctx, step, files)
		if err != nil {
			return err
		}
		if err := j.of.addEval(p); err != nil {
			return err
		}
	}
}

// next is the first step without a measurement.
func (j *judge) next() (step int, files fs.FS, found bool) {
	t := j.of
	t.mu.Lock()
	defer t.mu.Unlock()
	measured := func(step int) bool {
		return slices.ContainsFunc(t.evals, func(p wire.Point) bool { return p.Step == step })
	}
	if !measured(0) {
		return 0, j.source.Files, true
	}
	for _, s := range t.steps {
		if !measured(s) {
			return s, os.DirFS(filepath.Join(t.out(), "checkpoint-"+strconv.Itoa(s))), true
		}
	}
	return 0, nil, false
}

// measure asks the held-out questions, greedily.
func (j *judge) measure(ctx context.Context, step int, files fs.FS) (wire.Point, error) {
	m, err := llama.Load(j.of.runs.server.o.Train.Device, files, func(int64, int64) error { return ctx.Err() })
	if err != nil {
		return wire.Point{}, err
	}
	defer m.Free()
	tok, form, err := j.source.vocab.open()
	if err != nil {
		return wire.Point{}, err
	}
	e := engine.New(m, tok, engine.Options{CacheBytes: 64 << 20})
	defer e.Close()
	noChain := j.of.info.Method == "sft"
	var r eval.Report
	if j.of.info.World {
		r, err = recipe.Evaluate(ctx, e, j.of.runs.server.o.World, form, j.items, recipe.EvalOptions{Seed: 1, NoChain: noChain})
	} else {
		r, err = eval.Run(ctx, e, j.exam(form), eval.Options{
			MaxChain: j.of.info.MaxChain, MaxAnswer: j.longest(form), Close: form.Close, StopText: form.StopText, End: form.End,
			Seed: 1, NoChain: noChain,
		})
	}
	if err != nil {
		return wire.Point{}, err
	}
	return wire.Point{Step: step, Values: map[string]float64{
		wire.ValueAccuracy: r.Accuracy, wire.ValueLow: r.Low, wire.ValueHigh: r.High,
	}}, nil
}

// exam is uploaded questions; an answer is right if it is the reference's text.
func (j *judge) exam(form *token.Format) []eval.Item {
	items := make([]eval.Item, len(j.held))
	for i, x := range j.held {
		items[i] = eval.Item{
			Prompt: form.Prompt(x.Question), Reference: form.Answer(x.Answer),
			Grade: func(answer []int32) bool { return form.Says(answer, x.Answer) },
		}
	}
	return items
}

// longest is the longest reference's tokens, which an answer may have too.
func (j *judge) longest(form *token.Format) int {
	n := 1
	for _, x := range j.held {
		n = max(n, len(form.Answer(x.Answer)))
	}
	return n
}

// addEval sends a measurement to those who watch and stores it. Only the run's judge
// calls it.
func (t *training) addEval(p wire.Point) error {
	t.mu.Lock()
	t.evals = append(t.evals, p)
	slices.SortFunc(t.evals, func(a, b wire.Point) int { return a.Step - b.Step })
	evals := slices.Clone(t.evals)
	t.runs.server.toWatchers(t.name(), func() wire.Message {
		return &wire.Eval{Run: t.name(), Points: []wire.Point{p}}
	})
	t.mu.Unlock() // a reader who comes in does not wait for the disk
	return writeLines(t.file("evals.jsonl"), evals)
}

// readPoints reads evals.jsonl; there may be none yet.
func readPoints(path string) (list []wire.Point, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for in := json.NewDecoder(bytes.NewReader(raw)); ; {
		var p wire.Point
		switch err := in.Decode(&p); {
		case err == io.EOF:
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		list = append(list, p)
	}
}

// writeExamples writes uploaded questions as JSON lines.
func writeExamples(path string, list []data.Example) error {
	type line struct {
		Question string `json:"question"`
		Answer   string `json:"answer"`
	}
	lines := make([]line, len(list))
	for i, x := range list {
		lines[i] = line{x.Question, x.Answer}
	}
	return writeLines(path, lines)
}

// writeLines writes a file of JSON lines so that it is whole or absent.
func writeLines[T any](path string, list []T) error {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	for _, x := range list {
		if err := out.Encode(x); err != nil {
			return err
		}
	}
	return run.WriteFile(path, b.Bytes())
}
