package run

import (
	"fmt"

	"nrt/backend/token"
)

// Unknown counts the ids that stand for something which the vocabulary lacks.
// Most tokenizers spell everything and have none.
func Unknown(tok *token.Tokenizer, texts ...[]int32) (n int) {
	if tok.UNK() < 0 {
		return 0
	}
	for _, ids := range texts {
		for _, id := range ids {
			if id == tok.UNK() {
				n++
			}
		}
	}
	return n
}

// UnknownNote is the warning for so many unknown words of a text; "" for none.
func UnknownNote(n int, tok *token.Tokenizer, text string) string {
	if n == 0 {
		return ""
	}
	are := "words are"
	if n == 1 {
		are = "word is"
	}
	return fmt.Sprintf("warning: %d %s not in the model's vocabulary, counted over %s: each reads as %s, and numbers about it say little", n, are, text, tok.Token(tok.UNK()))
}
