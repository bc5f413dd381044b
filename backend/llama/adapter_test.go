package llama

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"nrt/backend/device"
	"nrt/backend/safetensors"
)

// TestSaveHoldsOneTensor: a model is written, merged or not, without memory for a
// second one: a run that fits would otherwise be stopped at its end.
func TestSaveHoldsOneTensor(t *testing.T) {
	dev := newDevice(t, false)
	c := shapes["gqa untied"]
	c.Hidden, c.Intermediate, c.Layers, c.Heads, c.KVHeads, c.HeadDim = 256, 704, 16, 4, 4, 64
	l := LoRA{Rank: 64, Alpha: 64, Modules: LoRAModules()}
	m, err := NewLoRAFrom(dev, c, l, 1, initial(c, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	for name, save := range map[string]func(dir string) error{
		"Save":        func(dir string) error { return m.Save(dir, safetensors.F32) },
		"SaveAdapter": func(dir string) error { return m.SaveAdapter(dir, "base") },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := save(filepath.Join(t.TempDir(), "m")); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		took, most := after.TotalAlloc-before.TotalAlloc, uint64(4*m.Flat().Len())
		t.Logf("%s took %d bytes; the model has %d, its factors %d", name, took, 4*m.NumParams(), 4*m.Flat().Len())
		if took > most {
			t.Errorf("%s took %d bytes, want less than the factors' %d", name, took, most)
		}
	}
}

// TestAdapterRoundTrip: factors are read back to the bit, from a file that names and
// shapes them as PEFT does.
func TestAdapterRoundTrip(t *testing.T) {
	dev := newDevice(t, false)
	c := shapes["gqa untied"]
	_, m := adapted(t, dev, c, allLoRA, true)
	dir := t.TempDir()
	if err := m.SaveAdapter(dir, "path/to/base"); err != nil {
		t.Fatal(err)
	}
	_, again := adapted(t, dev, c, allLoRA, false)
	if err := again.ReadAdapter(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	have, want := make([]float64, m.Flat().Len()), make([]float64, m.Flat().Len())
	dev.Read64(have, again.Flat())
	dev.Read64(want, m.Flat())
	if !slices.Equal(have, want) {
		t.Error("factors read back are others")
	}
	f, err := safetensors.Open(os.DirFS(dir), AdapterWeights)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, shape := range map[string][]int{
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": {3, 8},
		"base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight": {8, 3},
		"base_model.model.model.layers.1.mlp.down_proj.lora_A.weight":    {3, 12},
	} {
		if x, ok := f.Tensor(name); !ok || !slices.Equal(x.Shape, shape) || x.DType != safetensors.F32 {
			t.Errorf("%s: have %v, want %v", name, x, shape)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, AdapterConfig))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "path/to/base", "r": 3.0, "lora_alpha": 4.5,
		"bias": "none", "lora_dropout": 0.0, "modules_to_save": nil,
	} {
		if config[key] != want {
			t.Errorf("adapter_config.json: %s is %v, want %v", key, config[key], want)
		}
	}
	for _, key := range []string{"use_rslora", "use_dora", "use_qalora", "layer_replication", "alora_invocation_tokens"} {
		if x, ok := config[key]; ok {
			t.Errorf("adapter_config.json: %s is %v, and older versions of PEFT do not know it", key, x)
		}
	}
	for _, key := range []string{"rank_pattern", "alpha_pattern"} { // PEFT takes no null for these
		if x, ok := config[key].(map[string]any); !ok || len(x) > 0 {
			t.Errorf("adapter_config.json: %s is %v, want {}", key, config[key])
		}
	}
}

// TestAdapterRefusals: what would mean another model is refused by file and field.
func TestAdapterRefusals(t *testing.T) {
	dev := newDevice(t, false)
	c := shapes["mha tied"]
	base, m := adapted(t, dev, c, allLoRA, true)
	dir := t.TempDir()
	if err := base.Save(filepath.Join(dir, "m"), safetensors.F32); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "m")
	if err := m.SaveAdapter(dir, "base"); err != nil {
		t.Fatal(err)
	}
	good := fstest.MapFS{}
	for _, name := range []string{configFile, weightsFile, AdapterWeights, AdapterConfig} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		good[name] = &fstest.MapFile{Data: raw}
	}
	if _, err := Load(dev, good); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ was, is, want string }{
		{`"LORA"`, `"IA3"`, "peft_type"},
		{`"bias": "none"`, `"bias": "all"`, "bias"},
		{`{`, `{"use_dora": true,`, "use_dora"},
		{`{`, `{"use_rslora": true,`, "use_rslora"},
		{`"fan_in_fan_out": false`, `"fan_in_fan_out": true`, "fan_in_fan_out"},
		{`"modules_to_save": null`, `"modules_to_save": ["lm_head"]`, "modules_to_save"},
		{`"rank_pattern": {}`, `"rank_pattern": {"q_proj": 8}`, "rank_pattern"},
		{`"layers_to_transform": null`, `"layers_to_transform": [0]`, "layers_to_transform"},
		{`{`, `{"use_qalora": true,`, "use_qalora"},
		{`"init_lora_weights": true`, `"init_lora_weights": "pissa"`, "init_lora_weights"},
		{`{`, `{"layer_replication": [[0, 2], [1, 2]],`, "layer_replication"},
		{`{`, `{"alora_invocation_tokens": [5],`, "alora_invocation_tokens"},
		{`"alpha_pattern": {}`, `"alpha_pattern": {"q_proj": 8}`, "alpha_pattern"},
		{`"r": 3`, `"r": 0`, ": r: want"},
		{`"r": 3`, `"r": 4`, "want shape [4, 8]"},
		{`"lora_alpha": 4.5`, `"lora_alpha": 0`, ": lora_alpha: want"},
		{`"q_proj",`, `"lm_head",`, ": target_modules: want"},
		{`"target_modules": [`, `"target_modules": ".*_proj", "other": [`, `: target_modules: want a list of names or "all-linear", have ".*_proj"`},
		{`"q_proj",`, ``, "unexpected"},
		{`{`, ``, "parse " + AdapterConfig},
	} {
		bad := fstest.MapFS{}
		for name, f := range good {
			bad[name] = f
		}
		text := string(good[AdapterConfig].Data)
		if changed := strings.Replace(text, x.was, x.is, 1); changed == text {
			t.Fatalf("no %s in\n%s", x.was, text)
		} else {
			bad[AdapterConfig] = &fstest.MapFile{Data: []byte(changed)}
		}
		if _, err := Load(dev, bad); err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "adapter_") {
			t.Errorf("%s: have %v, want %q", x.is, err, x.want)
		}
	}
	if _, err := m.Clone(device.Master); err == nil {
		t.Error("a model with factors was cloned")
	}
	if err := base.SaveAdapter(t.TempDir(), "base"); err == nil {
		t.Error("factors of a model that has none were saved")
	}
	for _, l := range []LoRA{{0, 1, LoRAModules()}, {1, 0, LoRAModules()}, {1, math.NaN(), LoRAModules()}, {1, 1, nil}, {1, 1, []string{"lm_head"}}} {
		if _, err := NewLoRAFrom(dev, c, l, 1, weightsOf(base)); err == nil {
			t.Errorf("%+v was taken", l)
		}
	}
}

