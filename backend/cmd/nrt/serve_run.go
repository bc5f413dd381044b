package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nrt/backend/server"
	"nrt/trainer/objective"
	"nrt/trainer/run"
	"nrt/web/wire"
)

// mostKept is how many of a run's models the page is shown, beside the one it started
// from.
const mostKept = wire.MaxReaders - 1

// shownRun is the run in an output folder for the page.
type shownRun struct {
	e      *env
	course *run.Course
	name   string
	start  []wire.Checkpoint // the model that it started from, if that is to be had
	kept   []int             // steps whose models the page was shown last
	looked bool              // small is known, as of the first kept model on
	small  bool              // all of a run have one vocabulary, here the small world's
}

// shownRuns are the runs in output folders for the page, and their models: those that
// runs have kept first, then those that they started from and that nobody else has.
func (e *env) shownRuns(dirs []string, now time.Time) (list []server.SavedRun, models []server.Source, err error) {
	fail := func(err error) ([]server.SavedRun, []server.Source, error) {
		return nil, nil, fmt.Errorf("--show-run: %w", err)
	}
	var runs []*shownRun
	for _, dir := range dirs {
		x, err := e.openShownRun(dir, now)
		if err != nil {
			return fail(err)
		}
		if slices.ContainsFunc(runs, func(y *shownRun) bool { return x.name == y.name }) {
			return nil, nil, usagef("--show-run: two folders are called %s", x.name)
		}
		r, err := x.saved()
		if err != nil {
			return fail(err)
		}
		runs, models = append(runs, x), append(models, r.Models...)
	}
	for i, x := range runs {
		from := x.course.Config.Model.Path
		if from == "" {
			continue
		}
		files, err := e.modelFiles(from)
		if err != nil {
			fmt.Fprintf(e.err, "--show-run %s: the model it started from is left out: %v\n", dirs[i], err)
			continue
		}
		name := from
		if e.builtin(from) == nil {
			var served bool
			if name, served = nameStart(x.name, shortName(from), files, models); !served {
				models = append(models, server.Source{Name: name, Files: files, World: e.kin(files) != nil})
			}
		}
		x.start = []wire.Checkpoint{{Model: name}}
	}
	for _, x := range runs {
		r, err := x.saved()
		if err != nil {
			return fail(err)
		}
		list = append(list, r)
	}
	return list, models, nil
}

// nameStart is what the model that a run started from is called beside others: as the
// one that lies in the same folder, which is served, or by a name that none of them has.
func nameStart(run, short string, files fs.FS, others []server.Source) (name string, served bool) {
	name = short
	for _, o := range others {
		if sameFolder(o.Files, files) {
			return o.Name, true
		}
		if o.Name == short {
			name = run + "/start"
		}
	}
	return name, false
}

func (e *env) openShownRun(dir string, now time.Time) (x *shownRun, err error) {
	x = &shownRun{e: e}
	if x.course, err = run.OpenCourse(dir, now); err != nil {
		return nil, err
	}
	if x.name, err = runName(dir); err != nil {
		return nil, err
	}
	return x, nil
}

// look is the run as it stands now.
func (x *shownRun) look(now time.Time) (server.SavedRun, error) {
	if err := x.course.Look(now); err != nil {
		return server.SavedRun{}, err
	}
	return x.saved()
}

// saved is the run as it was looked at: its curves, and its models, the last one first.
func (x *shownRun) saved() (server.SavedRun, error) {
	c := x.course
	r := server.SavedRun{Look: x.look, Metrics: c.Means, State: wire.State{
		Run: x.name, Method: string(c.Config.Objective.Method), Status: wire.StatusStopped, Step: c.Step, Of: c.Steps,
		Checkpoints: slices.Clone(x.start),
	}}
	switch {
	case c.Training:
		r.State.Status = wire.StatusRunning
	case c.Step >= c.Steps:
		r.State.Status = wire.StatusDone
	}
	if c.Config.Objective.Method == objective.NRT {
		r.State.Mode = c.Config.Objective.Reward.Mode.String()
	}
	kept := x.choose(c.Kept)
	for _, k := range kept {
		files, err := x.e.modelFiles(k.Path)
		if _, gone := os.Stat(k.Path); gone != nil {
			continue
		}
		if err != nil {
			return r, err
		}
		if !x.looked {
			x.looked, x.small = true, x.e.kin(files) != nil
		}
		model := x.name + "/" + filepath.Base(k.Path)
		r.Models = append(r.Models, server.Source{Name: model, Files: files, World: x.small, Made: k.Made})
		r.State.Checkpoints = append(r.State.Checkpoints, wire.Checkpoint{Step: k.Step, Model: model})
	}
	slices.Reverse(r.Models)
	for _, v := range c.Evals {
		// Answers compared word for word are no share of right ones.
		if right, ok := v["eval/accuracy"]; ok && c.Config.Data.AnswerRegex != "" {
			r.Evals = append(r.Evals, wire.Point{Step: int(v["step"]), Values: map[string]float64{wire.ValueAccuracy: right}})
		}
	}
	return r, nil
}

// choose is which of a run's models are shown: those that were and the ones after them,
// until they are too many.
func (x *shownRun) choose(list []run.Kept) []run.Kept {
	n := mostKept
	if last := len(x.kept) - 1; last >= 0 {
		known := slices.DeleteFunc(slices.Clone(list), func(k run.Kept) bool {
			return k.Step <= x.kept[last] && !slices.Contains(x.kept, k.Step)
		})
		if len(known) > n {
			n = n/2 + 1
		}
		if len(known) > 0 { // else it is another run
			list = known
		}
	}
	list = evenly(list, n)
	x.kept = nil
	for _, k := range list {
		x.kept = append(x.kept, k.Step)
	}
	return list
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
