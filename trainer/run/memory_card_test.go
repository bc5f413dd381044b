package run

import (
	"strings"
	"testing"
	"testing/fstest"

	"nrt/backend/llama"
	"nrt/trainer/objective"
)

// llama8B is config.json of Llama 3.1 8B.
const llama8B = `{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
  "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "vocab_size": 128256, "tie_word_embeddings": false,
  "bos_token_id": 128000, "eos_token_id": 128001, "torch_dtype": "bfloat16",
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}
}`

// TestMemoryOfACard: what of an 8B model fits on which card. The card computes in
// bfloat16 and keeps 2 + 4 bytes a parameter, 4 of gradient, and 8 or about 2 of
// moments.
func TestMemoryOfACard(t *testing.T) {
	model, err := llama.ReadConfig(fstest.MapFS{"config.json": {Data: []byte(llama8B)}})
	if err != nil {
		t.Fatal(err)
	}
	const params = 8030261248
	c := Default(objective.NRT)
	c.Train.Device, c.Train.DType = "cuda", "bf16"
	c.Rollout.K, c.Rollout.MaxChain, c.Optim.MicroTokens = 8, 512, 8192
	x := extent{model: model, prompt: 200, answer: 100, close: 1}
	bytes := map[string]int64{}
	for _, m := range planMemory(c, x) {
		bytes[m.name] = m.bytes
	}
	if bytes["weights"] != 6*params || bytes["gradients"] != 4*params || bytes["optimizer"] != 8*params {
		t.Errorf("weights %d, gradients %d, optimizer %d", bytes["weights"], bytes["gradients"], bytes["optimizer"])
	}
	// 8192 rows of 2 bytes: in each layer the stream twice, two norms, q, attention's
	// output, k and v, and three of the feed-forward layer.
	row := int64(2 * 32 * (6*4096 + 2*1024 + 3*14336))
	if a := bytes["activations"]; a < 8192*row || a > 8192*row*11/10 {
		t.Errorf("activations %s, want %s and little more", size(a), size(8192*row))
	}
	// A float32 number of rstd or lse is twice one of the others.
	if f := model.PassFloats(8192, 8192, false); bytes["activations"] != 2*int64(f.Compute)+4*int64(f.Wide) {
		t.Errorf("activations %d for %+v", bytes["activations"], f)
	}

	eight := c
	eight.Optim.Moments = 8
	small := eight
	small.Optim.Recompute = true
	const h200, h100 = 139 << 30, 79 << 30
	for _, s := range []struct {
		name string
		c    Config
		free int64
		want string // "" fits
	}{
		{"32-bit moments on 139 GiB", c, h200, "what would fit: --moments 8 ("},
		{"8-bit moments on 139 GiB", eight, h200, ""},
		{"32-bit moments on 110 GiB", c, 110 << 30, "what would fit: --recompute --moments 8 ("},
		{"8-bit moments on 110 GiB", eight, 110 << 30, "what would fit: --recompute ("},
		{"8-bit moments, recomputed, on 139 GiB", small, h200, ""},
		{"8-bit moments, recomputed, on 79 GiB", small, h100, "no smaller batch makes it fit"},
	} {
		err := planMemory(s.c, x).check(s.free, s.c, x)
		switch {
		case s.want == "" && err != nil:
			t.Errorf("%s: %v", s.name, err)
		case s.want != "" && (err == nil || !strings.Contains(err.Error(), s.want)):
			t.Errorf("%s: %v\nlacks %q", s.name, err, s.want)
		}
	}
	// The model before training is 2 bytes a parameter more, and still fits.
	x.reference = true
	if err := planMemory(small, x).check(h200, small, x); err != nil {
		t.Error(err)
	}

	// The cache takes what is left, and the plan still fits.
	x.cache = cacheFor(h200, small, x)
	plan := planMemory(small, x)
	if left := h200 - plan.total(); left < 0 || plan.check(h200, small, x) != nil {
		t.Errorf("with a cache of %d bytes %s are left", x.cache, size(left))
	}
	cpu := small
	cpu.Train.Device, cpu.Train.DType = "cpu", "f32"
	if n := cacheFor(h200, cpu, x); n != 0 {
		t.Errorf("on the CPU the engine chooses, have %d", n)
	}
	if n := cacheFor(1<<30, small, x); n != 0 {
		t.Errorf("nothing is left for a cache, have %d", n)
	}
}
