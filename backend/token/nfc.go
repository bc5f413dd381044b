package token

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nfc composes characters (Unicode normalisation form C).
//
// norm.NFC alone would differ from Hugging Face's: on a character with more than
// 30 marks it puts in U+034F to keep streams safe, so such runs are composed
// here; and it knows marks that the other does not (see inert).
type nfc struct{}

func (nfc) normalize(b *buffer, track, _ bool) *buffer {
	if isASCII(b.s) {
		return b
	}
	odd := strings.ContainsFunc(b.s, func(r rune) bool { return unicode.Is(inert, r) })
	if !odd && norm.NFC.IsNormalString(b.s) {
		return b
	}
	w := rewriter{src: b, track: track}
	for i := 0; i < len(b.s); {
		j, n := cluster(b.s, i)
		part := b.s[i:j]
		var c string
		if n == 1 && odd && isInert(part) {
			c = part
		} else if n <= 8 { // at most 4 characters each: below norm's limit
			c = norm.NFC.String(part)
		} else {
			c = compose(part)
		}
		if c == part {
			w.copy(i, j)
		} else {
			w.put(c, i, j)
		}
		i = j
	}
	return w.done()
}

// cluster is the end of a character with all that may combine with it, and how
// many characters that is.
func cluster(s string, i int) (end, n int) {
	for ; i < len(s); n++ {
		r, k := utf8.DecodeRuneInString(s[i:])
		if n > 0 && (norm.NFC.PropertiesString(s[i:]).BoundaryBefore() || unicode.Is(inert, r)) {
			break
		}
		i += k
		if unicode.Is(inert, r) {
			return i, n + 1
		}
	}
	return i, n
}

func isInert(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.Is(inert, r)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// compose is form C by the book: decompose, order the marks by their class,
// join each to the last starter that nothing of its class or above separates it
// from.
func compose(s string) string {
	type mark struct {
		r   rune
		ccc uint8
	}
	var all []mark
	for _, r := range s {
		for _, d := range norm.NFD.String(string(r)) {
			all = append(all, mark{d, norm.NFD.PropertiesString(string(d)).CCC()})
		}
	}
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].ccc != 0 {
			j++
		}
		slices.SortStableFunc(all[i:j], func(a, b mark) int { return int(a.ccc) - int(b.ccc) })
		i = j + 1
	}
	out := all[:0]
	starter := -1
	pairs := make(map[[2]rune]rune)
	for _, m := range all {
		if starter >= 0 {
			last := out[len(out)-1]
			if len(out)-1 == starter || last.ccc != 0 && last.ccc < m.ccc {
				key := [2]rune{out[starter].r, m.r}
				joined, known := pairs[key]
				if !known {
					joined = joinPair(key)
					pairs[key] = joined
				}
				if joined != 0 {
					out[starter].r = joined
					continue
				}
			}
		}
		if m.ccc == 0 {
			starter = len(out)
		}
		out = append(out, m)
	}
	text := make([]rune, len(out))
	for i, m := range out {
		text[i] = m.r
	}
	return string(text)
}

// joinPair is the one character that two compose to, or 0.
func joinPair(p [2]rune) rune {
	c := []rune(norm.NFC.String(string(p[:])))
	if len(c) == 1 {
		return c[0]
	}
	return 0
}
