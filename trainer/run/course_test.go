package run

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"nrt/trainer/objective"
)

// keepStep makes what a course reads of a checkpoint.
func keepStep(t *testing.T, dir string, step, of int) {
	t.Helper()
	path := (&Checkpoints{dir: dir}).Path(step)
	check(t, os.MkdirAll(path, 0o777), writeJSON(osDisk{}, filepath.Join(path, stateFile), State{Format: stateFormat, Step: step, MaxSteps: of, Config: Default(objective.NRT)}))
}

// same compares a course that was followed with all lines of the file, of which there are
// few enough for a point each.
func (c *Course) same(t *testing.T) {
	t.Helper()
	lines, err := ReadMetrics(c.dir)
	check(t, err)
	var means, evals []Values
	last := 0
	for _, v := range lines {
		if last = int(v["step"]); v["loss"] != 0 {
			means = append(means, v)
		} else {
			evals = append(evals, v)
		}
	}
	if len(c.Means) != len(means) || len(c.Evals) != len(evals) {
		t.Fatalf("%d means and %d evaluations of %d and %d", len(c.Means), len(c.Evals), len(means), len(evals))
	}
	for i := range means {
		if !reflect.DeepEqual(c.Means[i], means[i]) {
			t.Fatalf("point %d: have %v, want %v", i, c.Means[i], means[i])
		}
	}
	for i := range evals {
		if !reflect.DeepEqual(c.Evals[i], evals[i]) {
			t.Fatalf("evaluation %d: have %v, want %v", i, c.Evals[i], evals[i])
		}
	}
	if last > 1 && c.Step != last {
		t.Fatalf("at step %d, want %d", c.Step, last)
	}
}

// TestCourseFollows: whatever happens to the log between two looks (lines come, whole or
// in halves; a run that goes on after a crash cuts it back; another run takes its place),
// the course has the points that the file has, none missing, none twice.
func TestCourseFollows(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r, dir, now := rand.New(rand.NewPCG(seed, 1)), t.TempDir(), time.Now()
			keepStep(t, dir, 1, 1000)
			m := openMetrics(t, dir, -1)
			defer func() { check(t, m.Close()) }()
			c, err := OpenCourse(dir, now)
			check(t, err)
			half, step := "", 0
			for range 60 {
				switch what := r.IntN(10); {
				case what < 4 && half == "":
					for range r.IntN(5) {
						step++
						check(t, m.Log(step, Values{"loss": 1 + r.Float64(), "step_time": r.Float64()}))
						if r.IntN(3) == 0 {
							check(t, m.Log(step, Values{"eval/accuracy": float64(r.IntN(3))}))
						}
					}
				case what < 6 && half == "":
					step++
					line := fmt.Sprintf(`{"step": %d, "loss": %v}`+"\n", step, 1+r.Float64())
					at := 1 + r.IntN(len(line)-1)
					check(t, m.write([]byte(line[:at])))
					half = line[at:]
				case what < 7 && half != "":
					check(t, m.write([]byte(half)))
					half = ""
				case what == 8: // what is half is gone, as the process that wrote it
					check(t, m.Close())
					step, half = r.IntN(step+1), ""
					m = openMetrics(t, dir, step)
				case what == 9 && r.IntN(4) == 0:
					check(t, m.Close())
					step, half = 0, ""
					m = openMetrics(t, dir, -1)
				}
				if r.IntN(2) == 0 {
					check(t, c.Look(now))
					c.same(t)
				}
			}
		})
	}
}

// TestCourseReadsWhatCame: what has been read is not read again, and a line that is none
// is named until it is mended.
func TestCourseReadsWhatCame(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	keepStep(t, dir, 1, 10)
	m := openMetrics(t, dir, -1)
	check(t, m.Log(1, Values{"loss": 1}), m.Log(2, Values{"loss": 2}), m.Close())
	c, err := OpenCourse(dir, now)
	check(t, err)
	path := filepath.Join(dir, "metrics.jsonl")
	raw, err := os.ReadFile(path)
	check(t, err)
	copy(raw, "no JSON")
	check(t, os.WriteFile(path, append(raw, "{\"step\": 3, \"loss\": 3}\nnull}\n{\"step\": 4, \"loss\": 4}\n"...), 0o666))
	for range 2 {
		if err := c.Look(now); err == nil || !strings.Contains(err.Error(), "metrics.jsonl:4: ") {
			t.Fatalf("a line that is none: %v", err)
		}
	}
	check(t, os.WriteFile(path, append(raw, "{\"step\": 3, \"loss\": 3}\n{\"step\": 4, \"loss\": 4}\n"...), 0o666), c.Look(now))
	if n := len(c.Means); n != 4 || c.Means[3]["loss"] != 4 || c.Step != 4 {
		t.Errorf("have %v at step %d", c.Means, c.Step)
	}
	check(t, os.Remove(path))
	if err := c.Look(now); err == nil || !strings.Contains(err.Error(), "--output") {
		t.Errorf("without a log: %v", err)
	}
}

