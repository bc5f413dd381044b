package token

import (
	"math"
	"unicode"
	"unicode/utf8"
)

// scanner gives the end of the match of a pattern at s[i:], or i if it does not
// match there. i < len(s).
//
// Go's regexp has no lookahead, so every pattern that tokenizer files use is a
// function here. All are leftmost-first alternations, which the functions try in
// order.
type scanner func(s string, i int) int

// patterns are the regular expressions of Split pre-tokenizers that are known,
// by their exact text.
var patterns = map[string]struct {
	scan   scanner
	covers bool // matches at every position of any text
}{
	patternGPT2:     {scanGPT2, true},
	patternLlama3:   {scanLlama3, true},
	patternQwen2:    {scanQwen2, true},
	patternTekken:   {scanTekken, true},
	patternDeepSeek: {scanDeepSeek, false},

	`\p{N}`:        {some(1, isNumber), false},
	`\d`:           {some(1, isDigit), false},
	`[0-9]`:        {some(1, func(r rune) bool { return '0' <= r && r <= '9' }), false},
	`\p{N}+`:       {some(math.MaxInt, isNumber), false},
	`\p{N}{1,3}`:   {some(3, isNumber), false},
	`\s+`:          {some(math.MaxInt, unicode.IsSpace), false},
	`[\r\n]`:       {some(1, func(r rune) bool { return r == '\r' || r == '\n' }), false},
	`[一-龥぀-ゟ゠-ヿ]+`: {some(math.MaxInt, func(r rune) bool { return '一' <= r && r <= '龥' || 0x3040 <= r && r <= 'ヿ' }), false},
}

const (
	patternGPT2     = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3   = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2    = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternTekken   = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternDeepSeek = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)

