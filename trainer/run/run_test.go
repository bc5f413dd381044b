package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/token"
	"nrt/trainer/objective"
)

// tinyRun is a run on a handful of sums, of a new model of a few thousand
// parameters.
func tinyRun(t *testing.T, method objective.Method) Config {
	t.Helper()
	var b strings.Builder
	for i := range 24 {
		fmt.Fprintf(&b, "{\"question\": \"what is %d plus %d ?\", \"answer\": \"it is %d\"}\n", i%5, i%7, i%5+i%7)
	}
	file := filepath.Join(t.TempDir(), "sums.jsonl")
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Default(method)
	c.Data.Train, c.Data.HeldOut = []string{file}, 0.2
	c.Model.Hidden, c.Model.Layers, c.Model.Heads, c.Model.Positions, c.Model.Vocab = 16, 1, 2, 96, 280
	c.Rollout.Questions, c.Rollout.MaxChain, c.Optim.MiniBatch = 4, 6, 2
	if method == objective.SFT || method == objective.LM {
		c.Rollout.K = 1
	} else {
		c.Rollout.K = 3
	}
	c.Optim.LR, c.Train.Steps, c.Output.SaveEvery, c.Output.Keep, c.Eval.Every = 1e-3, 7, 2, 0, 3
	c.Output.Dir = filepath.Join(t.TempDir(), "out")
	return c
}

func newCPU(t *testing.T) device.Device {
	t.Helper()
	return newCPUIn(t, cpu.Float32)
}

