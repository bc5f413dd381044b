package token

import (
	"math/bits"
	"slices"
	"unicode/utf8"
)

// bpe is byte pair encoding: a word begins as its characters (byteLevel: its
// bytes), and the neighbouring pair with the lowest rank is joined, leftmost
// first, until no pair is left that has one.
type bpe struct {
	pairs     pairs
	byteLevel bool
	bytes     [256]int32     // byteLevel: the symbol of each byte, or −1
	chars     map[rune]int32 // otherwise: the symbol of each character
	ascii     [128]int32     // chars of ASCII, or −1
	fallback  []int32        // symbol of <0xNN>, or −1; nil without byte fallback
	unk       int32          // or −1: what has no symbol disappears
	fuse      bool           // neighbouring unknown characters are one token
	complete  bool           // every byte has a token: nothing is unknown
	whole     map[string]int32
}

func newBPE(t *Tokenizer, n node) (*bpe, error) {
	m := &t.doc.Model
	p := &bpe{byteLevel: t.byteLevel, unk: t.unk, fuse: m.FuseUnk, pairs: newPairs(m.Merges)}
	complete := true
	if p.byteLevel {
		for b := range p.bytes {
			p.bytes[b] = -1
			if id, ok := t.model[string(alphabet[b])]; ok {
				p.bytes[b] = id
			} else {
				complete = false
			}
		}
	} else {
		complete = false
		p.chars = make(map[rune]int32)
		for i := range p.ascii {
			p.ascii[i] = -1
		}
		for tok, id := range t.model {
			if r, k := utf8.DecodeRuneInString(tok); k == len(tok) {
				p.chars[r] = id
				if r < 128 {
					p.ascii[r] = id
				}
			}
		}
	}
	if m.Unk != "" && t.unk < 0 && !complete {
		return nil, n.child("unk_token", nil).errf("%q is not in the vocabulary", m.Unk)
	}
	if m.ByteFallback {
		p.fallback = make([]int32, 256)
		for b := range p.fallback {
			p.fallback[b] = -1
			if id, ok := t.model[byteName(byte(b))]; ok {
				p.fallback[b] = id
			}
		}
	}
	p.complete = complete || p.fallback != nil && !slices.Contains(p.fallback, -1)
	if m.IgnoreMerges {
		p.whole = t.model
		if p.byteLevel {
			p.whole = make(map[string]int32, len(t.model))
			var buf []byte
			for tok, id := range t.model {
				if raw, ok := fromAlphabet(buf[:0], tok); ok {
					buf = raw
					p.whole[string(raw)] = id
				}
			}
		}
	}
	return p, nil
}

// scratch is the memory that encoding a word needs.
type scratch struct {
	syms  []sym
	ranks []uint64
	heap  []uint64
}

// sym is a run of bytes of the word on its way to become a token. Merged
// symbols are linked; n is 0 when a symbol has been joined to the one before it.
type sym struct {
	id         int32
	n          int32 // bytes
	prev, next int32 // −1 at the ends
}

func (p *bpe) encode(s *scratch, word string, ids []int32, lens *[]int32) []int32 {
	if p.whole != nil {
		if id, ok := p.whole[word]; ok {
			if lens != nil {
				*lens = append(*lens, int32(len(word)))
			}
			return append(ids, id)
		}
	}
	p.symbols(s, word)
	if len(s.syms) <= 32 {
		p.mergeShort(s)
	} else {
		p.mergeLong(s)
	}
	for i := range s.syms {
		if sym := &s.syms[i]; sym.n >= 0 {
			ids = append(ids, sym.id)
			if lens != nil {
				*lens = append(*lens, sym.n)
			}
		}
	}
	return ids
}

func (p *bpe) knows(word string) bool {
	if p.unk >= 0 {
		return true
	}
	for i := 0; i < len(word); {
		id, k := p.symbol(word[i:])
		if id >= 0 || p.fallback != nil && p.spell(word[i:i+k], func(int32, int32) {}) {
			return true
		}
		i += k
	}
	return false
}

func (p *bpe) unknown() int32 {
	if p.complete {
		return -1
	}
	return p.unk
}

// symbol is the symbol of the first character (byteLevel: byte) of s, or −1,
// and its length.
func (p *bpe) symbol(s string) (id int32, n int) {
	c := s[0]
	if p.byteLevel {
		return p.bytes[c], 1
	}
	if c < 128 {
		return p.ascii[c], 1
	}
	r, n := utf8.DecodeRuneInString(s)
	if id, ok := p.chars[r]; ok {
		return id, n
	}
	return -1, n
}

// symbols fills s.syms with the word's first symbols. Bytes without a symbol
// count to the symbol before them, so that lengths add up to the word's.
func (p *bpe) symbols(s *scratch, word string) {
	s.syms = slices.Grow(s.syms[:0], len(word))
	lost := int32(0) // bytes at the start that have no symbol
	unk, unkLen := false, int32(0)
	add := func(id, n int32) {
		s.syms = append(s.syms, sym{id: id, n: n + lost})
		lost = 0
	}
	for i := 0; i < len(word); {
		id, k := p.symbol(word[i:])
		char := word[i : i+k]
		i += k
		if id >= 0 {
			if unk {
				add(p.unk, unkLen)
				unk = false
			}
			add(id, int32(k))
			continue
		}
		if p.fallback != nil && p.spell(char, add) {
			continue
		}
		switch {
		case p.unk < 0:
			if n := len(s.syms); n > 0 {
				s.syms[n-1].n += int32(k)
			} else {
				lost += int32(k)
			}
		case unk && p.fuse:
			unkLen += int32(k)
		case unk:
			add(p.unk, unkLen)
			unkLen = int32(k)
		default:
			unk, unkLen = true, int32(k)
		}
	}
	if unk {
		add(p.unk, unkLen)
	}
}

