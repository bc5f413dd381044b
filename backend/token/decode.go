package token

import (
	"strings"
	"unicode/utf8"
)

// A decoder is a chain of stages. Each gets the tokens one by one and passes on
// what is settled, so that a stream and a whole text go the same way.

// decodeStage is one stage as the file has it; start copies it for one text.
type decodeStage interface {
	start() stage
}

// stage is fed tokens and hands text on. flush marks the end.
type stage interface {
	push(tok string, out func(string))
	flush(out func(string))
}

// parseDecoder reads the "decoder" field. Without one, tokens are joined by
// spaces.
func parseDecoder(n node) ([]decodeStage, error) {
	if n.null() {
		return []decodeStage{joinDecoder{}}, nil
	}
	var fused bool
	return parseDecoderStages(n, &fused)
}

// parseDecoderStages: *fused says that the stages so far make one token of the
// text, which those after them get in pieces.
func parseDecoderStages(n node, fused *bool) ([]decodeStage, error) {
	fields, typ, err := n.kind()
	if err != nil {
		return nil, err
	}
	whole := func(st decodeStage) []decodeStage {
		if *fused {
			return []decodeStage{collectDecoder{}, st}
		}
		return []decodeStage{st}
	}
	switch typ {
	case "Sequence":
		return sequence(n.field(fields, "decoders"), func(item node) ([]decodeStage, error) { return parseDecoderStages(item, fused) })
	case "ByteLevel":
		st := whole(byteLevelDecoder{})
		*fused = true
		return st, nil
	case "ByteFallback":
		return whole(byteFallbackDecoder{}), nil
	case "Fuse":
		*fused = true
		return nil, nil // what the stages hand on is joined at the end anyway
	case "Metaspace":
		m, err := parseMetaspace(n, fields)
		return whole(metaspaceDecoder{m: m}), err
	case "Replace":
		r, err := parseReplace(n, fields)
		return whole(replaceDecoder(r)), err
	case "Strip":
		st, err := parseStrip(n, fields)
		if err != nil {
			return nil, err
		}
		if *fused && st.to == 0 {
			return []decodeStage{stripStartDecoder{st}}, nil
		}
		return whole(st), nil
	}
	return nil, n.unsupported("type", typ)
}

// strip takes char away from the front and the end of a token.
type strip struct {
	char     string
	from, to int // how often at the front and at the end
}

func parseStrip(n node, fields map[string]node) (strip, error) {
	st := strip{char: " "}
	var err error
	if st.char, err = n.field(fields, "content").str(" "); err != nil {
		return st, err
	}
	if utf8.RuneCountInString(st.char) != 1 {
		return st, n.child("content", nil).errf("want one character, have %q", st.char)
	}
	for name, p := range map[string]*int{"start": &st.from, "stop": &st.to} {
		f := n.field(fields, name)
		if f.null() {
			continue
		}
		if err := f.into(p); err != nil {
			return st, err
		}
		if *p < 0 {
			return st, f.errf("want a number >= 0, have %d", *p)
		}
	}
	return st, nil
}

func (st strip) strip(s string) string {
	for i := 0; i < st.from && strings.HasPrefix(s, st.char); i++ {
		s = s[len(st.char):]
	}
	for i := 0; i < st.to && strings.HasSuffix(s, st.char); i++ {
		s = s[:len(s)-len(st.char)]
	}
	return s
}

func (st strip) start() stage                      { return st }
func (st strip) push(tok string, out func(string)) { out(st.strip(tok)) }
func (st strip) flush(func(string))                {}

// replaceDecoder rewrites every token alone.
type replaceDecoder replace

func (r replaceDecoder) start() stage { return r }
func (r replaceDecoder) push(tok string, out func(string)) {
	out(strings.ReplaceAll(tok, r.old, r.new))
}
func (r replaceDecoder) flush(func(string)) {}

// joinDecoder puts one space between tokens.
type joinDecoder struct{ any bool }

func (j joinDecoder) start() stage { return &j }
func (j *joinDecoder) push(tok string, out func(string)) {
	if j.any {
		out(" ")
	}
	j.any = true
	out(tok)
}
func (j *joinDecoder) flush(func(string)) {}

// collectDecoder waits for the end and hands all on as one token.
type collectDecoder struct{ b strings.Builder }

func (collectDecoder) start() stage                       { return new(collectDecoder) }
func (c *collectDecoder) push(tok string, _ func(string)) { c.b.WriteString(tok) }
func (c *collectDecoder) flush(out func(string))          { out(c.b.String()) }

// stripStartDecoder is strip for a text that comes in pieces.
type stripStartDecoder struct{ st strip }

func (d stripStartDecoder) start() stage { return &d }
func (d *stripStartDecoder) push(tok string, out func(string)) {
	for d.st.from > 0 && tok != "" {
		rest, ok := strings.CutPrefix(tok, d.st.char)
		if !ok {
			d.st.from = 0
			break
		}
		d.st.from--
		tok = rest
	}
	out(tok)
}
func (d *stripStartDecoder) flush(func(string)) {}

// metaspaceDecoder writes ▁ as a space, but drops those of the first token.
type metaspaceDecoder struct {
	m    metaspace
	some bool // a token has been seen
}