func newCPUIn(t *testing.T, kind cpu.Type) device.Device {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Type: kind})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dev.Close(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

func train(ctx context.Context, dev device.Device, c Config, log io.Writer) error {
	return Train(ctx, c, Env{
		Device: dev, Log: log, Terminal: true, Now: time.Now,
		Open: func(name string) (fs.FS, error) {
			_, err := os.Stat(name)
			return os.DirFS(name), err
		},
	})
}

// outcome is all that a run leaves behind but for times.
func outcome(t *testing.T, c Config) ([]Values, []byte, []byte) {
	t.Helper()
	metrics, err := ReadMetrics(c.Output.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics {
		delete(m, "step_time")
	}
	weights, err := os.ReadFile(filepath.Join(c.Output.Dir, "final", "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	completions, err := os.ReadFile(filepath.Join(c.Output.Dir, "completions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return metrics, weights, completions
}

// TestEveryMethodRuns trains a few steps with each method, and checks that the
// weights moved and the metrics are there.
func TestEveryMethodRuns(t *testing.T) {
	dev := newCPU(t)
	for _, m := range objective.Methods() {
		t.Run(string(m), func(t *testing.T) {
			c := tinyRun(t, m)
			c.Train.Steps = 3
			if m == objective.NRT {
				c.Objective.KL, c.Objective.Entropy, c.Optim.Iterations, c.Rollout.TopP = 0.01, 0.001, 2, 0.95
			}
			var log bytes.Buffer
			if err := train(context.Background(), dev, c, &log); err != nil {
				t.Fatal(err)
			}
			work := map[objective.Method]string{objective.SFT: "3 steps of 4 questions\n", objective.LM: "3 steps of 4 documents or windows\n"}
			if want := cmp.Or(work[m], "3 steps of 4 questions × 3 chains of up to 6 tokens\n"); !strings.Contains(log.String(), want) {
				t.Errorf("it does not say %q before the first step:\n%s", want, log.String())
			}
			metrics, _, _ := outcome(t, c)
			steps := 0
			for _, v := range metrics {
				if _, ok := v["loss"]; !ok {
					continue
				}
				steps++
				for _, name := range []string{"grad_norm", "learning_rate", "num_tokens", "epoch"} {
					if _, ok := v[name]; !ok {
						t.Errorf("step %g: no %s", v["step"], name)
					}
				}
				if d, ok := v["sampling/sampling_logp_difference/max"]; ok && d > 1e-3 {
					t.Errorf("step %g: sampler and trainer differ by %g", v["step"], d)
				}
			}
			if steps != 3 {
				t.Errorf("%d steps logged, want 3", steps)
			}
		})
	}
}

// TestResumeIsNeverStopped: stopped at any step, by cancelling, and resumed, a
// run ends with the same metrics, completions and weights, bit for bit.
func TestResumeIsNeverStopped(t *testing.T) {
	for _, test := range []struct {
		method  objective.Method
		moments int
		filter  float64
		lora    int
		kind    cpu.Type
	}{{method: objective.NRT}, {method: objective.SFT}, {method: objective.RLPR}, {method: objective.RLPR, filter: 1.1}, {method: objective.NRT, moments: 8},
		{method: objective.NRT, lora: 3}, {method: objective.SFT, moments: 8, lora: 4}, {method: objective.NRT, kind: cpu.BFloat16}} {
		t.Run(fmt.Sprintf("%s %d %g %d %d", test.method, test.moments, test.filter, test.lora, test.kind), func(t *testing.T) {
			dev := newCPUIn(t, test.kind)
			whole := tinyRun(t, test.method)
			if whole.LoRA.Rank = test.lora; test.lora > 0 {
				whole.Model.Path = tinyBase(t, 1)
				if test.method == objective.NRT {
					whole.Objective.KL = 0.1
				}
			}
			whole.Optim.Moments = cmp.Or(test.moments, 32)
			if test.filter > 0 { // some steps make fewer updates
				whole.Objective.FilterBeta, whole.Objective.FilterFrom, whole.Optim.MiniBatch = test.filter, 2, 1
			}
			if err := train(context.Background(), dev, whole, io.Discard); err != nil {
				t.Fatal(err)
			}
			wantMetrics, wantWeights, wantCompletions := outcome(t, whole)
			if test.filter > 0 && !slices.ContainsFunc(wantMetrics, func(v Values) bool { return v["nrt/filtered_groups"] > 0 }) {
				t.Error("no question was filtered")
			}
			for stop := 1; stop < whole.Train.Steps; stop += 2 {
				c := whole
				c.Output.Dir = filepath.Join(t.TempDir(), "out")
				ctx, cancel := context.WithCancel(context.Background())
				log := &stopper{cancel: cancel, at: fmt.Sprintf("step %d/", stop)}
				err := train(ctx, dev, c, log)
				cancel()
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("stopped at step %d: error %v\n%s", stop, err, log.text.String())
				}
				// Whether in the next step or in an evaluation: nothing is to be repeated.
				if _, err := os.Stat(filepath.Join(c.Output.Dir, fmt.Sprintf("checkpoint-%d", stop))); err != nil {
					t.Errorf("stopped at step %d: %v", stop, err)
				}
				c.Output.Resume = "latest"
				if err := train(context.Background(), dev, c, io.Discard); err != nil {
					t.Fatalf("resumed after step %d: %v", stop, err)
				}
				metrics, weights, completions := outcome(t, c)
				if !reflect.DeepEqual(metrics, wantMetrics) {
					t.Errorf("stopped at step %d: metrics differ\nhave %v\nwant %v", stop, metrics, wantMetrics)
				}
				if string(weights) != string(wantWeights) {
					t.Errorf("stopped at step %d: weights differ", stop)
				}
				if string(completions) != string(wantCompletions) {
					t.Errorf("stopped at step %d: completions differ", stop)
				}
			}
		})
	}
}

// stopper cancels the run when its progress line reports a step.
type stopper struct {
	cancel context.CancelFunc
	at     string
	text   strings.Builder
}

func (s *stopper) Write(p []byte) (int, error) {
	s.text.Write(p)
	if strings.Contains(s.text.String(), s.at) {
		s.cancel()
	}
	return len(p), nil
}

// TestKilledRun: whatever files a killed run leaves — here those of a later
// moment than its last checkpoint — resuming gives the unbroken run's result.
func TestKilledRun(t *testing.T) {
	dev := newCPU(t)
	whole := tinyRun(t, objective.NRT)
	if err := train(context.Background(), dev, whole, io.Discard); err != nil {
		t.Fatal(err)
	}
	wantMetrics, wantWeights, wantCompletions := outcome(t, whole)
	// Take the later checkpoints away, as if the machine had died at step 7,
	// after step 4's was written and while step 6's was being written, with a
	// line of metrics torn.
	for _, name := range []string{"checkpoint-7", "checkpoint-6", "final"} {
		if err := os.RemoveAll(filepath.Join(whole.Output.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(whole.Output.Dir, "checkpoint-6.tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(whole.Output.Dir, "metrics.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"step": 8, "lo`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c := whole
	c.Output.Resume = "latest"
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	metrics, weights, completions := outcome(t, c)
	if !reflect.DeepEqual(metrics, wantMetrics) || string(weights) != string(wantWeights) || string(completions) != string(wantCompletions) {
		t.Error("the resumed run differs from the unbroken one")
	}
}

func TestRefusals(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.NRT)
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	dir := c.Output.Dir
	for want, change := range map[string]func(*Config){
		"already holds a run":        func(c *Config) {},
		"already holds a run (check": func(c *Config) { c.Model.Path = filepath.Join(t.TempDir(), "none") }, // said before a model is read
		"optim.moments":              func(c *Config) { c.Output.Resume = "latest"; c.Optim.Moments = 8 },
		"optim.lr":                   func(c *Config) { c.Output.Resume = "latest"; c.Optim.LR = 5e-3 },
		`(--method): "star", was "nrt":`: func(c *Config) { // of whose defaults the run's data are none
			*c = Default(objective.STaR)
			c.Output.Dir, c.Output.Resume = dir, "latest"
		},
		"holds no checkpoint":            func(c *Config) { c.Output.Resume = "latest"; c.Output.Dir = t.TempDir() },
		"data.train (--data)":            func(c *Config) { c.Data.Train = nil },
		"0.9999 of these 24 examples":    func(c *Config) { c.Output.Dir = t.TempDir(); c.Data.HeldOut = 0.9999 },
		"want rollout.temperature 1":     func(c *Config) { c.Output.Dir = t.TempDir(); c.Objective.KL = 1; c.Rollout.Temperature = 2 },
		"no example is left to train on": func(c *Config) { c.Output.Dir = t.TempDir(); c.Data.MaxPrompt = 2 },
		"model.path (--model)":           func(c *Config) { c.Output.Dir = t.TempDir(); c.Model.Path = filepath.Join(t.TempDir(), "none") },
		"model.template (--template)":    func(c *Config) { c.Output.Dir = t.TempDir(); c.Model.Template = "nonsense" },
		"rollout.k (--k): want >= 2":     func(c *Config) { c.Rollout.K = 1 },
	} {
		bad := c
		change(&bad)
		err := train(context.Background(), dev, bad, io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
	}
}

// What a run leaves is asked in the layout that it was trained in.
func TestTrainedLayout(t *testing.T) {
	c := tinyRun(t, objective.NRT)
	c.Train.Steps, c.Model.Template = 1, "tulu"
	if err := train(context.Background(), newCPU(t), c, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"checkpoint-1", "final"} {
		tok, err := token.LoadDir(filepath.Join(c.Output.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if f, err := tok.Format(""); err != nil || f.Name != "tulu" {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
}

// A run whose numbers have left all bounds says what that is and what may help.
func TestDivergence(t *testing.T) {
	for m, lr := range map[objective.Method]float64{objective.NRT: 1e30, objective.SFT: 1e6} { // of its probabilities, or of its gradient
		c := tinyRun(t, m)
		c.Optim.LR, c.Optim.Warmup, c.Optim.MaxGradNorm = lr, 0, 0
		err := train(context.Background(), newCPU(t), c, io.Discard)
		if err == nil || !strings.HasSuffix(err.Error(), "; the model has diverged, and --resume would repeat it: begin a new run with a lower --lr or --max-grad-norm, from the start or with --model from a checkpoint") {
			t.Errorf("%s: %v", m, err)
		}
	}
	// A run that begins with such a model does not blame its own settings.
	c := tinyRun(t, objective.NRT)
	c.Optim.LR, c.Optim.Warmup, c.Optim.MaxGradNorm, c.Optim.MiniBatch, c.Train.Steps, c.Data.HeldOut = 1e30, 0, 0, 0, 1, 0
	if err := train(context.Background(), newCPU(t), c, io.Discard); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(c.Output.Dir, "final")
	for _, m := range []objective.Method{objective.NRT, objective.SFT} {
		c := tinyRun(t, m)
		c.Model.Path = bad
		err := train(context.Background(), newCPU(t), c, io.Discard)
		if err == nil || !strings.HasSuffix(err.Error(), "; no update has been made: it is the model that the run begins with (--model)") {
			t.Errorf("%s, from a diverged model: %v", m, err)
		}
	}
}

// TestOneRunAFolder: what a run is writing is not another's to clear away.
func TestOneRunAFolder(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.NRT)
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	unlock, err := Lock(filepath.Join(c.Output.Dir, ".lock"))
	if err != nil {
		t.Fatalf("the finished run still holds its folder: %v", err)
	}
	leftover := filepath.Join(c.Output.Dir, "checkpoint-9"+tmpEnd)
	if err := os.Mkdir(leftover, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, resume := range []string{"", "latest"} {
		c.Output.Resume = resume
		if err := train(context.Background(), dev, c, io.Discard); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "wait for it, or name another folder") {
			t.Errorf("resume %q: a second run in the folder: %v", resume, err)
		}
		if _, err := os.Stat(leftover); err != nil {
			t.Errorf("resume %q: the second run cleared the first one's files: %v", resume, err)
		}
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	c.Output.Resume = "latest"
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Errorf("after the first run ended: %v", err)
	}
}

// TestLogEvery: a line of metrics sums up the steps since the last one, also where
// the run was stopped between two.
func TestLogEvery(t *testing.T) {
	dev := newCPU(t)
	every := tinyRun(t, objective.NRT)
	every.Eval.Every = 0
	if err := train(context.Background(), dev, every, io.Discard); err != nil {
		t.Fatal(err)
	}
	steps, _, _ := outcome(t, every)
	steps = slices.DeleteFunc(steps, func(v Values) bool { _, ok := v["loss"]; return !ok })
	for stop := range 4 {
		c := every
		c.Output.Dir, c.Output.LogEvery = filepath.Join(t.TempDir(), "out"), 3
		if stop > 0 {
			ctx, cancel := context.WithCancel(context.Background())
			err := train(ctx, dev, c, &stopper{cancel: cancel, at: fmt.Sprintf("step %d/", 3+stop)})
			cancel()
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			c.Output.Resume = "latest"
		}
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		from := 0
		for _, v := range func() []Values { m, _, _ := outcome(t, c); return m }() {
			if _, ok := v["loss"]; !ok {
				continue
			}
			to := int(v["step"])
			if want := min(from+3, len(steps)); to != want {
				t.Fatalf("stopped at %d: a line for step %d, want %d", 3+stop, to, want)
			}
			for name, x := range v {
				want, n := 0.0, 0.0
				for _, s := range steps[from:to] {
					if y, ok := s[name]; ok {
						want, n = want+y, n+1
					}
				}
				want /= n
				switch name {
				case "step", "num_tokens", "epoch", "learning_rate":
					want = steps[to-1][name]
				}
				if math.Abs(x-want) > 1e-12*math.Abs(want) {
					t.Errorf("stopped at %d: step %d: %s %g, want %g", 3+stop, to, name, x, want)
				}
			}
			from = to
		}
		if from != len(steps) {
			t.Errorf("the last line is of step %d", from)
		}
	}
}

// TestStepTime: a line has the mean time of its own steps, here by a clock that slows down.
func TestStepTime(t *testing.T) {
	dev := newCPU(t)
	times := func(every int) (list []float64) {
		c := tinyRun(t, objective.SFT)
		c.Output.LogEvery = every
		now, tick := time.Time{}, time.Second
		check(t, Train(t.Context(), c, Env{Device: dev, Now: func() time.Time {
			now, tick = now.Add(tick), tick+time.Second
			return now
		}}))
		metrics, err := ReadMetrics(c.Output.Dir)
		check(t, err)
		for _, v := range metrics {
			if x, ok := v["step_time"]; ok {
				list = append(list, x)
			}
		}
		return list
	}
	each, have := times(1), times(2)
	if want := []float64{(each[0] + each[1]) / 2, (each[2] + each[3]) / 2, (each[4] + each[5]) / 2, each[6]}; !slices.Equal(have, want) {
		t.Errorf("have %v\nwant %v, of %v", have, want, each)
	}
}

// TestCompletionsAreTrained: completions.jsonl shows the rewards and coefficients
// that the step was trained with, as its metrics do.
func TestCompletionsAreTrained(t *testing.T) {
	dev := newCPU(t)
	for _, m := range objective.Methods() {
		t.Run(string(m), func(t *testing.T) {
			c := tinyRun(t, m)
			c.Train.Steps, c.Output.Completions = 2, 1000
			if m == objective.RLPR {
				c.Objective.FilterFrom, c.Objective.FilterBeta = 2, 1
			}
			if err := train(context.Background(), dev, c, io.Discard); err != nil {
				t.Fatal(err)
			}
			metrics, _, raw := outcome(t, c)
			type line struct {
				Step              int
				Closed            bool
				Matched           *bool
				Reward, Advantage float64
				Base              *float64 `json:"reward_base"`
				Clipped           *float64 `json:"reward_clipped"`
			}
			steps := map[float64][]line{}
			for in := json.NewDecoder(bytes.NewReader(raw)); in.More(); {
				var l line
				if err := in.Decode(&l); err != nil {
					t.Fatal(err)
				}
				steps[float64(l.Step)] = append(steps[float64(l.Step)], l)
			}
			if !m.Rollouts() {
				if len(steps) > 0 {
					t.Error("chains of a method without any")
				}
				return
			}
			for _, v := range metrics {
				if _, ok := v["loss"]; !ok {
					continue
				}
				lines := steps[v["step"]]
				if len(lines) != c.Rollout.Questions*c.Rollout.K {
					t.Fatalf("step %g: %d chains", v["step"], len(lines))
				}
				var rewards, trace, matched float64
				for _, l := range lines {
					r := l.Reward
					switch m {
					case objective.NRT, objective.VeriFree:
						r = *l.Clipped
					case objective.RLPR:
						want := .9 * *l.Clipped
						if l.Closed {
							want += .1
						}
						if math.Abs(r-want) > 1e-5 {
							t.Errorf("step %g: reward %g, want %g", v["step"], r, want)
						}
					default:
						if l.Base != nil || l.Clipped != nil {
							t.Errorf("step %g: rewards of the empty chain", v["step"])
						}
					}
					if (l.Matched != nil) != m.Verifies() {
						t.Fatal("matched is for methods that verify")
					}
					if l.Matched != nil && *l.Matched {
						matched++
					}
					rewards += r / float64(len(lines))
					trace += math.Abs(l.Advantage) / float64(len(lines))
				}
				near := func(name string, have float64) {
					if want := v[name]; math.Abs(have-want) > 1e-5*(1+math.Abs(want)) {
						t.Errorf("step %g: %s %g in the metrics, %g by the completions", v["step"], name, want, have)
					}
				}
				if m != objective.JEPO { // whose reward is one of the question
					near("reward", rewards)
				}
				near("nrt/advantage_abs", trace)
				if m.Verifies() {
					near("nrt/matched", matched/float64(len(lines)))
				}
			}
		})
	}
}
