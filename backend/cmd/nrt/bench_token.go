package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"nrt/backend/token"
	"nrt/trainer/world"
)

// tokenizer measures how fast text becomes ids: --model's tokenizer, or one of
// the embedded models and a byte-level BPE trained on the text itself.
func (b *bench) tokenizer() error {
	text := b.text
	if text == "" {
		text = prose(1<<20, 1)
	}
	if b.tok != nil {
		return b.encode(b.o.model, b.tok, text)
	}
	small, err := b.e.tokenizer(defaultModel)
	if err != nil {
		return err
	}
	var words strings.Builder
	for document := range world.New(worldSeed).Pretrain(4000, 1) {
		words.WriteString(document + "\n")
	}
	if err := b.encode(defaultModel+", its own words", small, words.String()); err != nil {
		return err
	}
	const vocab = 4096
	b.progress("training a BPE of %d tokens", vocab)
	large, err := token.TrainBPE(slices.Values([]string{text}), token.TrainOptions{Vocab: vocab, Pattern: "llama3"})
	if err != nil {
		return err
	}
	return b.encode(fmt.Sprintf("byte-level BPE of %d", large.Size()), large, text)
}

func (b *bench) encode(name string, tok *token.Tokenizer, text string) error {
	ids := len(tok.Encode(text))
	if ids == 0 {
		return fmt.Errorf("%s: no tokens to measure", name)
	}
	b.progress("%s, %d bytes, %d ids", name, len(text), ids)
	times, err := b.repeat(b.o.seconds, clock(func() error { tok.Encode(text); return nil }))
	if err != nil {
		return err
	}
	b.add("tokenizer", name, "ids/s", rates(float64(ids), times))
	return nil
}

// prose is n bytes or a little more that look like text: words of syllables, few
// of them frequent and most rare, with capitals, punctuation, numbers and lines.
func prose(n int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 2))
	syllables := strings.Fields("a ba be con der di e en fi ge he in ka ko la le lo ma mi mo na ne no o or pa po ra re ri ro sa se si so sta ta te ter ti to tra u un va ve wa we")
	words := make([]string, 20000)
	for i := range words {
		for range 1 + r.IntN(4) {
			words[i] += syllables[r.IntN(len(syllables))]
		}
	}
	zipf := rand.NewZipf(r, 1.1, 8, uint64(len(words)-1))
	var text strings.Builder
	capital := true
	for text.Len() < n {
		word := words[zipf.Uint64()]
		if r.IntN(25) == 0 {
			word = fmt.Sprint(r.IntN(3000))
		}
		if capital {
			word = strings.ToUpper(word[:1]) + word[1:]
		}
		text.WriteString(word)
		end := []string{" ", " ", " ", " ", " ", " ", " ", " ", ", ", ". ", "? ", ".\n"}[r.IntN(12)]
		capital = end != " " && end != ", "
		text.WriteString(end)
	}
	return text.String()
}
