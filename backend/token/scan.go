package token

import (
	"sync"
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
	patternGPT2:   {scanGPT2, true},
	patternLlama3: {scanLlama3, true},
	patternQwen2:  {scanQwen2, true},

	`\p{N}`:      {scanDigits1, false},
	`\d`:         {scanDecimal1, false},
	`[0-9]`:      {scanASCIIDigit1, false},
	`\p{N}+`:     {scanDigits, false},
	`\p{N}{1,3}`: {scanDigits3, false},
	`\s+`:        {scanSpaces, false},
	`[\r\n]`:     {scanNewline1, false},
}

const (
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// class is what the patterns tell apart.
type class uint8

const (
	other   class = iota
	letter        // \p{L}
	number        // \p{N}
	space         // \s without the next
	newline       // \r and \n
)

var classes struct {
	once sync.Once
	bmp  []class // of every rune below 0x10000
}

func classify(r rune) class {
	switch {
	case r == '\r' || r == '\n':
		return newline
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	}
	return other
}

// classTable is classify as a table, made when first needed.
func classTable() []class {
	classes.once.Do(func() {
		classes.bmp = make([]class, 0x10000)
		for r := range classes.bmp {
			classes.bmp[r] = classify(rune(r))
		}
	})
	return classes.bmp
}

// classAt is the class of the character at s[i:] and its length; the length is
// 0 at the end of s.
func classAt(t []class, s string, i int) (class, int) {
	if i >= len(s) {
		return other, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return t[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if int(r) < len(t) {
		return t[r], n
	}
	return classify(r), n
}

// run is the end of the longest run of class c from i on.
func run(t []class, s string, i int, c class) int {
	for {
		k, n := classAt(t, s, i)
		if k != c || n == 0 {
			return i
		}
		i += n
	}
}

// spaces is \s+ at i, where white space begins: its end, the start of its last
// character, and the end of the last newline in it (0 if there is none).
func spaces(t []class, s string, i int) (end, last, nl int) {
	for {
		k, n := classAt(t, s, i)
		if n == 0 || k != space && k != newline {
			return i, last, nl
		}
		last = i
		i += n
		if k == newline {
			nl = i
		}
	}
}

// blank is the end of \s+(?!\S)|\s+: all the white space at i, but for its last
// character where more text follows.
func blank(s string, i, end, last int) int {
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
		if k2, n2 := classAt(t, s, i+1); n2 > 0 && k2 != space && k2 != newline {
			k, n, j = k2, n2, i+1
		}
	}
	switch k {
	case letter, number, other:
		return run(t, s, j+n, k)
	}
	end, last, _ := spaces(t, s, i)
	return blank(s, i, end, last)
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
	switch k {
	case letter:
		return run(t, s, i+n, letter)
	case space, other:
		if k2, n2 := classAt(t, s, i+n); n2 > 0 && k2 == letter {
			return run(t, s, i+n+n2, letter)
		}
	case number:
		// \p{N}{1,digits}
		for j := i + n; ; j += n {
			if digits--; digits == 0 {
				return j
			}
			if k, n = classAt(t, s, j); k != number || n == 0 {
				return j
			}
		}
	}
	//  ?[^\s\p{L}\p{N}]+[\r\n]*
	j := i
	if s[i] == ' ' {
		j++
	}
	if end := run(t, s, j, other); end > j {
		return run(t, s, end, newline)
	}
	// \s*[\r\n]+|\s+(?!\S)|\s+
	end, last, nl := spaces(t, s, i)
	if nl > 0 {
		return nl
	}
	return blank(s, i, end, last)
}

// scanWhitespace is \w+|[^\w\s]+.
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

func scanDigits1(s string, i int) int  { return upTo(s, i, 1, unicode.IsNumber) }
func scanDigits3(s string, i int) int  { return upTo(s, i, 3, unicode.IsNumber) }
func scanDigits(s string, i int) int   { return upTo(s, i, len(s), unicode.IsNumber) }
func scanDecimal1(s string, i int) int { return upTo(s, i, 1, unicode.IsDigit) }
func scanSpaces(s string, i int) int   { return upTo(s, i, len(s), unicode.IsSpace) }
func scanASCIIDigit1(s string, i int) int {
	return upTo(s, i, 1, func(r rune) bool { return '0' <= r && r <= '9' })
}
func scanNewline1(s string, i int) int {
	return upTo(s, i, 1, func(r rune) bool { return r == '\r' || r == '\n' })
}
