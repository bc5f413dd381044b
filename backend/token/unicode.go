package token

import (
	"sync"
	"unicode"
)

// Which characters are letters depends on the Unicode version. Hugging Face's
// regular expressions know 16, its Digits pre-tokenizer 17 and its normaliser 9,
// while Go's tables here may be older or newer. The tables below hold the
// differences, as found by asking about every code point.

// What Unicode 15.1 and 16 added to the categories that patterns ask for.
var (
	upper16    = ranges(0x1C89, 0x1C89, 0xA7CB, 0xA7CC, 0xA7DA, 0xA7DA, 0xA7DC, 0xA7DC, 0x10D50, 0x10D65)
	lower16    = ranges(0x1C8A, 0x1C8A, 0xA7CD, 0xA7CD, 0xA7DB, 0xA7DB, 0x10D70, 0x10D85)
	modifier16 = ranges(0x10D4E, 0x10D4E, 0x10D6F, 0x10D6F, 0x16D40, 0x16D42, 0x16D6B, 0x16D6C)
	uncased16  = ranges(0x105C0, 0x105F3, 0x10D4A, 0x10D4D, 0x10D4F, 0x10D4F, 0x10EC2, 0x10EC4,
		0x11380, 0x11389, 0x1138B, 0x1138B, 0x1138E, 0x1138E, 0x11390, 0x113B5, 0x113B7, 0x113B7,
		0x113D1, 0x113D1, 0x113D3, 0x113D3, 0x11BC0, 0x11BE0, 0x13460, 0x143FA, 0x16100, 0x1611D,
		0x16D43, 0x16D6A, 0x18CFF, 0x18CFF, 0x1E5D0, 0x1E5ED, 0x1E5F0, 0x1E5F0, 0x2EBF0, 0x2EE5D)
	digits16 = ranges(0x10D40, 0x10D49, 0x116D0, 0x116E3, 0x11BF0, 0x11BF9, 0x16130, 0x16139,
		0x16D70, 0x16D79, 0x1CCF0, 0x1CCF9, 0x1E5F1, 0x1E5FA)
	marks16 = ranges(0x0897, 0x0897, 0x10D69, 0x10D6D, 0x10EFC, 0x10EFC, 0x113B8, 0x113C0,
		0x113C2, 0x113C2, 0x113C5, 0x113C5, 0x113C7, 0x113CA, 0x113CC, 0x113D0, 0x113D2, 0x113D2,
		0x113E1, 0x113E2, 0x11F5A, 0x11F5A, 0x1611E, 0x1612F, 0x1E5EE, 0x1E5EF)
	punct16 = ranges(0x1B4E, 0x1B4F, 0x1B7F, 0x1B7F, 0x10D6E, 0x10D6E, 0x113D4, 0x113D5,
		0x113D7, 0x113D8, 0x11BE1, 0x11BE1, 0x16D6D, 0x16D6F, 0x1E5FF, 0x1E5FF)
	symbols16 = ranges(0x2427, 0x2429, 0x2FFC, 0x2FFF, 0x31E4, 0x31E5, 0x31EF, 0x31EF,
		0x10D8E, 0x10D8F, 0x1CC00, 0x1CCEF, 0x1CD00, 0x1CEB3, 0x1F8B2, 0x1F8BB, 0x1F8C0, 0x1F8C1,
		0x1FA89, 0x1FA89, 0x1FA8F, 0x1FA8F, 0x1FABE, 0x1FABE, 0x1FAC6, 0x1FAC6, 0x1FADC, 0x1FADC,
		0x1FADF, 0x1FADF, 0x1FAE9, 0x1FAE9, 0x1FBCB, 0x1FBEF)
	// numbers17 is what Unicode 17 added to N.
	numbers17 = ranges(0x11DE0, 0x11DE9, 0x16FF4, 0x16FF6)

	// inert holds the characters newer than Unicode 9 that compose, decompose or
	// are reordered (and some of their neighbours, as new): nothing happens to
	// them in form C, nor across them.
	inert = ranges(0x07FD, 0x07FD, 0x0897, 0x089F, 0x08CA, 0x08D2, 0x09FE, 0x09FE, 0x0C3C, 0x0C3C,
		0x0D3B, 0x0D3C, 0x0EBA, 0x0EBA, 0x1715, 0x1715, 0x1ABF, 0x1AEB, 0x1DF6, 0x1DFA, 0xA82C, 0xA82C,
		0x105C0, 0x105F3, 0x10D24, 0x10D27, 0x10D40, 0x10D85, 0x10EAB, 0x10EAC, 0x10EFA, 0x10EFF,
		0x10F46, 0x10F50, 0x10F82, 0x10F85, 0x11070, 0x11070, 0x1133B, 0x1133B, 0x11380, 0x113E2,
		0x1145E, 0x1145E, 0x11839, 0x1183A, 0x11930, 0x11930, 0x11935, 0x11935, 0x11938, 0x11938,
		0x1193D, 0x1193E, 0x11943, 0x11943, 0x119E0, 0x119E0, 0x11A34, 0x11A34, 0x11A47, 0x11A47,
		0x11A99, 0x11A99, 0x11D42, 0x11D42, 0x11D44, 0x11D45, 0x11D97, 0x11D97, 0x11F41, 0x11F42,
		0x16100, 0x1612F, 0x16D40, 0x16D6C, 0x16FF0, 0x16FF1, 0x1E08F, 0x1E08F, 0x1E130, 0x1E136,
		0x1E2AE, 0x1E2AE, 0x1E2EC, 0x1E2EF, 0x1E4EC, 0x1E4EF, 0x1E5EE, 0x1E5EF, 0x1E6C0, 0x1E6FF)
)

