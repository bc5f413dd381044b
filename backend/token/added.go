package token

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// matcher finds added tokens in a text: of those that begin first the longest,
// as Hugging Face's splitter does.
type matcher struct {
	tokens map[string]*addedToken
	lens   [256][]int // by first byte: the lengths of its tokens, longest first
}

func (m *matcher) add(text string, at *addedToken) {
	if text == "" || m.tokens[text] != nil {
		return
	}
	if m.tokens == nil {
		m.tokens = make(map[string]*addedToken)
	}
	m.tokens[text] = at
	list := m.lens[text[0]]
	if i, found := slices.BinarySearchFunc(list, len(text), func(a, b int) int { return b - a }); !found {
		m.lens[text[0]] = slices.Insert(list, i, len(text))
	}
}

// buildMatchers sorts the added tokens into those looked for in the text as it
// stands and those looked for after normalisation, normalised themselves.
func (t *Tokenizer) buildMatchers() {
	t.raw, t.norm = new(matcher), new(matcher)
	t.shown = make(map[int32]string)
	for i := range t.doc.Added {
		at := &t.doc.Added[i]
		if at.Content == "" {
			continue
		}
		if !at.Normalized {
			t.raw.add(at.Content, at)
			continue
		}
		b := &buffer{s: at.Content}
		for _, n := range t.normal {
			b = n.normalize(b, false, false)
		}
		t.norm.add(b.s, at)
		t.shown[at.ID] = b.s
	}
}

// find calls yield for all of s in order: with the id of each added token, and
// with -1 for each stretch between. The white space that a token strips belongs
// to it. special says whether special tokens count.
func (m *matcher) find(s string, special bool, yield func(id int32, from, to int)) {
	done := 0 // s[:done] has been handed out
	for i := 0; len(m.tokens) > 0 && i < len(s); {
		at, n := m.match(s[i:])
		if at == nil {
			i++
			continue
		}
		start, stop := i, i+n
		i = stop
		if at.Special && !special {
			continue
		}
		if at.SingleWord && (wordEnds(s[:start]) || wordStarts(s[stop:])) {
			continue
		}
		if at.LStrip {
			start = max(done, stripRight(s[:start]))
		}
		if at.RStrip {
			stop += stripLeft(s[stop:])
		}
		if done < start {
			yield(-1, done, start)
		}
		// A token within the white space that the one before took along counts all the
		// same, unless it would strip itself away, and what follows it comes again.
		if start < stop {
			yield(at.ID, start, stop)
			done = stop
		}
	}
	if done < len(s) {
		yield(-1, done, len(s))
	}
}

// match is the longest token that s begins with and its length in s.
func (m *matcher) match(s string) (*addedToken, int) {
	for _, n := range m.lens[s[0]] {
		if n <= len(s) {
			if at := m.tokens[s[:n]]; at != nil {
				return at, n
			}
		}
	}
	return nil, 0
}

func wordStarts(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && wordRune(r)
}

func wordEnds(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && wordRune(r)
}

// stripRight is the length of s without white space at its end.
func stripRight(s string) int {
	for len(s) > 0 {
		r, n := utf8.DecodeLastRuneInString(s)
		if !unicode.IsSpace(r) {
			break
		}
		s = s[:len(s)-n]
	}
	return len(s)
}

// stripLeft is the length of the white space at the start of s.
func stripLeft(s string) int {
	n := 0
	for n < len(s) {
		r, k := utf8.DecodeRuneInString(s[n:])
		if !unicode.IsSpace(r) {
			break
		}
		n += k
	}
	return n
}
