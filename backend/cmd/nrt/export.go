package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/trainer/run"
)

func exportCommand() *command {
	name, output, dtype := defaultModel, "", ""
	return &command{
		name: "export", group: groupTrain, short: "a model as a Hugging Face folder, in the type you want",
		args: "[--model M] --output DIR [--dtype T]",
		long: `
Writes config.json, generation_config.json, the weights as safetensors (in shards
of 5 GB) and the tokenizer's files into a new folder, which transformers and every
command here read. With it a model inside this program becomes one on disk, and a
checkpoint in float32 one of half the size. One tensor at a time is in memory. A
LoRA adapter is written as one with its model, in that model's type unless --dtype
names another.

The folder appears when it is whole: a run that is stopped leaves none.`,
		examples: []string{
			"nrt export --model world:nrt --output ./world-nrt",
			"nrt export --model out/nrt/final --dtype bfloat16 --output ./mine",
		},
		bind: func(f *flags) func(*env) error {
			f.text(&name, "model", "M", "a Hugging Face folder, or a name that \"nrt models\" lists")
			f.text(&output, "output", "DIR", "the folder to write; it must not exist yet")
			f.text(&dtype, "dtype", "T", "float32, or bfloat16 or float16, which round; empty keeps the model's own")
			return func(e *env) error {
				if output == "" {
					return usagef("--output: want the folder to write")
				}
				var dt safetensors.DType // the model's own
				if dtype != "" {
					var err error
					if dt, err = safetensors.ParseDType(dtype); err != nil || dt == safetensors.F64 {
						return usagef("--dtype: want float32, bfloat16 or float16, have %q", dtype)
					}
				}
				return e.export(name, filepath.Clean(output), dt)
			}
		},
	}
}

// export writes beside dir first, and renames.
func (e *env) export(name, dir string, dt safetensors.DType) (err error) {
	files, err := e.modelFiles(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("--output: %s exists: name a folder that does not, or remove it first", dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--output: %w", err)
	}
	if err := run.WritableDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	undo, err := run.MakeDirs(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	stage, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".partial-")
	if err != nil {
		undo()
		return fmt.Errorf("--output: %w", err)
	}
	stage = filepath.Clean(stage) // of ./x, as errors call it
	defer func() {
		if err != nil {
			err = errors.Join(run.Instead(err, stage, dir), os.RemoveAll(stage))
			undo()
		}
	}()
	if err := os.Chmod(stage, 0o755); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	tok, err := anyTokenizer(files)
	if err != nil {
		return fmt.Errorf("model %q: %w", name, err)
	}
	show, shown := e.loading()
	err = llama.Convert(e.ctx, stage, files, dt, show)
	shown()
	if err != nil {
		return fmt.Errorf("model %q: %w", name, err)
	}
	about := "without a tokenizer, which the model lacks"
	if tok != nil {
		about = "with its tokenizer"
		if err := tok.Save(stage); err != nil {
			return err
		}
	}
	settings, err := run.ReadSettings(files)
	if err == nil {
		err = settings.Save(stage)
	}
	if err != nil {
		return fmt.Errorf("model %q: %w", name, err)
	}
	c, err := llama.ReadConfig(os.DirFS(stage))
	if err != nil {
		return err
	}
	if err := run.Rename(stage, dir); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	fmt.Fprintf(e.out, "%s: %s parameters in %s, %s\n", dir, count(int(parameters(c))), c.DType, about)
	return nil
}
