package token

import "strings"

// Piece is one token of a text and the bytes of the text it stands for.
type Piece struct {
	ID int32
	// Text is what the token alone stands for. A token that holds part of a
	// character shows U+FFFD.
	Text string
	// Start and End are byte offsets into the text. A token the tokenizer put in
	// itself (a leading ▁) has Start == End. Where a normaliser rewrote a run of
	// characters, its tokens cover the run.
	Start, End int
	Special    bool
}

// Encode gives the ids of text. Added tokens in the text are recognised; the
// post-processor (BOS and such) is not applied.
func (t *Tokenizer) Encode(text string) []int32 {
	return t.encode(nil, text, mode{start: true, special: true})
}

// EncodeText is Encode for text that must not smuggle in special tokens, such
// as a user's question: "<|eot_id|>" in it is spelt out in ordinary tokens.
// Added tokens that are not special are still recognised.
func (t *Tokenizer) EncodeText(text string) []int32 {
	return t.encode(nil, text, mode{start: true})
}

// EncodeMore is EncodeText for text that goes on after other tokens, such as words
// written into a chain: nothing is put in front of it.
func (t *Tokenizer) EncodeMore(text string) []int32 {
	return t.encode(nil, text, mode{bare: true})
}

// EncodeSpecial is Encode followed by the file's post-processor, which for most
// models puts BOS in front.
func (t *Tokenizer) EncodeSpecial(text string) []int32 {
	ids := t.Encode(text)
	for _, p := range t.post {
		ids = p.apply(ids)
	}
	return ids
}

// Pieces is Encode with the source of every token.
func (t *Tokenizer) Pieces(text string) []Piece {
	e := t.pool.Get().(*encoder)
	defer e.release()
	e.mode = mode{start: true, special: true}
	e.track = true
	e.run(text)
	out := make([]Piece, len(e.ids))
	for i, id := range e.ids {
		out[i] = Piece{id, t.Text(id), int(e.spans[i].lo), int(e.spans[i].hi), t.Special(id)}
	}
	return out
}

// mode says how a text is read.
type mode struct {
	start   bool // the text is where a prompt begins (Metaspace's "first")
	special bool // special tokens are recognised
	bare    bool // no ▁ or space is put in front: the text goes on another
}

func (t *Tokenizer) encode(ids []int32, text string, m mode) []int32 {
	e := t.pool.Get().(*encoder)
	defer e.release()
	e.mode, e.track = m, false
	e.run(text)
	if ids == nil {
		ids = make([]int32, 0, len(e.ids))
	}
	return append(ids, e.ids...)
}

// buffer is a text on its way through the stages. Byte i of s comes from byte
// base+i of the source, or, after a rewrite, from [lo[i], hi[i]).
type buffer struct {
	s      string
	base   int32
	lo, hi []int32
	start  bool // s begins where the source begins
}

func (b *buffer) sub(from, to int) *buffer {
	if from == 0 && to == len(b.s) {
		return b
	}
	c := &buffer{s: b.s[from:to], base: b.base + int32(from), start: b.start && from == 0}
	if b.lo != nil {
		c.lo, c.hi = b.lo[from:to], b.hi[from:to]
	}
	return c
}

// span is where bytes [from, to) of the buffer come from.
func (b *buffer) span(from, to int) span {
	switch {
	case b.lo == nil:
		return span{b.base + int32(from), b.base + int32(to)}
	case from < to:
		return span{b.lo[from], b.hi[to-1]}
	case from < len(b.lo):
		return span{b.lo[from], b.lo[from]}
	case from > 0:
		return span{b.hi[from-1], b.hi[from-1]}
	}
	return span{b.base, b.base}
}

type span struct{ lo, hi int32 }

// cacheWords and cacheBytes bound what an encoder remembers: that many words,
// none longer.
const (
	cacheWords = 1 << 15
	cacheBytes = 48
)

// encoder is the state of one call. It is pooled, so that the words it has seen
// need not be merged again.
type encoder struct {
	t     *Tokenizer
	mode  mode
	track bool
	ids   []int32
	spans []span // with track: the source of each id

	// visit, if set, is given every stretch of text instead of the model, and
	// every added token (id >= 0): see pipeline.go.
	visit func(id int32, b *buffer, from, to int)

	cache map[string]cached
	arena []int32
	lens  []int32
	scratch
}

type cached struct{ off, n int32 }

func newEncoder(t *Tokenizer) *encoder {
	return &encoder{t: t, cache: make(map[string]cached)}
}

func (e *encoder) release() {
	e.visit = nil
	if cap(e.ids) > 1<<20 { // let the memory of a huge text go
		e.ids, e.spans, e.lens = nil, nil, nil
		e.scratch = scratch{}
	}
	e.ids, e.spans = e.ids[:0], e.spans[:0]
	e.t.pool.Put(e)
}

func (e *encoder) run(text string) {
	b := &buffer{s: text, start: e.mode.start}
	b = repair(b, e.track)
	e.t.raw.find(b.s, e.mode.special, func(id int32, from, to int) {
		if id >= 0 {
			e.put(id, b, from, to)
			return
		}
		e.normalized(b.sub(from, to))
	})
}

// normalized handles a stretch between two added tokens.
func (e *encoder) normalized(b *buffer) {
	for _, n := range e.t.normal {
		b = n.normalize(b, e.track, e.mode.bare)
	}
	e.t.norm.find(b.s, e.mode.special, func(id int32, from, to int) {
		if id >= 0 {
			e.put(id, b, from, to)
			return
		}
		e.step(0, b, from, to)
	})
}

// step runs the pre-tokenizer steps from the i-th on over b.s[from:to] and
// hands the words to the model.
func (e *encoder) step(i int, b *buffer, from, to int) {
	if from == to {
		return
	}
	if i < len(e.t.steps) {
		e.t.steps[i].split(e, i+1, b, from, to)
		return
	}
	if e.visit != nil {
		e.visit(-1, b, from, to)
		return
	}
	word := b.s[from:to]
	if e.track {
		e.lens = e.lens[:0]
		at := from
		e.ids = e.t.words.encode(&e.scratch, word, e.ids, &e.lens)
		for _, n := range e.lens {
			e.spans = append(e.spans, b.span(at, at+int(n)))
			at += int(n)
		}
		return
	}
	if len(word) > cacheBytes {
		e.ids = e.t.words.encode(&e.scratch, word, e.ids, nil)
		return
	}
	if c, ok := e.cache[word]; ok {
		e.ids = append(e.ids, e.arena[c.off:c.off+c.n]...)
		return
	}
	n := len(e.ids)
	e.ids = e.t.words.encode(&e.scratch, word, e.ids, nil)
	if len(e.cache) >= cacheWords {
		clear(e.cache)
		e.arena = e.arena[:0]
	}
	e.cache[strings.Clone(word)] = cached{int32(len(e.arena)), int32(len(e.ids) - n)}
	e.arena = append(e.arena, e.ids[n:]...)
}

// put adds an added token.
func (e *encoder) put(id int32, b *buffer, from, to int) {
	if e.visit != nil {
		e.visit(id, b, from, to)
		return
	}
	e.ids = append(e.ids, id)
	if e.track {
		e.spans = append(e.spans, b.span(from, to))
	}
}
