package engine

import (
	"strings"
	"unicode/utf8"
)

// endsChain looks for the boundary's text at the end of a chain.
func (b *batch) endsChain(r *Request, tokens []Token) bool {
	from := max(0, len(tokens)-len(r.StopText)-1) // a token is at least a byte long
	return strings.Contains(b.spell(r, IDsOf(tokens[from:]), from == 0), r.StopText)
}

// closes tells whether the last of the ids completes the boundary's text, as it
// does in a sampled chain that closed itself.
func (b *batch) closes(r *Request, ids []int32) bool {
	if len(ids) == 0 {
		return false
	}
	from := max(0, len(ids)-len(r.StopText)-1)
	ids = ids[from:]
	i := strings.LastIndex(b.spell(r, ids, from == 0), r.StopText)
	return i >= 0 && i+len(r.StopText) > len(b.spell(r, ids[:len(ids)-1], from == 0))
}

// spell is the text of a chain or of its end. A whole chain without a boundary is text
// that goes on after the prompt: it is spelt after the prompt's last tokens, since what
// begins a text may lose a space, and a character may begin in the prompt.
func (b *batch) spell(r *Request, ids []int32, whole bool) string {
	if !whole || len(r.Close) > 0 {
		return b.e.text.Decode(ids, false)
	}
	const enough = 16 // more than the bytes of a character, each of which may be a token
	var all []int32
	for _, id := range r.Prompt[max(0, len(r.Prompt)-enough):] {
		if !b.e.text.Special(id) {
			all = append(all, id)
		}
	}
	before := b.e.text.Decode(all, false)
	text := b.e.text.Decode(append(all, ids...), false)
	n := 0
	for n < min(len(before), len(text)) && before[n] == text[n] {
		n++
	}
	for n > 0 && n < len(text) && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[n:]
}
