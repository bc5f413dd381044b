package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/run"
)

// defaultModel is the embedded model that a command uses when none is named.
const defaultModel = "world:nrt"

// builtin is a model inside the program.
type builtin struct {
	Name    string // as --model takes it, such as "world:nrt"
	About   string // one line: how it was made
	Files   fs.FS  // a Hugging Face folder
	Samples []sample
	// Accuracy is the share of held-out questions it answers right, as measured
	// when it was made.
	Accuracy float64
}

// sample is a question for a built-in model, with its reference answer.
type sample struct{ Question, Answer string }

// modelFlags choose the model that a command works with.
type modelFlags struct {
	name    string
	weights formatFlag
	deviceFlags
}

func (m *modelFlags) bind(f *flags) {
	m.name, m.weights = defaultModel, formatFlag{device.AsStored}
	f.text(&m.name, "model", "M", "a Hugging Face folder, or a name that \"nrt models\" lists")
	f.value(&m.weights, "weights", "F", weightsUsage)
	m.deviceFlags.bind(f)
}

// formatFlag is --weights.
type formatFlag struct{ device.Format }

const weightsUsage = "how weights are kept: auto, f32, bf16 or q8\nbf16 takes half the memory and about half the time of a single chain, q8 a quarter\nof the memory; both round. auto is bf16 where the checkpoint is, which loses\nnothing, else f32"

// on is the format for a device. A card computes in its own type.
func (v formatFlag) on(p *place) device.Format {
	if v.Format == device.AsStored && p.kind == "cuda" {
		return device.F32
	}
	return v.Format
}

func (v *formatFlag) Set(s string) (err error) {
	v.Format, err = device.ParseFormat(s)
	return err
}

// files finds a model's folder by name: a built-in one first, then the disk, where
// it may be an adapter's.
func (e *env) files(name string) (fs.FS, error) {
	if b := e.builtin(name); b != nil {
		return b.Files, nil
	}
	files, err := e.folder(name)
	if err != nil {
		return nil, err
	}
	return e.adapted(name, files)
}

// folder is a model's folder on disk.
func (e *env) folder(name string) (fs.FS, error) {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
	case err == nil:
		return nil, fmt.Errorf("model %q is a file: name the folder that holds config.json and model.safetensors", name)
	case errors.Is(err, fs.ErrNotExist):
		hub := ""
		if strings.Count(name, "/") == 1 && filepath.IsLocal(name) {
			hub = "; one of the Hugging Face hub must be fetched first, and its folder named"
		}
		return nil, fmt.Errorf("model %q: no such folder, and no built-in model of that name (there are %s)%s", name, e.builtinNames(), hub)
	default:
		return nil, fmt.Errorf("model %q: %w", name, err)
	}
	return os.DirFS(name), nil
}

func (e *env) builtin(name string) *builtin {
	i := slices.IndexFunc(e.builtins, func(b builtin) bool { return b.Name == name })
	if i < 0 {
		return nil
	}
	return &e.builtins[i]
}

