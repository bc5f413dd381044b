package token

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A tokenizer that spells every byte gives nothing for unknown, whatever its
// config names: GPT-2's names the token that ends a text, which is no unknown
// word wherever it stands. What the config says is kept all the same.
func TestUnknownOfWhatSpellsEverything(t *testing.T) {
	tk, err := TrainBPE(slices.Values([]string{"the answer is here"}), TrainOptions{Vocab: 264, Special: []string{"<|endoftext|>"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := tk.Save(dir); err != nil {
		t.Fatal(err)
	}
	const config = `{"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}`
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as written, and as saved again
		if tk, err = LoadDir(dir); err != nil {
			t.Fatal(err)
		}
		if tk.EOS() < 0 || tk.BOS() != tk.EOS() || tk.UNK() != -1 || tk.roles().UNK != "<|endoftext|>" {
			t.Fatalf("bos %d, eos %d, unk %d; the config's %q", tk.BOS(), tk.EOS(), tk.UNK(), tk.roles().UNK)
		}
		dir = t.TempDir()
		if err := tk.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// With an alphabet that has holes, what falls into them is unknown.
func TestUnknownOfAnAlphabetWithHoles(t *testing.T) {
	tk, err := Parse("holes", []byte(`{"model": {"type": "BPE", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2}, "merges": []}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if ids := tk.Encode("axb"); tk.UNK() != 0 || !slices.Equal(ids, []int32{1, 0, 2}) {
		t.Errorf("ids %v, unk %d", ids, tk.UNK())
	}
}
