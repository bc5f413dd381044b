package token

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// wordLevel is the model whose words are tokens.
type wordLevel struct {
	ids    map[string]int32
	unk    int32
	mapped bool // words are bytes; the vocabulary spells them in GPT-2's alphabet
}

func (w *wordLevel) encode(_ *scratch, word string, ids []int32, lens *[]int32) []int32 {
	key := word
	if w.mapped {
		key = toAlphabet(word)
	}
	id, ok := w.ids[key]
	if !ok {
		id = w.unk
	}
	if lens != nil {
		*lens = append(*lens, int32(len(word)))
	}
	return append(ids, id)
}

func (w *wordLevel) knows(string) bool { return true }

func (w *wordLevel) unknown() int32 { return w.unk }

// NewWordLevel makes a tokenizer whose tokens are words between white space:
// special first, then words, numbered from 0. unk stands for all other words and
// is added to the specials if it is in neither list. The specials named <bos>,
// <eos>, <pad> (or <s>, </s>) get their roles. Decode joins words with one space.
func NewWordLevel(words []string, unk string, special []string) (*Tokenizer, error) {
	if unk == "" {
		return nil, fmt.Errorf("word-level vocabulary: no unknown token given")
	}
	if !slices.Contains(special, unk) && !slices.Contains(words, unk) {
		special = append(slices.Clone(special), unk)
	}
	doc := &document{
		Version:      "1.0",
		PreTokenizer: json.RawMessage(`{"type":"WhitespaceSplit"}`),
		Model:        modelDoc{Type: "WordLevel", Unk: unk},
	}
	seen := make(map[string]bool)
	for i, w := range slices.Concat(special, words) {
		if w == "" || seen[w] {
			return nil, fmt.Errorf("word-level vocabulary: word %d, %q, is empty or a repetition", i, w)
		}
		if strings.ContainsFunc(w, unicode.IsSpace) {
			return nil, fmt.Errorf("word-level vocabulary: word %d, %q, contains white space", i, w)
		}
		seen[w] = true
		doc.Model.Vocab = append(doc.Model.Vocab, w)
	}
	for i, w := range special {
		doc.Added = append(doc.Added, addedToken{ID: int32(i), Content: w, Special: true})
	}
	return finish("word-level vocabulary", doc, unk)
}
