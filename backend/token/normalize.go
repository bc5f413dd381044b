package token

import "strings"

// normalizer rewrites the text between added tokens. With bare it puts nothing
// in front.
type normalizer interface {
	normalize(b *buffer, track, bare bool) *buffer
}

// parseNormalizer reads the "normalizer" field.
func parseNormalizer(n node) ([]normalizer, error) {
	if n.null() {
		return nil, nil
	}
	fields, typ, err := n.kind()
	if err != nil {
		return nil, err
	}
	switch typ {
	case "Sequence":
		return sequence(n.field(fields, "normalizers"), parseNormalizer)
	case "NFC":
		return []normalizer{nfc{}}, nil
	case "Prepend":
		s, err := n.field(fields, "prepend").str("")
		return []normalizer{prepend{s}}, err
	case "Replace":
		r, err := parseReplace(n, fields)
		return []normalizer{r}, err
	}
	return nil, n.unsupported("type", typ)
}

// parseReplace reads {"pattern": {"String": …}, "content": …}, which is the same
// for normalizers and decoders.
func parseReplace(n node, fields map[string]node) (replace, error) {
	var r replace
	pat := n.field(fields, "pattern")
	pf, err := pat.object()
	if err != nil {
		return r, err
	}
	if re, ok := pf["Regex"]; ok {
		s, err := re.str("")
		if err != nil {
			return r, err
		}
		return r, re.errf("unsupported pattern %q", s)
	}
	if r.old, err = pat.field(pf, "String").str(""); err != nil {
		return r, err
	}
	if r.old == "" {
		return r, pat.child("String", nil).errf("want a text to replace")
	}
	r.new, err = n.field(fields, "content").str("")
	return r, err
}

// prepend puts text in front of what is not empty.
type prepend struct{ text string }

func (p prepend) normalize(b *buffer, track, bare bool) *buffer {
	if b.s == "" || bare || p.text == "" {
		return b
	}
	w := rewriter{src: b, track: track}
	w.put(p.text, 0, 0)
	w.copy(0, len(b.s))
	return w.done()
}

// replace writes new for every old.
type replace struct{ old, new string }

func (r replace) normalize(b *buffer, track, _ bool) *buffer {
	if !strings.Contains(b.s, r.old) {
		return b
	}
	if !track {
		return &buffer{s: strings.ReplaceAll(b.s, r.old, r.new), base: b.base, start: b.start}
	}
	w := rewriter{src: b, track: true}
	at := 0
	for {
		i := strings.Index(b.s[at:], r.old)
		if i < 0 {
			break
		}
		w.copy(at, at+i)
		at += i + len(r.old)
		w.put(r.new, at-len(r.old), at)
	}
	w.copy(at, len(b.s))
	return w.done()
}
