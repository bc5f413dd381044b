package llama

import (
	"fmt"
	"math"
	"strconv"
)

// Config is what fixes a model's shape and arithmetic: the fields of a Hugging
// Face config.json, of the classes in architectures, that matter here.
// The name in each comment is the field's name there and in errors.
type Config struct {
	ModelType     string       // model_type: a key of architectures
	Vocab         int          // vocab_size
	Hidden        int          // hidden_size, width of the residual stream
	Intermediate  int          // intermediate_size, width inside the MLP
	Layers        int          // num_hidden_layers
	Heads         int          // num_attention_heads, query heads
	KVHeads       int          // num_key_value_heads; divides Heads
	HeadDim       int          // head_dim; even. Heads·HeadDim need not equal Hidden
	MaxPositions  int          // max_position_embeddings
	RMSEps        float64      // rms_norm_eps
	RopeTheta     float64      // rope_theta
	RopeScaling   *RopeScaling // rope_scaling, nil for none
	TieEmbeddings bool         // tie_word_embeddings: no lm_head.weight of its own
	SlidingWindow int          // sliding_window (mistral); 0 sees everything
	AttentionBias bool         // attention_bias (llama, qwen3): q, k, v and o add biases; qwen2's q, k and v always do
	BOS, EOS, PAD []int32      // bos_token_id, eos_token_id, pad_token_id; empty for none
	DType         string       // torch_dtype, such as "bfloat16"; "" when the file does not say
}

// TensorSpec is one parameter tensor as a checkpoint names it.
type TensorSpec struct {
	Name  string
	Shape []int // row-major; linear layers are (out, in)
}

// Len is the number of elements.
func (s TensorSpec) Len() int {
	n := 1
	for _, d := range s.Shape {
		n *= d
	}
	return n
}

// lmHead is the name of the output projection, absent when embeddings are tied.
const lmHead = "lm_head.weight"

// embedTokens is the name of the embedding table.
const embedTokens = "model.embed_tokens.weight"

// Tensors lists the model's parameters in the order of the module tree:
// embedding, layers, final norm, and lm_head.weight unless it is tied.
func (c Config) Tensors() []TensorSpec {
	h, q, kv := c.Hidden, c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	specs := make([]TensorSpec, 0, 3+15*c.Layers)
	add := func(name string, shape ...int) { specs = append(specs, TensorSpec{name, shape}) }
	project := func(name string, out, in int, bias bool) {
		add(name+".weight", out, in)
		if bias {
			add(name+".bias", out)
		}
	}
	biases := c.AttentionBias || c.ModelType == "qwen2"
	add(embedTokens, c.Vocab, h)
	for l := range c.Layers {
		p := "model.layers." + strconv.Itoa(l)
		project(p+".self_attn.q_proj", q, h, biases)
		project(p+".self_attn.k_proj", kv, h, biases)
		project(p+".self_attn.v_proj", kv, h, biases)
		project(p+".self_attn.o_proj", h, q, c.AttentionBias)
		if c.headNorms() {
			add(p+".self_attn.q_norm.weight", c.HeadDim)
			add(p+".self_attn.k_norm.weight", c.HeadDim)
		}
		add(p+".mlp.gate_proj.weight", c.Intermediate, h)
		add(p+".mlp.up_proj.weight", c.Intermediate, h)
		add(p+".mlp.down_proj.weight", h, c.Intermediate)
		add(p+".input_layernorm.weight", h)
		add(p+".post_attention_layernorm.weight", h)
	}
	add("model.norm.weight", h)
	if !c.TieEmbeddings {
		add(lmHead, c.Vocab, h)
	}
	return specs
}

// headNorms tells whether each head of q and k is normalised.
func (c Config) headNorms() bool { return c.ModelType == "qwen3" }

// Upper bounds on what a config may ask for. They are far above any model of
// this family and keep every product of two of them within an int.
const (
	maxVocab     = 1 << 24
	maxWidth     = 1 << 20
	maxLayers    = 1 << 12
	maxHeads     = 1 << 12
	maxPositions = 1 << 30
)

