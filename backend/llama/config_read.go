package llama

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"nrt/backend/safetensors"
)

// The files of a Hugging Face folder that this package reads and writes, next
// to the weights.
const (
	configFile     = "config.json"
	generationFile = "generation_config.json"
)

// maxConfigBytes bounds config.json, generation_config.json and adapter_config.json.
const maxConfigBytes = 1 << 20

// architectures maps each model_type to the class that config.json names.
var architectures = map[string]string{
	"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
	"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
}

// ReadConfig reads config.json and, when there, the end-of-text ids of
// generation_config.json, which are the ones generation stops at.
//
// Optional fields that are absent take the default of transformers' class.
// Fields this package does not know are ignored, except those that would change
// the arithmetic (quantization, biases of the MLP, other activations or rope types):
// they are refused by name.
func ReadConfig(fsys fs.FS) (Config, error) {
	raw, err := readSmall(fsys, configFile, maxConfigBytes)
	if err != nil {
		return Config{}, err
	}
	c, err := parseConfig(raw)
	if err != nil {
		return Config{}, fmt.Errorf("parse %s: %w", configFile, err)
	}
	raw, err = readSmall(fsys, generationFile, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return Config{}, err
	}
	if err := c.mergeGeneration(raw); err != nil {
		return Config{}, fmt.Errorf("parse %s: %w", generationFile, err)
	}
	return c, nil
}

// readSmall reads a JSON file that has no reason to be larger than limit.
func readSmall(fsys fs.FS, name string, limit int64) ([]byte, error) {
	raw, err := safetensors.ReadSmall(fsys, name, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return raw, nil
}

// mergeGeneration takes eos_token_id from generation_config.json.
func (c *Config) mergeGeneration(raw []byte) error {
	r, err := newFields("", raw)
	if err != nil {
		return err
	}
	c.EOS = r.ids("eos_token_id", c.EOS)
	if r.err != nil {
		return r.err
	}
	return c.Validate()
}

// parseConfig reads and validates the text of a config.json.
func parseConfig(raw []byte) (Config, error) {
	r, err := newFields("", raw)
	if err != nil {
		return Config{}, err
	}
	c := Config{ModelType: r.modelType()}
	r.refuse()
	c.Vocab = r.integer("vocab_size", required)
	c.Hidden = r.integer("hidden_size", required)
	c.Intermediate = r.integer("intermediate_size", required)
	c.Layers = r.integer("num_hidden_layers", required)
	c.Heads = r.integer("num_attention_heads", required)
	bos, eos := defaultID(1, c.Vocab), defaultID(2, c.Vocab)
	kvHeads := func(missing int) int {
		if _, null := r.m["num_key_value_heads"]; null {
			missing = c.Heads
		}
		return r.integer("num_key_value_heads", missing)
	}
	switch c.ModelType {
	case "mistral":
		c.KVHeads = kvHeads(8)
		c.MaxPositions = r.integer("max_position_embeddings", 131072)
		c.SlidingWindow = 4096
		if r.has("sliding_window") {
			c.SlidingWindow = r.integer("sliding_window", 0)
		} else if _, null := r.m["sliding_window"]; null {
			c.SlidingWindow = 0
		}
	case "qwen2", "qwen3": // whose sliding_window means nothing, since use_sliding_window is false
		c.KVHeads = kvHeads(32)
		c.MaxPositions = r.integer("max_position_embeddings", 32768)
		bos, eos = nil, nil
	default:
		c.KVHeads = kvHeads(c.Heads)
		c.MaxPositions = r.integer("max_position_embeddings", 2048)
		c.SlidingWindow = r.integer("sliding_window", 0)
	}
	c.SlidingWindow = r.layerTypes(c.SlidingWindow)
	if r.has("head_dim") {
		c.HeadDim = r.integer("head_dim", required)
	} else if c.ModelType == "qwen3" {
		c.HeadDim = 128
	} else if c.Heads > 0 && c.Hidden > 0 {
		if c.Hidden%c.Heads != 0 {
			r.fail("head_dim", "missing, and hidden_size %d is no multiple of num_attention_heads %d", c.Hidden, c.Heads)
		}
		c.HeadDim = c.Hidden / c.Heads
	}
	c.RMSEps = r.number("rms_norm_eps", 1e-6)
	c.RopeTheta, c.RopeScaling = r.rope()
	c.TieEmbeddings = r.boolean("tie_word_embeddings", false)
	c.AttentionBias = r.boolean("attention_bias", false)
	c.BOS = r.ids("bos_token_id", bos)
	c.EOS = r.ids("eos_token_id", eos)
	c.PAD = r.ids("pad_token_id", nil)
	if len(c.PAD) == 1 && c.PAD[0] == -1 { // how the first Llama files spell none
		c.PAD = nil
	}
	c.DType = r.text("torch_dtype", "")
	if r.has("dtype") {
		c.DType = r.text("dtype", "")
	}
	if r.err != nil {
		return Config{}, r.err
	}
	return c, c.Validate()
}

// defaultID is the class default for a token id, unless the vocabulary is too
// small to hold it.
func defaultID(id int32, vocab int) []int32 {
	if int(id) >= vocab {
		return nil
	}
	return []int32{id}
}

// fields reads typed values from a JSON object and keeps the first error.
// JSON null counts as absent.
type fields struct {
	prefix string // "rope_scaling." within a nested object
	m      map[string]json.RawMessage
	err    error
}

func newFields(prefix string, raw []byte) (*fields, error) {
	r := &fields{prefix: prefix}
	if err := json.Unmarshal(raw, &r.m); err != nil {
		return nil, fmt.Errorf("%swant a JSON object: %w", prefix, err)
	}
	if r.m == nil {
		return nil, fmt.Errorf("%swant a JSON object, have null", prefix)
	}
	return r, nil
}

func (r *fields) has(name string) bool {
	raw, ok := r.m[name]
	return ok && string(raw) != "null"
}

func (r *fields) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%s%s: %s", r.prefix, name, fmt.Sprintf(format, args...))
	}
}

