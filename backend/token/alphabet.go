package token

import (
	"fmt"
	"strconv"
	"strings"
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
	b, err := strconv.ParseUint(s[3:5], 16, 8)
	return byte(b), err == nil
}

// byteName is the inverse of byteToken.
func byteName(b byte) string { return fmt.Sprintf("<0x%02X>", b) }
