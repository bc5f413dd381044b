package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// document is a tokenizer.json taken apart. The parts that are small stay as
// they were read, so that Save writes them back unchanged; the vocabulary and
// the merges, which are not small, are kept in the form the model uses. The tags are
// for reading, and for the header of a compact vocabulary.
type document struct {
	Version       string          `json:"version,omitempty"`
	Truncation    json.RawMessage `json:"truncation,omitempty"`
	Padding       json.RawMessage `json:"padding,omitempty"`
	Normalizer    json.RawMessage `json:"normalizer,omitempty"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer,omitempty"`
	PostProcessor json.RawMessage `json:"post_processor,omitempty"`
	Decoder       json.RawMessage `json:"decoder,omitempty"`
	Added         []addedToken    `json:"added_tokens,omitempty"`
	Model         modelDoc        `json:"-"`
}

// modelDoc is the "model" field of a tokenizer.json.
type modelDoc struct {
	Type         string   `json:"type"` // "BPE" or "WordLevel"
	Unk          string   `json:"unk_token,omitempty"`
	FuseUnk      bool     `json:"fuse_unk,omitempty"`
	ByteFallback bool     `json:"byte_fallback,omitempty"`
	IgnoreMerges bool     `json:"ignore_merges,omitempty"`
	Vocab        []string `json:"-"` // id → token; "" where an id is not used
	Merges       []merge  `json:"-"` // by rank
}

// merge joins two neighbouring symbols into a third.
type merge struct{ left, right, result int32 }

// addedToken is a token found in the text before the model sees it, as
// Hugging Face's added_tokens list has them.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // matches only between non-word characters
	LStrip     bool   `json:"lstrip"`      // takes the white space before it along
	RStrip     bool   `json:"rstrip"`      // takes the white space after it along
	Normalized bool   `json:"normalized"`  // is looked for in the normalised text
	Special    bool   `json:"special"`     // is left out by Decode(…, true)
}

// LoadDir reads tokenizer.json of a Hugging Face model folder and, where they
// exist, tokenizer_config.json and chat_template.jinja, whose template counts if both
// have one, as it does for transformers.
func LoadDir(dir string) (*Tokenizer, error) {
	t, err := LoadFS(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("tokenizer of %s: %w", dir, err)
	}
	return t, nil
}

