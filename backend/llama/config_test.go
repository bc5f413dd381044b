package llama

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// goldenConfigs are one config of each family with every optional part in use.
var goldenConfigs = map[string]Config{
	"llama": {
		ModelType: "llama", Vocab: 128256, Hidden: 2048, Intermediate: 8192, Layers: 16, Heads: 32, KVHeads: 8,
		HeadDim: 64, MaxPositions: 131072, RMSEps: 1e-5, RopeTheta: 500000,
		RopeScaling:   &RopeScaling{Type: "llama3", Factor: 32, LowFreq: 1, HighFreq: 4, OriginalMax: 8192},
		TieEmbeddings: true, BOS: []int32{128000}, EOS: []int32{128001, 128008, 128009}, DType: "bfloat16",
	},
	"mistral": {
		ModelType: "mistral", Vocab: 32000, Hidden: 4096, Intermediate: 14336, Layers: 32, Heads: 32, KVHeads: 8,
		HeadDim: 128, MaxPositions: 32768, RMSEps: 1e-5, RopeTheta: 10000, SlidingWindow: 4096,
		BOS: []int32{1}, EOS: []int32{2}, PAD: []int32{0}, DType: "float32",
	},
	"qwen2": {
		ModelType: "qwen2", Vocab: 151936, Hidden: 896, Intermediate: 4864, Layers: 24, Heads: 14, KVHeads: 2,
		HeadDim: 64, MaxPositions: 32768, RMSEps: 1e-6, RopeTheta: 1e6,
		TieEmbeddings: true, BOS: []int32{151643}, EOS: []int32{151645, 151643}, DType: "bfloat16",
	},
	"qwen3": {
		ModelType: "qwen3", Vocab: 151936, Hidden: 1024, Intermediate: 3072, Layers: 28, Heads: 16, KVHeads: 8,
		HeadDim: 128, MaxPositions: 40960, RMSEps: 1e-6, RopeTheta: 1e6,
		TieEmbeddings: true, BOS: []int32{151643}, EOS: []int32{151645}, DType: "bfloat16",
	},
}

// golden compares have with a file of testdata, or rewrites it with -update.
func golden(t *testing.T, name string, have []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, have, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Errorf("%s: have\n%s\nwant\n%s", path, have, want)
	}
}

func TestMarshalConfig(t *testing.T) {
	for name, c := range goldenConfigs {
		raw, err := c.marshalConfig()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "config_"+name+".json", raw)
		generation, err := c.marshalGeneration()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "generation_config_"+name+".json", generation)
		back, err := ReadConfig(fstest.MapFS{"config.json": {Data: raw}, "generation_config.json": {Data: generation}})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, c) {
			t.Errorf("%s came back as\n%+v\nwant\n%+v", name, back, c)
		}
	}
	bad := goldenConfigs["llama"]
	bad.Heads = 0
	if _, err := bad.marshalConfig(); err == nil || !strings.Contains(err.Error(), "num_attention_heads") {
		t.Errorf("invalid config: %v", err)
	}
}

func TestPyFloat(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0.0", 1: "1.0", 1e-5: "1e-05", 1e-6: "1e-06", 0.0001: "0.0001", 0.02: "0.02", 10000: "10000.0",
		1e6: "1000000.0", 1.5e-5: "1.5e-05", 1e15: "1000000000000000.0", 1e16: "1e+16", -2.5: "-2.5",
	} {
		if b, err := pyFloat(x).MarshalJSON(); string(b) != want || err != nil {
			t.Errorf("pyFloat(%g) = %s, %v, want %s", x, b, err, want)
		}
	}
}

// small is the least a config.json must say.
const small = `"model_type":"llama","vocab_size":64,"hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,"num_attention_heads":4`

// qwen is small as the type of another family.
func qwen(modelType string) string { return strings.Replace(small, "llama", modelType, 1) }

