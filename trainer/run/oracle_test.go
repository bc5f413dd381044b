package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/trainer/objective"
	"nrt/trainer/reward"
)

// oracleCases are runs of all methods, models of all families and options in many
// combinations. Each begins with the method's own settings.
var oracleCases = []struct {
	name   string
	method objective.Method
	shape  func(*llama.Config)
	change func(*Config)
}{
	{"nrt ws-logp, passes of 25 tokens", objective.NRT, func(c *llama.Config) { c.KVHeads = 1 }, func(c *Config) {
		c.Optim.Iterations, c.Optim.MicroTokens, c.Objective.TokenCap, c.Objective.ClipHigh, c.Objective.ClipLow = 2, 25, 0.5, 0.02, 0.02
	}},
	{"nrt logp, answers' likelihood, temperature, entropy", objective.NRT, func(c *llama.Config) { c.ModelType = "qwen2" }, func(c *Config) {
		c.Objective.Reward.Mode, c.Objective.TokenLoss, c.Objective.LengthNorm = reward.LogP, objective.NLL, objective.NormSequence
		c.Objective.Entropy, c.Rollout.Temperature, c.Optim.MiniBatch, c.Optim.Schedule, c.Optim.Decay = 0.05, 0.7, 3, "wsd", 0.5
	}},
	{"nrt p, neither clip nor deviation, kl", objective.NRT, func(c *llama.Config) { c.ModelType, c.SlidingWindow = "mistral", 7 }, func(c *Config) {
		c.Objective.Reward = reward.Options{Mode: reward.P, NoStd: true}
		c.Objective.KL, c.Objective.LengthConstant, c.Optim.MaxGradNorm, c.Optim.Eps = 1, 5, 0.05, 1e-3
	}},
	{"nrt gm, baseline and kl of a lora run's base", objective.NRT, func(c *llama.Config) { c.AttentionBias = true }, func(c *Config) {
		c.LoRA.Rank, c.LoRA.Alpha = 3, 4
		c.Objective.Reward.Mode, c.Objective.FixedBaseline, c.Objective.KL, c.Objective.SigmaFloor = reward.GM, true, 0.3, false
	}},
	{"nrt am, chain alone, forced boundary by length, recomputed", objective.NRT, func(c *llama.Config) { c.ModelType = "qwen3" }, func(c *Config) {
		c.Objective.Reward.Mode, c.Objective.TokenLoss, c.Objective.LengthNorm, c.Objective.FormatPerLength = reward.AM, objective.Off, objective.NormToken, true
		c.Optim.Recompute, c.Optim.MiniBatch, c.Optim.WeightDecay = true, 0, 0.3
	}},
	{"nrt ws-1/p of normalised weights", objective.NRT, func(c *llama.Config) { c.TieEmbeddings = false }, func(c *Config) {
		c.Objective.Reward.Mode, c.Objective.Reward.NormalizeWeights, c.Objective.Reward.BaseFloor = reward.WSInvP, true, 1e-2
		c.Objective.LambdaTrace, c.Objective.LambdaToken, c.Optim.Iterations, c.Objective.Ratio = 0.5, 2, 2, false
	}},
	{"sft, lora", objective.SFT, func(c *llama.Config) { c.ModelType = "qwen3" }, func(c *Config) {
		c.LoRA.Rank, c.LoRA.Modules, c.Optim.Schedule, c.Optim.Warmup = 2, []string{"q_proj", "down_proj"}, "linear", 2
	}},
	{"lm, windows", objective.LM, func(*llama.Config) {}, func(c *Config) { c.Data.MaxAnswer = 9 }},
	{"rlpr, filtered", objective.RLPR, func(*llama.Config) {}, func(c *Config) {
		c.Objective.FilterBeta, c.Objective.FilterFrom, c.Optim.MiniBatch, c.Optim.Iterations = 1, 2, 2, 2
	}},
	{"verifree", objective.VeriFree, func(*llama.Config) {}, func(c *Config) { c.Objective.LengthConstant = 1 }},
	{"jepo", objective.JEPO, func(c *llama.Config) { c.ModelType = "qwen2" }, func(c *Config) {
		c.Optim.Schedule, c.Objective.Ratio, c.Optim.Iterations = "constant", true, 2
	}},
	{"star", objective.STaR, func(*llama.Config) {}, func(c *Config) { c.Objective.Format = 0.3 }},
	{"rlvr", objective.RLVR, func(*llama.Config) {}, func(c *Config) { c.Objective.SigmaFloor, c.Optim.Iterations = true, 3 }},
}

