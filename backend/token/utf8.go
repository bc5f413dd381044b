package token

import (
	"strings"
	"unicode/utf8"
)

const replacement = "\uFFFD"

// badLen is the length of the ill-formed part that s begins with, or 0 if s
// begins with a whole character: the longest start of a well-formed character,
// at least one byte. This is how WHATWG's decoder, Python and Rust count the
// U+FFFD they put in.
func badLen(s string) int {
	if r, n := utf8.DecodeRuneInString(s); r != utf8.RuneError || n != 1 {
		return 0
	}
	lo, hi, need := byte(0x80), byte(0xBF), 0
	switch c := s[0]; {
	case c >= 0xC2 && c <= 0xDF:
		need = 1
	case c >= 0xE0 && c <= 0xEF:
		need = 2
		if c == 0xE0 {
			lo = 0xA0
		} else if c == 0xED {
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		need = 3
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	}
	n := 1
	for n <= need && n < len(s) && s[n] >= lo && s[n] <= hi {
		lo, hi = 0x80, 0xBF
		n++
	}
	return n
}

// Valid is s with every maximal ill-formed part replaced by U+FFFD: the text
// whose ids Encode gives.
func Valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return repair(&buffer{s: s}, false).s
}

// repair is Valid for a buffer.
func repair(b *buffer, track bool) *buffer {
	if utf8.ValidString(b.s) {
		return b
	}
	w := rewriter{src: b, track: track}
	for i := 0; i < len(b.s); {
		if n := badLen(b.s[i:]); n > 0 {
			w.put(replacement, i, i+n)
			i += n
			continue
		}
		_, n := utf8.DecodeRuneInString(b.s[i:])
		w.copy(i, i+n)
		i += n
	}
	return w.done()
}

// rewriter builds a buffer out of another one and keeps track of the source.
type rewriter struct {
	src    *buffer
	track  bool
	out    strings.Builder
	lo, hi []int32
}

// copy takes src.s[from:to] over.
func (w *rewriter) copy(from, to int) {
	w.out.WriteString(w.src.s[from:to])
	if w.track {
		for i := from; i < to; i++ {
			sp := w.src.span(i, i+1)
			w.lo, w.hi = append(w.lo, sp.lo), append(w.hi, sp.hi)
		}
	}
}

// put writes s in place of src.s[from:to].
func (w *rewriter) put(s string, from, to int) {
	w.out.WriteString(s)
	if w.track {
		sp := w.src.span(from, to)
		for range len(s) {
			w.lo, w.hi = append(w.lo, sp.lo), append(w.hi, sp.hi)
		}
	}
}

func (w *rewriter) done() *buffer {
	return &buffer{s: w.out.String(), base: w.src.base, start: w.src.start, lo: w.lo, hi: w.hi}
}