func TestParseConfigDefaults(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       func(*Config) // changes to what small alone gives
	}{
		{"small", small, func(*Config) {}},
		{"nulls", small + `,"num_key_value_heads":null,"head_dim":null,"rope_scaling":null,"sliding_window":null,"quantization_config":null`, func(*Config) {}},
		{"no ids", small + `,"bos_token_id":null,"eos_token_id":null`, func(c *Config) { c.BOS, c.EOS = nil, nil }},
		{"many ids", small + `,"eos_token_id":[3,4],"pad_token_id":5`, func(c *Config) { c.EOS, c.PAD = []int32{3, 4}, []int32{5} }},
		{"no pad", small + `,"pad_token_id":-1`, func(*Config) {}},
		{"tiny vocabulary has no default end", strings.Replace(small, `64`, `2`, 1), func(c *Config) { c.Vocab, c.EOS = 2, nil }},
		{"architectures alone", strings.Replace(small, `"model_type":"llama"`, `"architectures":["LlamaForCausalLM"]`, 1), func(*Config) {}},
		{"given heads", small + `,"num_key_value_heads":2,"head_dim":10`, func(c *Config) { c.KVHeads, c.HeadDim = 2, 10 }},
		{"harmless fields", small + `,"hidden_act":"silu","attention_bias":false,"attention_dropout":0.0,"mlp_bias":false,"pretraining_tp":2,"future":{"a":[1]}`, func(*Config) {}},
		{"torch_dtype", small + `,"torch_dtype":"float16"`, func(c *Config) { c.DType = "float16" }},
		{"dtype", small + `,"dtype":"bfloat16"`, func(c *Config) { c.DType = "bfloat16" }},
		{"rope_theta as int", small + `,"rope_theta":500000`, func(c *Config) { c.RopeTheta = 5e5 }},
		{"rope_parameters", small + `,"rope_parameters":{"rope_type":"default","rope_theta":1e6}`, func(c *Config) { c.RopeTheta = 1e6 }},
		{"rope_parameters without a type", small + `,"rope_parameters":{"rope_theta":1e6,"partial_rotary_factor":1.0}`, func(c *Config) { c.RopeTheta = 1e6 }},
		{"rope_parameters without anything", small + `,"rope_theta":100.0,"rope_parameters":{}`, func(c *Config) { c.RopeTheta = 100 }},
		{"rope_scaling default", small + `,"rope_theta":100.0,"rope_scaling":{"type":"default"}`, func(c *Config) { c.RopeTheta = 100 }},
		{"rope_scaling", small + `,"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}`,
			func(c *Config) {
				c.RopeScaling = &RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, OriginalMax: 8192}
			}},
		{"rope_parameters llama3", small + `,"rope_parameters":{"rope_theta":5e5,"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"}`,
			func(c *Config) {
				c.RopeTheta = 5e5
				c.RopeScaling = &RopeScaling{Type: "llama3", Factor: 8, LowFreq: 1, HighFreq: 4, OriginalMax: 8192}
			}},
		{"mistral", strings.Replace(small, `llama`, `mistral`, 1) + `,"num_key_value_heads":4`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.SlidingWindow = "mistral", 131072, 4096
		}},
		{"mistral without window", strings.Replace(small, `llama`, `mistral`, 1) + `,"num_key_value_heads":1,"sliding_window":null`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.KVHeads = "mistral", 131072, 1
		}},
		{"mistral without a layer that has a window", strings.Replace(small, `llama`, `mistral`, 1) + `,"num_key_value_heads":4,"layer_types":["full_attention","full_attention"]`, func(c *Config) {
			c.ModelType, c.MaxPositions = "mistral", 131072
		}},
		{"mistral with windows", strings.Replace(small, `llama`, `mistral`, 1) + `,"num_key_value_heads":4,"sliding_window":8,"layer_types":["sliding_attention","sliding_attention"]`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.SlidingWindow = "mistral", 131072, 8
		}},
		{"biases", small + `,"attention_bias":true`, func(c *Config) { c.AttentionBias = true }},
		{"qwen2", qwen("qwen2") + `,"num_key_value_heads":4`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.BOS, c.EOS = "qwen2", 32768, nil, nil
		}},
		{"qwen2 with a null", qwen("qwen2") + `,"num_key_value_heads":null`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.BOS, c.EOS = "qwen2", 32768, nil, nil
		}},
		{"qwen2 without a window", qwen("qwen2") + `,"num_key_value_heads":2,"use_sliding_window":false,"sliding_window":32768,"max_window_layers":1,"attention_bias":false,"eos_token_id":5`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.KVHeads, c.BOS, c.EOS = "qwen2", 32768, 2, nil, []int32{5}
		}},
		{"qwen2 as transformers 5 writes it", qwen("qwen2") + `,"num_key_value_heads":2,"layer_types":["full_attention","full_attention"],"bos_token_id":null,"rope_parameters":{"rope_type":"default","rope_theta":1e6},"dtype":"bfloat16"`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.KVHeads, c.BOS, c.EOS, c.RopeTheta, c.DType = "qwen2", 32768, 2, nil, nil, 1e6, "bfloat16"
		}},
		{"qwen3", qwen("qwen3") + `,"num_key_value_heads":1`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.KVHeads, c.HeadDim, c.BOS, c.EOS = "qwen3", 32768, 1, 128, nil, nil
		}},
		{"qwen3 with biases", qwen("qwen3") + `,"num_key_value_heads":1,"head_dim":6,"attention_bias":true,"sliding_window":null`, func(c *Config) {
			c.ModelType, c.MaxPositions, c.KVHeads, c.HeadDim, c.BOS, c.EOS, c.AttentionBias = "qwen3", 32768, 1, 6, nil, nil, true
		}},
	} {
		want := Config{ModelType: "llama", Vocab: 64, Hidden: 16, Intermediate: 24, Layers: 2, Heads: 4, KVHeads: 4,
			HeadDim: 4, MaxPositions: 2048, RMSEps: 1e-6, RopeTheta: 10000, BOS: []int32{1}, EOS: []int32{2}}
		c.want(&want)
		have, err := parseConfig([]byte("{" + c.text + "}"))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !reflect.DeepEqual(have, want) {
			t.Errorf("%s: have %+v\nwant %+v", c.name, have, want)
		}
	}
}

