package main

import (
	"errors"
	"fmt"
	"io/fs"

	"nrt/backend/llama"
	"nrt/backend/token"
)

func modelsCommand() *command {
	var name string
	var asJSON bool
	return &command{
		name: "models", group: groupAbout, short: "the models inside this program, or what a folder holds",
		args: "[--model M] [--json]",
		long: `
Without --model: lists the built-in models, whose names every other command takes
as --model. With --model: the shape of one model, built-in or in a folder.`,
		examples: []string{"nrt models", "nrt models --json", "nrt models --model ./llama"},
		bind: func(f *flags) func(*env) error {
			f.text(&name, "model", "M", "a Hugging Face folder or a built-in name")
			f.json(&asJSON)
			return func(e *env) error {
				if !f.given("model") {
					return e.listModels(asJSON)
				}
				files, err := e.modelFiles(name)
				if err != nil {
					return err
				}
				m, err := describe(name, files)
				if err != nil {
					return err
				}
				if b := e.builtin(name); b != nil {
					b.tell(&m)
				}
				if asJSON {
					return e.printJSON(m, true)
				}
				fmt.Fprint(e.out, m)
				return nil
			}
		},
	}
}

// description is what models says of one model.
type description struct {
	Name       string   `json:"name"`
	About      string   `json:"about,omitempty"`
	Type       string   `json:"model_type"`
	Parameters int      `json:"parameters"`
	Layers     int      `json:"layers"`
	Hidden     int      `json:"hidden"`
	Heads      int      `json:"heads"`
	KVHeads    int      `json:"kv_heads"`
	FFN        int      `json:"ffn"`
	Vocab      int      `json:"vocab"`
	Context    int      `json:"context"`
	Tied       bool     `json:"tied_embeddings"`
	Format     string   `json:"format,omitempty"` // of questions; "" without a tokenizer, "unknown" with a template of another layout
	Samples    []string `json:"samples,omitempty"`
	Accuracy   *float64 `json:"heldout_accuracy,omitempty"` // of a built-in model
}

// describe reads the shape of a model, not its weights.
func describe(name string, files fs.FS) (description, error) {
	c, err := llama.ReadConfig(files)
	if err != nil {
		return description{}, fmt.Errorf("model %q: %w", name, err)
	}
	d := description{
		Name: name, Type: c.ModelType, Layers: c.Layers, Hidden: c.Hidden, Heads: c.Heads, KVHeads: c.KVHeads,
		FFN: c.Intermediate, Vocab: c.Vocab, Context: c.MaxPositions, Tied: c.TieEmbeddings, Parameters: int(parameters(c)),
	}
	if base, err := llama.AdapterBase(files); err == nil {
		d.About = "a LoRA adapter beside " + base + ", and read as one with it"
	}
	tok, err := anyTokenizer(files)
	if err != nil {
		return d, fmt.Errorf("model %q: %w", name, err)
	}
	if tok == nil {
		return d, nil
	}
	form, err := tok.Format("")
	switch {
	case errors.Is(err, token.ErrTemplate):
		d.Format = "unknown"
	case err != nil:
		return d, fmt.Errorf("model %q: %w", name, err)
	default:
		d.Format = form.Name
	}
	return d, nil
}

// String is a description for people.
func (d description) String() string {
	about := ""
	if d.About != "" {
		about = d.About + "\n"
	}
	tied := "untied"
	if d.Tied {
		tied = "tied"
	}
	s := fmt.Sprintf("%s\n%s%s, %s parameters: %d layers of width %d, %d heads (%d for keys), feed-forward %d\n%d tokens of vocabulary (%s), %d positions\n",
		d.Name, about, d.Type, count(d.Parameters), d.Layers, d.Hidden, d.Heads, d.KVHeads, d.FFN, d.Vocab, tied, d.Context)
	if d.Format == "" {
		return s + "no tokenizer.json\n"
	}
	if d.Format == "unknown" {
		return s + token.ErrTemplate.Error() + ": --format must name one\n"
	}
	return s + "questions in the format " + d.Format + "\n"
}

// tell adds what is known of a built-in model beside its files.
func (b *builtin) tell(d *description) {
	d.About, d.Accuracy = b.About, &b.Accuracy
	for _, s := range b.Samples {
		d.Samples = append(d.Samples, s.Question)
	}
}

func (e *env) listModels(asJSON bool) error {
	list := []description{}
	for _, b := range e.builtins {
		d, err := describe(b.Name, b.Files)
		if err != nil {
			return err
		}
		b.tell(&d)
		list = append(list, d)
	}
	if asJSON {
		return e.printJSON(list, true)
	}
	if len(list) == 0 {
		fmt.Fprintln(e.out, "no built-in models; --model takes a Hugging Face folder")
		return nil
	}
	width := 0
	for _, d := range list {
		width = max(width, len(d.Name))
	}
	fmt.Fprintf(e.out, "%-*s  params  right  how it was made\n", width, "name")
	for _, d := range list {
		fmt.Fprintf(e.out, "%-*s  %6s  %5s  %s\n", width, d.Name, count(d.Parameters), percent(*d.Accuracy), d.About)
	}
	fmt.Fprintln(e.out, "\nright: held-out questions answered with the right key words")
	return nil
}

// count prints a large number shortly: 346k, 8.0B.
func count(n int) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "B"}, {1e6, "M"}, {1e3, "k"}} {
		if x := float64(n) / u.size; x >= 1 {
			if x < 10 {
				return fmt.Sprintf("%.1f%s", x, u.name)
			}
			return fmt.Sprintf("%.0f%s", x, u.name)
		}
	}
	return fmt.Sprint(n)
}
