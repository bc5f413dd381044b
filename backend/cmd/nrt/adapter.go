package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"nrt/backend/llama"
	"nrt/trainer/run"
)

// adapted is a folder as it is, or, if it holds a LoRA adapter and no model's weights,
// over the model that the adapter names: reading weights merges the two.
func (e *env) adapted(name string, files fs.FS) (fs.FS, error) {
	for _, weights := range []string{"model.safetensors", "model.safetensors.index.json"} {
		if _, err := fs.Stat(files, weights); !errors.Is(err, fs.ErrNotExist) {
			return files, nil
		}
	}
	base, err := llama.AdapterBase(files)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	}
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", name, err)
	}
	fail := func(err error) (fs.FS, error) {
		return nil, fmt.Errorf("model %q: the model that %s names (base_model_name_or_path): %w", name, llama.AdapterConfig, err)
	}
	if b := e.builtin(base); b != nil {
		return overlay{files, b.Files}, nil
	}
	if _, err := os.Stat(base); errors.Is(err, fs.ErrNotExist) {
		return fail(fmt.Errorf("%q: no such folder here, nor a built-in model: write where it lies into %s", base, llama.AdapterConfig))
	}
	under, err := e.folder(base)
	if err != nil {
		return fail(err)
	}
	if _, err := fs.Stat(under, llama.AdapterConfig); err == nil {
		return fail(fmt.Errorf("%q is an adapter too: want a whole model, which \"nrt export\" makes of one", base))
	}
	if err := holds(base, under, "config.json"); err != nil {
		return fail(err)
	}
	return overlay{files, under}, nil
}

// overlay is an adapter's folder over its model's: what the first has, the second
// does not show, nor, if the first has a tokenizer, any file of its own, nor how it was
// trained itself. A configuration, which some programs put beside adapters too, is
// always that of the weights.
type overlay struct{ top, under fs.FS }

// shows tells whether a file is the first folder's, or not there.
func (o overlay) shows(name string) bool {
	if name == "config.json" {
		return false
	}
	if _, err := fs.Stat(o.top, name); !errors.Is(err, fs.ErrNotExist) || name == run.SettingsFile {
		return true
	}
	_, err := fs.Stat(o.top, "tokenizer.json")
	return err == nil && (strings.HasPrefix(name, "tokenizer") || strings.HasPrefix(name, "chat_template"))
}

func (o overlay) in(name string) fs.FS {
	if o.shows(name) {
		return o.top
	}
	return o.under
}

func (o overlay) Open(name string) (fs.File, error) { return o.in(name).Open(name) }

func (o overlay) Stat(name string) (fs.FileInfo, error) { return fs.Stat(o.in(name), name) }

func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	top, err := fs.ReadDir(o.top, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	under, err := fs.ReadDir(o.under, name)
	if err != nil && (len(top) == 0 || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	top = slices.DeleteFunc(top, func(e fs.DirEntry) bool { return !o.shows(path.Join(name, e.Name())) })
	for _, e := range under {
		if !o.shows(path.Join(name, e.Name())) {
			top = append(top, e)
		}
	}
	slices.SortFunc(top, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return top, nil
}
