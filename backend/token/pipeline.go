//go:build !js

// A page cuts text by the direct path and never calls what is here, but importing
// sugarme/tokenizer is enough: it can fetch models, and with net/http, TLS and its
// curves, which set themselves up at start, the client would be half as large again.

package token

import (
	"strings"

	sugar "github.com/sugarme/tokenizer"
	sugarnorm "github.com/sugarme/tokenizer/normalizer"
)

// Pipeline is sugarme/tokenizer's pipeline around this tokenizer's model, for
// code that works with its Encoding. It gives the ids of Encode, or of
// EncodeSpecial if it is told to add special tokens, with byte offsets like
// those of Pieces.
//
// Special tokens are found by our own splitter and handed over as finished
// splits; none are registered with the pipeline, whose own handling loses them.
// So its Decode keeps special tokens in any case: Tokenizer.Decode can leave them
// out. Its Encode panics on text that is not UTF-8 before it asks us; Encoding
// does not.
func (t *Tokenizer) Pipeline() *sugar.Tokenizer {
	p := sugar.NewTokenizer(pipeModel{t})
	p.WithPreTokenizer(pipeSplitter{t})
	p.WithPostProcessor(pipePost{t})
	p.WithDecoder(pipeDecoder{t})
	return p
}

// Encoding is Pipeline's Encode for any text. Offsets are those of Valid(text).
// With special the post-processor's tokens (BOS and such) are added.
func (t *Tokenizer) Encoding(text string, special bool) (*sugar.Encoding, error) {
	return t.Pipeline().Encode(sugar.NewSingleEncodeInput(sugar.NewInputSequence(Valid(text))), special)
}

// pipeModel is the word model behind sugarme's Model.
type pipeModel struct{ t *Tokenizer }

// Tokenize gives the tokens of one word, with offsets into it.
func (m pipeModel) Tokenize(word string) ([]sugar.Token, error) {
	e := m.t.pool.Get().(*encoder)
	defer e.release()
	e.lens = e.lens[:0]
	e.ids = m.t.words.encode(&e.scratch, word, e.ids, &e.lens)
	out := make([]sugar.Token, len(e.ids))
	at := 0
	for i, id := range e.ids {
		end := at + int(e.lens[i])
		out[i] = sugar.NewToken(int(id), m.t.Token(id), []int{at, end})
		at = end
	}
	return out, nil
}

func (m pipeModel) TokenToId(tok string) (int, bool) {
	id, ok := m.t.ID(tok)
	return int(id), ok
}

func (m pipeModel) IdToToken(id int) (string, bool) {
	if id < 0 || id >= len(m.t.tokens) {
		return "", false
	}
	tok := m.t.spelling(int32(id))
	return tok, tok != ""
}

// GetVocab is a copy of the whole vocabulary, added tokens included.
func (m pipeModel) GetVocab() map[string]int {
	out := make(map[string]int, len(m.t.tokens))
	for id, tok := range m.t.tokens {
		if tok != "" {
			out[tok] = id
		}
	}
	return out
}

func (m pipeModel) GetVocabSize() int { return len(m.t.model) + len(m.t.extra) }

// Save writes the tokenizer's files into the folder; a prefix is not used.
func (m pipeModel) Save(path string, _ ...string) error { return m.t.Save(path) }

// pipeSplitter does all that comes before the model: added tokens,
// normalisation, words.
type pipeSplitter struct{ t *Tokenizer }

func (p pipeSplitter) PreTokenize(pt *sugar.PreTokenizedString) (*sugar.PreTokenizedString, error) {
	return pt.Split(func(_ int, whole *sugarnorm.NormalizedString) []sugar.SplitIdx {
		return p.split(whole.GetNormalized(), whole.Shift())
	}), nil
}

func (p pipeSplitter) split(text string, shift int) []sugar.SplitIdx {
	var out []sugar.SplitIdx
	e := p.t.pool.Get().(*encoder)
	defer e.release()
	e.mode, e.track = mode{start: shift == 0, special: true}, true
	e.visit = func(id int32, b *buffer, from, to int) {
		sp := b.span(from, to)
		source, at := text[sp.lo:sp.hi], shift+int(sp.lo)
		if id >= 0 {
			tok := p.t.Token(id)
			out = append(out, sugar.SplitIdx{
				Normalized: sugarnorm.NewNormalizedString(source, tok, nil, nil, at),
				Tokens:     []sugar.Token{sugar.NewToken(int(id), tok, []int{0, len(source)})},
			})
			return
		}
		word := b.s[from:to]
		if !p.t.words.knows(word) {
			return // the pipeline takes no split without tokens
		}
		var align [][]int // nil: bytes are where they were
		if b.lo != nil {
			align = make([][]int, len(word))
			for i := range align {
				c := b.span(from+i, from+i+1)
				align[i] = []int{int(c.lo - sp.lo), int(c.hi - sp.lo)}
			}
		}
		out = append(out, sugar.SplitIdx{
			Normalized: sugarnorm.NewNormalizedString(source, word, align, nil, at),
		})
	}
	e.run(text)
	return out
}

// pipePost is the file's post-processor.
type pipePost struct{ t *Tokenizer }

func (p pipePost) AddedTokens(bool) int {
	n := 0
	for _, item := range p.t.post {
		n += len(item.before) + len(item.after)
	}
	return n
}

// Process puts the template's tokens around an encoding. Of a pair, each half
// gets them: no model here knows pairs.
func (p pipePost) Process(enc, pair *sugar.Encoding, addSpecial bool) *sugar.Encoding {
	if addSpecial {
		enc = p.around(enc)
		if pair != nil {
			pair = p.around(pair)
		}
	}
	return sugar.DefaultProcess(enc, pair, addSpecial)
}

func (p pipePost) around(enc *sugar.Encoding) *sugar.Encoding {
	for _, item := range p.t.post {
		out := sugar.DefaultEncoding()
		add := func(ids []int32) {
			for _, id := range ids {
				out.Ids = append(out.Ids, int(id))
				out.Tokens = append(out.Tokens, p.t.Token(id))
				out.Offsets = append(out.Offsets, []int{0, 0})
				out.TypeIds = append(out.TypeIds, 0)
				out.SpecialTokenMask = append(out.SpecialTokenMask, 1)
				out.AttentionMask = append(out.AttentionMask, 1)
				out.Words = append(out.Words, -1)
			}
		}
		add(item.before)
		out.Ids = append(out.Ids, enc.Ids...)
		out.Tokens = append(out.Tokens, enc.Tokens...)
		out.Offsets = append(out.Offsets, enc.Offsets...)
		out.TypeIds = append(out.TypeIds, enc.TypeIds...)
		out.SpecialTokenMask = append(out.SpecialTokenMask, enc.SpecialTokenMask...)
		out.AttentionMask = append(out.AttentionMask, enc.AttentionMask...)
		out.Words = append(out.Words, enc.Words...)
		add(item.after)
		enc = out
	}
	return enc
}

// pipeDecoder is the file's decoder.
type pipeDecoder struct{ t *Tokenizer }

// Decode joins tokens as the vocabulary spells them to a text.
func (p pipeDecoder) Decode(tokens []string) string {
	return strings.Join(p.DecodeChain(tokens), "")
}

// DecodeChain is Decode in the pieces in which the text became settled.
func (p pipeDecoder) DecodeChain(tokens []string) []string {
	d := p.t.NewDecoder(false)
	var out []string
	for _, tok := range tokens {
		d.outs[0](tok)
		if s := d.take(); s != "" {
			out = append(out, s)
		}
	}
	if s := d.Flush(); s != "" {
		out = append(out, s)
	}
	return out
}
