package token

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The compact form is for browsers: a tenth of the tokenizer.json and no JSON to
// speak of. It is
//
//	magic
//	length, JSON of everything but vocabulary and merges (compactMeta)
//	size of the vocabulary
//	n, then n tokens no merge makes: id minus the last one, length, bytes
//	m, then m left ids, m right ids, m results (minus the last one, minus 1)
//
// with all numbers as varints, differences zigzag. A token made by merges is
// not spelt out: it is its parts, joined.

const compactMagic = "NRTVOC1\n"

type compactMeta struct {
	document
	modelDoc
	Config   json.RawMessage `json:"config,omitempty"`
	Template string          `json:"chat_template_file,omitempty"`
}

// Compact is the tokenizer in a small binary form that ParseCompact reads.
func (t *Tokenizer) Compact() []byte {
	d := t.doc
	meta := compactMeta{document: *d, modelDoc: d.Model, Config: t.config.raw}
	if t.config.templateFile {
		meta.Template = t.config.ChatTemplate
	}
	raw, err := marshal(meta)
	if err != nil {
		panic("token: what was read as JSON cannot be written: " + err.Error())
	}
	out := append([]byte(compactMagic), binary.AppendUvarint(nil, uint64(len(raw)))...)
	out = append(out, raw...)

	vocab, merges := d.Model.Vocab, d.Model.Merges
	spelt := spelledOut(vocab, merges)
	n := 0
	for _, s := range spelt {
		if s {
			n++
		}
	}
	out = binary.AppendUvarint(out, uint64(len(vocab)))
	out = binary.AppendUvarint(out, uint64(n))
	last := 0
	for id, s := range spelt {
		if s {
			out = binary.AppendUvarint(out, uint64(id-last))
			out = binary.AppendUvarint(out, uint64(len(vocab[id])))
			out = append(out, vocab[id]...)
			last = id
		}
	}
	out = binary.AppendUvarint(out, uint64(len(merges)))
	for _, m := range merges {
		out = binary.AppendUvarint(out, uint64(m.left))
	}
	for _, m := range merges {
		out = binary.AppendUvarint(out, uint64(m.right))
	}
	prev := int64(-1)
	for _, m := range merges {
		out = binary.AppendVarint(out, int64(m.result)-prev-1)
		prev = int64(m.result)
	}
	return out
}

// maxJoined is the length up to which tokens are put together from their parts.
// It bounds what a few bytes of merges can grow to.
const maxJoined = 128

// spelledOut says which tokens cannot be put together by going through the
// merges in order, or are too long for it.
func spelledOut(vocab []string, merges []merge) []bool {
	made := make([]bool, len(vocab))
	for _, m := range merges {
		made[m.result] = true
	}
	spelt, known := make([]bool, len(vocab)), make([]bool, len(vocab))
	for id, tok := range vocab {
		spelt[id] = tok != "" && (!made[id] || len(tok) > maxJoined)
		known[id] = spelt[id]
	}
	for _, m := range merges {
		for _, part := range []int32{m.left, m.right} {
			if !known[part] {
				spelt[part], known[part] = true, true
			}
		}
		known[m.result] = true
	}
	return spelt
}

// ParseCompact reads what Compact made. Whatever the data, it takes memory in
// proportion to their length.
func ParseCompact(data []byte) (*Tokenizer, error) {
	const name = "compact vocabulary"
	rest, ok := strings.CutPrefix(string(data), compactMagic)
	if !ok {
		return nil, fmt.Errorf("%s: want it to begin with %q", name, compactMagic)
	}
	r := &compactReader{name: name, s: rest}
	var meta compactMeta
	if err := json.Unmarshal([]byte(r.bytes("header", r.count("header length", 1))), &meta); r.err == nil && err != nil {
		return nil, fmt.Errorf("%s: header: %w", name, err)
	}
	if r.err == nil && meta.Type != "BPE" && meta.Type != "WordLevel" {
		return nil, fmt.Errorf("%s: header: type: unsupported %q", name, meta.Type)
	}
	r.vocab(&meta.modelDoc)
	if r.err != nil {
		return nil, r.err
	}
	if r.s != "" {
		return nil, fmt.Errorf("%s: %d bytes too many", name, len(r.s))
	}
	for i, at := range meta.Added {
		if at.ID < 0 {
			return nil, fmt.Errorf("%s: header: added_tokens[%d].id: want an id >= 0", name, i)
		}
	}
	cfg, err := parseConfig(node{file: name + ": config", raw: meta.Config})
	if err != nil {
		return nil, err
	}
	if meta.Template != "" {
		cfg.ChatTemplate, cfg.templateFile = meta.Template, true
	}
	doc := &meta.document
	doc.Model = meta.modelDoc
	return build(name, doc, cfg)
}