// LoadFS is LoadDir for a file system, such as an embedded model.
func LoadFS(fsys fs.FS) (*Tokenizer, error) {
	main, err := ReadFile(fsys, "tokenizer.json")
	if err != nil {
		return nil, err
	}
	config, err := ReadFile(fsys, "tokenizer_config.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	t, err := Parse("tokenizer.json", main, config)
	if err != nil {
		return nil, err
	}
	jinja, err := ReadFile(fsys, "chat_template.jinja")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(jinja) > 0 {
		t.config.ChatTemplate, t.config.templateFile = string(jinja), true
	}
	return t, nil
}

// maxBytes bounds each file of a tokenizer; the largest known have 35 MB.
const maxBytes = 256 << 20

// ReadFile reads a file of a tokenizer, which must be a regular one. It is looked at
// before it is opened, which for a pipe would wait, and its bytes are counted as they
// come, since a device says that it has none.
func ReadFile(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: want a regular file, have %s", name, info.Mode().Type())
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxBytes {
		return nil, fmt.Errorf("%s: want at most %d bytes, have more", name, maxBytes)
	}
	return b, nil
}

// Parse builds a tokenizer from the text of a tokenizer.json and, if configJSON
// is not empty, of a tokenizer_config.json. name stands in errors for the
// former. The truncation and padding settings of the file are kept for Save but
// not acted on: callers decide about lengths.
func Parse(name string, tokenizerJSON, configJSON []byte) (*Tokenizer, error) {
	doc, err := parseDocument(node{file: name, raw: tokenizerJSON})
	if err != nil {
		return nil, err
	}
	cfg, err := parseConfig(node{file: "tokenizer_config.json", raw: configJSON})
	if err != nil {
		return nil, err
	}
	return build(name, doc, cfg)
}

func parseDocument(root node) (*document, error) {
	var shape struct {
		document
		Added []json.RawMessage `json:"added_tokens"` // one by one, for errors to name it
		Model json.RawMessage   `json:"model"`
	}
	if err := root.into(&shape); err != nil {
		return nil, err
	}
	doc := shape.document // a copy, which does not keep the text of the model
	for i, raw := range shape.Added {
		n := root.child(fmt.Sprintf("added_tokens[%d]", i), raw)
		at := addedToken{ID: -1}
		if err := n.into(&at); err != nil {
			return nil, err
		}
		if at.ID < 0 {
			return nil, n.child("id", nil).errf("want an id >= 0")
		}
		doc.Added = append(doc.Added, at)
	}
	var err error
	doc.Model, err = parseModel(root.child("model", shape.Model))
	return &doc, err
}

func parseModel(n node) (modelDoc, error) {
	var m modelDoc
	if n.null() {
		return m, n.errf("missing")
	}
	fields, typ, err := n.kind()
	if err != nil {
		return m, err
	}
	if typ == "" { // files of the oldest release carry no type
		if _, ok := fields["merges"]; ok {
			typ = "BPE"
		}
	}
	if typ != "BPE" && typ != "WordLevel" {
		return m, n.unsupported("type", typ)
	}
	m.Type = typ
	if m.Unk, err = n.field(fields, "unk_token").str(""); err != nil {
		return m, err
	}
	ids, err := parseVocab(n.field(fields, "vocab"), &m)
	if err != nil || typ == "WordLevel" {
		return m, err
	}
	if d := n.field(fields, "dropout"); !d.null() {
		var p float64
		if err := d.into(&p); err != nil {
			return m, err
		}
		if p != 0 {
			return m, d.errf("unsupported %v: ids would be random", p)
		}
	}
	for _, name := range []string{"continuing_subword_prefix", "end_of_word_suffix"} {
		s, err := n.field(fields, name).str("")
		if err != nil {
			return m, err
		}
		if s != "" {
			return m, n.unsupported(name, s)
		}
	}
	for name, p := range map[string]*bool{"fuse_unk": &m.FuseUnk, "byte_fallback": &m.ByteFallback, "ignore_merges": &m.IgnoreMerges} {
		if *p, err = n.field(fields, name).flag(false); err != nil {
			return m, err
		}
	}
	return m, parseMerges(n.field(fields, "merges"), ids, &m)
}

// parseVocab reads {"token": id, …}. The ids may leave holes, but not many more
// than there are tokens.
func parseVocab(n node, m *modelDoc) (map[string]int32, error) {
	var ids map[string]int32
	if n.null() {
		return nil, n.errf("missing")
	}
	if err := n.into(&ids); err != nil {
		return nil, err
	}
	delete(ids, "") // never produced
	limit := int64(len(ids))*4 + 1<<16
	var top int32 = -1
	for tok, id := range ids {
		if id < 0 || int64(id) >= limit {
			return nil, n.errf("token %q has id %d; want 0 <= id < %d in a vocabulary of %d", tok, id, limit, len(ids))
		}
		top = max(top, id)
	}
	m.Vocab = make([]string, top+1)
	used := make([]bool, top+1)
	for _, tok := range slices.Sorted(maps.Keys(ids)) {
		id := ids[tok]
		if used[id] {
			return nil, n.errf("tokens %q and %q share id %d", m.Vocab[id], tok, id)
		}
		used[id], m.Vocab[id] = true, tok
	}
	return ids, nil
}

// parseMerges reads both forms: "a b" and ["a", "b"].
func parseMerges(n node, ids map[string]int32, m *modelDoc) error {
	if n.null() {
		return n.errf("missing")
	}
	var pairs [][2]string
	if first := bytes.TrimLeft(bytes.TrimPrefix(n.raw, []byte("[")), " \t\r\n"); len(first) > 0 && first[0] == '[' {
		var arrays [][]string
		if err := n.into(&arrays); err != nil {
			return err
		}
		for i, a := range arrays {
			if len(a) != 2 {
				return n.errf("merge %d: want 2 tokens, have %d", i, len(a))
			}
			pairs = append(pairs, [2]string{a[0], a[1]})
		}
	} else {
		var lines []string
		if err := n.into(&lines); err != nil {
			return err
		}
		for i, s := range lines {
			if strings.HasPrefix(s, "#version") {
				continue
			}
			a, b, ok := strings.Cut(s, " ")
			if !ok || strings.Contains(b, " ") {
				return n.errf("merge %d: want two tokens with one space between, have %q", i, s)
			}
			pairs = append(pairs, [2]string{a, b})
		}
	}
	m.Merges = make([]merge, len(pairs))
	for i, p := range pairs {
		var mg merge
		for _, part := range []struct {
			tok string
			id  *int32
		}{{p[0], &mg.left}, {p[1], &mg.right}, {p[0] + p[1], &mg.result}} {
			id, ok := ids[part.tok]
			if !ok {
				return n.errf("merge %d: token %q is not in the vocabulary", i, part.tok)
			}
			*part.id = id
		}
		m.Merges[i] = mg
	}
	return nil
}

// config is what is used of a tokenizer_config.json; raw is all of it.
type config struct {
	raw                json.RawMessage
	BOS, EOS, UNK, PAD string
	ChatTemplate       string
	templateFile       bool   // the template came from chat_template.jinja
	layout             string // that the model was trained in, where the template says another
}

// layoutKey is the field of tokenizer_config.json that names a layout, of which Hugging
// Face's libraries know nothing.
const layoutKey = "nrt_layout"

func parseConfig(n node) (config, error) {
	c := config{raw: n.raw}
	fields, err := n.object()
	if err != nil {
		return c, err
	}
	for name, p := range map[string]*string{"bos_token": &c.BOS, "eos_token": &c.EOS, "unk_token": &c.UNK, "pad_token": &c.PAD} {
		if *p, err = configToken(n.field(fields, name)); err != nil {
			return c, err
		}
	}
	if c.layout, err = n.field(fields, layoutKey).str(""); err != nil {
		return c, err
	}
	c.ChatTemplate, err = configTemplate(n.field(fields, "chat_template"))
	return c, err
}

// configToken reads "tok" or {"content": "tok", …}.
func configToken(n node) (string, error) {
	if n.null() || n.raw[0] != '{' {
		return n.str("")
	}
	fields, err := n.object()
	if err != nil {
		return "", err
	}
	return n.field(fields, "content").str("")
}

// configTemplate reads "template" or [{"name": …, "template": …}, …], of which
// it takes the one named default, else the first.
func configTemplate(n node) (string, error) {
	if n.null() || n.raw[0] != '[' {
		return n.str("")
	}
	list, err := n.array()
	if err != nil {
		return "", err
	}
	var chosen string
	for i, item := range list {
		fields, err := item.object()
		if err != nil {
			return "", err
		}
		name, err := item.field(fields, "name").str("")
		if err != nil {
			return "", err
		}
		text, err := item.field(fields, "template").str("")
		if err != nil {
			return "", err
		}
		if i == 0 || name == "default" {
			chosen = text
		}
	}
	return chosen, nil
}