func (d metaspaceDecoder) start() stage { return &d }
func (d *metaspaceDecoder) push(tok string, out func(string)) {
	to := " "
	if !d.some && d.m.scheme != "never" {
		to = ""
	}
	d.some = true
	out(strings.ReplaceAll(tok, d.m.mark, to))
}
func (d *metaspaceDecoder) flush(func(string)) {}

// byteLevelDecoder turns the alphabet back into bytes and the bytes into text.
// A token with a character outside the alphabet stands for itself.
type byteLevelDecoder struct{ held []byte }

func (d byteLevelDecoder) start() stage { return &d }
func (d *byteLevelDecoder) push(tok string, out func(string)) {
	var ok bool
	if d.held, ok = fromAlphabet(d.held, tok); !ok {
		d.held = append(d.held, tok...)
	}
	n := len(d.held) - unfinished(d.held)
	if n > 0 {
		out(Valid(string(d.held[:n])))
		d.held = append(d.held[:0], d.held[n:]...)
	}
}

func (d *byteLevelDecoder) flush(out func(string)) {
	if len(d.held) > 0 {
		out(Valid(string(d.held)))
		d.held = nil
	}
}

// unfinished is the length of the start of a character that b ends with.
func unfinished(b []byte) int {
	for n := 1; n <= min(3, len(b)); n++ {
		c := b[len(b)-n]
		if c >= 0xC0 {
			s := string(b[len(b)-n:])
			if !utf8.FullRuneInString(s) && badLen(s) == n {
				return n
			}
			return 0
		}
		if c < 0x80 {
			return 0
		}
	}
	return 0
}

// byteFallbackDecoder joins runs of <0xNN> to characters. A run that is not
// UTF-8 as a whole becomes one U+FFFD per byte, so a run waits for its end.
type byteFallbackDecoder struct{ held []byte }

func (d byteFallbackDecoder) start() stage { return &d }
func (d *byteFallbackDecoder) push(tok string, out func(string)) {
	if b, ok := byteToken(tok); ok {
		d.held = append(d.held, b)
		return
	}
	d.flush(out)
	out(tok)
}

func (d *byteFallbackDecoder) flush(out func(string)) {
	if len(d.held) == 0 {
		return
	}
	if utf8.Valid(d.held) {
		out(string(d.held))
	} else {
		out(strings.Repeat(replacement, len(d.held)))
	}
	d.held = d.held[:0]
}

// Decoder turns ids into text as they come.
type Decoder struct {
	t      *Tokenizer
	skip   bool
	stages []stage
	outs   []func(string)
	text   strings.Builder
}

// NewDecoder starts a text. With skipSpecial special tokens leave no trace (in
// Hugging Face's newest release those that are looked for in normalised text
// do; not here).
func (t *Tokenizer) NewDecoder(skipSpecial bool) *Decoder {
	d := &Decoder{t: t, skip: skipSpecial}
	n := len(t.decoder)
	d.stages = make([]stage, n)
	d.outs = make([]func(string), n+1)
	d.outs[n] = func(s string) { d.text.WriteString(s) }
	for i := n - 1; i >= 0; i-- {
		st, next := t.decoder[i].start(), d.outs[i+1]
		d.stages[i] = st
		d.outs[i] = func(s string) { st.push(s, next) }
	}
	return d
}

// Push adds a token and returns the text that is now settled: whole characters
// only, often none. Ids without a token are passed over.
func (d *Decoder) Push(id int32) string {
	d.push(id)
	return d.take()
}

func (d *Decoder) push(id int32) {
	if tok := d.t.spelling(id); tok != "" && !(d.skip && d.t.Special(id)) {
		d.outs[0](tok)
	}
}

// spelling is the token as decoders see it.
func (t *Tokenizer) spelling(id int32) string {
	if s, ok := t.shown[id]; ok {
		return s
	}
	return t.Token(id)
}

// Flush ends the text and returns the rest of it; a character that was not
// completed becomes U+FFFD. The Decoder must not be used after it.
func (d *Decoder) Flush() string {
	for i, st := range d.stages {
		st.flush(d.outs[i+1])
	}
	return d.take()
}

func (d *Decoder) take() string {
	s := d.text.String()
	d.text.Reset()
	return s
}

// Decode gives the text of ids. With skipSpecial special tokens are left out.
// The result is UTF-8: bytes that make no character become U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	d := t.NewDecoder(skipSpecial)
	for _, id := range ids {
		d.push(id)
	}
	return d.Flush()
}

// Text is what a token alone stands for, its leading space included: what a
// view of single tokens shows. Part of a character shows as U+FFFD.
func (t *Tokenizer) Text(id int32) string {
	tok := t.Token(id)
	if t.added[id] != nil {
		return tok
	}
	for _, st := range t.decoder {
		switch st := st.(type) {
		case byteLevelDecoder:
			if raw, ok := fromAlphabet(nil, tok); ok {
				tok = Valid(string(raw))
			}
		case byteFallbackDecoder:
			if b, ok := byteToken(tok); ok {
				tok = Valid(string([]byte{b}))
			}
		case metaspaceDecoder:
			tok = strings.ReplaceAll(tok, st.m.mark, " ")
		case replaceDecoder:
			tok = strings.ReplaceAll(tok, st.old, st.new)
		}
	}
	return tok
}