// ranges makes a table of first, last, first, last, …
func ranges(ends ...uint32) *unicode.RangeTable {
	t := new(unicode.RangeTable)
	for i := 0; i < len(ends); i += 2 {
		lo, hi := ends[i], ends[i+1]
		if hi < 0x10000 {
			t.R16 = append(t.R16, unicode.Range16{Lo: uint16(lo), Hi: uint16(hi), Stride: 1})
		} else {
			t.R32 = append(t.R32, unicode.Range32{Lo: lo, Hi: hi, Stride: 1})
		}
	}
	return t
}

// class is a set of the categories that patterns tell apart.
type class uint16

const (
	upper    class = 1 << iota // Lu
	lower                      // Ll
	title                      // Lt
	modifier                   // Lm
	uncased                    // Lo
	mark                       // M
	number                     // N
	punct                      // P
	symbol                     // S
	space                      // \s but for the next
	newline                    // \r and \n
	rest                       // control characters, unassigned ones …

	letter = upper | lower | title | modifier | uncased // \p{L}
	blank  = space | newline                            // \s
	other  = mark | punct | symbol | rest               // [^\s\p{L}\p{N}]
)

var categories = []struct {
	class class
	in    []*unicode.RangeTable
}{
	{space, []*unicode.RangeTable{unicode.White_Space}},
	{lower, []*unicode.RangeTable{unicode.Ll, lower16}},
	{upper, []*unicode.RangeTable{unicode.Lu, upper16}},
	{uncased, []*unicode.RangeTable{unicode.Lo, uncased16}},
	{modifier, []*unicode.RangeTable{unicode.Lm, modifier16}},
	{title, []*unicode.RangeTable{unicode.Lt}},
	{number, []*unicode.RangeTable{unicode.N, digits16}},
	{mark, []*unicode.RangeTable{unicode.M, marks16}},
	{punct, []*unicode.RangeTable{unicode.P, punct16}},
	{symbol, []*unicode.RangeTable{unicode.S, symbols16}},
}

// classify finds the class of a character: exactly one bit.
func classify(r rune) class {
	if r == '\r' || r == '\n' {
		return newline
	}
	for _, c := range categories {
		if unicode.In(r, c.in...) {
			return c.class
		}
	}
	return rest
}

// classTable is classify of every rune below 0x10000, made when first needed.
var classTable = sync.OnceValue(func() []class {
	t := make([]class, 0x10000)
	for i := range t {
		t[i] = rest
	}
	for i := len(categories) - 1; i >= 0; i-- {
		for _, tab := range categories[i].in {
			for _, r := range tab.R16 {
				for c := int(r.Lo); c <= int(r.Hi); c += int(r.Stride) {
					t[c] = categories[i].class
				}
			}
		}
	}
	t['\r'], t['\n'] = newline, newline
	return t
})

// classOf looks a character up.
func classOf(t []class, r rune) class {
	if uint32(r) < uint32(len(t)) {
		return t[r]
	}
	return classify(r)
}

// isNumber is \p{N}.
func isNumber(r rune) bool { return classOf(classTable(), r)&number != 0 }

// isDigit is \p{Nd}.
func isDigit(r rune) bool { return unicode.IsDigit(r) || unicode.Is(digits16, r) }

// isNumeric is what the Digits pre-tokenizer calls a digit.
func isNumeric(r rune) bool { return isNumber(r) || unicode.Is(numbers17, r) }

// wordRune is \w: letters, marks, digits, connectors and joiners.
func wordRune(r rune) bool {
	return classify(r)&(letter|mark) != 0 || isDigit(r) || unicode.Is(unicode.Nl, r) ||
		unicode.Is(unicode.Pc, r) || unicode.Is(unicode.Other_Alphabetic, r) || r == 0x200C || r == 0x200D
}