// What update.py is told and says.
type (
	oracleChain struct {
		Drawn   []int32 `json:"drawn"`
		Closed  bool    `json:"closed"`
		Stopped bool    `json:"stopped"`
		Right   bool    `json:"right"`
	}
	oracleQuestion struct {
		Prompt []int32       `json:"prompt"`
		Answer []int32       `json:"answer"`
		Chains []oracleChain `json:"chains"`
	}
	oracleRequest struct {
		Folder string             `json:"folder"`
		Config Config             `json:"config"`
		Total  int                `json:"total"`
		Close  []int32            `json:"close"`
		Steps  [][]oracleQuestion `json:"steps"`
	}
	oracleRun struct {
		Metrics []Values             `json:"metrics"` // of each step
		Params  map[string][]float64 `json:"params"`  // after the last
	}
)

// TestOracle: from the ids that were drawn, PyTorch makes the same updates, in every
// method: rewards, advantages, the loss's gradient on every parameter, its norm, AdamW
// and its learning rates, over three steps of several updates.
func TestOracle(t *testing.T) {
	if testing.Short() {
		t.Skip("trains in Python")
	}
	python := "" // as in backend/llama
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if python == "" && exec.Command(name, "-c", "import numpy, torch").Run() == nil {
			python = name
		}
	}
	if python == "" {
		t.Skip("no oracle: python3-torch")
	}
	var lines strings.Builder
	for i := range 24 { // answers of several lengths
		fmt.Fprintf(&lines, "{\"question\": \"what is %d plus %d ?\", \"answer\": \"%s%d\"}\n", i%5, i%7, strings.Repeat("it is ", i%3/2), i%5+i%7)
	}
	data := filepath.Join(t.TempDir(), "data.jsonl")
	if err := os.WriteFile(data, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	tokenizer := tinyBase(t, 1)
	var requests []oracleRequest
	var have, want []oracleRun
	ends := map[string]int{}
	for i, c := range oracleCases {
		dir := filepath.Join(t.TempDir(), "base")
		oracleBase(t, dir, tokenizer, uint64(i), c.shape)
		cfg := tinyRun(t, c.method)
		cfg.Data.Train, cfg.Data.HeldOut = []string{data}, 0
		cfg.Model.Path, cfg.Train.Steps, cfg.Optim.LR, cfg.Optim.MiniBatch = dir, 3, 1e-2, 2
		c.change(&cfg)
		request, run := oracleRuns(t, cfg, ends)
		requests, have = append(requests, request), append(have, run)
	}
	if ends["close"]*ends["stop"]*ends["length"] == 0 {
		t.Errorf("chains end as %v: the test needs all sorts", ends)
	}
	in, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, filepath.FromSlash("testdata/update.py"))
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("update.py: %v\n%s", err, stderr.String())
	}
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, c := range oracleCases {
		t.Run(c.name, func(t *testing.T) { have[i].compare(t, want[i]) })
	}
}

// compare holds a run against the oracle's.
func (have oracleRun) compare(t *testing.T, want oracleRun) {
	const limit = 1e-8
	worst, moved := 0.0, false
	for i, metrics := range want.Metrics {
		for name, w := range metrics {
			h, ok := have.Metrics[i][name]
			d := math.Abs(h-w) / max(1, math.Abs(w))
			if !ok || !(d <= limit) {
				t.Errorf("step %d: %s is %v, want %v", i+1, name, h, w)
			}
			worst = max(worst, d)
			moved = moved || name == "grad_norm" && w > 1e-6
		}
	}
	if !moved {
		t.Error("no step has a gradient: nothing is tested")
	}
	if len(have.Params) != len(want.Params) {
		t.Errorf("%d tensors learn, want %d", len(have.Params), len(want.Params))
	}
	for name, w := range want.Params {
		h := have.Params[name]
		if len(h) != len(w) {
			t.Errorf("%s has %d numbers, want %d", name, len(h), len(w))
			continue
		}
		far := 0.0
		for i := range w {
			far = max(far, math.Abs(h[i]-w[i]))
		}
		if !(far <= limit) {
			t.Errorf("%s differs by %g after the last update", name, far)
		}
		worst = max(worst, far)
	}
	t.Logf("within %.1e", worst)
}

