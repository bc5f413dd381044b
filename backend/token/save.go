package token

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Save writes tokenizer.json, tokenizer_config.json and special_tokens_map.json
// (and chat_template.jinja, if the template came from such a file) into dir, as
// Hugging Face's libraries read them. Each file is written under another name,
// synced and renamed, so a reader never sees half of one.
func (t *Tokenizer) Save(dir string) error { return t.SaveFor(dir, "") }

// SaveFor is Save for a model that is asked in a layout: where Format("") would be
// another one, tokenizer_config.json names it. "" is Save.
func (t *Tokenizer) SaveFor(dir, layout string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	cfg := t.config.raw
	if len(cfg) == 0 {
		var err error
		if cfg, err = t.roles().generate(); err != nil {
			return err
		}
	}
	if layout != "" && layout != t.guessFormat() {
		var err error
		if cfg, err = withLayout(cfg, layout); err != nil {
			return err
		}
	}
	special, err := t.roles().specialMap()
	if err != nil {
		return err
	}
	type file struct {
		name  string
		write func(io.Writer) error
	}
	files := []file{
		{"tokenizer.json", t.writeJSON},
		{"tokenizer_config.json", writeBytes(cfg)},
		{"special_tokens_map.json", writeBytes(special)},
	}
	if t.config.templateFile {
		files = append(files, file{"chat_template.jinja", writeBytes([]byte(t.config.ChatTemplate))})
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f.name), f.write); err != nil {
			return fmt.Errorf("save tokenizer: %w", err)
		}
	}
	return nil
}

func writeBytes(p []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(p)
		return err
	}
}

// writeFile replaces path by what write gives, whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	err = cmp.Or(write(b), b.Flush(), f.Chmod(0o644), f.Sync(), f.Close()) // all of them, and the first error
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		if at := new(fs.PathError); errors.As(err, &at) {
			at.Path = path // nobody knows the other
		}
	}
	return err
}

// roles is the config's tokens as this tokenizer uses them.
func (t *Tokenizer) roles() config {
	return config{BOS: t.Token(t.bos), EOS: t.Token(t.eos), UNK: t.Token(t.unk), PAD: t.Token(t.pad), ChatTemplate: t.config.ChatTemplate}
}

// specialMap is the text of special_tokens_map.json.
func (c config) specialMap() ([]byte, error) {
	m := make(map[string]string)
	for name, tok := range map[string]string{"bos_token": c.BOS, "eos_token": c.EOS, "unk_token": c.UNK, "pad_token": c.PAD} {
		if tok != "" {
			m[name] = tok
		}
	}
	return indent(m)
}

// generate is the text of a tokenizer_config.json.
func (c config) generate() ([]byte, error) {
	m := map[string]any{
		"tokenizer_class":              "PreTrainedTokenizerFast",
		"clean_up_tokenization_spaces": false,
	}
	for name, tok := range map[string]string{"bos_token": c.BOS, "eos_token": c.EOS, "unk_token": c.UNK, "pad_token": c.PAD, "chat_template": c.ChatTemplate} {
		if tok != "" {
			m[name] = tok
		}
	}
	return indent(m)
}

// withLayout is the text of a tokenizer_config.json that names a layout.
func withLayout(cfg []byte, layout string) ([]byte, error) {
	var m map[string]any
	in := json.NewDecoder(bytes.NewReader(cfg))
	in.UseNumber() // of which some are larger than a float64 holds
	if err := in.Decode(&m); err != nil {
		return nil, err
	}
	if m == nil { // of null
		m = map[string]any{}
	}
	m[layoutKey] = layout
	return indent(m)
}

func indent(v any) ([]byte, error) {
	raw, err := marshal(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, err
	}
	return append(b.Bytes(), '\n'), nil
}

// writeJSON writes the tokenizer.json. Vocabulary and merges stand one to a
// line; the other parts are as they were read.
func (t *Tokenizer) writeJSON(w io.Writer) error {
	d := t.doc
	p := &printer{w: w}
	added := d.Added
	if added == nil {
		added = []addedToken{}
	}
	version := d.Version
	if version == "" {
		version = "1.0"
	}
	p.text("{\n")
	p.field("version", version)
	p.field("truncation", d.Truncation)
	p.field("padding", d.Padding)
	p.field("added_tokens", added)
	p.field("normalizer", d.Normalizer)
	p.field("pre_tokenizer", d.PreTokenizer)
	p.field("post_processor", d.PostProcessor)
	p.field("decoder", d.Decoder)
	p.text("\"model\": {\n")
	d.Model.write(p)
	p.text("\n}\n}\n")
	return p.err
}

func (m *modelDoc) write(p *printer) {
	p.field("type", m.Type)
	var unk any
	if m.Unk != "" {
		unk = m.Unk
	}
	if m.Type == "BPE" {
		p.field("dropout", nil)
		p.field("unk_token", unk)
		p.field("continuing_subword_prefix", nil)
		p.field("end_of_word_suffix", nil)
		p.field("fuse_unk", m.FuseUnk)
		p.field("byte_fallback", m.ByteFallback)
		p.field("ignore_merges", m.IgnoreMerges)
	}
	p.text("\"vocab\": {")
	sep := "\n"
	for id, tok := range m.Vocab {
		if tok == "" {
			continue
		}
		p.text(sep)
		p.value(tok)
		p.text(": " + strconv.Itoa(id))
		sep = ",\n"
	}
	p.text("\n}")
	if m.Type != "BPE" {
		p.text(",\n\"unk_token\": ")
		p.value(unk)
		return
	}
	p.text(",\n\"merges\": [")
	spaced := false // "a b" cannot tell where a token with a space ends
	for _, tok := range m.Vocab {
		spaced = spaced || strings.Contains(tok, " ")
	}
	sep = "\n"
	for _, mg := range m.Merges {
		p.text(sep)
		a, b := m.Vocab[mg.left], m.Vocab[mg.right]
		if spaced {
			p.value([2]string{a, b})
		} else {
			p.value(a + " " + b)
		}
		sep = ",\n"
	}
	p.text("\n]")
}

// printer writes JSON and keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) text(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

func (p *printer) value(v any) {
	if raw, ok := v.(json.RawMessage); ok && len(raw) == 0 {
		v = nil
	}
	raw, err := marshal(v)
	if err != nil && p.err == nil {
		p.err = err
	}
	p.text(string(raw))
}

func (p *printer) field(name string, v any) {
	p.text("\"" + name + "\": ")
	p.value(v)
	p.text(",\n")
}