// FuzzAdapterConfig: no adapter_config.json makes the reader panic, and what it
// takes is a LoRA.
func FuzzAdapterConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}`))
	f.Add([]byte(`{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": "all-linear", "bias": "none"}`))
	f.Add([]byte(`{"peft_type": "LORA", "r": 1e9, "target_modules": ".*"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := readAdapterConfig(fstest.MapFS{AdapterConfig: {Data: raw}})
		if err == nil && l.Validate() != nil {
			t.Errorf("took %+v: %v", l, l.Validate())
		}
	})
}

// PEFT writes target_modules in any order.
func TestAdapterModulesInAnyOrder(t *testing.T) {
	l, err := readAdapterConfig(fstest.MapFS{AdapterConfig: {Data: []byte(`{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["up_proj", "q_proj", "k_proj"]}`)}})
	if want := []string{"q_proj", "k_proj", "up_proj"}; err != nil || !slices.Equal(l.Modules, want) {
		t.Errorf("have %v, %v", l.Modules, err)
	}
	// So may a caller.
	_, m := adapted(t, newDevice(t, false), shapes["mha tied"], LoRA{Rank: 2, Alpha: 1, Modules: []string{"up_proj", "q_proj", "up_proj"}}, true)
	dir := t.TempDir()
	if err := m.SaveAdapter(dir, "base"); err != nil {
		t.Fatal(err)
	}
	if err := m.ReadAdapter(os.DirFS(dir)); err != nil {
		t.Errorf("its own adapter: %v", err)
	}
}
