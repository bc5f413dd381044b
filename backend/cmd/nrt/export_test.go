package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/llama"
	"nrt/backend/safetensors"
)

func TestExport(t *testing.T) {
	s := explainSetting(t)
	parent := t.TempDir()
	dir := filepath.Join(parent, "new", "model")
	if out := s.ok(t, "export", "--model", "world:tiny", "--output", dir); !strings.Contains(out, dir+": ") || !strings.Contains(out, "in float32, with its tokenizer") {
		t.Errorf("have %q", out)
	}
	ask := func(model string) string {
		return strings.ReplaceAll(s.ok(t, "logprobs", "--model", model, "--text", "who is bob ?", "--json"), model, "M")
	}
	if have, want := ask(dir), ask("world:tiny"); have != want {
		t.Errorf("the exported model says\n%s\nthe built-in one\n%s", have, want)
	}
	half := filepath.Join(parent, "half")
	if out := s.ok(t, "export", "--model", dir, "--dtype", "bfloat16", "--output", half); !strings.Contains(out, "in bfloat16") {
		t.Errorf("have %q", out)
	}
	if ask(half) == ask(dir) {
		t.Error("bfloat16 rounded nothing")
	}
	whole, rounded := weightBytes(t, dir), weightBytes(t, half)
	if rounded > whole*2/3 {
		t.Errorf("bfloat16 takes %d bytes of %d", rounded, whole)
	}

	bare := wordModel(t)
	if err := os.Remove(filepath.Join(bare, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	if out := s.ok(t, "export", "--model", bare, "--output", filepath.Join(parent, "bare")); !strings.Contains(out, "without a tokenizer") {
		t.Errorf("have %q", out)
	}
}

// TestExportOfFamilies: a Qwen2 or a Qwen3 is known by its folder, answers, and is
// written as what it is, down to its biases and norms of heads.
func TestExportOfFamilies(t *testing.T) {
	s := explainSetting(t)
	for _, modelType := range []string{"qwen2", "qwen3"} {
		dir := wordModel(t)
		c, err := llama.ReadConfig(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		c.ModelType = modelType
		rng := rand.New(rand.NewPCG(1, 2))
		dev, err := cpu.New(cpu.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		m, err := llama.NewFrom(dev, c, func(_, _ int, dst []float32) error {
			for i := range dst {
				dst[i] = float32(rng.NormFloat64())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Save(dir, safetensors.F32), dev.Close()); err != nil {
			t.Fatal(err)
		}
		if out := s.ok(t, "models", "--model", dir); !strings.Contains(out, modelType+", ") {
			t.Errorf("models says %q", out)
		}
		again := filepath.Join(t.TempDir(), "again")
		s.ok(t, "export", "--model", dir, "--output", again)
		ask := func(model string) string {
			return strings.ReplaceAll(s.ok(t, "explain", "--model", model, "--question", "who is bob ?", "--answer", "ann", "--k", "2", "--json"), model, "M")
		}
		if have, want := ask(again), ask(dir); have != want {
			t.Errorf("%s: the exported model says\n%s\nthe first\n%s", modelType, have, want)
		}
		for _, name := range []string{"config.json", "model.safetensors"} {
			have, err := os.ReadFile(filepath.Join(again, name))
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(have, want) {
				t.Errorf("%s: another %s, %v", modelType, name, err)
			}
		}
	}
}

func weightBytes(t *testing.T, dir string) int64 {
	info, err := os.Stat(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestExportRefuses(t *testing.T) {
	s := explainSetting(t)
	damaged := wordModel(t)
	if err := os.Truncate(filepath.Join(damaged, "model.safetensors"), 900); err != nil {
		t.Fatal(err)
	}
	large := wordModel(t) // for float16
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	m, err := llama.Load(dev, os.DirFS(large))
	if err != nil {
		t.Fatal(err)
	}
	dev.Write(m.Flat(), slices.Repeat([]float32{1e6}, m.NumParams()))
	if err := errors.Join(m.Save(large, safetensors.F32), dev.Close()); err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	there := filepath.Join(parent, "there")
	if err := os.WriteFile(there, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(parent)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, c := range []struct {
		args string
		ctx  context.Context
		code int
		want string
	}{
		{"", nil, exitUsage, "--output"},
		{"--output " + parent + "/x --dtype int8", nil, exitUsage, "--dtype: want float32"},
		{"--output " + parent + "/x --dtype float64", nil, exitUsage, "--dtype: want float32"},
		{"--model world:tiny --output " + there, nil, exitFailure, "exists"},
		{"--model world:tiny --output " + there + "/x", nil, exitFailure, "--output"},
		{"--model nowhere --output " + parent + "/x", nil, exitFailure, "no such folder"},
		{"--model " + large + " --dtype float16 --output " + parent + "/a/x", nil, exitFailure, "write " + parent + "/a/x: "},
		{"--model " + large + " --dtype float16 --output x", nil, exitFailure, "write x: "},
		{"--model " + damaged + " --output " + parent + "/x", nil, exitFailure, "model.safetensors"},
		{"--model world:tiny --output " + parent + "/x", stopped, exitFailure, "interrupted"},
	} {
		s.ctx = c.ctx
		if code, _, errs := s.nrt(t, append([]string{"export"}, strings.Fields(c.args)...)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("export %s: exit %d, %q lacks %q", c.args, code, errs, c.want)
		} else if strings.Contains(errs, "partial") {
			t.Errorf("export %s names a folder that nobody knows: %q", c.args, errs)
		}
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
