package token

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// step is one pre-tokenizer: it cuts b.s[from:to] (never empty) and hands each
// part to e.step(next, …).
type step interface {
	split(e *encoder, next int, b *buffer, from, to int)
}

// parsePreTokenizer reads the "pre_tokenizer" field into steps. ByteLevel's
// spelling of bytes comes last, so a step after it is refused.
func parsePreTokenizer(n node) ([]step, error) {
	if n.null() {
		return nil, nil
	}
	fields, typ, err := n.kind()
	if err != nil {
		return nil, err
	}
	switch typ {
	case "Sequence":
		last := false // the steps so far end with ByteLevel's
		return sequence(n.field(fields, "pretokenizers"), func(item node) ([]step, error) {
			more, err := parsePreTokenizer(item)
			if err != nil || len(more) == 0 {
				return nil, err
			}
			if last {
				return nil, item.errf("unsupported: a step after ByteLevel")
			}
			_, last = more[len(more)-1].(byteLevelStep)
			return more, nil
		})
	case "ByteLevel":
		var all []step
		space, err := n.field(fields, "add_prefix_space").flag(true)
		if err != nil {
			return nil, err
		}
		regex, err := n.field(fields, "use_regex").flag(true)
		if err != nil {
			return nil, err
		}
		if space {
			all = append(all, prefixSpace{})
		}
		if regex {
			all = append(all, isolate{scanGPT2})
		}
		return append(all, byteLevelStep{}), nil
	case "Split":
		return parseSplit(n, fields)
	case "Digits":
		each, err := n.field(fields, "individual_digits").flag(false)
		most := math.MaxInt
		if each {
			most = 1
		}
		return []step{isolate{complement(some(most, isNumeric))}}, err
	case "WhitespaceSplit":
		return []step{splitStep{find: some(1, unicode.IsSpace), how: removed}}, nil
	case "Whitespace":
		return []step{splitStep{find: scanWhitespace, how: removed, invert: true}}, nil
	case "Metaspace":
		m, err := parseMetaspace(n, fields)
		return []step{m}, err
	}
	return nil, n.unsupported("type", typ)
}

func parseSplit(n node, fields map[string]node) ([]step, error) {
	pat := n.field(fields, "pattern")
	pf, err := pat.object()
	if err != nil {
		return nil, err
	}
	var st splitStep
	if re, ok := pf["Regex"]; ok {
		s, err := re.str("")
		if err != nil {
			return nil, err
		}
		known, ok := patterns[lineEscapes.Replace(s)]
		if !ok {
			return nil, re.errf("unsupported pattern %q", s)
		}
		st.find, st.covers = known.scan, known.covers
	} else {
		s, err := pat.field(pf, "String").str("")
		if err != nil {
			return nil, err
		}
		if s == "" {
			return nil, pat.errf("want a Regex or a String that is not empty")
		}
		st.find = func(text string, i int) int {
			if strings.HasPrefix(text[i:], s) {
				return i + len(s)
			}
			return i
		}
	}
	name, err := n.field(fields, "behavior").str("")
	if err != nil {
		return nil, err
	}
	how, ok := behaviors[name]
	if !ok {
		return nil, n.unsupported("behavior", name)
	}
	st.how = how
	if st.invert, err = n.field(fields, "invert").flag(false); err != nil {
		return nil, err
	}
	if st.covers && how == isolated {
		return []step{isolate{st.find}}, nil
	}
	return []step{st}, nil
}

// lineEscapes: some files write \r and \n in a pattern as the characters
// themselves.
var lineEscapes = strings.NewReplacer("\r", `\r`, "\n", `\n`)

// parseMetaspace reads what the pre-tokenizer and the decoder share,
// including the older add_prefix_space.
func parseMetaspace(n node, fields map[string]node) (metaspace, error) {
	m := metaspace{mark: "▁", cut: true}
	var err error
	if m.mark, err = n.field(fields, "replacement").str("▁"); err != nil {
		return m, err
	}
	if utf8.RuneCountInString(m.mark) != 1 {
		return m, n.child("replacement", nil).errf("want one character, have %q", m.mark)
	}
	if m.cut, err = n.field(fields, "split").flag(true); err != nil {
		return m, err
	}
	space, err := n.field(fields, "add_prefix_space").flag(true)
	if err != nil {
		return m, err
	}
	def := "always"
	if !space {
		def = "never"
	}
	if m.scheme, err = n.field(fields, "prepend_scheme").str(def); err != nil {
		return m, err
	}
	switch m.scheme {
	case "always", "first", "never":
		if !space && m.scheme != "never" {
			return m, n.child("add_prefix_space", nil).errf("false contradicts prepend_scheme %q", m.scheme)
		}
		return m, nil
	}
	return m, n.unsupported("prepend_scheme", m.scheme)
}

