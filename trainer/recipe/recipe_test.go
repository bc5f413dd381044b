package recipe

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/trainer/run"
	"nrt/trainer/world"
	"nrt/trainer/world/models"
)

func newDevice(t *testing.T) device.Device {
	t.Helper()
	dev, err := cpu.New(cpu.Options{})
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

func embedded(t *testing.T, dev device.Device, name string) *llama.Model {
	t.Helper()
	files, err := models.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := llama.Load(dev, files)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestEmbeddedModels: every embedded model is small, and as good as index.json
// says, within the noise of fewer questions and of other processors' rounding.
func TestEmbeddedModels(t *testing.T) {
	dev, w := newDevice(t), world.New(1)
	f, err := w.Tokenizer().Format("world")
	if err != nil {
		t.Fatal(err)
	}
	list, err := models.List()
	if err != nil {
		t.Fatal(err)
	}
	accuracy := map[string]float64{}
	items := w.HeldOut(210, evalSeed)
	for _, info := range list {
		weights, err := os.Stat(filepath.Join("..", "world", "models", info.Dir, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		if weights.Size() > 4<<20 {
			t.Errorf("%s: %d bytes, want at most 4 MiB", info.Name, weights.Size())
		}
		m := embedded(t, dev, info.Name)
		e := engine.New(m, nil, engine.Options{})
		r, err := Evaluate(context.Background(), e, w, f, items, EvalOptions{NoChain: info.NoChain})
		e.Close()
		m.Free()
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(r.Accuracy-info.Accuracy) > 0.08 {
			t.Errorf("%s: %.3f of %d questions, index.json says %.3f", info.Name, r.Accuracy, r.N, info.Accuracy)
		}
		accuracy[info.Name] = r.Accuracy
	}
	if accuracy["world:nrt"] < accuracy["world:sft"]+.25 {
		t.Errorf("NRT %.3f, SFT %.3f: want 25 points between them", accuracy["world:nrt"], accuracy["world:sft"])
	}
}

// TestEmbeddedBasePassesTheGate: it can derive, and would rather chat.
func TestEmbeddedBasePassesTheGate(t *testing.T) {
	dev := newDevice(t)
	m := embedded(t, dev, "world:base")
	defer m.Free()
	report, err := Gate(context.Background(), m, world.New(1), 700, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Error(err)
	}
}

// TestMakeStopsAtTheGate: a base that has read next to nothing is refused, and
// no index is written.
func TestMakeStopsAtTheGate(t *testing.T) {
	dir := t.TempDir()
	b := DefaultBase()
	b.Docs, b.Config.Layers = 64, 1
	k := Maker{Dir: dir, Base: b, Dev: newDevice(t), World: world.New(1), Progress: func(string, ...any) {}}
	if err := k.Make(context.Background()); !errors.Is(err, ErrGate) {
		t.Errorf("error %v, want the gate's", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err == nil {
		t.Error("an index was written")
	}
	k.Dir, k.KeepBase = filepath.Join(dir, "none"), true
	if err := k.Make(context.Background()); err == nil || !strings.Contains(err.Error(), "the base to keep, "+filepath.Join(k.Dir, "base")+": ") {
		t.Errorf("error %v, want the folder's that holds no base", err)
	}
}

// TestPoliciesLearn: a few steps from the embedded base raise NRT's share of
// right chains, the same seed gives the same run, and every method runs.
func TestPoliciesLearn(t *testing.T) {
	dev, w := newDevice(t), world.New(1)
	base := embedded(t, dev, "world:base")
	defer base.Free()
	train := func(name string, steps int) []run.Values {
		p, err := NewPolicy(name, 1)
		if err != nil {
			t.Fatal(err)
		}
		p.Steps, p.EvalEvery, p.EvalN = steps, 0, 14
		trial, err := Run(context.Background(), base, w, name, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		trial.Free()
		return trial.Curve
	}
	const steps = 20
	curve := train("nrt:ws-logp", steps)
	early, late := 0.0, 0.0
	for i := range 4 {
		early += curve[i]["nrt/kind/right"] / 4
		late += curve[steps-1-i]["nrt/kind/right"] / 4
	}
	if late < 1.5*early {
		t.Errorf("share of right chains: %.3f at first, %.3f at last", early, late)
	}
	again := train("nrt:ws-logp", 3)
	first := train("nrt:ws-logp", 3)
	for i := range again {
		for k, v := range again[i] {
			if first[i][k] != v {
				t.Errorf("step %d %s: %v, then %v with the same seed", i+1, k, first[i][k], v)
			}
		}
	}
	for _, name := range Methods {
		train(name, 2)
	}
}

func TestPolicyNames(t *testing.T) {
	for name, want := range map[string]string{"nrt:nonsense": "nonsense", "rlvr:gm": "only nrt comes in modes", "sft:": "only nrt comes in modes", "lm": "is for text"} {
		if _, err := NewPolicy(name, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
}

func TestSummary(t *testing.T) {
	a := &Trial{Method: "nrt:gm", Seed: 1, Points: []TrialPoint{{Step: 20, Accuracy: .5}}, Curve: []run.Values{{"entropy": 1}}}
	b := &Trial{Method: "nrt:gm", Seed: 2, Points: []TrialPoint{{Step: 20, Accuracy: .7}}, Curve: []run.Values{{"entropy": 3}}}
	a.HeldOut.Accuracy, b.HeldOut.Accuracy = .6, .8
	s := Summarize([]*Trial{a, b})
	if len(s) != 1 || math.Abs(s[0].HeldOut-.7) > 1e-12 || math.Abs(s[0].HeldOutSD-math.Sqrt(.02)) > 1e-12 || math.Abs(s[0].At[20]-.6) > 1e-12 || s[0].Entropy != 2 {
		t.Errorf("summary %+v", s)
	}
	if md := Markdown(s, []int{20, 40}); !strings.Contains(md, "| nrt:gm | all | 60.0 | – | 70.0 ± 14.1 | 0.0 | 0.0 | 0 % | 0 % | 2.00 |") {
		t.Errorf("table:\n%s", md)
	}
}