// oracleBase makes a folder with a tokenizer of other and random weights, sharp enough
// that chains differ and end in all ways.
func oracleBase(t *testing.T, dir, other string, seed uint64, shape func(*llama.Config)) {
	t.Helper()
	put(t, dir, other)
	c, err := llama.ReadConfig(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	shape(&c)
	specs, rng := c.Tensors(), rand.New(rand.NewPCG(seed, 3))
	m, err := llama.NewFrom(newCPU(t), c, func(i, from int, dst []float32) error {
		name := specs[i].Name
		table := name == "model.embed_tokens.weight" || name == "lm_head.weight"
		for j := range dst {
			dst[j] = float32(0.5 * rng.NormFloat64())
			if strings.HasSuffix(name, "norm.weight") {
				dst[j]++
			}
			if id := (from + j) / c.Hidden; table && (id == 1 || id == 3) { // <eos>, </think>
				dst[j] *= 3
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	if err := m.Save(dir, safetensors.F32); err != nil {
		t.Fatal(err)
	}
}

// recorder keeps the last rollouts.
type recorder struct {
	Rollouts
	last []Rollout
}

func (r *recorder) Rollout(ctx context.Context, questions []Question, version int) (_ []Rollout, err error) {
	r.last, err = r.Rollouts.Rollout(ctx, questions, version)
	return r.last, err
}

// oracleRuns makes the steps of a run in float64, and what asks the oracle for the same.
// It counts how chains end.
func oracleRuns(t *testing.T, c Config, ends map[string]int) (oracleRequest, oracleRun) {
	t.Helper()
	env := Env{Device: newCPUIn(t, cpu.Float64), Log: io.Discard}
	if err := env.defaults(); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	c.settle()
	tr := &trainer{c: c, env: env, dev: env.Device}
	defer func() {
		if err := tr.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := tr.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	request := oracleRequest{Folder: c.Model.Path, Config: c, Total: tr.total, Close: tr.format.Close}
	if c.Objective.Method == objective.LM {
		request.Close = []int32{}
	}
	if c.LoRA.On() { // the factors lie beside their base
		if err := tr.model.SaveAdapter(c.Model.Path, c.Model.Path); err != nil {
			t.Fatal(err)
		}
	}
	// The right answers are none of these models': a third of what they draw is called right.
	tr.learner.Right = func(answer, _ []int32) bool { return answer[0]%3 == 0 }
	rec := &recorder{Rollouts: tr.rollouts}
	tr.rollouts = rec
	var run oracleRun
	for range c.Train.Steps {
		if err := tr.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		run.Metrics = append(run.Metrics, tr.state.Recent(1))
		var step []oracleQuestion
		for _, r := range rec.last {
			q := oracleQuestion{Prompt: r.Prompt, Answer: r.Answer}
			for _, ch := range r.Chains {
				ends[ch.Finish]++
				q.Chains = append(q.Chains, oracleChain{
					Drawn: append([]int32{}, engine.IDsOf(ch.Tokens)...), Closed: ch.Closed, Stopped: ch.Finish == "stop",
					Right: len(ch.Answer) > 0 && tr.learner.Right(engine.IDsOf(ch.Answer), nil),
				})
			}
			step = append(step, q)
		}
		request.Steps = append(request.Steps, step)
	}
	run.Params = map[string][]float64{}
	for _, p := range tr.model.Learned() {
		run.Params[p.Name] = make([]float64, p.Value.Len())
		env.Device.Read64(run.Params[p.Name], p.Value)
	}
	return request, run
}
