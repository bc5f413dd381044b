package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"nrt/backend/llama"
)

// Origin identifies what a run started from, file by file: the run's checkpoints
// hold the policy, but the policy before training, which a reference needs, and the
// weights that LoRA's factors stand beside still lie in the folder that --model
// names, where others may stand by then.
type Origin struct {
	Model     map[string]fileSum `json:"model,omitempty"` // only of a run that goes on needing it
	Tokenizer map[string]fileSum `json:"tokenizer,omitempty"`
}

// modelSums are the sums of what decides what a model computes: its configuration
// and its weights, in one file or in those of an index, with an adapter or none.
func modelSums(ctx context.Context, files fs.FS) (map[string]fileSum, error) {
	names := []string{"config.json", "model.safetensors"}
	if _, err := fs.Stat(files, "model.safetensors"); errors.Is(err, fs.ErrNotExist) {
		if names, err = fs.Glob(files, "*.safetensors"); err != nil {
			return nil, err
		}
		names = append(names, "config.json", "model.safetensors.index.json")
	}
	return sumsOf(ctx, files, append(names, llama.AdapterConfig, llama.AdapterWeights))
}

// tokenizerSums are the sums of the files that a tokenizer is read from.
func tokenizerSums(ctx context.Context, files fs.FS) (map[string]fileSum, error) {
	return sumsOf(ctx, files, []string{"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
}

// sumsOf reads those of the files that are there, until ctx ends.
func sumsOf(ctx context.Context, files fs.FS, names []string) (map[string]fileSum, error) {
	sums := map[string]fileSum{}
	for _, name := range names {
		sum, err := sumOf(ctx, files, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sums[name] = sum
	}
	return sums, nil
}

// another says which file is not what it was, and both sums; "" when all are.
func another(was, now map[string]fileSum) string {
	all := map[string]fileSum{}
	maps.Copy(all, was)
	maps.Copy(all, now)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch before, is := was[name], now[name]; {
		case is == before:
		case is == fileSum{}:
			return fmt.Sprintf("%s is missing, which had SHA-256 %s", name, before.SHA256)
		case before == fileSum{}:
			return fmt.Sprintf("%s was not there", name)
		default:
			return fmt.Sprintf("%s has SHA-256 %s, and had %s", name, is.SHA256, before.SHA256)
		}
	}
	return ""
}

// record notes what a fresh run starts from.
func (t *trainer) record(ctx context.Context, model, tokenizer fs.FS) (err error) {
	o := &Origin{}
	if model != nil && t.needsBase() {
		if o.Model, err = modelSums(ctx, model); err != nil {
			return fmt.Errorf("model.path (--model) %s: %w", t.c.Model.Path, err)
		}
	}
	if tokenizer != nil {
		if o.Tokenizer, err = tokenizerSums(ctx, tokenizer); err != nil {
			return fmt.Errorf("model.tokenizer (--tokenizer): %w", err)
		}
	}
	t.origin = o
	return nil
}

// compare refuses a start that is not the run's own: with another reference the
// run would go on as another run.
func (t *trainer) compare(ctx context.Context, model, tokenizer fs.FS) error {
	was := t.from.State.Origin
	if was == nil || was.Model == nil {
		t.note("%s does not say what the run started from, which older versions did not record: that %s still holds it cannot be checked", t.from.Path, t.c.Model.Path)
		return nil
	}
	const hint = "put back what was there, or start a new run with another --output"
	now, err := modelSums(ctx, model)
	if err != nil {
		return fmt.Errorf("model.path (--model) %s: %w", t.c.Model.Path, err)
	}
	if what := another(was.Model, now); what != "" {
		return fmt.Errorf("resume %s: model.path (--model) %s is not the model that the run started from, which it needs as %s: %s: %s", t.from.Path, t.c.Model.Path, t.baseIs(), what, hint)
	}
	if now, err = tokenizerSums(ctx, tokenizer); err != nil {
		return fmt.Errorf("model.tokenizer (--tokenizer): %w", err)
	}
	// One that is gone is not missed: the checkpoint has it.
	if what := another(was.Tokenizer, now); what != "" && len(now) > 0 {
		return fmt.Errorf("resume %s: the tokenizer of %s is not the one that the run started with: %s: %s", t.from.Path, t.tokenizerFolder(), what, hint)
	}
	return nil
}

// tokenizerFolder names where the tokenizer comes from.
func (t *trainer) tokenizerFolder() string {
	if t.c.Model.Tokenizer != "" {
		return t.c.Model.Tokenizer
	}
	return t.c.Model.Path
}