// required as a default makes a field's absence an error.
const required = math.MinInt

func (r *fields) integer(name string, def int) int {
	if !r.has(name) {
		if def == required {
			r.fail(name, "required, but missing")
		}
		return def
	}
	n, err := strconv.ParseInt(string(r.m[name]), 10, 64)
	if err != nil || n != int64(int(n)) {
		r.fail(name, "want an integer, have %s", shorten(r.m[name]))
		return 0
	}
	return int(n)
}

func (r *fields) number(name string, def float64) float64 {
	if !r.has(name) {
		if def == required {
			r.fail(name, "required, but missing")
		}
		return def
	}
	x, err := strconv.ParseFloat(string(r.m[name]), 64)
	if err != nil {
		r.fail(name, "want a number, have %s", shorten(r.m[name]))
	}
	return x
}

func (r *fields) boolean(name string, def bool) bool {
	switch {
	case !r.has(name):
		return def
	case string(r.m[name]) == "true":
		return true
	case string(r.m[name]) != "false":
		r.fail(name, "want true or false, have %s", shorten(r.m[name]))
	}
	return false
}

func (r *fields) text(name, def string) string {
	if !r.has(name) {
		return def
	}
	var s string
	if err := json.Unmarshal(r.m[name], &s); err != nil {
		r.fail(name, "want a string, have %s", shorten(r.m[name]))
	}
	return s
}

// ids reads one id or a list of them. An explicit null is no id at all; only a
// missing field takes the default.
func (r *fields) ids(name string, def []int32) []int32 {
	raw, ok := r.m[name]
	if !ok {
		return def
	}
	if string(raw) == "null" {
		return nil
	}
	var list []int32
	var one int32
	if json.Unmarshal(raw, &one) == nil {
		return []int32{one}
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		r.fail(name, "want an id or a list of ids, have %s", shorten(raw))
	}
	return list
}

// modelType reads model_type and checks architectures against it.
func (r *fields) modelType() string {
	var archs []string
	if r.has("architectures") {
		if err := json.Unmarshal(r.m["architectures"], &archs); err != nil {
			r.fail("architectures", "want a list of strings, have %s", shorten(r.m["architectures"]))
			return ""
		}
	}
	t := r.text("model_type", "")
	if t == "" {
		for mt, arch := range architectures {
			if len(archs) == 1 && archs[0] == arch {
				return mt
			}
		}
		r.fail("model_type", "required, but missing")
		return ""
	}
	want, ok := architectures[t]
	if !ok {
		r.fail("model_type", "want llama, mistral, qwen2 or qwen3, have %q", t)
		return ""
	}
	if len(archs) > 0 && (len(archs) > 1 || archs[0] != want) {
		r.fail("architectures", "want [%q] for model_type %q, have %q", want, t, archs)
	}
	return t
}

