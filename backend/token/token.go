// Package token turns text into token ids and back, exactly as Hugging Face's
// tokenizers do, from the same files.
//
// It reads tokenizer.json for byte-level BPE (GPT-2, Llama-3, Qwen2 and those
// that split digits), SentencePiece-style BPE (Llama-2, Mistral; both spellings
// of the leading ▁) and word-level vocabularies; trains byte-level BPE; and lays
// out prompts for the chat families (Format).
//
// There are two paths to the same ids: the direct one (Encode, Pieces), which
// works on substrings of the text and caches words, and Pipeline, which is
// github.com/sugarme/tokenizer's pipeline around the same model, for Go programs
// that work with its types; a page has the direct path alone. This is the only
// package that imports sugarme/tokenizer.
//
// # Invariants
//
//   - A Tokenizer does not change after it is made; all methods may be called
//     from many goroutines.
//   - Text that is not UTF-8 is read as JavaScript and Python read it: each
//     maximal ill-formed part counts as one U+FFFD. Offsets still refer to the
//     bytes that were given.
//   - Decoded text is always UTF-8, and a Decoder's pieces joined are Decode's
//     result.
//   - What this package cannot do exactly it refuses when it loads the file,
//     with an error that names the field and its value.
//
// # Reading order
//
// encode.go is the path of a text: utf8.go, added.go (special tokens),
// normalize.go with nfc.go, pretoken.go with scan.go and unicode.go (words), bpe.go
// with alphabet.go or wordlevel.go (ids), post.go (BOS and such). decode.go goes back.
// file.go and save.go are the file format, json.go how its errors name a field,
// compact.go the one for browsers, format.go with inst.go the chat templates,
// train.go the trainer, pipeline.go the other path.
package token

import (
	"fmt"
	"sync"
)

// Tokenizer maps text to token ids and back.
type Tokenizer struct {
	doc    *document
	config config

	tokens  []string         // id → token as the file spells it; "" for a hole
	model   map[string]int32 // the model's own vocabulary
	extra   map[string]int32 // added tokens that the model does not have
	added   map[int32]*addedToken
	shown   map[int32]string // what an added token that is looked for in normalised text decodes as
	raw     *matcher         // added tokens looked for in the text as it stands
	norm    *matcher         // added tokens looked for in the normalised text
	normal  []normalizer
	steps   []step
	words   wordModel
	post    []postItem
	decoder []decodeStage

	byteLevel          bool  // the model sees bytes spelt in GPT-2's alphabet
	bos, eos, unk, pad int32 // as the files name them, or -1

	pool sync.Pool // of *encoder
}

// wordModel gives the ids of one word.
type wordModel interface {
	// encode appends the ids of word to ids. If lens is not nil it also appends,
	// for each id, how many bytes of word it covers.
	encode(s *scratch, word string, ids []int32, lens *[]int32) []int32
	// knows says whether encode gives any id.
	knows(word string) bool
	// unknown is the id that encode gives for what the vocabulary lacks, or -1.
	unknown() int32
}

// build puts a tokenizer together from the parts of its file.
func build(name string, doc *document, cfg config) (*Tokenizer, error) {
	t := &Tokenizer{doc: doc, config: cfg}
	root := node{file: name}
	if err := t.buildVocab(root); err != nil {
		return nil, err
	}
	var err error
	if t.normal, err = parseNormalizer(root.child("normalizer", doc.Normalizer)); err != nil {
		return nil, err
	}
	if t.steps, err = parsePreTokenizer(root.child("pre_tokenizer", doc.PreTokenizer)); err != nil {
		return nil, err
	}
	if n := len(t.steps); n > 0 {
		_, t.byteLevel = t.steps[n-1].(byteLevelStep)
	}
	if t.words, err = t.buildModel(root.child("model", nil)); err != nil {
		return nil, err
	}
	if t.post, err = parsePostProcessor(root.child("post_processor", doc.PostProcessor), len(t.tokens)); err != nil {
		return nil, err
	}
	if t.decoder, err = parseDecoder(root.child("decoder", doc.Decoder)); err != nil {
		return nil, err
	}
	t.buildMatchers()
	t.nameSpecials()
	t.pool.New = func() any { return newEncoder(t) }
	return t, nil
}

