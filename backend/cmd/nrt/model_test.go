package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nrt/trainer/eval"

	"nrt/backend/token"
	"nrt/trainer/verdict"
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
	hub := filepath.Join(t.TempDir(), "models--org--llama")
	if err := os.CopyFS(filepath.Join(hub, "snapshots", "0f1e"), os.DirFS(wordModel(t))); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := (setting{}).nrt(t, "generate", "--model", hub, "--prompt", "who"); code != exitFailure || !strings.Contains(errs, filepath.Join(hub, "snapshots", "0f1e")+": did you mean one of them?") {
		t.Errorf("a folder of the hub's cache: exit %d, %s", code, errs)
	}
}

// TestWeights: every command that asks a model takes --weights, the formats
// differ as little as they promise, and training refuses them by name.
func TestWeights(t *testing.T) {
	s := setting{}
	dir := wordModel(t)
	logp := func(args ...string) (x []float64) {
		var v struct {
			Model  string
			Sum    verdict.Number `json:"logprob"`
			Tokens []position
		}
		decode(t, s.ok(t, append([]string{"logprobs", "--model", dir, "--json", "--text", "who is the father of ann ? bob"}, args...)...), &v)
		for _, tok := range v.Tokens[1:] {
			x = append(x, float64(*tok.LogProb))
		}
		return x
	}
	want := logp()
	if len(want) < 5 {
		t.Fatalf("have %v", want)
	}
	for _, f := range []string{"auto", "f32", "bf16", "q8"} {
		have, worst := logp("--weights", f), 0.0
		for i, v := range want {
			worst = max(worst, math.Abs(have[i]-v))
		}
		exact := f == "auto" || f == "f32" // the model's files are in float32
		if exact && worst != 0 || !exact && (worst == 0 || worst > 0.2) {
			t.Errorf("%s: log-probabilities differ by %g: %v, %v", f, worst, have, want)
		}
	}
	for _, args := range []string{"generate --prompt who --max-tokens 3", "explain --question who --answer no --k 2 --max-chain 4"} {
		s.ok(t, append(strings.Fields(args), "--model", dir, "--weights", "q8")...)
	}
	in := filepath.Join(t.TempDir(), "chains.jsonl")
	if err := os.WriteFile(in, []byte(`{"question": "who is bob ?", "answer": "no .", "chains": ["it was"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok(t, "score", "--in", in, "--model", dir, "--weights", "bf16")
	for args, want := range map[string]string{
		"generate --prompt who --weights int4": `want auto, f32, bf16 or q8, have "int4"`,
		"train --data x --weights bf16":        "training keeps weights in f32",
	} {
		if code, _, errs := s.nrt(t, append(strings.Fields(args), "--model", dir)...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
}

// TestTrainEvalExplain goes the whole way on the command line: a new model from
// a file of questions, SFT, NRT from its result, evaluation, explanation.
func TestTrainEvalExplain(t *testing.T) {
	in := filepath.Join(t.TempDir(), "data.jsonl")
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `{"question": "What is %d plus %d?", "answer": "The answer is %d."}`+"\n", i, 3*i, 4*i)
	}
	if err := os.WriteFile(in, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	sft, nrt := filepath.Join(out, "sft"), filepath.Join(out, "nrt")
	train := func(next string, more ...string) {
		code, _, said := setting{}.nrt(t, append([]string{"train", "--data", in, "--held-out", "0.2", "--steps", "3", "--questions", "4", "--lr", "1e-3"}, more...)...)
		if code != exitOK || !strings.Contains(said, "/final --data FILE"+next+"\n") {
			t.Fatalf("%v: exit %d: %s", more, code, said)
		}
	}
	train(" --no-chain", "--method", "sft", "--vocab", "300", "--hidden", "16", "--layers", "2", "--heads", "2", "--positions", "64", "--output", sft)
	train("", "--model", filepath.Join(sft, "final"), "--k", "3", "--max-chain", "5", "--output", nrt)
	final := filepath.Join(nrt, "final")
	var d description
	decode(t, setting{}.ok(t, "models", "--model", final, "--json"), &d)
	if d.Layers != 2 || d.Hidden != 16 || d.Vocab > 300 || d.Format != "plain" || !d.Tied {
		t.Errorf("have %+v", d)
	}
	var r eval.Report
	decode(t, setting{}.ok(t, "eval", "--model", final, "--data", in, "--n", "10", "--json"), &r)
	if r.N != 10 || r.Accuracy < 0 {
		t.Errorf("evaluation %+v", r)
	}
	text := setting{}.ok(t, "explain", "--model", final, "--question", "What is 2 plus 2?", "--answer", "4", "--k", "2", "--max-chain", "5")
	if !strings.Contains(text, "chain 2") {
		t.Errorf("have %q", text)
	}
	for args, want := range map[string]string{
		"--data " + in + " --max-chain 5 --output " + nrt + " --model " + final: "already holds a run",
		"--data " + in + " --output x --hidden 15":                              "--hidden",
		"--data " + in + " --output x --device tpu":                             "--device",
		"--data nowhere.jsonl --output x":                                       "nowhere.jsonl",
		"--output x":                                                            "--data",
	} {
		if code, _, errs := (setting{}).nrt(t, append([]string{"train"}, strings.Fields(args)...)...); code == exitOK || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("a failed call has left a folder")
	}
}

// stopper ends a context once something has been said.
type stopper struct {
	bytes.Buffer
	at   string
	stop func()
}

func (s *stopper) Write(p []byte) (int, error) {
	if strings.Contains(string(p), s.at) {
		s.stop()
	}
	return s.Buffer.Write(p)
}

// The usage line of nrt train --help is enough for a run to begin.
func TestTrainUsageLine(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "data.jsonl")
	if err := os.WriteFile(in, []byte(`{"question": "What is 2 plus 2?", "answer": "4"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	log := stopper{at: "memory  in all", stop: cancel}
	e := &env{ctx: ctx, out: bufio.NewWriter(io.Discard), err: &log, getenv: func(string) string { return "" }}
	if code := execute(e, commands(), []string{"train", "--data", in, "--output", filepath.Join(dir, "out")}); code != exitFailure || !strings.Contains(log.String(), "interrupted") {
		t.Errorf("exit %d\n%s", code, log.String())
	}
	for args, want := range map[string]string{
		"--max-chain 2048":                       "--max-chain): want at most 1022, since question and answer share the 1024 positions (model.positions, --positions)",
		"--max-chain 64 --model " + wordModel(t): "--max-chain): want at most 62, since question and answer share the 64 positions of that model",
	} {
		code, _, errs := setting{}.nrt(t, append([]string{"train", "--data", "nowhere.jsonl", "--output", dir}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
}

// Every command that takes a model says of a training run's folder where in it
// the model is.
func TestFolderOfARun(t *testing.T) {
	dir := t.TempDir()
	final := filepath.Join(dir, "final")
	if err := os.Rename(wordModel(t), final); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "metrics.jsonl"), "{}\n")
	for args, file := range map[string]string{
		"models": "config.json", "explain --question who --answer no": "config.json", "tokenize --text who": "tokenizer.json",
		"logprobs --ids 1": "config.json", "train --data nowhere.jsonl --output x": "config.json",
	} {
		code, _, errs := setting{}.nrt(t, append(strings.Fields(args), "--model", dir)...)
		want := fmt.Sprintf("model %q: holds no %s; this is the folder of a training run: try %s\n", dir, file, final)
		if code != exitFailure || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
}
