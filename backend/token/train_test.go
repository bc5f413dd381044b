package token

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTrainByHand follows the merges of a text small enough for paper.
//
// low ×5, lower ×2, newest ×6, widest ×3, each after a space: es, st 9, of which
// e has the smaller id; then est 9. l+o, o+w and Ġ+l tie with 7: l is the
// smallest letter (Ġ, the space, the largest). Then Ġ+lo and lo+w: Ġ is older
// than lo. Then Ġlo+w 7, and of e+w, n+e and w+est with 6 the first.
func TestTrainByHand(t *testing.T) {
	text := strings.Repeat(" low", 5) + strings.Repeat(" lower", 2) + strings.Repeat(" newest", 6) + strings.Repeat(" widest", 3)
	tk, err := TrainBPE(slices.Values([]string{text}), TrainOptions{Vocab: 256 + 6})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range tk.doc.Model.Merges {
		got = append(got, tk.Token(m.left)+"+"+tk.Token(m.right))
	}
	want := []string{"e+s", "es+t", "l+o", "Ġ+lo", "Ġlo+w", "e+w"}
	if !slices.Equal(got, want) {
		t.Errorf("merges %q, want %q", got, want)
	}
}

// TestTrainDeterministic: neither the order of the texts nor the run matters.
func TestTrainDeterministic(t *testing.T) {
	corpus, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(corpus), "\n")
	o := TrainOptions{Vocab: 700, Pattern: "llama3", Special: []string{"<|endoftext|>", "<think>", "</think>"}}
	var first []byte
	for range 3 {
		tk, err := TrainBPE(slices.Values(lines), o)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := tk.writeJSON(&b); err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, b.Bytes()) {
			t.Fatal("the same texts gave another vocabulary")
		}
		first = b.Bytes()
		slices.Reverse(lines)
	}
}

// TestTrainStops: whenever it is asked to, in reading and in merging, the training ends.
func TestTrainStops(t *testing.T) {
	stop := errors.New("stop")
	train := func(at int) (asked int, err error) {
		_, err = TrainBPE(slices.Values([]string{"a rose is a rose", "is a rose is a rose"}), TrainOptions{Vocab: 256 + 5, Stopped: func() error {
			if asked++; asked == at {
				return stop
			}
			return nil
		}})
		return asked, err
	}
	all, err := train(-1)
	if err != nil || all < 2+3+5 { // texts, words and merges
		t.Fatalf("%v after %d questions", err, all)
	}
	for at := 1; at <= all; at++ {
		if asked, err := train(at); err != stop || asked != at {
			t.Errorf("stopped at question %d of %d: %v after %d", at, all, err, asked)
		}
	}
}

// TestTrainPatterns: what was trained reads back and holds any text.
func TestTrainPatterns(t *testing.T) {
	corpus, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"", "gpt2", "llama3", "qwen2", "digits"} {
		tk, err := TrainBPE(slices.Values([]string{string(corpus)}), TrainOptions{Vocab: 600, Pattern: pattern, Special: []string{"<s>", "</s>", "<pad>"}})
		if err != nil {
			t.Fatal(err)
		}
		if tk.Size() != 600 || tk.BOS() != 0 || tk.EOS() != 1 || tk.pad != 2 {
			t.Errorf("%s: size %d, bos %d, eos %d, pad %d", pattern, tk.Size(), tk.BOS(), tk.EOS(), tk.pad)
		}
		dir := t.TempDir()
		if err := tk.Save(dir); err != nil {
			t.Fatal(err)
		}
		again, err := LoadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if again.BOS() != 0 || again.EOS() != 1 || again.pad != 2 {
			t.Errorf("%s: loaded with bos %d, eos %d, pad %d", pattern, again.BOS(), again.EOS(), again.pad)
		}
		for _, s := range vectorTexts(t) {
			ids := tk.Encode(s)
			if got := again.Encode(s); !slices.Equal(got, ids) {
				t.Errorf("%s: %q: %v loaded, %v trained", pattern, s, got, ids)
			}
			if got := tk.Decode(ids, false); got != Valid(s) && pattern != "qwen2" {
				t.Errorf("%s: %q: decoded %q", pattern, s, got)
			}
			if got, want := tk.EncodeSpecial(s), append([]int32{0}, ids...); !slices.Equal(got, want) {
				t.Errorf("%s: %q: with BOS %v, want %v", pattern, s, got, want)
			}
		}
		if n := len(tk.Encode("year 2024")); (pattern == "digits" || pattern == "qwen2") && !slices.Contains(spell(tk, tk.Encode("year 2024")), "4") {
			t.Errorf("%s: %d tokens %q: digits are joined", pattern, n, spell(tk, tk.Encode("year 2024")))
		}
	}
}

func TestTrainErrors(t *testing.T) {
	for _, c := range []struct {
		o    TrainOptions
		want string
	}{
		{TrainOptions{Vocab: 255}, "vocab: want at least 256"},
		{TrainOptions{Vocab: 256, Special: []string{"<s>"}}, "vocab: want at least 257"},
		{TrainOptions{Vocab: 300, Pattern: "gpt5"}, `pattern: want gpt2, llama3, qwen2 or digits, have "gpt5"`},
		{TrainOptions{Vocab: 300, Special: []string{"<s>", "<s>"}}, `special[1]: "<s>" is empty or a repetition`},
		{TrainOptions{Vocab: 300, Special: []string{""}}, `special[0]: "" is empty or a repetition`},
		{TrainOptions{Vocab: 300, Special: []string{"Ġ"}}, `special[0]: "Ġ" is the name of a byte`},
	} {
		if _, err := TrainBPE(slices.Values([]string{"a"}), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %s", c.o, err, c.want)
		}
	}
	tk, err := TrainBPE(slices.Values([]string(nil)), TrainOptions{Vocab: 5000})
	if err != nil || tk.Size() != 256 {
		t.Errorf("no text: %v, size %d; want the 256 bytes", err, tk.Size())
	}
}
