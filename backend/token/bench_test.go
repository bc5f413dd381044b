package token

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// benchTokenizer is trained on the corpus; the text is a megabyte of prose of
// its words and generated ones.
func benchTokenizer(b *testing.B, pattern string) (*Tokenizer, string) {
	corpus, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		b.Fatal(err)
	}
	g := newGenerator(b, 1)
	words := strings.Fields(string(corpus))
	var text strings.Builder
	for text.Len() < 1<<20 {
		w := words[g.n(len(words))]
		if g.n(4) == 0 { // a word not seen before, in length like the others
			w = w[:len(w)/2] + words[g.n(len(words))]
		}
		text.WriteString(Valid(w) + []string{" ", " ", " ", ", ", ".\n"}[g.n(5)])
	}
	tk, err := TrainBPE(slices.Values([]string{text.String()}), TrainOptions{Vocab: 4096, Pattern: pattern})
	if err != nil {
		b.Fatal(err)
	}
	return tk, text.String()
}

func reportTokens(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkEncode(b *testing.B) {
	for _, pattern := range []string{"gpt2", "llama3"} {
		b.Run(pattern, func(b *testing.B) {
			tk, text := benchTokenizer(b, pattern)
			b.SetBytes(int64(len(text)))
			n := 0
			for b.Loop() {
				n = len(tk.Encode(text))
			}
			reportTokens(b, n)
		})
	}
}

// BenchmarkEncodeCold has no words cached.
func BenchmarkEncodeCold(b *testing.B) {
	tk, text := benchTokenizer(b, "llama3")
	b.SetBytes(int64(len(text)))
	n := 0
	for b.Loop() {
		e := newEncoder(tk)
		e.mode = mode{start: true, special: true}
		e.run(text)
		n = len(e.ids)
	}
	reportTokens(b, n)
}

// BenchmarkEncodeWord is a megabyte without a space.
func BenchmarkEncodeWord(b *testing.B) {
	text := bigText(b, "letters")
	for _, name := range []string{"gpt2", "llama2"} {
		b.Run(name, func(b *testing.B) {
			tk := loadFamily(b, name)
			b.SetBytes(int64(len(text)))
			n := 0
			for b.Loop() {
				n = len(tk.Encode(text))
			}
			reportTokens(b, n)
		})
	}
}

func BenchmarkPieces(b *testing.B) {
	tk, text := benchTokenizer(b, "llama3")
	b.SetBytes(int64(len(text)))
	n := 0
	for b.Loop() {
		n = len(tk.Pieces(text))
	}
	reportTokens(b, n)
}

func BenchmarkDecode(b *testing.B) {
	tk, text := benchTokenizer(b, "llama3")
	ids := tk.Encode(text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tk.Decode(ids, false)
	}
	reportTokens(b, len(ids))
}

func BenchmarkTrain(b *testing.B) {
	_, text := benchTokenizer(b, "llama3")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := TrainBPE(slices.Values([]string{text}), TrainOptions{Vocab: 4096, Pattern: "llama3"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	tk, _ := benchTokenizer(b, "llama3")
	var j bytes.Buffer
	if err := tk.writeJSON(&j); err != nil {
		b.Fatal(err)
	}
	small := tk.Compact()
	b.Run("json", func(b *testing.B) {
		b.SetBytes(int64(j.Len()))
		for b.Loop() {
			if _, err := Parse("tokenizer.json", j.Bytes(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compact", func(b *testing.B) {
		b.SetBytes(int64(len(small)))
		for b.Loop() {
			if _, err := ParseCompact(small); err != nil {
				b.Fatal(err)
			}
		}
	})
}
