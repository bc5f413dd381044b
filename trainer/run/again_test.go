package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

// A checkpoint goes on in its own folder or in a fresh one, never in another
// run's; what a run in a folder set aside is named, and kept.
func TestResumeElsewhere(t *testing.T) {
	dev := newCPU(t)
	a, b := tinyRun(t, objective.NRT), tinyRun(t, objective.NRT)
	b.Train.Seed = 7
	for _, c := range []Config{a, b} {
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	wantMetrics, wantWeights, _ := outcome(t, a)
	before, _, _ := outcome(t, b)
	mixed := a
	mixed.Output.Resume, mixed.Output.Dir = filepath.Join(a.Output.Dir, "checkpoint-4"), b.Output.Dir
	err := train(context.Background(), dev, mixed, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "two runs would mix: "+b.Output.Dir+" already holds a run (checkpoint-7)") {
		t.Fatalf("into another run: %v", err)
	}
	if after, _, _ := outcome(t, b); !reflect.DeepEqual(after, before) {
		t.Error("the other run's metrics have changed")
	}
	fresh := mixed
	fresh.Output.Dir = filepath.Join(t.TempDir(), "fresh")
	if err := train(context.Background(), dev, fresh, io.Discard); err != nil {
		t.Fatal(err)
	}
	metrics, weights, _ := outcome(t, fresh)
	if string(weights) != string(wantWeights) || len(metrics) == 0 || metrics[0]["step"] != 5 || !reflect.DeepEqual(metrics, wantMetrics[len(wantMetrics)-len(metrics):]) {
		t.Errorf("into a fresh folder: metrics %v", metrics)
	}
	back := mixed
	back.Output.Dir = a.Output.Dir
	for _, end := range []string{".aside", ".aside.2"} {
		var log strings.Builder
		if err := train(context.Background(), dev, back, &log); err != nil {
			t.Fatal(err)
		}
		aside := filepath.Join(a.Output.Dir, "checkpoint-6"+end)
		if !strings.Contains(log.String(), aside+", "+filepath.Join(a.Output.Dir, "checkpoint-7"+end)) {
			t.Errorf("no word of %s:\n%s", aside, log.String())
		}
		if _, err := OpenCheckpoint(t.Context(), aside); err != nil {
			t.Error(err)
		}
	}
}

// TestResumeFromParquet: a run that lines of JSON began goes on with the same examples in
// Parquet files, bit for bit, and not with others.
func TestResumeFromParquet(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.NRT)
	c.Model.Positions, c.Data.HeldOut = 256, 0
	c.Data.Train, c.Data.Eval = []string{"../data/testdata/questions.jsonl"}, []string{"../data/testdata/prompts.jsonl"}
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	metrics, weights, _ := outcome(t, c)
	c.Output.Resume, c.Output.Dir = filepath.Join(c.Output.Dir, "checkpoint-4"), filepath.Join(t.TempDir(), "out")
	other := c
	other.Data.Train = []string{"../data/testdata/messages.arrow.parquet"}
	if err := train(context.Background(), dev, other, io.Discard); err == nil || !strings.Contains(err.Error(), "resume with the same data files") {
		t.Errorf("with other examples: %v", err)
	}
	c.Data.Train, c.Data.Eval = []string{"../data/testdata/questions.arrow.parquet"}, []string{"../data/testdata/prompts.duckdb.parquet"}
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	have, now, _ := outcome(t, c)
	if string(now) != string(weights) || len(have) == 0 || !reflect.DeepEqual(have, metrics[len(metrics)-len(have):]) {
		t.Errorf("metrics %v\nof all lines %v", have, metrics)
	}
}