// layerTypes reads which layers see all keys and which a window only. They must
// be of one type: it decides whether the window counts.
func (r *fields) layerTypes(window int) int {
	const name = "layer_types"
	if !r.has(name) {
		return window
	}
	var types []string
	if err := json.Unmarshal(r.m[name], &types); err != nil {
		r.fail(name, "want a list of strings, have %s", shorten(r.m[name]))
		return window
	}
	for i, t := range types {
		switch {
		case t != "full_attention" && t != "sliding_attention":
			r.fail(name, "[%d]: want \"full_attention\" or \"sliding_attention\", have %q", i, t)
		case t != types[0]:
			r.fail(name, "[%d] is %q and [0] is %q: only models whose layers are all of one type are supported", i, t, types[0])
		case t == "sliding_attention" && window <= 0:
			r.fail(name, "[%d] is %q, but there is no sliding_window", i, t)
		}
	}
	if len(types) > 0 && types[0] == "full_attention" {
		return 0
	}
	return window
}

// refuse fails on every field that would change the arithmetic.
func (r *fields) refuse() {
	for _, f := range []struct {
		name string
		ok   []string // JSON texts that leave the arithmetic as it is
	}{
		{"hidden_act", []string{`"silu"`, `"swish"`}},
		{"use_sliding_window", []string{"false"}},
		{"mlp_bias", []string{"false"}},
		{"attention_dropout", []string{"0", "0.0"}},
		{"partial_rotary_factor", []string{"1", "1.0"}},
		{"quantization_config", nil},
		{"compression_config", nil},
		{"is_encoder_decoder", []string{"false"}},
		{"add_cross_attention", []string{"false"}},
	} {
		if !r.has(f.name) {
			continue
		}
		have := strings.TrimSpace(string(r.m[f.name]))
		ok := false
		for _, s := range f.ok {
			ok = ok || s == have
		}
		switch {
		case ok:
		case f.ok == nil:
			r.fail(f.name, "not supported, have %s", shorten(r.m[f.name]))
		default:
			r.fail(f.name, "only %s is supported, have %s", f.ok[0], shorten(r.m[f.name]))
		}
	}
}

// rope reads the rotary embedding in either layout: rope_theta beside
// rope_scaling, or the newer rope_parameters that holds both.
func (r *fields) rope() (theta float64, s *RopeScaling) {
	theta = r.number("rope_theta", 10000)
	if r.has("rope_scaling") {
		theta, s = r.ropeObject("rope_scaling", theta)
	}
	if r.has("rope_parameters") {
		t2, s2 := r.ropeObject("rope_parameters", theta)
		if r.has("rope_theta") && t2 != theta {
			r.fail("rope_parameters.rope_theta", "want rope_theta %v, have %v", theta, t2)
		}
		if r.has("rope_scaling") && !sameScaling(s, s2) {
			r.fail("rope_parameters", "differs from rope_scaling %s, have %s", shorten(r.m["rope_scaling"]), shorten(r.m["rope_parameters"]))
		}
		theta, s = t2, s2
	}
	return theta, s
}

// ropeObject reads one rope_scaling or rope_parameters object.
func (r *fields) ropeObject(name string, theta float64) (float64, *RopeScaling) {
	o, err := newFields(r.prefix+name+".", r.m[name])
	if err != nil {
		r.fail(name, "want an object or null, have %s", shorten(r.m[name]))
		return theta, nil
	}
	defer func() {
		if r.err == nil {
			r.err = o.err
		}
	}()
	theta = o.number("rope_theta", theta)
	if f := o.number("partial_rotary_factor", 1); f != 1 {
		o.fail("partial_rotary_factor", "only 1.0 is supported, have %v", f)
	}
	kind := o.text("rope_type", o.text("type", ""))
	switch kind {
	case "default":
		return theta, nil
	case "llama3":
	case "": // the default, as for transformers; but more fields than its own mean another
		delete(o.m, "rope_theta")
		delete(o.m, "partial_rotary_factor")
		if len(o.m) > 0 {
			o.fail("rope_type", "required, but missing")
		}
		return theta, nil
	default:
		o.fail("rope_type", `only "llama3" and "default" are supported, have %q`, kind)
		return theta, nil
	}
	return theta, &RopeScaling{
		Type:        kind,
		Factor:      o.number("factor", required),
		LowFreq:     o.number("low_freq_factor", required),
		HighFreq:    o.number("high_freq_factor", required),
		OriginalMax: o.integer("original_max_position_embeddings", required),
	}
}

func sameScaling(a, b *RopeScaling) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// shorten keeps a JSON value readable within an error.
func shorten(raw []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) == nil {
		raw = b.Bytes()
	}
	if len(raw) > 60 {
		return strings.ToValidUTF8(string(raw[:60]), "") + "…"
	}
	return string(raw)
}