// isolate cuts at every match of a pattern that covers any text.
type isolate struct{ scan scanner }

func (p isolate) split(e *encoder, next int, b *buffer, from, to int) {
	s := b.s[from:to] // a match may not look past the end, nor before from
	for i := 0; i < len(s); {
		j := p.scan(s, i)
		e.step(next, b, from+i, from+j)
		i = j
	}
}

// behavior says what becomes of the matches of a Split.
type behavior int

const (
	removed behavior = iota
	isolated
	mergedWithPrevious
	mergedWithNext
	contiguous
)

var behaviors = map[string]behavior{
	"Removed":            removed,
	"Isolated":           isolated,
	"MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext":     mergedWithNext,
	"Contiguous":         contiguous,
}

// splitStep is Hugging Face's Split in general.
type splitStep struct {
	find   scanner
	covers bool // find always matches something
	how    behavior
	invert bool // what find matches is the text, the rest the delimiters
}

// stretch is a part of the text that is a delimiter or lies between two.
type stretch struct {
	from, to int
	delim    bool
}

func (p splitStep) split(e *encoder, next int, b *buffer, from, to int) {
	s := b.s[from:to]
	var parts []stretch
	add := func(i, j int, delim bool) {
		if i < j {
			parts = append(parts, stretch{i, j, delim != p.invert})
		}
	}
	done := 0
	for i := 0; i < len(s); {
		j := p.find(s, i)
		if j == i {
			_, n := utf8.DecodeRuneInString(s[i:])
			i += n
			continue
		}
		add(done, i, false)
		add(i, j, true)
		i, done = j, j
	}
	add(done, len(s), false)
	for _, q := range p.how.join(parts) {
		e.step(next, b, from+q.from, from+q.to)
	}
}

// join merges or drops delimiters.
func (how behavior) join(parts []stretch) []stretch {
	out := parts[:0]
	was := false
	switch how {
	case removed:
		for _, q := range parts {
			if !q.delim {
				out = append(out, q)
			}
		}
	case isolated:
		return parts
	case mergedWithPrevious:
		for _, q := range parts {
			if q.delim && !was && len(out) > 0 {
				out[len(out)-1].to = q.to
			} else {
				out = append(out, q)
			}
			was = q.delim
		}
	case mergedWithNext:
		// Seen from the end: a delimiter joins what follows it, unless that is a
		// delimiter too.
		for i := len(parts) - 1; i > 0; i-- {
			if q := parts[i-1]; q.delim && !parts[i].delim {
				parts[i].from = q.from
				parts[i-1].to = q.from // now empty
			}
		}
		for _, q := range parts {
			if q.from < q.to {
				out = append(out, q)
			}
		}
	case contiguous:
		for _, q := range parts {
			if q.delim == was && len(out) > 0 {
				out[len(out)-1].to = q.to
			} else {
				out = append(out, q)
			}
			was = q.delim
		}
	}
	return out
}

// prefixSpace is ByteLevel's add_prefix_space.
type prefixSpace struct{}

func (prefixSpace) split(e *encoder, next int, b *buffer, from, to int) {
	if b.s[from] != ' ' && !e.mode.bare {
		b = prepend{" "}.normalize(b.sub(from, to), e.track, false)
		from, to = 0, len(b.s)
	}
	e.step(next, b, from, to)
}

// byteLevelStep stands for ByteLevel's spelling of bytes as letters, which the
// model does (see alphabet.go): words stay parts of the text.
type byteLevelStep struct{}

func (byteLevelStep) split(e *encoder, next int, b *buffer, from, to int) {
	e.step(next, b, from, to)
}

// metaspace writes spaces as ▁, puts one in front, and cuts before each.
type metaspace struct {
	mark   string
	scheme string // "always", "first", "never"
	cut    bool
}

func (m metaspace) split(e *encoder, next int, b *buffer, from, to int) {
	b = replace{" ", m.mark}.normalize(b.sub(from, to), e.track, false)
	if !strings.HasPrefix(b.s, m.mark) && (m.scheme == "always" || m.scheme == "first" && b.start) {
		b = prepend{m.mark}.normalize(b, e.track, e.mode.bare)
	}
	if !m.cut {
		e.step(next, b, 0, len(b.s))
		return
	}
	for from := 0; from < len(b.s); {
		to := len(b.s)
		if i := strings.Index(b.s[from+1:], m.mark); i >= 0 {
			to = from + 1 + i
		}
		e.step(next, b, from, to)
		from = to
	}
}

// complement makes a pattern cover any text: what lies between two matches is a
// match too.
func complement(find scanner) scanner {
	return func(s string, i int) int {
		if j := find(s, i); j > i {
			return j
		}
		for i < len(s) {
			_, n := utf8.DecodeRuneInString(s[i:])
			i += n
			if i < len(s) && find(s, i) > i {
				break
			}
		}
		return i
	}
}
