package main

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"nrt/backend/server"
	"nrt/trainer/objective"
	"nrt/trainer/run"
	"nrt/web/wire"
)

// What the page is shown of a run: so many of its models, and so many points of its
// curves, each the mean of the steps since the one before.
const (
	mostKept   = wire.MaxReaders - 1 // beside the one it started from
	mostPoints = 1000
)

// shownRun is the run in an output folder for the page: its curves, and its models,
// the last one first. The model that it started from is left out, with a note, where
// it is not to be had any more.
func (e *env) shownRun(dir string) (r server.SavedRun, list []server.Source, err error) {
	c, err := run.ReadCourse(dir)
	if err != nil {
		return r, nil, fmt.Errorf("--show-run: %w", err)
	}
	name, err := runName(dir)
	if err != nil {
		return r, nil, fmt.Errorf("--show-run: %w", err)
	}
	r.State = wire.State{
		Run: name, Method: string(c.Config.Objective.Method),
		Status: wire.StatusDone, Step: c.Step, Of: c.Steps, Data: "as it stood when the server started",
	}
	if c.Config.Objective.Method == objective.NRT {
		r.State.Mode = c.Config.Objective.Reward.Mode.String()
	}
	keep := func(step int, model string) {
		r.State.Checkpoints = append(r.State.Checkpoints, wire.Checkpoint{Step: step, Model: model})
	}
	if start := c.Config.Model.Path; start != "" {
		if files, err := e.modelFiles(start); err != nil {
			fmt.Fprintf(e.err, "--show-run %s: the model it started from is left out: %v\n", dir, err)
		} else if e.builtin(start) != nil {
			keep(0, start)
		} else {
			list = append(list, server.Source{Name: shortName(start), Files: files})
			keep(0, shortName(start))
		}
	}
	for _, k := range evenly(c.Kept, mostKept) {
		files, err := e.modelFiles(k.Path)
		if err != nil {
			return r, nil, fmt.Errorf("--show-run: %w", err)
		}
		model := name + "/" + filepath.Base(k.Path)
		list = append(list, server.Source{Name: model, Files: files})
		keep(k.Step, model)
	}
	slices.Reverse(list)
	small := e.kin(list[0].Files) != nil // all of a run have one vocabulary
	for i := range list {
		list[i].World = small
	}
	for _, v := range c.Metrics {
		// Answers compared word for word are no share of right ones.
		if right, ok := v["eval/accuracy"]; ok && c.Config.Data.AnswerRegex != "" {
			r.Evals = append(r.Evals, wire.Point{Step: int(v["step"]), Values: map[string]float64{wire.ValueAccuracy: right}})
		}
	}
	r.Evals = evenly(r.Evals, mostPoints)
	r.Metrics = means(slices.DeleteFunc(c.Metrics, func(v run.Values) bool {
		_, trained := v["loss"]
		return !trained
	}), mostPoints)
	return r, list, nil
}

// runName is a folder's name with the one that it lies in, so that it is not that of
// a run which a reader starts.
func runName(dir string) (string, error) {
	path, err := filepath.Abs(dir) // "." has a name too
	if err != nil {
		return "", err
	}
	name := filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
	const most = 60 // bytes; wire.State has room for 64
	if cut := len(name) - most; cut > 0 {
		name = "…" + strings.ToValidUTF8(name[cut:], "")
	}
	return name, nil
}

// evenly is n of a list, or all of a shorter one: its first, its last, and others at
// even distances between them.
func evenly[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	out := make([]T, n)
	for i := range out {
		out[i] = list[i*(len(list)-1)/(n-1)]
	}
	return out
}

// means are at most n lines of metrics, each the means of as many that follow one
// another; its step is the last one's.
func means(lines []run.Values, n int) []run.Values {
	each := max(1, (len(lines)+n-1)/n)
	var out []run.Values
	for part := range slices.Chunk(lines, each) {
		mean, of := run.Values{}, map[string]int{}
		for _, v := range part {
			for name, x := range v {
				if !math.IsNaN(x) {
					mean[name] += x
					of[name]++
				}
			}
		}
		for name, n := range of {
			mean[name] /= float64(n)
		}
		mean["step"] = part[len(part)-1]["step"]
		out = append(out, mean)
	}
	return out
}