func TestParseConfigErrors(t *testing.T) {
	without := func(field string) string {
		var rest []string
		for _, f := range strings.Split(small, ",") {
			if !strings.HasPrefix(f, `"`+field+`"`) {
				rest = append(rest, f)
			}
		}
		return strings.Join(rest, ",")
	}
	rope := func(s string) string { return small + `,"rope_scaling":{` + s + `}` }
	const llama3 = `"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192`
	for _, c := range []struct{ text, want string }{
		{without("model_type"), "model_type: required"},
		{without("vocab_size"), "vocab_size: required"},
		{without("hidden_size"), "hidden_size: required"},
		{without("intermediate_size"), "intermediate_size: required"},
		{without("num_hidden_layers"), "num_hidden_layers: required"},
		{without("num_attention_heads"), "num_attention_heads: required"},
		{qwen("qwen3_moe"), `model_type: want llama, mistral, qwen2 or qwen3, have "qwen3_moe"`},
		{qwen("qwen2"), "num_key_value_heads: want a divisor of num_attention_heads 4, have 32"},
		{qwen("qwen2") + `,"num_key_value_heads":4,"use_sliding_window":true`, "use_sliding_window: only false is supported, have true"},
		{qwen("qwen3") + `,"num_key_value_heads":4,"layer_types":["full_attention","sliding_attention"]`, `layer_types: [1] is "sliding_attention" and [0] is "full_attention"`},
		{qwen("qwen3") + `,"num_key_value_heads":4,"layer_types":["sliding_attention","sliding_attention"]`, `layer_types: [0] is "sliding_attention", but there is no sliding_window`},
		{qwen("qwen2") + `,"num_key_value_heads":4,"attention_bias":true`, `attention_bias: model_type "qwen2" has none, have true`},
		{qwen("mistral") + `,"num_key_value_heads":4,"attention_bias":true`, `attention_bias: model_type "mistral" has none, have true`},
		{qwen("qwen2") + `,"num_key_value_heads":4,"architectures":["Qwen3ForCausalLM"]`, `architectures: want ["Qwen2ForCausalLM"]`},
		{small + `,"architectures":["LlamaForSequenceClassification"]`, `architectures: want ["LlamaForCausalLM"]`},
		{small + `,"architectures":["MistralForCausalLM"]`, `architectures: want ["LlamaForCausalLM"]`},
		{small + `,"architectures":"LlamaForCausalLM"`, "architectures: want a list"},
		{strings.Replace(small, "64", `"64"`, 1), `vocab_size: want an integer, have "64"`},
		{strings.Replace(small, "64", `64.5`, 1), `vocab_size: want an integer, have 64.5`},
		{strings.Replace(small, "64", `-1`, 1), `vocab_size: want 1 to 16777216, have -1`},
		{strings.Replace(small, "64", `99999999999999999999`, 1), `vocab_size: want an integer`},
		{strings.Replace(small, "16", `1000000000`, 1), `hidden_size: want 1 to`},
		{strings.Replace(small, "16", `18`, 1), `head_dim: missing, and hidden_size 18 is no multiple`},
		{strings.Replace(small, "16", `12`, 1), `head_dim: rotary embedding wants it even, have 3`},
		{small + `,"num_key_value_heads":3`, "num_key_value_heads: want a divisor of num_attention_heads 4, have 3"},
		{small + `,"num_attention_heads":3,"head_dim":8`, "num_attention_heads: model_type llama wants a divisor of hidden_size 16, have 3"},
		{small + `,"num_key_value_heads":0`, "num_key_value_heads: want 1 to"},
		{small + `,"max_position_embeddings":0`, "max_position_embeddings: want 1 to"},
		{small + `,"rms_norm_eps":0`, "rms_norm_eps: want between 0 and 1, have 0"},
		{small + `,"rms_norm_eps":"1e-5"`, "rms_norm_eps: want a number"},
		{small + `,"rope_theta":-1`, "rope_theta: want above 1, have -1"},
		{small + `,"rope_theta":1e999`, "rope_theta: want a number"},
		{small + `,"tie_word_embeddings":1`, "tie_word_embeddings: want true or false, have 1"},
		{small + `,"sliding_window":16`, `sliding_window: model_type "llama" has none, have 16`},
		{small + `,"layer_types":["full_attention","sliding_attention"]`, `layer_types: [1] is "sliding_attention" and [0] is "full_attention": only models whose layers are all of one type`},
		{small + `,"layer_types":["sliding_attention"]`, `layer_types: [0] is "sliding_attention", but there is no sliding_window`},
		{small + `,"layer_types":["linear_attention"]`, `layer_types: [0]: want "full_attention" or "sliding_attention", have "linear_attention"`},
		{small + `,"layer_types":7`, `layer_types: want a list of strings, have 7`},
		{small + `,"bos_token_id":64`, "bos_token_id: want 0 to 63 (vocab_size − 1), have 64"},
		{small + `,"bos_token_id":[1,2]`, "bos_token_id: want at most one id"},
		{small + `,"eos_token_id":[1,-2]`, "eos_token_id: want 0 to 63"},
		{small + `,"eos_token_id":"</s>"`, `eos_token_id: want an id or a list of ids, have "</s>"`},
		{small + `,"hidden_act":"gelu"`, `hidden_act: only "silu" is supported, have "gelu"`},
		{small + `,"attention_bias":1`, "attention_bias: want true or false, have 1"},
		{small + `,"mlp_bias":true`, "mlp_bias: only false is supported, have true"},
		{small + `,"attention_dropout":0.1`, "attention_dropout: only 0 is supported, have 0.1"},
		{small + `,"quantization_config":{"bits":4}`, `quantization_config: not supported, have {"bits":4}`},
		{small + `,"partial_rotary_factor":0.5`, "partial_rotary_factor: only 1 is supported, have 0.5"},
		{small + `,"torch_dtype":16`, "torch_dtype: want a string, have 16"},
		{rope(`"rope_type":"yarn","factor":4.0`), `rope_scaling.rope_type: only "llama3" and "default" are supported, have "yarn"`},
		{rope(`"type":"linear","factor":4.0`), `rope_scaling.rope_type: only "llama3" and "default" are supported, have "linear"`},
		{rope(`"factor":4.0`), "rope_scaling.rope_type: required"},
		{rope(strings.Replace(llama3, `"factor":8.0,`, "", 1)), "rope_scaling.factor: required"},
		{rope(strings.Replace(llama3, "8.0", "-1", 1)), "rope_scaling.factor: want ≥ 1, have -1"},
		{rope(strings.Replace(llama3, "4.0", "0.5", 1)), "rope_scaling.high_freq_factor: want above low_freq_factor 1, have 0.5"},
		{rope(strings.Replace(llama3, "1.0", "0", 1)), "rope_scaling.low_freq_factor: want > 0"},
		{rope(strings.Replace(llama3, "8192", "0", 1)), "rope_scaling.original_max_position_embeddings: want 1 to"},
		{rope(strings.Replace(llama3, "8192", "8e3", 1)), "rope_scaling.original_max_position_embeddings: want an integer, have 8e3"},
		{small + `,"rope_scaling":7`, "rope_scaling: want an object or null, have 7"},
		{small + `,"rope_parameters":{"full_attention":{"rope_type":"default"}}`, "rope_parameters.rope_type: required"},
		{small + `,"rope_theta":5.0,"rope_parameters":{"rope_type":"default","rope_theta":6.0}`, "rope_parameters.rope_theta: want rope_theta 5, have 6"},
		{rope(llama3) + `,"rope_parameters":{"rope_type":"default"}`, "rope_parameters: differs from rope_scaling"},
	} {
		_, err := parseConfig([]byte("{" + c.text + "}"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\nerror %v lacks %q", c.text, err, c.want)
		}
	}
	for _, text := range []string{"", "null", "[]", "{", `{"a":NaN}`, "\xff"} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), "JSON object") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func TestReadConfigFiles(t *testing.T) {
	full := "{" + small + "}"
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{}, "read config.json:"},
		{map[string]string{"config.json": "{"}, "parse config.json:"},
		{map[string]string{"config.json": strings.Repeat(" ", maxConfigBytes+1)}, "read config.json: want at most 1048576 bytes"},
		{map[string]string{"config.json": full, "generation_config.json": "["}, "parse generation_config.json:"},
		{map[string]string{"config.json": full, "generation_config.json": `{"eos_token_id":99}`}, "parse generation_config.json: eos_token_id: want 0 to 63"},
	} {
		fsys := fstest.MapFS{}
		for name, text := range c.files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if _, err := ReadConfig(fsys); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
	if _, err := ReadConfig(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing config.json: %v", err)
	}
}

