package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"nrt/backend/llama"
	"nrt/trainer/run"
)

// TestAdapterIsAModel: a checkpoint of a run with LoRA can be asked, evaluated and
// exported like any model, and says what the merged one does.
func TestAdapterIsAModel(t *testing.T) {
	base := wordModel(t)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "data.jsonl"), filepath.Join(dir, "out")
	var b strings.Builder
	for i := range 12 {
		fmt.Fprintf(&b, `{"question": "who is %s ?", "answer": "it was %s ."}`+"\n", []string{"ann", "bob", "cid"}[i%3], []string{"bob", "cid"}[i%2])
	}
	writeFile(t, in, b.String())
	s := setting{}
	s.ok(t, "train", "--model", base, "--data", in, "--steps", "3", "--questions", "4", "--k", "3", "--max-chain", "5", "--lr", "1e-2",
		"--lora-rank", "4", "--lora-modules", "q_proj", "--lora-modules", "down_proj", "--output", out)
	ask := func(model string) string {
		return s.ok(t, "logprobs", "--model", model, "--text", "who is the father of ann ?")
	}
	checkpoint, final := filepath.Join(out, "checkpoint-3"), filepath.Join(out, "final")
	want := ask(final)
	if ask(base) == want {
		t.Error("training changed nothing")
	}
	exported := filepath.Join(dir, "exported")
	s.ok(t, "export", "--model", checkpoint, "--output", exported)
	for _, model := range []string{checkpoint, exported} {
		if have := ask(model); have != want {
			t.Errorf("%s: have\n%s\nwant, as the merged one,\n%s", model, have, want)
		}
	}
	if _, err := os.Stat(filepath.Join(exported, llama.AdapterConfig)); err == nil {
		t.Error("what was exported is an adapter still")
	}
	if have := s.ok(t, "models", "--model", checkpoint); !strings.Contains(have, "a LoRA adapter beside "+base) {
		t.Errorf("models says nothing of the base:\n%s", have)
	}
	s.ok(t, "eval", "--model", checkpoint, "--data", in, "--n", "4")
	s.ok(t, "explain", "--model", filepath.Join(final, "adapter"), "--question", "who is bob ?", "--answer", "it was cid .", "--k", "2", "--max-chain", "4")
	s.ok(t, "train", "--model", checkpoint, "--data", in, "--steps", "1", "--questions", "2", "--k", "2", "--max-chain", "4", "--output", filepath.Join(dir, "on"))

	if err := os.Rename(final, filepath.Join(dir, "final")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := s.nrt(t, "logprobs", "--model", out, "--ids", "1"); code != exitFailure || !strings.Contains(errs, checkpoint+": did you mean") {
		t.Errorf("the folder of a run that is not done: exit %d, %q", code, errs)
	}
	if err := os.Rename(filepath.Join(dir, "final"), final); err != nil {
		t.Fatal(err)
	}

	// Other programs leave a config.json there, of a model that was quantized perhaps.
	writeFile(t, filepath.Join(checkpoint, "config.json"), `{"model_type": "llama", "quantization_config": {"load_in_4bit": true}}`)
	if have := ask(checkpoint); have != want {
		t.Errorf("with a config.json: have\n%s\nwant\n%s", have, want)
	}

	// Its own tokenizer serves without the model that it names.
	words := s.ok(t, "tokenize", "--model", base, "--text", "who is ann ?")
	writeFile(t, filepath.Join(checkpoint, llama.AdapterConfig), `{"peft_type": "LORA", "base_model_name_or_path": "nowhere"}`)
	if have := s.ok(t, "tokenize", "--model", checkpoint, "--text", "who is ann ?"); have != words {
		t.Errorf("without its model: have\n%s\nwant\n%s", have, words)
	}

	for config, want := range map[string]string{
		`{"peft_type": "LORA", "base_model_name_or_path": "nowhere"}`:     `(base_model_name_or_path): "nowhere": no such folder here, nor a built-in model: write where it lies into adapter_config.json`,
		`{"peft_type": "LORA", "base_model_name_or_path": "` + out + `"}`: `(base_model_name_or_path): model "` + out + `": holds no config.json; this is the folder of a training run: try ` + final,
		`{"peft_type": "LORA"}`: "base_model_name_or_path: missing",
		`{"peft_type": "LORA", "base_model_name_or_path": "` + checkpoint + `"}`:          "is an adapter too",
		`{"peft_type": "LOHA", "base_model_name_or_path": "` + base + `", "r": 4}`:        "peft_type: want plain LoRA",
		`{"peft_type": "LORA", "base_model_name_or_path": "` + base + `", "r": "a lot" }`: "adapter_config.json",
	} {
		bad := t.TempDir()
		writeFile(t, filepath.Join(bad, llama.AdapterConfig), config)
		if code, _, errs := s.nrt(t, "logprobs", "--model", bad, "--ids", "1"); code != exitFailure || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", config, code, errs, want)
		}
	}
}

// TestOverlay: the overlay shows the files of both folders, and no half of a
// tokenizer.
func TestOverlay(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	under := fstest.MapFS{"config.json": file("{}"), "model.safetensors": file("w"), "tokenizer.json": file("old"), "tokenizer_config.json": file("old"), "chat_template.jinja": file("old"), run.SettingsFile: file("old")}
	both := overlay{fstest.MapFS{llama.AdapterConfig: file("{}"), "tokenizer.json": file("new")}, under}
	if raw, err := fs.ReadFile(both, "tokenizer.json"); err != nil || string(raw) != "new" {
		t.Errorf("have %q, %v", raw, err)
	}
	for _, name := range []string{"tokenizer_config.json", "chat_template.jinja"} {
		if _, err := fs.Stat(both, name); err == nil {
			t.Errorf("%s is another tokenizer's", name)
		}
	}
	if _, err := fs.Stat(both, run.SettingsFile); err == nil {
		t.Errorf("%s is the base's, whose chains may have been longer", run.SettingsFile)
	}
	names, err := fs.Glob(overlay{fstest.MapFS{llama.AdapterWeights: file("a"), "config.json": file("")}, under}, "[acm]*[sn]")
	if err != nil || !slices.Equal(names, []string{llama.AdapterWeights, "config.json", "model.safetensors"}) {
		t.Errorf("have %v, %v", names, err)
	}
}