// Begun again in the folder of a run that left no checkpoint, a run keeps that
// one's logs; the folder of a finished run it leaves alone.
func TestBeginAgain(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.NRT)
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	want, weights, _ := outcome(t, c)
	for step := 1; step <= 7; step++ {
		if err := os.RemoveAll(filepath.Join(c.Output.Dir, fmt.Sprintf("checkpoint-%d", step))); err != nil {
			t.Fatal(err)
		}
	}
	for _, resume := range []string{"", "auto"} {
		over := c
		over.Output.Resume, over.Model.Path = resume, filepath.Join(t.TempDir(), "none") // which is not looked for
		if err := train(context.Background(), dev, over, io.Discard); err == nil || !strings.Contains(err.Error(), "already holds a run (final): choose another --output") {
			t.Errorf("a finished run's folder: %v", err)
		}
	}
	first, err := os.ReadFile(filepath.Join(c.Output.Dir, "metrics.jsonl"))
	if err == nil {
		err = os.RemoveAll(filepath.Join(c.Output.Dir, "final"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if c, err = parse(t, "--output", c.Output.Dir, "--resume=auto"); err != nil { // there is none
		t.Fatal(err)
	}
	var log strings.Builder
	if err := train(context.Background(), dev, c, &log); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(c.Output.Dir, "metrics.jsonl.aside")
	if kept, err := os.ReadFile(aside); err != nil || string(kept) != string(first) || !strings.Contains(log.String(), aside) {
		t.Errorf("the first run's metrics: %v\n%s", err, log.String())
	}
	if again, w, _ := outcome(t, c); !reflect.DeepEqual(again, want) || string(w) != string(weights) {
		t.Error("begun again, the run is another")
	}
	log.Reset()
	if err := train(context.Background(), dev, c, &log); err != nil || !strings.Contains(log.String(), "going on from "+filepath.Join(c.Output.Dir, "checkpoint-7")) {
		t.Errorf("auto, with checkpoints: %v\n%s", err, log.String())
	}
}

// A run with a constant rate goes on to more steps as if it had had them from the
// start; where it would not, the error says so and how.
func TestLongerRun(t *testing.T) {
	dev := newCPU(t)
	whole := tinyRun(t, objective.NRT)
	whole.Optim.Schedule, whole.Optim.Warmup, whole.Train.Steps, whole.Eval.Every = "constant", 3, 8, 2
	if err := train(context.Background(), dev, whole, io.Discard); err != nil {
		t.Fatal(err)
	}
	wantMetrics, wantWeights, wantCompletions := outcome(t, whole)
	c := whole
	c.Output.Dir, c.Train.Steps = filepath.Join(t.TempDir(), "out"), 4
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	c.Output.Resume, c.Train.Steps = "latest", 8
	var log strings.Builder
	if err := train(context.Background(), dev, c, &log); err != nil || !strings.Contains(log.String(), "the run had 4 steps and has 8 now") {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if metrics, weights, completions := outcome(t, c); !reflect.DeepEqual(metrics, wantMetrics) || string(weights) != string(wantWeights) || string(completions) != string(wantCompletions) {
		t.Error("the longer run is not the one of that length")
	}
	c.Train.Steps = 3
	if err := train(context.Background(), dev, c, io.Discard); err == nil || !strings.Contains(err.Error(), "train.steps (--steps): want at least the 8") {
		t.Errorf("shorter than done: %v", err)
	}

	share := whole
	share.Output.Dir, share.Optim.Warmup, share.Train.Steps = filepath.Join(t.TempDir(), "share"), 0.5, 4
	if err := train(context.Background(), dev, share, io.Discard); err != nil {
		t.Fatal(err)
	}
	share.Output.Resume, share.Train.Steps = "latest", 12
	var wrong *ConfigError
	if err := train(context.Background(), dev, share, io.Discard); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "optim.warmup (--warmup): the share 0.5 is 4 updates of a run of 4 steps, and 12 of 12") {
		t.Errorf("within the new warm-up: %v", err)
	}
	share.Train.Steps = 8
	log.Reset()
	if err := train(context.Background(), dev, share, &log); err != nil || !strings.Contains(log.String(), "its warm-up was of 4 updates; that of a run of 8 steps from the start would have been of 8") {
		t.Errorf("after it: %v\n%s", err, log.String())
	}

	cosine := tinyRun(t, objective.NRT)
	if err := train(context.Background(), dev, cosine, io.Discard); err != nil {
		t.Fatal(err)
	}
	cosine.Output.Resume, cosine.Train.Steps = "latest", 9
	if err := train(context.Background(), dev, cosine, io.Discard); err == nil || !strings.Contains(err.Error(), "train.steps (--steps): 9, was 7 (a run of another length would have had other learning rates") {
		t.Errorf("cosine: %v", err)
	}
}

// TestStoppedTwice: an evaluation that was stopped is made once when the run goes on, and
// not again by a later resume.
func TestStoppedTwice(t *testing.T) {
	dev := newCPU(t)
	whole := tinyRun(t, objective.SFT) // evaluates after step 3
	check(t, train(t.Context(), dev, whole, io.Discard))
	want, weights, _ := outcome(t, whole)
	c := whole
	c.Output.Dir = filepath.Join(t.TempDir(), "out")
	c = stopped(t, stopped(t, c, "step 3/"), "step 5/")
	check(t, train(t.Context(), dev, c, io.Discard))
	if have, w, _ := outcome(t, c); !reflect.DeepEqual(have, want) || string(w) != string(weights) {
		t.Errorf("have %v\nwant %v", have, want)
	}
}

// The best evaluation's checkpoint is kept, wherever between saves it falls, and
// a run stopped and resumed keeps the same ones.
func TestBestIsKept(t *testing.T) {
	dev := newCPU(t)
	whole := tinyRun(t, objective.SFT)
	whole.Train.Steps, whole.Eval.Every, whole.Output.SaveEvery, whole.Output.Keep = 12, 3, 5, 1
	whole.Optim.LR, whole.Optim.Schedule, whole.Optim.Warmup = 1, "constant", 11 // worse as soon as it is warm
	if err := train(context.Background(), dev, whole, io.Discard); err != nil {
		t.Fatal(err)
	}
	kept := func(c Config) (at []int, best Best) {
		all, err := OpenCheckpoints(c.Output.Dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		k, err := all.Latest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return steps(t, all), *k.State.Best
	}
	at, best := kept(whole)
	values := evals(t, whole, "eval/reference_logprob")
	for step, v := range values {
		if v > best.Value {
			t.Errorf("the best is %+v, but step %d has %g", best, step, v)
		}
	}
	if best.Step%3 != 0 || best.Step == 0 || best.Step == 12 || !slices.Equal(at, []int{best.Step, 12}) {
		t.Errorf("kept %v, the best is %+v of %v", at, best, values)
	}
	for _, stop := range []string{"step 4/", "step 6/", "step 8/"} {
		c := whole
		c.Output.Dir = filepath.Join(t.TempDir(), "out")
		c = stopped(t, c, stop)
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		if have, b := kept(c); !slices.Equal(have, at) || b != best {
			t.Errorf("stopped at %s: kept %v, best %+v", stop, have, b)
		}
	}
}

// TestKeepFewer: a run that goes on keeps no more checkpoints than it is told to by then.
func TestKeepFewer(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.SFT)
	c.Data.HeldOut, c.Train.Steps, c.Output.SaveEvery, c.Output.Keep = 0, 3, 1, 0
	check(t, train(t.Context(), dev, c, io.Discard))
	c.Output.Resume, c.Output.Keep = "latest", 2
	check(t, train(t.Context(), dev, c, io.Discard))
	if have := steps(t, &Checkpoints{dir: c.Output.Dir}); !slices.Equal(have, []int{2, 3}) {
		t.Errorf("kept %v", have)
	}
}

// TestOtherExam: evaluations that ask other questions do not compare with those before,
// and a run that goes on with the same ones compares on.
func TestOtherExam(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.SFT)
	c.Train.Steps, c.Eval.Every, c.Output.SaveEvery, c.Output.Keep = 4, 2, 2, 1
	c.Optim.LR, c.Optim.Schedule, c.Optim.Warmup = 1, "constant", 12 // worse and worse
	check(t, train(t.Context(), dev, c, io.Discard))
	state := func() State {
		last, err := LastCheckpoint(c.Output.Dir)
		check(t, err)
		s, err := readState(last)
		check(t, err)
		return s
	}
	c.Output.Resume = "latest"
	for _, k := range []struct{ steps, questions, from int }{{6, 256, 0}, {8, 2, 7}, {10, 2, 7}} {
		var log strings.Builder
		c.Train.Steps, c.Eval.N = k.steps, k.questions
		check(t, train(t.Context(), dev, c, &log))
		s, best := state(), Best{}
		for step, v := range evals(t, c, "eval/reference_logprob") {
			if step >= k.from && (best.Metric == "" || v > best.Value) {
				best = Best{step, "eval/reference_logprob", v}
			}
		}
		if s.Exam == nil || s.Exam.From != k.from || s.Best == nil || *s.Best != best {
			t.Errorf("%+v: exam %+v, the best is %+v, want %+v", k, s.Exam, s.Best, best)
		}
		if told := strings.Contains(log.String(), "evaluations ask other questions than before: the best of those, after step "); told != (k.steps == 8) {
			t.Errorf("%+v: told: %v\n%s", k, told, log.String())
		}
		if since := strings.Contains(log.String(), fmt.Sprintf("a token, step %d → %d", k.from+k.from%2, k.steps)); since != (k.steps != 8) {
			t.Errorf("%+v:\n%s", k, log.String())
		}
	}
	for stopped, from := range map[bool]int{false: 6, true: 5} { // in the evaluation after step 5, which is made now
		x := trainer{exam: []Question{{Prompt: []int32{1}}}, state: State{Step: 5, Unevaluated: stopped, Exam: &Exam{}}}
		if x.compareExam(); x.state.Exam.From != from {
			t.Errorf("stopped %v: from %d", stopped, x.state.Exam.From)
		}
	}
}