// spell adds the byte tokens of a character, if there is one for each byte.
func (p *bpe) spell(char string, add func(id, n int32)) bool {
	spelt := char
	if p.byteLevel {
		spelt = string(alphabet[char[0]])
	}
	for i := range len(spelt) {
		if p.fallback[spelt[i]] < 0 {
			return false
		}
	}
	left := int32(len(char))
	for i := range len(spelt) {
		n := min(left, 1)
		left -= n
		add(p.fallback[spelt[i]], n)
	}
	return true
}

// noRank is larger than every rank.
const noRank = ^uint64(0)

// mergeShort looks for the lowest rank among all pairs, again and again: for
// the usual word faster than anything clever.
func (p *bpe) mergeShort(s *scratch) {
	syms := s.syms
	ranks := s.ranks[:0] // ranks[i]: of syms[i] and syms[i+1], with the result
	for i := 1; i < len(syms); i++ {
		ranks = append(ranks, p.pairs.find(syms[i-1].id, syms[i].id))
	}
	s.ranks = ranks
	for {
		best, at := noRank, -1
		for i, r := range ranks {
			if r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			break
		}
		syms[at].id = int32(uint32(best))
		syms[at].n += syms[at+1].n
		copy(syms[at+1:], syms[at+2:])
		syms = syms[:len(syms)-1]
		copy(ranks[at:], ranks[at+1:])
		ranks = ranks[:len(ranks)-1]
		if at > 0 {
			ranks[at-1] = p.pairs.find(syms[at-1].id, syms[at].id)
		}
		if at < len(ranks) {
			ranks[at] = p.pairs.find(syms[at].id, syms[at+1].id)
		}
	}
	s.syms = syms
}

// mergeLong keeps the pairs in a heap by rank and place: O(n log n). Entries
// that no longer hold are dropped when they come up.
func (p *bpe) mergeLong(s *scratch) {
	syms := s.syms
	h := s.heap[:0]
	for i := range syms {
		syms[i].prev, syms[i].next = int32(i)-1, int32(i)+1
		if i > 0 {
			if r := p.pairs.find(syms[i-1].id, syms[i].id); r != noRank {
				h = append(h, r&^0xFFFFFFFF|uint64(i-1))
			}
		}
	}
	syms[len(syms)-1].next = -1
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i)
	}
	for len(h) > 0 {
		top := h[0]
		h[0] = h[len(h)-1]
		h = h[:len(h)-1]
		siftDown(h, 0)
		at := int32(uint32(top))
		a := &syms[at]
		if a.next < 0 || a.n < 0 {
			continue
		}
		b := &syms[a.next]
		r := p.pairs.find(a.id, b.id)
		if r == noRank || r>>32 != top>>32 {
			continue
		}
		a.id, a.n = int32(uint32(r)), a.n+b.n
		b.n = -1
		a.next = b.next
		if b.next >= 0 {
			c := &syms[b.next]
			c.prev = at
			if r := p.pairs.find(a.id, c.id); r != noRank {
				h = push(h, r&^0xFFFFFFFF|uint64(at))
			}
		}
		if a.prev >= 0 {
			if r := p.pairs.find(syms[a.prev].id, a.id); r != noRank {
				h = push(h, r&^0xFFFFFFFF|uint64(a.prev))
			}
		}
	}
	s.heap = h
}

// push and siftDown keep h a binary heap with the least on top.
func push(h []uint64, v uint64) []uint64 {
	h = append(h, v)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if h[up] <= v {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = v
	return h
}

func siftDown(h []uint64, i int) {
	if i >= len(h) {
		return
	}
	v := h[i]
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1] < h[c] {
			c++
		}
		if v <= h[c] {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = v
}

// pairs maps two symbols to rank<<32 | result. It is an open hash table: half
// the lookups of encoding end in it.
type pairs struct {
	keys  []uint64 // left<<32 | right, plus one; 0 is free
	vals  []uint64
	shift uint
}

func newPairs(merges []merge) pairs {
	size := 16
	for size < 2*len(merges) {
		size *= 2
	}
	p := pairs{make([]uint64, size), make([]uint64, size), uint(64 - bits.TrailingZeros(uint(size)))}
	for rank, m := range merges {
		key := pairKey(m.left, m.right)
		i := p.slot(key)
		for p.keys[i] != 0 && p.keys[i] != key {
			i = (i + 1) & (size - 1)
		}
		// Of a pair listed twice the later rank counts, as in Hugging Face's map.
		p.keys[i], p.vals[i] = key, uint64(rank)<<32|uint64(uint32(m.result))
	}
	return p
}

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 + uint64(uint32(right)) + 1 }

func (p *pairs) slot(key uint64) int { return int(key * 0x9E3779B97F4A7C15 >> p.shift) }

// find is rank<<32 | result, or noRank.
func (p *pairs) find(left, right int32) uint64 {
	key := pairKey(left, right)
	mask := len(p.keys) - 1
	for i := p.slot(key); ; i = (i + 1) & mask {
		switch p.keys[i] {
		case key:
			return p.vals[i]
		case 0:
			return noRank
		}
	}
}
