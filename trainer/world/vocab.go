package world

import (
	"slices"
	"strings"

	"nrt/backend/token"
)

// The special tokens of the vocabulary.
const (
	BOS     = "<bos>"
	EOS     = "<eos>"
	Think   = "<think>"  // opens the chain
	Unthink = "</think>" // closes it
	Unk     = "<unk>"
)

// sheetWord joins the steps of a fact sheet.
const sheetWord = "then"

// Specials lists the special tokens, in vocabulary order.
func Specials() []string { return []string{Unk, BOS, EOS, Think, Unthink} }

// Words lists the vocabulary without the special tokens. It is the same for
// every seed.
func (w *World) Words() []string { return slices.Clone(w.words) }

// Tokenizer is the world's: one token a word, the special tokens first. It is
// the same for every seed.
func (w *World) Tokenizer() *token.Tokenizer { return w.tokenizer() }

func (w *World) newTokenizer() *token.Tokenizer {
	t, err := token.NewWordLevel(w.words, Unk, Specials())
	if err != nil {
		panic("world: " + err.Error()) // the words are this package's own
	}
	return t
}

// collectWords gathers the vocabulary from the tables, in their order.
func (w *World) collectWords() {
	seen := map[string]bool{}
	add := func(words ...string) {
		for _, word := range words {
			if !seen[word] && !strings.HasPrefix(word, "%") {
				seen[word] = true
				w.words = append(w.words, word)
			}
		}
	}
	mark := func(set map[string]bool, words ...string) {
		add(words...)
		for _, word := range words {
			set[word] = true
		}
	}
	w.work, w.values, w.idle = map[string]bool{}, map[string]bool{}, map[string]bool{}

	add(w.Families()...)
	add(":")
	mark(w.work, labels[:]...)
	mark(w.work, priceWord)
	mark(w.values, names...)
	for _, f := range w.families {
		mark(w.values, f.states...)
		for _, o := range f.ops {
			mark(w.work, o.word)
		}
	}
	mark(w.values, "yes", "no")
	for _, f := range w.families {
		if f.subject {
			add("has")
		}
		add(f.ask...)
	}
	add(sheetWord)
	for _, f := range w.families {
		for _, s := range f.form {
			for _, phrase := range slices.Concat(s.formal, s.casual) {
				add(strings.Fields(phrase)...)
			}
		}
	}
	add("only", "still")
	mark(w.idle, chatterOpener)
	for _, phrase := range stock {
		mark(w.idle, strings.Fields(phrase)...)
	}
	mark(w.idle, guessers...)
}