func (t *Tokenizer) buildVocab(root node) error {
	m := &t.doc.Model
	t.tokens = append([]string(nil), m.Vocab...)
	t.model = make(map[string]int32, len(m.Vocab))
	for id, tok := range m.Vocab {
		if tok != "" {
			t.model[tok] = int32(id)
		}
	}
	t.added = make(map[int32]*addedToken, len(t.doc.Added))
	t.extra = make(map[string]int32)
	limit := int64(len(m.Vocab)+len(t.doc.Added))*4 + 1<<16
	for i := range t.doc.Added {
		at := &t.doc.Added[i]
		n := root.child(fmt.Sprintf("added_tokens[%d]", i), nil)
		if at.Content == "" {
			continue
		}
		if id, ok := t.ID(at.Content); ok {
			at.ID = id // as Hugging Face's loader does: the vocabulary decides
		}
		if int64(at.ID) >= limit {
			return n.child("id", nil).errf("%d is too large for a vocabulary of %d", at.ID, len(m.Vocab))
		}
		for int(at.ID) >= len(t.tokens) {
			t.tokens = append(t.tokens, "")
		}
		if was := t.tokens[at.ID]; was != "" && was != at.Content {
			return n.child("id", nil).errf("%d is already token %q", at.ID, was)
		}
		t.tokens[at.ID] = at.Content
		if _, ok := t.model[at.Content]; !ok {
			t.extra[at.Content] = at.ID
		}
		t.added[at.ID] = at
	}
	return nil
}

func (t *Tokenizer) buildModel(n node) (wordModel, error) {
	m := &t.doc.Model
	t.unk = -1
	if m.Unk != "" {
		if id, ok := t.model[m.Unk]; ok {
			t.unk = id
		}
	}
	if m.Type == "WordLevel" {
		if t.unk < 0 {
			return nil, n.child("unk_token", nil).errf("%q is not in the vocabulary", m.Unk)
		}
		return &wordLevel{ids: t.model, unk: t.unk, mapped: t.byteLevel}, nil
	}
	return newBPE(t, n)
}

// nameSpecials finds the ids of the tokens with a role: by the config, else by
// the names that the families use.
func (t *Tokenizer) nameSpecials() {
	find := func(named string, usual ...string) int32 {
		if id, ok := t.ID(named); ok && named != "" {
			return id
		}
		if named != "" || len(t.config.raw) > 0 {
			return -1
		}
		for _, s := range usual {
			if id, ok := t.ID(s); ok && t.Special(id) {
				return id
			}
		}
		return -1
	}
	t.bos = find(t.config.BOS, "<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>")
	t.eos = find(t.config.EOS, "</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>")
	t.pad = find(t.config.PAD, "<pad>", "<|pad|>")
	if t.unk < 0 {
		t.unk = find(t.config.UNK, "<unk>")
	}
}

// Token is the token with this id as the vocabulary spells it ("Ġhello"), or ""
// if there is none.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

// ID is the id of a token as the vocabulary spells it.
func (t *Tokenizer) ID(tok string) (int32, bool) {
	if id, ok := t.model[tok]; ok {
		return id, true
	}
	id, ok := t.extra[tok]
	return id, ok
}

// Size is one more than the largest id, added tokens and holes included: the
// rows an embedding needs.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// BOS is the id that begins a text, or -1.
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS is the id that ends a text, or -1.
func (t *Tokenizer) EOS() int32 { return t.eos }

// UNK is the id that Encode gives for what the vocabulary lacks, or -1 where it
// gives none. The files may name an unknown token all the same, and often the one
// that ends a text: GPT-2's do.
func (t *Tokenizer) UNK() int32 { return t.words.unknown() }

// Special says whether id is a special token: one that Decode can leave out.
func (t *Tokenizer) Special(id int32) bool {
	at := t.added[id]
	return at != nil && at.Special
}
