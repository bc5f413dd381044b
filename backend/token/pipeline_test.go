//go:build !js

package token

import (
	"slices"
	"strings"
	"testing"

	sugar "github.com/sugarme/tokenizer"
)

func pipelineEncode(t *testing.T, p *sugar.Tokenizer, text string, special bool) *sugar.Encoding {
	t.Helper()
	enc, err := p.Encode(sugar.NewSingleEncodeInput(sugar.NewInputSequence(text)), special)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return enc
}

// TestPipeline compares sugarme's pipeline with the direct path: ids, spelling
// and offsets.
func TestPipeline(t *testing.T) {
	texts := vectorTexts(t)
	g := newGenerator(t, 99)
	for range 200 {
		texts = append(texts, g.text(24))
	}
	for _, name := range familyNames(t) {
		t.Run(name, func(t *testing.T) {
			tk := loadFamily(t, name)
			p := tk.Pipeline()
			for _, s := range texts {
				s = Valid(s)
				enc := pipelineEncode(t, p, s, false)
				pieces := tk.Pieces(s)
				if len(enc.Ids) != len(pieces) {
					t.Fatalf("%q: %d tokens by the pipeline, %d directly", s, len(enc.Ids), len(pieces))
				}
				for i, piece := range pieces {
					if enc.Ids[i] != int(piece.ID) || enc.Tokens[i] != tk.Token(piece.ID) {
						t.Errorf("%q: token %d is %d %q by the pipeline, %d %q directly", s, i, enc.Ids[i], enc.Tokens[i], piece.ID, tk.Token(piece.ID))
					}
					if enc.Offsets[i][0] != piece.Start || enc.Offsets[i][1] != piece.End {
						t.Errorf("%q: token %d %q at %v by the pipeline, [%d %d] directly", s, i, enc.Tokens[i], enc.Offsets[i], piece.Start, piece.End)
					}
				}
				with := pipelineEncode(t, p, s, true)
				if want := tk.EncodeSpecial(s); !slices.EqualFunc(with.Ids, want, func(a int, b int32) bool { return a == int(b) }) {
					t.Errorf("%q: with specials %v by the pipeline, %v directly", s, with.Ids, want)
				}
				ids := make([]int32, len(enc.Ids))
				for i, id := range enc.Ids {
					ids[i] = int32(id)
				}
				if got, want := p.Decode(enc.Ids, false), tk.Decode(ids, false); got != want {
					t.Errorf("decode %v: %q by the pipeline, %q directly", ids, got, want)
				}
			}
		})
	}
}

func TestEncoding(t *testing.T) {
	tk := loadFamily(t, "llama3")
	for _, s := range vectorTexts(t) {
		enc, err := tk.Encoding(s, true)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if want := tk.EncodeSpecial(s); !slices.EqualFunc(enc.Ids, want, func(a int, b int32) bool { return a == int(b) }) {
			t.Errorf("%q: %v by the pipeline, %v directly", s, enc.Ids, want)
		}
	}
}

// TestPipelineBig: a megabyte in one word is no trouble for the pipeline either.
func TestPipelineBig(t *testing.T) {
	s := strings.Repeat("The answer is not here. ", 8000)
	for _, name := range []string{"llama3", "llama2"} {
		tk := loadFamily(t, name)
		enc := pipelineEncode(t, tk.Pipeline(), s, false)
		if want := tk.Encode(s); !slices.EqualFunc(enc.Ids, want, func(a int, b int32) bool { return a == int(b) }) {
			t.Errorf("%s: other ids for a long text", name)
		}
	}
}

func BenchmarkPipeline(b *testing.B) {
	tk, text := benchTokenizer(b, "llama3")
	text = Valid(text[:1<<16])
	b.SetBytes(int64(len(text)))
	n := 0
	for b.Loop() {
		enc, err := tk.Encoding(text, false)
		if err != nil {
			b.Fatal(err)
		}
		n = len(enc.Ids)
	}
	reportTokens(b, n)
}