// classAt is the class of the character at s[i:] and its length; at the end of s
// both are 0.
func classAt(t []class, s string, i int) (class, int) {
	if i >= len(s) {
		return 0, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return t[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return classOf(t, r), n
}

// run is the end of the longest run of class c from i on.
func run(t []class, s string, i int, c class) int {
	for {
		k, n := classAt(t, s, i)
		if k&c == 0 {
			return i
		}
		i += n
	}
}

// breaks is \s*[\r\n]+|\s+(?!\S)|\s+ at i, where white space begins.
func breaks(t []class, s string, i int) int {
	end, last, nl := spaces(t, s, i)
	if nl > 0 {
		return nl
	}
	return trailing(s, i, end, last)
}

// spaces is \s+ at i, where white space begins: its end, the start of its last
// character, and the end of the last newline in it (0 if there is none).
func spaces(t []class, s string, i int) (end, last, nl int) {
	last = i
	for {
		k, n := classAt(t, s, i)
		if k&blank == 0 {
			return i, last, nl
		}
		last = i
		i += n
		if k == newline {
			nl = i
		}
	}
}

// trailing is the end of \s+(?!\S)|\s+: all the white space at i, but for its
// last character where more text follows.
func trailing(s string, i, end, last int) int {
	if end == len(s) || last == i {
		return end
	}
	return last
}

// contraction is the end of 's|'t|'re|'ve|'m|'ll|'d at i, or i. With fold it
// ignores case, of which Unicode has one more for s: ſ.
func contraction(s string, i int, fold bool) int {
	if s[i] != '\'' || i+1 >= len(s) {
		return i
	}
	lower := func(j int) byte {
		if j >= len(s) {
			return 0
		}
		c := s[j]
		if fold && 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	switch lower(i + 1) {
	case 's', 't', 'm', 'd':
		return i + 2
	case 'r', 'v':
		if lower(i+2) == 'e' {
			return i + 3
		}
	case 'l':
		if lower(i+2) == 'l' {
			return i + 3
		}
	case 0xC5:
		if fold && i+2 < len(s) && s[i+2] == 0xBF { // ſ
			return i + 3
		}
	}
	return i
}

// scanGPT2 is patternGPT2.
func scanGPT2(s string, i int) int {
	if j := contraction(s, i, false); j > i {
		return j
	}
	t := classTable()
	k, n := classAt(t, s, i)
	j := i
	if s[i] == ' ' {
		if k2, n2 := classAt(t, s, i+1); n2 > 0 && k2&blank == 0 {
			k, n, j = k2, n2, i+1
		}
	}
	for _, c := range [...]class{letter, other, number} {
		if k&c != 0 {
			return run(t, s, j+n, c)
		}
	}
	end, last, _ := spaces(t, s, i)
	return trailing(s, i, end, last)
}

func scanLlama3(s string, i int) int { return scanCL100k(s, i, 3) }
func scanQwen2(s string, i int) int  { return scanCL100k(s, i, 1) }

// scanCL100k is the pattern of Llama-3 and Qwen2, which differ in how many
// digits a word may have.
func scanCL100k(s string, i, digits int) int {
	if j := contraction(s, i, true); j > i {
		return j
	}
	t := classTable()
	k, n := classAt(t, s, i)
	// [^\r\n\p{L}\p{N}]?\p{L}+
	switch {
	case k&letter != 0:
		return run(t, s, i+n, letter)
	case k == number: // \p{N}{1,digits}
		return upTo(s, i, digits, isNumber)
	case k != newline:
		if k2, n2 := classAt(t, s, i+n); k2&letter != 0 {
			return run(t, s, i+n+n2, letter)
		}
	}
	if end := marksAndLines(t, s, i, other, newline); end > i {
		return end
	}
	return breaks(t, s, i)
}

// marksAndLines is " ?[marks]+[lines]*", or i.
func marksAndLines(t []class, s string, i int, marks, lines class) int {
	j := i
	if s[i] == ' ' {
		j++
	}
	end := run(t, s, j, marks)
	if end == j {
		return i
	}
	return run(t, s, end, lines)
}

// scanTekken is the pattern of Mistral's newer vocabularies: words end where
// small letters are followed by a capital.
func scanTekken(s string, i int) int {
	t := classTable()
	k, n := classAt(t, s, i)
	if k == number {
		return i + n
	}
	for _, word := range [...]func([]class, string, int) int{capsSmall, capsOnly} {
		if k&(letter|newline) == 0 { // [^\r\n\p{L}\p{N}]?
			if j := word(t, s, i+n); j > i+n {
				return j
			}
		}
		if j := word(t, s, i); j > i {
			return j
		}
	}
	if j := marksAndLines(t, s, i, other, 0); j > i {
		for j < len(s) && (s[j] == '\r' || s[j] == '\n' || s[j] == '/') {
			j++
		}
		return j
	}
	return breaks(t, s, i)
}

const (
	caps  = upper | title | modifier | uncased | mark
	small = lower | modifier | uncased | mark
)

// capsSmall is [caps]*[small]+, or i. Where no small one follows the capitals,
// the last among them that is both has to do.
func capsSmall(t []class, s string, i int) int {
	back, end := i, i
	for {
		k, n := classAt(t, s, end)
		if k&caps == 0 {
			break
		}
		end += n
		if k&small != 0 {
			back = end
		}
	}
	if j := run(t, s, end, small); j > end {
		return j
	}
	return back
}

// capsOnly is [caps]+[small]*, or i, where capsSmall does not match.
func capsOnly(t []class, s string, i int) int { return run(t, s, i, caps) }

// scanDeepSeek is patternDeepSeek. It has no branch for digits, which are cut
// off before.
func scanDeepSeek(s string, i int) int {
	const words = letter | mark
	t := classTable()
	if c := s[i]; c < utf8.RuneSelf && t[c]&(punct|symbol) != 0 {
		j := i + 1
		for j < len(s) && (s[j]|0x20 >= 'a' && s[j]|0x20 <= 'z') {
			j++
		}
		if j > i+1 {
			return j
		}
	}
	// [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
	k, n := classAt(t, s, i)
	if k&(newline|letter|punct|symbol) == 0 {
		if j := run(t, s, i+n, words); j > i+n {
			return j
		}
	}
	if j := run(t, s, i, words); j > i {
		return j
	}
	if j := marksAndLines(t, s, i, punct|symbol, newline); j > i {
		return j
	}
	if k&blank == 0 {
		return i
	}
	return breaks(t, s, i)
}

// scanWhitespace is \w+|[^\w\s]+ of the Whitespace pre-tokenizer.
func scanWhitespace(s string, i int) int {
	kind := func(j int) (int, int) {
		r, n := utf8.DecodeRuneInString(s[j:])
		switch {
		case wordRune(r):
			return 1, n
		case unicode.IsSpace(r):
			return 0, n
		}
		return 2, n
	}
	k, n := kind(i)
	if k == 0 {
		return i
	}
	for i += n; i < len(s); i += n {
		var k2 int
		if k2, n = kind(i); k2 != k {
			break
		}
	}
	return i
}

// upTo gives the end of at most n characters for which is holds.
func upTo(s string, i, n int, is func(rune) bool) int {
	for ; n > 0 && i < len(s); n-- {
		r, k := utf8.DecodeRuneInString(s[i:])
		if !is(r) {
			break
		}
		i += k
	}
	return i
}

// some is up to n characters for which is holds.
func some(n int, is func(rune) bool) scanner {
	return func(s string, i int) int { return upTo(s, i, n, is) }
}