// TestCourseStands: a run trains while its folder is locked, or its log was written to
// in the last minute. Its final model counts when it is over.
func TestCourseStands(t *testing.T) {
	dir := t.TempDir()
	m := openMetrics(t, dir, -1)
	check(t, m.Log(1, Values{"loss": 1}), m.Close())
	info, err := os.Stat(filepath.Join(dir, "metrics.jsonl"))
	check(t, err)
	soon, late := info.ModTime().Add(50*time.Second), info.ModTime().Add(70*time.Second)
	for folder, want := range map[string]string{dir: "holds no run", filepath.Join(dir, "none"): "no"} {
		if _, err := OpenCourse(folder, soon); err == nil || !strings.HasPrefix(err.Error(), folder) || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), wantRun) {
			t.Errorf("%s: %v", folder, err)
		}
	}
	keepStep(t, dir, 1, 2)
	c, err := OpenCourse(dir, soon)
	check(t, err)
	stands := func(what string, now time.Time, training bool, kept ...string) {
		t.Helper()
		check(t, c.Look(now))
		var have []string
		for _, k := range c.Kept {
			have = append(have, filepath.Base(k.Path))
		}
		if c.Training != training || !reflect.DeepEqual(have, kept) {
			t.Errorf("%s: training %v with %v", what, c.Training, have)
		}
	}
	stands("just written", soon, true, "checkpoint-1")
	stands("no longer", late, false, "checkpoint-1")
	unlock, err := Lock(filepath.Join(dir, ".lock"))
	check(t, err)
	stands("locked", late, true, "checkpoint-1")
	keepStep(t, dir, 2, 2)
	check(t, os.Mkdir(filepath.Join(dir, "final"), 0o777), os.WriteFile(filepath.Join(dir, "final", "tokenizer.json"), nil, 0o666))
	check(t, os.RemoveAll(filepath.Join(dir, "checkpoint-1")))
	stands("the final model is being written", soon, true, "checkpoint-2")
	check(t, unlock())
	stands("over", soon, false, "final")
	keepStep(t, dir, 2, 3)
	stands("let go of", soon, false, "checkpoint-2")
	check(t, os.RemoveAll(filepath.Join(dir, "checkpoint-2")), (&trainer{c: Config{Output: OutputConfig{Dir: dir}}, total: 2}).begin())
	stands("its checkpoints are removed", soon, false, "final")
	if c.Step != 2 || c.Steps != 2 {
		t.Errorf("at step %d of %d", c.Step, c.Steps)
	}
}

// TestCourseBegins: a run is known from its start on, before its log and its first
// checkpoint; one that goes on to another length has that length at once.
func TestCourseBegins(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	starts := func(steps int) {
		t.Helper()
		c := Default(objective.NRT)
		c.Output.Dir = dir
		check(t, (&trainer{c: c, total: steps}).begin())
	}
	starts(10)
	c, err := OpenCourse(dir, now)
	check(t, err)
	stands := func(what string, step, of, means, kept int) {
		t.Helper()
		check(t, c.Look(now))
		if c.Step != step || c.Steps != of || len(c.Means) != means || len(c.Kept) != kept || c.Config.Objective.Method != objective.NRT {
			t.Errorf("%s: step %d of %d, %d means, %d models", what, c.Step, c.Steps, len(c.Means), len(c.Kept))
		}
	}
	stands("before its log", 0, 10, 0, 0)
	m := openMetrics(t, dir, -1)
	stands("before its first step", 0, 10, 0, 0)
	check(t, m.Log(1, Values{"loss": 1}), m.Log(2, Values{"loss": 2}))
	stands("before its first checkpoint", 2, 10, 2, 0)
	keepStep(t, dir, 2, 10)
	stands("with one", 2, 10, 2, 1)
	check(t, m.Close())
	starts(20)
	stands("made longer", 2, 20, 2, 1)
	check(t, os.RemoveAll(filepath.Join(dir, "checkpoint-2")), os.Remove(filepath.Join(dir, "metrics.jsonl")))
	starts(5)
	stands("another one begins", 0, 5, 0, 0)
}

// TestLockedDoesNotDisturb: who looks at a lock keeps nobody from taking it.
func TestLockedDoesNotDisturb(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	if Locked(path) {
		t.Error("a lock that is not there is held")
	}
	unlock, err := Lock(path)
	check(t, err)
	check(t, unlock())
	f, err := os.Open(path) // as Locked does, in this very moment
	check(t, err)
	check(t, lock(f, false))
	time.AfterFunc(5*time.Millisecond, func() { f.Close() })
	unlock, err = Lock(path)
	check(t, err)
	if !Locked(path) {
		t.Error("a lock that is held is not")
	}
	check(t, unlock())
}

// TestCurve: every point is the mean of the lines since the one before, to the last line,
// and there are never too many.
func TestCurve(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 2))
		var c curve
		var lines []Values
		for n := 1 + r.IntN(8*mostPoints); len(lines) < n; {
			v := Values{"step": float64(3 * len(lines)), "loss": r.Float64()}
			if r.IntN(3) > 0 {
				v["entropy"] = r.Float64()
			} else {
				v["entropy"] = math.NaN()
			}
			lines = append(lines, v)
			c.add(v)
			if r.IntN(500) == 0 {
				c.close()
			}
			if len(c.values) > mostPoints {
				t.Fatalf("seed %d: %d points", seed, len(c.values))
			}
		}
		c.close()
		at := 0
		for _, p := range c.values {
			for _, name := range []string{"loss", "entropy"} {
				sum, of := 0.0, 0.0
				for _, v := range lines[at:] {
					if v["step"] > p["step"] {
						break
					}
					if !math.IsNaN(v[name]) {
						sum, of = sum+v[name], of+1
					}
				}
				have, known := p[name]
				if known != (of > 0) || known && math.Abs(have-sum/of) > 1e-9 {
					t.Fatalf("seed %d: to step %v %s is %v, want %v", seed, p["step"], name, have, sum/of)
				}
			}
			for at < len(lines) && lines[at]["step"] <= p["step"] {
				at++
			}
		}
		if at != len(lines) || len(lines) >= mostPoints && len(c.values) < mostPoints/2 {
			t.Errorf("seed %d: %d points of %d of %d lines", seed, len(c.values), at, len(lines))
		}
	}
}