// compactReader keeps the first error; after it all reads give zero.
type compactReader struct {
	name string
	s    string
	err  error
}

func (r *compactReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(r.name+": "+format, args...)
	}
	r.s = ""
}

func (r *compactReader) uint(what string) uint64 {
	v, n := binary.Uvarint([]byte(r.s[:min(len(r.s), binary.MaxVarintLen64)]))
	if n <= 0 {
		r.fail("%s: truncated or too large", what)
		return 0
	}
	r.s = r.s[n:]
	return v
}

// count reads how many things follow, each of at least size bytes.
func (r *compactReader) count(what string, size int) int {
	v := r.uint(what)
	if v > uint64(len(r.s)/size) {
		r.fail("%s: %d, but only %d bytes follow", what, v, len(r.s))
		return 0
	}
	return int(v)
}

func (r *compactReader) bytes(what string, n int) string {
	if n > len(r.s) {
		r.fail("%s: truncated", what)
		return ""
	}
	s := r.s[:n]
	r.s = r.s[n:]
	return s
}

// vocab reads tokens and merges.
func (r *compactReader) vocab(m *modelDoc) {
	size := r.uint("vocabulary size")
	if size > uint64(len(r.s))*4+1<<16 {
		r.fail("vocabulary size: %d, but only %d bytes follow", size, len(r.s))
		return
	}
	m.Vocab = make([]string, size)
	ids := make(map[string]bool)
	set := func(id uint64, tok string) {
		if id >= size || tok == "" || m.Vocab[id] != "" || ids[tok] || !utf8.ValidString(tok) {
			r.fail("token %d %q: empty, a repetition, not UTF-8, or out of range (vocabulary of %d)", id, tok, size)
			return
		}
		m.Vocab[id] = tok
		ids[tok] = true
	}
	n := r.count("tokens", 3)
	id := uint64(0)
	for i := 0; i < n && r.err == nil; i++ {
		id += r.uint("token id")
		set(id, strings.Clone(r.bytes("token", r.count("token length", 1))))
	}
	m.Merges = make([]merge, r.count("merges", 3))
	for _, side := range []string{"left", "right"} {
		for i := range m.Merges {
			v := r.uint("merge")
			if v >= size {
				r.fail("merge %d: %s token %d is out of range (vocabulary of %d)", i, side, v, size)
				return
			}
			if side == "left" {
				m.Merges[i].left = int32(v)
			} else {
				m.Merges[i].right = int32(v)
			}
		}
	}
	prev := int64(-1)
	for i := range m.Merges {
		mg := &m.Merges[i]
		zigzag := r.uint("merge result")
		res := prev + 1 + (int64(zigzag>>1) ^ -int64(zigzag&1))
		a, b := m.Vocab[mg.left], m.Vocab[mg.right]
		if r.err != nil {
			return
		}
		if res < 0 || res >= int64(size) || a == "" || b == "" {
			r.fail("merge %d: tokens %d + %d = %d: not known or out of range", i, mg.left, mg.right, res)
			return
		}
		mg.result, prev = int32(res), res
		switch have := m.Vocab[res]; {
		case have == "":
			if len(a)+len(b) > maxJoined {
				r.fail("merge %d: %q + %q is longer than %d bytes", i, a, b, maxJoined)
				return
			}
			set(uint64(res), a+b)
		case have != a+b:
			r.fail("merge %d: %q + %q is not token %d, %q", i, a, b, res, have)
		}
	}
}
