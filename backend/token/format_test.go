package token

import (
	"reflect"
	"testing"
)

func worldTokenizer(t *testing.T) *Tokenizer {
	t.Helper()
	tk, err := NewWordLevel([]string{"bob", "has", "5", "?", "yes"}, "<unk>", []string{"<bos>", "<eos>", "<pad>", "<think>", "</think>"})
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

func TestWorldFormat(t *testing.T) {
	tk := worldTokenizer(t)
	f, err := tk.Format("")
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "world" || f.StopText != "" {
		t.Fatalf("format %q, stop text %q; want world with a boundary token", f.Name, f.StopText)
	}
	ids, at := f.Sample("bob  has\n5 ?", "yes bob")
	want := []int32{0, 6, 7, 8, 9, 3, 4, 10, 6, 1}
	if !reflect.DeepEqual(ids, want) || at != 7 {
		t.Fatalf("sample %v, answer at %d; want %v, 7", ids, at, want)
	}
	if got, want := tk.Decode(ids, false), "<bos> bob has 5 ? <think> </think> yes bob <eos>"; got != want {
		t.Fatalf("decode: %q, want %q", got, want)
	}
	if got := f.AnswerText(ids[at:]); got != "yes bob" {
		t.Fatalf("answer text %q", got)
	}
	if got := tk.Encode("bob zorp"); !reflect.DeepEqual(got, []int32{6, 5}) {
		t.Fatalf("unknown word: %v", got)
	}
}

func TestSaveLoadWordLevel(t *testing.T) {
	tk := worldTokenizer(t)
	dir := t.TempDir()
	if err := tk.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.tokens, tk.tokens) || again.BOS() != 0 || again.EOS() != 1 || again.UNK() != 5 || again.PAD() != 2 {
		t.Fatalf("loaded %q, bos %d eos %d unk %d pad %d", again.tokens, again.BOS(), again.EOS(), again.UNK(), again.PAD())
	}
}
