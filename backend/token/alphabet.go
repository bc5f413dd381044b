package token

import (
	"strings"
	"unicode/utf8"
)

// GPT-2's alphabet spells each byte as one printable character, so that a
// vocabulary of byte strings can be written as JSON: the printable bytes of
// Latin-1 stand for themselves, the other 68 for U+0100 and up, in order.
var (
	alphabet   [256]rune
	alphabetOf [0x144]int16 // character → byte, −1 where there is none
)

func init() {
	for i := range alphabetOf {
		alphabetOf[i] = -1
	}
	next := rune(0x100)
	for b := range alphabet {
		r := rune(b)
		if b <= ' ' || b >= 0x7F && b <= 0xA0 || b == 0xAD {
			r = next
			next++
		}
		alphabet[b] = r
		alphabetOf[r] = int16(b)
	}
}

// toAlphabet spells bytes.
func toAlphabet(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/4)
	for i := range len(s) {
		b.WriteRune(alphabet[s[i]])
	}
	return b.String()
}

// fromAlphabet appends the bytes that s spells; ok is false, and dst as it was,
// if s has a character that is not in the alphabet.
func fromAlphabet(dst []byte, s string) (out []byte, ok bool) {
	out = dst
	for _, r := range s {
		if int(r) >= len(alphabetOf) || alphabetOf[r] < 0 {
			return dst, false
		}
		out = append(out, byte(alphabetOf[r]))
	}
	return out, true
}

// byteToken reads "<0xNN>", SentencePiece's spelling of a byte it has no
// character for.
func byteToken(s string) (byte, bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	hi, lo := hexDigit(s[3]), hexDigit(s[4])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	return byte(hi<<4 | lo), true
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

const upperHex = "0123456789ABCDEF"

// byteName is the inverse of byteToken.
func byteName(b byte) string {
	return string([]byte{'<', '0', 'x', upperHex[b>>4], upperHex[b&15], '>'})
}

// firstRune is the first character of s and its length in bytes.
func firstRune(s string) (rune, int) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1
	}
	return utf8.DecodeRuneInString(s)
}