// TestTensorNames pins names and shapes as the modules of transformers have them.
func TestTensorNames(t *testing.T) {
	var c Config
	for _, f := range []struct{ file, text string }{
		{"tensors_qwen2.txt", qwen("qwen2")},
		{"tensors_qwen3.txt", qwen("qwen3") + `,"attention_bias":true`},
		{"tensors.txt", small},
	} {
		var err error
		if c, err = parseConfig([]byte("{" + f.text + `,"num_key_value_heads":2,"head_dim":6}`)); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, s := range c.Tensors() {
			b.WriteString(s.Name + " " + shapeText(s.Shape) + "\n")
		}
		golden(t, f.file, []byte(b.String()))
	}
	c.TieEmbeddings = true
	if specs := c.Tensors(); len(specs) != 20 || specs[len(specs)-1].Name != "model.norm.weight" {
		t.Errorf("tied: %d tensors, last %v", len(specs), specs[len(specs)-1])
	}
}

// FuzzConfig: no panic, and what is accepted survives writing and reading.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("{" + small + "}"))
	for _, c := range goldenConfigs {
		raw, err := c.marshalConfig()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseConfig(raw)
		if err != nil {
			return
		}
		text, err := c.marshalConfig()
		if err != nil {
			t.Fatalf("%q was accepted as %+v, but: %v", raw, c, err)
		}
		back, err := parseConfig(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		// Lists of no and of one id are written as null and as the id.
		for _, x := range []*Config{&c, &back} {
			for _, ids := range []*[]int32{&x.BOS, &x.EOS, &x.PAD} {
				if len(*ids) == 0 {
					*ids = nil
				}
			}
		}
		if !reflect.DeepEqual(back, c) && !strings.Contains(c.DType, "\ufffd") {
			t.Fatalf("%+v came back as %+v", c, back)
		}
	})
}

// TestConfigIsAFile: a device that says it is empty is not read.
func TestConfigIsAFile(t *testing.T) {
	for _, name := range []string{configFile, generationFile, indexFile} {
		dir := t.TempDir()
		if name == generationFile {
			if err := os.WriteFile(filepath.Join(dir, configFile), []byte("{"+small+"}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("/dev/zero", filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
		var err error
		if name == indexFile {
			_, err = openCheckpoint(os.DirFS(dir), nil)
		} else {
			_, err = ReadConfig(os.DirFS(dir))
		}
		if err == nil || !strings.Contains(err.Error(), "read "+name+": want a regular file") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