func (e *env) builtinNames() string {
	names := make([]string, len(e.builtins))
	for i, b := range e.builtins {
		names[i] = b.Name
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// modelFiles is files for a folder that must hold a model.
func (e *env) modelFiles(name string) (fs.FS, error) {
	files, err := e.files(name)
	if err != nil {
		return nil, err
	}
	return files, holds(name, files, "config.json")
}

// holds refuses a model's folder without the file, and says which was meant.
func holds(name string, files fs.FS, file string) error {
	if _, err := fs.Stat(files, file); !errors.Is(err, fs.ErrNotExist) {
		return nil // whatever else is wrong, reading it tells
	}
	return fmt.Errorf("model %q: holds no %s%s", name, file, checkpoints(name))
}

// checkpoints names the folders in dir that hold a model, for an error's hint.
func checkpoints(dir string) string {
	if final := filepath.Join(dir, "final"); isFile(filepath.Join(dir, "metrics.jsonl")) && isFile(filepath.Join(final, "config.json")) {
		return "; this is the folder of a training run: try " + final
	}
	var found []string
	for _, where := range []string{
		"*/config.json",
		"*/" + llama.AdapterConfig, // of a run with LoRA that is not done
		"snapshots/*/config.json",  // in the cache of Hugging Face's programs
	} {
		if found, _ = filepath.Glob(filepath.Join(dir, filepath.FromSlash(where))); len(found) > 0 {
			break
		}
	}
	if len(found) == 0 {
		return ""
	}
	for i := range found {
		found[i] = filepath.Dir(found[i])
	}
	if n := len(found); n > 3 {
		found = append(found[:3:3], "…")
	}
	return "; it holds " + strings.Join(found, ", ") + ": did you mean one of them?"
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// tokenizer reads a model's tokenizer.
func (e *env) tokenizer(name string) (*token.Tokenizer, error) {
	files, err := e.files(name)
	if own, failed := e.folder(name); err != nil && failed == nil && isFile(filepath.Join(name, "tokenizer.json")) {
		files, err = own, nil // an adapter's own serves without the model that it names
	}
	if err != nil {
		return nil, err
	}
	if err := holds(name, files, "tokenizer.json"); err != nil {
		return nil, err
	}
	tok, err := token.LoadFS(files)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", name, err)
	}
	return tok, nil
}

// anyTokenizer reads the tokenizer of a folder that may have none: nil then.
func anyTokenizer(files fs.FS) (*token.Tokenizer, error) {
	if _, err := fs.Stat(files, "tokenizer.json"); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return token.LoadFS(files) // whatever else is wrong, reading it tells
}

// loaded is a model ready to be asked.
type loaded struct {
	name   string
	dev    *place
	model  *llama.Model
	engine *engine.Engine
	bounds engine.Options
	free   int64            // bytes that were free before the engine took any; 0 if not known
	tok    *token.Tokenizer // nil when the folder has no tokenizer.json
}

// open loads the model. The caller closes it.
func (e *env) open(m modelFlags) (*loaded, error) {
	files, err := e.modelFiles(m.name)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*loaded, error) {
		return nil, fmt.Errorf("model %q: %w", m.name, err)
	}
	l := &loaded{name: m.name}
	if l.tok, err = anyTokenizer(files); err != nil {
		return fail(err)
	}
	if l.dev, err = e.compute(m.deviceFlags); err != nil {
		return nil, err
	}
	show, shown := e.loading()
	l.model, err = llama.LoadReadOnly(l.dev, files, m.weights.on(l.dev), show)
	if shown(); err != nil {
		return fail(errors.Join(err, l.dev.Close()))
	}
	if vocab := l.model.Config.Vocab; l.tok != nil && l.tok.Size() > vocab {
		return fail(errors.Join(fmt.Errorf("tokenizer.json has ids up to %d, but vocab_size in config.json is %d", l.tok.Size()-1, vocab), l.close()))
	}
	var text engine.StopTexter
	if l.tok != nil {
		text = l.tok
	}
	l.free = l.dev.free()
	l.bounds = l.dev.engineOptions(l.free)
	l.engine = engine.New(l.model, text, l.bounds)
	return l, nil
}

// loading shows how far a model has been read, until shown is called, and ends the
// reading where the command is interrupted.
func (e *env) loading() (show llama.Progress, shown func()) {
	l := run.NewLoading(e.err, e.watched, time.Now)
	return func(done, all int64) error {
		l.Show(done, all)
		return e.ctx.Err()
	}, l.Done
}

// openText is open for commands that cannot do without a tokenizer.
func (e *env) openText(m modelFlags) (*loaded, error) {
	l, err := e.open(m)
	if err == nil && l.tok == nil {
		err = errors.Join(fmt.Errorf("model %q: holds no tokenizer.json, which text needs", m.name), l.close())
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// close gives the model's memory and threads back.
func (l *loaded) close() error {
	if l.engine != nil {
		l.engine.Close()
	}
	l.model.Free()
	return l.dev.Close()
}

// closing closes l at the end of a function whose error is *err.
func closing(l *loaded, err *error) { *err = errors.Join(*err, l.close()) }

// ends are the ids that end a text: the model's and the tokenizer's.
func (l *loaded) ends() []int32 {
	ids := slices.Clone(l.model.Config.EOS)
	if l.tok != nil && l.tok.EOS() >= 0 && !slices.Contains(ids, l.tok.EOS()) {
		ids = append(ids, l.tok.EOS())
	}
	return ids
}

// samplingFlags say how tokens are drawn.
type samplingFlags struct {
	engine.Sampling
	seed uint64
}

func (s *samplingFlags) bind(f *flags) {
	s.Temperature = 1
	f.number(&s.Temperature, "temperature", "X", "0 always takes the likeliest token")
	f.number(&s.TopP, "top-p", "P", "draw from the likeliest tokens that hold this share of the probability; 0 from all")
	f.amount(&s.TopK, "top-k", "N", "draw from this many of the likeliest tokens; 0 from all")
	f.number(&s.MinP, "min-p", "P", "leave out tokens less likely than this share of the likeliest one's probability")
	f.seed(&s.seed, "seed", "S", "the same seed draws the same tokens")
}

// check says which flag no model can be sampled with.
func (s *samplingFlags) check() error {
	finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
	switch {
	case !finite(s.Temperature) || s.Temperature < 0:
		return usagef("--temperature: want 0 or more, have %g", s.Temperature)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return usagef("--top-p: want 0 to 1, have %g", s.TopP)
	case !(s.MinP >= 0 && s.MinP <= 1):
		return usagef("--min-p: want 0 to 1, have %g", s.MinP)
	}
	return nil
}
