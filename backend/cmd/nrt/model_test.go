package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nrt/backend/token"
)

func TestModels(t *testing.T) {
	s := explainSetting(t)
	var list []description
	decode(t, s.ok(t, "models", "--json"), &list)
	if len(list) != 1 || list[0].Name != "world:tiny" || list[0].Parameters == 0 || list[0].Format != "world" || len(list[0].Samples) != 2 {
		t.Errorf("have %+v", list)
	}
	if text := s.ok(t, "models"); !strings.Contains(text, "world:tiny") || !strings.Contains(text, "random weights") {
		t.Errorf("have %q", text)
	}
	if text := s.ok(t, "models", "--model", "world:tiny"); !strings.Contains(text, "2 layers of width 16") {
		t.Errorf("have %q", text)
	}
	if text := (setting{}).ok(t, "models"); !strings.Contains(text, "no built-in models") {
		t.Errorf("have %q", text)
	}
	if code, _, errs := s.nrt(t, "models", "--model", "world:huge"); code != exitFailure || !strings.Contains(errs, "there are world:tiny") {
		t.Errorf("exit %d, %q", code, errs)
	}
	for n, want := range map[int]string{7: "7", 999: "999", 1000: "1.0k", 346112: "346k", 3_480_000: "3.5M", 8_030_000_000: "8.0B"} {
		if have := count(n); have != want {
			t.Errorf("count(%d) = %q, want %q", n, have, want)
		}
	}
}

func TestDamagedModelFolders(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		want   string
	}{
		{"config is no JSON", func(d string) error { return os.WriteFile(d+"/config.json", []byte("{"), 0o600) }, "config.json"},
		{"tokenizer is no JSON", func(d string) error { return os.WriteFile(d+"/tokenizer.json", []byte("[]"), 0o600) }, "tokenizer.json"},
		{"weights cut short", func(d string) error { return os.Truncate(d+"/model.safetensors", 900) }, "model.safetensors"},
		{"no weights", func(d string) error { return os.Remove(d + "/model.safetensors") }, "model.safetensors"},
		{"no config", func(d string) error { return os.Remove(d + "/config.json") }, "holds no config.json"},
		{"tokenizer of another model", func(d string) error {
			tok, err := token.NewWordLevel(strings.Fields("a b c d e f g h i j k l m n o p q r s t u v w x y z"), "<unk>", nil)
			return errors.Join(err, tok.Save(d))
		}, "tokenizer.json has ids up to"},
	} {
		dir := wordModel(t)
		if err := c.damage(dir); err != nil {
			t.Fatal(err)
		}
		code, _, errs := setting{}.nrt(t, "generate", "--model", dir, "--prompt", "who")
		if code != exitFailure || !strings.Contains(errs, c.want) || !strings.Contains(errs, dir) {
			t.Errorf("%s: exit %d, %q; want %q", c.name, code, errs, c.want)
		}
	}
	runs := t.TempDir()
	if err := os.Rename(wordModel(t), filepath.Join(runs, "checkpoint-5")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := (setting{}).nrt(t, "generate", "--model", runs, "--prompt", "who"); code != exitFailure || !strings.Contains(errs, "checkpoint-5: did you mean one of them?") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

func TestNew(t *testing.T) {
	in := filepath.Join(t.TempDir(), "data.jsonl")
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `{"question": "What is %d plus %d?", "answer": "The answer is %d."}`+"\n", i, 3*i, 4*i)
	}
	if err := os.WriteFile(in, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	create := func(name string, more ...string) (string, description) {
		dir := filepath.Join(t.TempDir(), name)
		var d description
		decode(t, setting{}.ok(t, append([]string{"new", "--data", in, "--vocab", "300", "--hidden", "16", "--layers", "2",
			"--heads", "2", "--context", "64", "--out", dir, "--json"}, more...)...), &d)
		return dir, d
	}
	one, d := create("one", "--ffn", "48")
	if d.Layers != 2 || d.Hidden != 16 || d.FFN != 48 || d.Vocab > 300 || d.Format != "plain" || !d.Tied {
		t.Errorf("have %+v", d)
	}
	two, _ := create("two", "--ffn", "48")
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
		x, err := os.ReadFile(filepath.Join(one, name))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(two, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(x) != string(y) {
			t.Errorf("%s: the same call writes other bytes", name)
		}
	}
	_, other := create("other", "--seed", "9", "--kv-heads", "1", "--tie=false", "--dtype", "bfloat16")
	if other.KVHeads != 1 || other.Tied {
		t.Errorf("have %+v", other)
	}
	text := setting{}.ok(t, "explain", "--model", one, "--question", "What is 2 plus 2?", "--answer", "4", "--k", "2", "--max-chain", "5")
	if !strings.Contains(text, "chain 2") {
		t.Errorf("have %q", text)
	}
	for args, want := range map[string]string{
		"--out " + one + " --data " + in:                                 "is not empty",
		"--out x --data " + in + " --heads 3":                            "",
		"--out x --data " + in + " --hidden 0":                           "hidden_size",
		"--out x --data " + in + " --heads 4 --kv-heads 3":               "num_key_value_heads",
		"--out x --data " + in + " --dtype int4":                         "--dtype",
		"--out x --data " + in + " --pattern morse --hidden 8 --heads 2": "morse",
		"--out x --data nowhere.jsonl":                                   "nowhere.jsonl",
		"--out x --tokenizer nowhere":                                    "nowhere",
	} {
		if code, _, errs := (setting{}).nrt(t, append([]string{"new"}, strings.Fields(args)...)...); code == exitOK || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a failed call has left a folder")
	}
	setting{}.ok(t, "new", "--tokenizer", one, "--hidden", "16", "--heads", "2", "--layers", "1", "--out", filepath.Join(t.TempDir(), "from"))
}