// Validate reports the first field that no model of this family can have.
func (c Config) Validate() error {
	if architectures[c.ModelType] == "" {
		return fmt.Errorf("model_type: want llama, mistral, qwen2 or qwen3, have %q", c.ModelType)
	}
	for _, f := range []struct {
		name      string
		have, max int
	}{
		{"vocab_size", c.Vocab, maxVocab},
		{"hidden_size", c.Hidden, maxWidth},
		{"intermediate_size", c.Intermediate, maxWidth},
		{"num_hidden_layers", c.Layers, maxLayers},
		{"num_attention_heads", c.Heads, maxHeads},
		{"num_key_value_heads", c.KVHeads, maxHeads},
		{"head_dim", c.HeadDim, maxHeads},
		{"max_position_embeddings", c.MaxPositions, maxPositions},
	} {
		if f.have < 1 || f.have > f.max {
			return fmt.Errorf("%s: want 1 to %d, have %d", f.name, f.max, f.have)
		}
	}
	if c.Heads%c.KVHeads != 0 {
		return fmt.Errorf("num_key_value_heads: want a divisor of num_attention_heads %d, have %d", c.Heads, c.KVHeads)
	}
	if c.ModelType == "llama" && c.Hidden%c.Heads != 0 { // transformers refuses it, head_dim or not
		return fmt.Errorf("num_attention_heads: model_type llama wants a divisor of hidden_size %d, have %d", c.Hidden, c.Heads)
	}
	if c.HeadDim%2 != 0 {
		return fmt.Errorf("head_dim: rotary embedding wants it even, have %d", c.HeadDim)
	}
	if !(c.RMSEps > 0 && c.RMSEps < 1) {
		return fmt.Errorf("rms_norm_eps: want between 0 and 1, have %v", c.RMSEps)
	}
	if !(c.RopeTheta > 1) || math.IsInf(c.RopeTheta, 0) {
		return fmt.Errorf("rope_theta: want above 1, have %v", c.RopeTheta)
	}
	if err := c.RopeScaling.validate(); err != nil {
		return fmt.Errorf("rope_scaling.%w", err)
	}
	if c.SlidingWindow < 0 {
		return fmt.Errorf("sliding_window: want 0 or more, have %d", c.SlidingWindow)
	}
	if c.SlidingWindow > 0 && c.ModelType != "mistral" {
		return fmt.Errorf("sliding_window: model_type %q has none, have %d", c.ModelType, c.SlidingWindow)
	}
	if c.AttentionBias && c.ModelType != "llama" && c.ModelType != "qwen3" {
		return fmt.Errorf("attention_bias: model_type %q has none, have true", c.ModelType)
	}
	if len(c.BOS) > 1 {
		return fmt.Errorf("bos_token_id: want at most one id, have %d", c.BOS)
	}
	if len(c.PAD) > 1 {
		return fmt.Errorf("pad_token_id: want at most one id, have %d", c.PAD)
	}
	for _, f := range []struct {
		name string
		ids  []int32
	}{{"bos_token_id", c.BOS}, {"eos_token_id", c.EOS}, {"pad_token_id", c.PAD}} {
		for _, id := range f.ids {
			if id < 0 || int(id) >= c.Vocab {
				return fmt.Errorf("%s: want 0 to %d (vocab_size − 1), have %d", f.name, c.Vocab-1, id)
			}
		}
	}
	return nil
}

func (s *RopeScaling) validate() error {
	switch {
	case s == nil:
		return nil
	case s.Type != "llama3":
		return fmt.Errorf(`rope_type: want "llama3" or "default", have %q`, s.Type)
	case !(s.Factor >= 1) || math.IsInf(s.Factor, 0):
		return fmt.Errorf("factor: want ≥ 1, have %v", s.Factor)
	case !(s.LowFreq > 0) || math.IsInf(s.LowFreq, 0):
		return fmt.Errorf("low_freq_factor: want > 0, have %v", s.LowFreq)
	case !(s.HighFreq > s.LowFreq) || math.IsInf(s.HighFreq, 0):
		return fmt.Errorf("high_freq_factor: want above low_freq_factor %v, have %v", s.LowFreq, s.HighFreq)
	case s.OriginalMax < 1 || s.OriginalMax > maxPositions:
		return fmt.Errorf("original_max_position_embeddings: want 1 to %d, have %d", maxPositions, s.OriginalMax)
	}
	return nil
}
