package run

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/trainer/objective"
	"nrt/trainer/world"
	"nrt/trainer/world/models"
)

// loraRun is tinyRun with LoRA beside a base of its kind.
func loraRun(t *testing.T, method objective.Method) Config {
	t.Helper()
	c := tinyRun(t, method)
	c.Model.Path = tinyBase(t, 1)
	c.LoRA.Rank = 4
	return c
}

// tensorsOf reads a folder's weights.
func tensorsOf(t *testing.T, folder, file string) map[string][]float32 {
	t.Helper()
	f, err := safetensors.Open(os.DirFS(folder), file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]float32{}
	for _, x := range f.Tensors() {
		n := 1
		for _, d := range x.Shape {
			n *= d
		}
		all[x.Name] = make([]float32, n)
		if err := f.Read(x.Name, 0, all[x.Name]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestEveryMethodRunsWithLoRA: with each method the factors learn and nothing else;
// sampler and trainer agree; what is left is a whole model, and an adapter.
func TestEveryMethodRunsWithLoRA(t *testing.T) {
	dev := newCPU(t)
	for _, m := range objective.Methods() {
		t.Run(string(m), func(t *testing.T) {
			c := loraRun(t, m)
			c.Train.Steps, c.LoRA.Modules = 3, []string{"up_proj", "q_proj"}
			if m == objective.NRT {
				c.Objective.KL, c.Optim.Recompute, c.Optim.Moments, c.Optim.MiniBatch = 0.01, true, 8, 0
			}
			var log bytes.Buffer
			if err := train(context.Background(), dev, c, &log); err != nil {
				t.Fatal(err)
			}
			if want := "rank 4, alpha 8, beside q_proj, up_proj"; !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
			metrics, _, _ := outcome(t, c)
			for _, v := range metrics {
				if d := v["sampling/sampling_logp_difference/max"]; d > 1e-3 {
					t.Errorf("step %g: sampler and trainer differ by %g", v["step"], d)
				}
				if kl, ok := v["kl"]; ok && (v["step"] == 1) != (kl == 0) {
					t.Errorf("step %g: the divergence from the base is %g", v["step"], kl)
				}
			}
			final := filepath.Join(c.Output.Dir, "final")
			was, is := tensorsOf(t, c.Model.Path, "model.safetensors"), tensorsOf(t, final, "model.safetensors")
			for name, w := range was {
				learns := strings.Contains(name, "q_proj") || strings.Contains(name, "up_proj")
				changed := !slices.Equal(w, is[name])
				if changed && !learns || learns && !changed && !m.Verifies() { // no answer need have been right
					t.Errorf("%s: changed is %v", name, changed)
				}
			}
			adapter := tensorsOf(t, filepath.Join(final, "adapter"), llama.AdapterWeights)
			if len(adapter) != 4 || len(is) != len(was) {
				t.Errorf("the adapter has %d tensors, the model %d of %d", len(adapter), len(is), len(was))
			}
			if _, err := os.Stat(filepath.Join(final, "adapter", "tokenizer.json")); err != nil {
				t.Errorf("the adapter by itself: %v", err)
			}
			last := tensorsOf(t, filepath.Join(c.Output.Dir, "checkpoint-3"), llama.AdapterWeights)
			for name, w := range adapter {
				if !slices.Equal(w, last[name]) {
					t.Errorf("%s: final has other factors than the last checkpoint", name)
				}
			}
			if _, err := os.Stat(filepath.Join(c.Output.Dir, "checkpoint-3", "model.safetensors")); err == nil {
				t.Error("a checkpoint holds the whole model")
			}
		})
	}
}

// TestLoRAAdvisesARate: who takes a method's own learning rate is told of factors'.
func TestLoRAAdvisesARate(t *testing.T) {
	c := loraRun(t, objective.NRT)
	c.Train.Steps, c.Optim.LR = 1, Default(objective.NRT).Optim.LR
	var log bytes.Buffer
	if err := train(t.Context(), newCPU(t), c, &log); err != nil {
		t.Fatal(err)
	}
	if want := "(--lr 2e-05)"; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log.String())
	}
}

// TestLoRAGoesOnFromItsBase: the factors of a checkpoint belong beside one model.
func TestLoRAGoesOnFromItsBase(t *testing.T) {
	dev := newCPU(t)
	one, other := tinyBase(t, 1), tinyBase(t, 2)
	base := filepath.Join(t.TempDir(), "base")
	put(t, base, one)
	c := tinyRun(t, objective.NRT)
	c.Model.Path, c.Train.Steps, c.LoRA.Rank = base, 3, 4
	c = stopped(t, c, "step 2/")
	for _, x := range []struct {
		want   string
		before func() error
	}{
		{base + " is not the model that the run started from, which it needs as the weights beside its LoRA factors: model.safetensors has SHA-256 ", func() error { put(t, base, other); return nil }},
		{"the run needs what is there as the weights beside its LoRA factors", func() error { return os.RemoveAll(base) }},
		{"lora.rank (--lora-rank): 8, was 4: restore it, or start a new run from that model with --model what \"nrt export --model " + c.Output.Dir, func() error { put(t, base, one); c.LoRA.Rank = 8; return nil }},
		{"lora.rank (--lora-rank): 0, was 4: restore it", func() error { c.LoRA.Rank = 0; return nil }},
		{"lora.alpha (--lora-alpha): 16, was 0", func() error { c.LoRA.Rank, c.LoRA.Alpha = 4, 16; return nil }},
		{"", func() error { c.LoRA.Alpha = 0; return nil }},
	} {
		if err := x.before(); err != nil {
			t.Fatal(err)
		}
		err := train(context.Background(), dev, c, io.Discard)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("have %v, want %q", err, x.want)
		}
	}

	// Factors beside a folder that is an adapter itself would name no whole model.
	both := filepath.Join(t.TempDir(), "both")
	put(t, both, one)
	for _, name := range []string{llama.AdapterConfig, llama.AdapterWeights} {
		raw, err := os.ReadFile(filepath.Join(c.Output.Dir, "final", "adapter", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(both, name), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d := tinyRun(t, objective.NRT)
	d.Model.Path, d.LoRA.Rank = both, 4
	if err := train(context.Background(), dev, d, io.Discard); err == nil || !strings.Contains(err.Error(), "is an adapter itself") {
		t.Errorf("an adapter beside an adapter: %v", err)
	}
	d.LoRA.Rank, d.Train.Steps = 0, 1
	if err := train(context.Background(), dev, d, io.Discard); err != nil {
		t.Errorf("all parameters of a model with an adapter: %v", err)
	}
}

// TestMemoryOfLoRA: an 8B model trains on a card of 24 GB, and who lacks the memory
// for all parameters is told so.
func TestMemoryOfLoRA(t *testing.T) {
	model, err := llama.ReadConfig(fstest.MapFS{"config.json": {Data: []byte(llama8B)}})
	if err != nil {
		t.Fatal(err)
	}
	const params, learned = 8030261248, 41943040
	c := Default(objective.NRT)
	c.Model.Path = "llama"
	c.Train.Device, c.Train.DType = "cuda", "bf16"
	c.Rollout.K, c.Rollout.MaxChain, c.Optim.MicroTokens = 8, 512, 8192
	x := extent{model: model, prompt: 200, answer: 100, close: 1, reference: true}
	with := c
	with.LoRA.Rank = 16
	bytes := map[string]int64{}
	for _, m := range planMemory(with, x) {
		bytes[m.name] = m.bytes
	}
	if bytes["weights"] != 2*params || bytes["gradients"] != 4*learned || bytes["optimizer"] != 8*learned {
		t.Errorf("weights %d, gradients %d, optimizer %d", bytes["weights"], bytes["gradients"], bytes["optimizer"])
	}
	if a := bytes["adapters"] - 6*learned; a < 2*4*16*8192 || a > 2*4*16*8192*2 {
		t.Errorf("adapters: %d bytes beside the factors", a)
	}
	if n, ok := bytes["reference"]; ok {
		t.Errorf("the reference takes %d bytes, and is the base itself", n)
	}
	// On a card of 24 GB, with rows to spare.
	with.Optim.Recompute, with.Optim.MicroTokens, with.Rollout.Questions = true, 2048, 32
	if err := planMemory(with, x).check(23<<30, with, x); err != nil {
		t.Error(err)
	}
	for free, want := range map[int64]string{
		139 << 30: "--lora-rank 16 (", 79 << 30: "what would fit: --lora-rank 16 (", 26 << 30: "what would fit: --lora-rank 16 --recompute ",
	} {
		if err := planMemory(c, x).check(free, c, x); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s free: %v\nlacks %q", size(free), err, want)
		}
	}
	// The CPU packs the factors too.
	x.model, with.Train.Device, with.Train.DType = c.Model.shape(1024), "cpu", "f32"
	workspace := func(rank int) int64 {
		with.LoRA.Rank = rank
		plan := planMemory(with, x)
		return plan[len(plan)-1].bytes
	}
	if grows, want := workspace(64)-workspace(32), int64(4*32*4*(4*2*128+3*(128+352))); grows != want {
		t.Errorf("the workspace of rank 64 is larger by %d than that of 32, want %d", grows, want)
	}
	x.model = model
	fresh := c
	fresh.Model.Path = "" // has no base
	if err := planMemory(fresh, x).check(79<<30, fresh, x); err == nil || strings.Contains(err.Error(), "lora") {
		t.Errorf("a new model: %v", err)
	}
}

// TestLoRALearnsTheSmallWorld: factors of rank 4 alone raise the reward of the small
// world's base model, and the reference becomes likelier on questions held out.
func TestLoRALearnsTheSmallWorld(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for seconds")
	}
	dir := t.TempDir()
	w := world.New(1)
	file := func(name string, list []world.Item) string {
		var b bytes.Buffer
		for _, x := range list {
			fmt.Fprintf(&b, "{\"question\": %q, \"answer\": %q}\n", x.Question, x.Answer)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	const steps = 24
	c := Default(objective.NRT)
	c.Model.Path, c.LoRA.Rank = "world:base", 4
	c.Data.Train, c.Data.Eval = []string{file("train.jsonl", w.Train(steps*8, 1))}, []string{file("held.jsonl", w.HeldOut(64, 1))}
	c.Rollout.K, c.Rollout.Questions, c.Rollout.MaxChain = 8, 8, 20
	c.Objective.LengthNorm, c.Objective.LengthConstant, c.Objective.TokenCap = objective.NormConstant, 16, 5
	c.Optim.LR, c.Optim.Schedule, c.Optim.Warmup, c.Optim.MiniBatch, c.Optim.WeightDecay = 4e-3, "constant", 4, 0, 0
	c.Train.Steps, c.Eval.Answers, c.Output.Dir = steps, false, filepath.Join(dir, "out")
	err := Train(t.Context(), c, Env{Device: newCPU(t), Log: io.Discard, Now: time.Now, Open: models.Open})
	if err != nil {
		t.Fatal(err)
	}
	metrics, _, _ := outcome(t, c)
	var rewards, held []float64
	for _, v := range metrics {
		if r, ok := v["reward"]; ok {
			rewards = append(rewards, r)
			if d := v["sampling/sampling_logp_difference/max"]; d > 1e-4 {
				t.Errorf("step %g: sampler and trainer differ by %g", v["step"], d)
			}
		}
		if r, ok := v["eval/reference_logprob"]; ok {
			held = append(held, r)
		}
	}
	mean := func(x []float64) float64 {
		sum := 0.0
		for _, v := range x {
			sum += v / float64(len(x))
		}
		return sum
	}
	first, last := mean(rewards[:6]), mean(rewards[steps-6:])
	t.Logf("reward %.3f in the first 6 steps, %.3f in the last; held out %.3f, then %.3f", first, last, held[0], held[1])
	if last < 1.3*first || held[1] < held[0]+0.05 {
		t.Errorf("reward %.3f in the first 6 steps, %.3f in the last; held out %.3f, then %.3f", first, last, held[0], held[1])
	}
}
