package token_test

import (
	"fmt"
	"slices"

	"nrt/backend/token"
)

// A byte-level BPE learned from two lines of text. LoadDir and LoadFS read the
// tokenizer.json of any model in its place.
func ExampleTrainBPE() {
	text := []string{"the chain is long", "the answer is short"}
	tok, err := token.TrainBPE(slices.Values(text), token.TrainOptions{Vocab: 280, Pattern: "llama3", Special: []string{"<bos>", "<eos>", "<think>", "</think>"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ids := tok.Encode("the chain is short")
	var texts []string
	for _, id := range ids {
		texts = append(texts, tok.Text(id))
	}
	fmt.Printf("%q\n", texts)
	fmt.Println(tok.Decode(ids, true))
	// Output:
	// ["the" " " "c" "h" "a" "i" "n" " is" " " "s" "h" "o" "r" "t"]
	// the chain is short
}

// Tokens come one by one while a model writes; a character may take several of them.
// A Decoder gives out what is settled, so that its pieces joined are the text.
func ExampleDecoder() {
	tok, err := token.TrainBPE(slices.Values([]string{"x"}), token.TrainOptions{Vocab: 260, Pattern: "llama3"})
	if err != nil {
		fmt.Println(err)
		return
	}
	d := tok.NewDecoder(true)
	var settled []string
	for _, id := range tok.Encode("1 €") {
		settled = append(settled, d.Push(id))
	}
	fmt.Printf("%q %q\n", settled, d.Flush())
	// Output: ["1" " " "" "" "€"] ""
}
