package llama

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// layoutVersion is the transformers release whose config.json and
// generation_config.json layout the written files follow.
const layoutVersion = "4.46.0"

// marshalConfig returns config.json as transformers writes it for this class: the
// same fields, sorted, two spaces, floats with a point.
func (c Config) marshalConfig() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("write %s: %w", configFile, err)
	}
	m := map[string]any{
		"architectures":           []string{architectures[c.ModelType]},
		"attention_dropout":       pyFloat(0),
		"head_dim":                c.HeadDim,
		"hidden_act":              "silu",
		"hidden_size":             c.Hidden,
		"initializer_range":       pyFloat(0.02),
		"intermediate_size":       c.Intermediate,
		"max_position_embeddings": c.MaxPositions,
		"model_type":              c.ModelType,
		"num_attention_heads":     c.Heads,
		"num_hidden_layers":       c.Layers,
		"num_key_value_heads":     c.KVHeads,
		"rms_norm_eps":            pyFloat(c.RMSEps),
		"rope_theta":              pyFloat(c.RopeTheta),
		"tie_word_embeddings":     c.TieEmbeddings,
		"transformers_version":    layoutVersion,
		"use_cache":               true,
		"vocab_size":              c.Vocab,
	}
	if len(c.PAD) > 0 {
		m["pad_token_id"] = c.PAD[0]
	}
	if c.DType != "" {
		m["torch_dtype"] = c.DType
	}
	var scaling any
	if s := c.RopeScaling; s != nil {
		scaling = map[string]any{
			"factor":                           pyFloat(s.Factor),
			"high_freq_factor":                 pyFloat(s.HighFreq),
			"low_freq_factor":                  pyFloat(s.LowFreq),
			"original_max_position_embeddings": s.OriginalMax,
			"rope_type":                        s.Type,
		}
	}
	for name, ids := range map[string][]int32{"bos_token_id": c.BOS, "eos_token_id": c.EOS} {
		if len(ids) > 0 || c.ModelType == "llama" || c.ModelType == "mistral" { // whose defaults are not none
			m[name] = idOrList(ids)
		}
	}
	switch c.ModelType {
	case "llama":
		m["attention_bias"] = c.AttentionBias
		m["mlp_bias"] = false
		m["pretraining_tp"] = 1
		m["rope_scaling"] = scaling
	case "mistral":
		m["sliding_window"] = nil
		if c.SlidingWindow > 0 {
			m["sliding_window"] = c.SlidingWindow
		}
		if scaling != nil {
			m["rope_scaling"] = scaling
		}
	case "qwen2", "qwen3":
		m["max_window_layers"] = c.Layers // the first with a window, if use_sliding_window were true
		m["rope_scaling"] = scaling
		m["sliding_window"] = nil
		m["use_sliding_window"] = false
		if c.ModelType == "qwen3" {
			m["attention_bias"] = c.AttentionBias
		} else if c.HeadDim*c.Heads == c.Hidden {
			delete(m, "head_dim") // which the class does not have, and works out
		}
	}
	return marshalPy(m)
}

// marshalGeneration returns generation_config.json as transformers derives it
// from a config.
func (c Config) marshalGeneration() ([]byte, error) {
	m := map[string]any{"_from_model_config": true, "transformers_version": layoutVersion}
	for _, f := range []struct {
		name string
		ids  []int32
	}{{"bos_token_id", c.BOS}, {"eos_token_id", c.EOS}, {"pad_token_id", c.PAD}} {
		if len(f.ids) > 0 {
			m[f.name] = idOrList(f.ids)
		}
	}
	return marshalPy(m)
}

// marshalPy is json.dumps(m, indent=2, sort_keys=True) and a newline.
func marshalPy(m map[string]any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func idOrList(ids []int32) any {
	switch len(ids) {
	case 0:
		return nil
	case 1:
		return ids[0]
	}
	return ids
}

// pyFloat is a float64 that marshals as Python's repr: 10000.0, 1e-05.
type pyFloat float64

// MarshalJSON implements json.Marshaler.
func (f pyFloat) MarshalJSON() ([]byte, error) {
	x := float64(f)
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil, fmt.Errorf("json has no %v", x)
	}
	if a := math.Abs(x); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.AppendFloat(nil, x, 'e', -1, 64), nil
	}
	b := strconv.AppendFloat(nil, x, 'f', -1, 64)
	if !bytes.ContainsRune(b, '.') {
		b = append(b, ".0"...)
	}
	return b, nil
}
