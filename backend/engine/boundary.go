package engine

import (
	"slices"
	"strings"
)

// endsWith tells whether a chain ends with the boundary's tokens.
func endsWith(chain, boundary []int32) bool {
	n := len(chain) - len(boundary)
	return len(boundary) > 0 && n >= 0 && slices.Equal(chain[n:], boundary)
}

// endsChain looks for the boundary's text at the end of a chain.
func (b *batch) endsChain(r *Request, tokens []Token) bool {
	return strings.Contains(b.e.text.Decode(IDsOf(lastFew(r, tokens)), false), r.StopText)
}

// closes tells whether the last of the ids completes the boundary's text, as it
// does in a sampled chain that closed itself.
func (b *batch) closes(r *Request, ids []int32) bool {
	if len(ids) == 0 {
		return false
	}
	ids = lastFew(r, ids)
	before := b.e.text.Decode(ids[:len(ids)-1], false)
	i := strings.LastIndex(b.e.text.Decode(ids, false), r.StopText)
	return i >= 0 && !strings.HasPrefix(before[min(i, len(before)):], r.StopText)
}

// lastFew is the end of a chain, as long as the boundary's text may be and one token
// more, which may be spelt otherwise than behind others: a token is at least a byte long.
func lastFew[T any](r *Request, chain []T) []T {
	return chain[max(0, len(chain)-len(r.StopText)-1):]
}
