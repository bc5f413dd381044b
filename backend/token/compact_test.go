package token

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCompact: the compact form loses nothing.
func TestCompact(t *testing.T) {
	texts := vectorTexts(t)
	for _, name := range familyNames(t) {
		tk := loadFamily(t, name)
		data := tk.Compact()
		small, err := ParseCompact(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, s := range texts {
			if got, want := small.EncodeSpecial(s), tk.EncodeSpecial(s); !slices.Equal(got, want) {
				t.Errorf("%s: %q: %v, want %v", name, s, got, want)
			}
		}
		if !bytes.Equal(small.Compact(), data) {
			t.Errorf("%s: written again it differs", name)
		}
		var a, b bytes.Buffer
		if err := tk.writeJSON(&a); err != nil {
			t.Fatal(err)
		}
		if err := small.writeJSON(&b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s: the tokenizer.json of the compact form differs", name)
		}
		if info, err := os.Stat(filepath.Join("testdata", "families", name+".json")); err != nil || len(data) > int(info.Size()) {
			t.Errorf("%s: %d bytes (%v), the JSON has %d", name, len(data), err, info.Size())
		}
	}
}

// TestCompactDamaged: every truncation is an error, and no changed byte panics.
func TestCompactDamaged(t *testing.T) {
	data := loadFamily(t, "llama2").Compact()
	for n := range data {
		if n > 2000 && n%37 > 0 {
			continue
		}
		if _, err := ParseCompact(data[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were taken", n, len(data))
		} else if !strings.HasPrefix(err.Error(), "compact vocabulary: ") {
			t.Fatalf("the first %d bytes: error %v", n, err)
		}
	}
	if _, err := ParseCompact(append(slices.Clone(data), 0)); err == nil {
		t.Error("a byte too many was taken")
	}
	g := mulberry(3)
	for range 300 {
		bad := slices.Clone(data)
		bad[g.n(len(bad))] ^= byte(1 + g.n(255))
		if tk, err := ParseCompact(bad); err == nil {
			tk.Encode("a b c")
		}
	}
}

// TestSave: all families, written as Hugging Face's files and read back.
func TestSave(t *testing.T) {
	texts := vectorTexts(t)
	for _, name := range familyNames(t) {
		tk := loadFamily(t, name)
		dir := t.TempDir()
		if err := tk.Save(dir); err != nil {
			t.Fatal(err)
		}
		again, err := LoadDir(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, s := range texts {
			if got, want := again.EncodeSpecial(s), tk.EncodeSpecial(s); !slices.Equal(got, want) {
				t.Errorf("%s: %q: %v, want %v", name, s, got, want)
			}
		}
		if again.BOS() != tk.BOS() || again.EOS() != tk.EOS() || again.pad != tk.pad {
			t.Errorf("%s: bos %d eos %d pad %d, want %d %d %d", name, again.BOS(), again.EOS(), again.pad, tk.BOS(), tk.EOS(), tk.pad)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 3 {
			t.Errorf("%s: %d files in the folder (%v)", name, len(entries), err)
		}
	}
}

// TestSaveTemplate: config and chat template survive, wherever they came from.
func TestSaveTemplate(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"tokenizer.json":        file(`"truncation":{"max_length":5}`),
		"tokenizer_config.json": `{"eos_token":"ab","model_max_length":77}`,
		"chat_template.jinja":   "{{ 'x' }}<|user|><|assistant|>",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tk, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := tk.Save(out); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"tokenizer.json":          `"max_length":5`,
		"tokenizer_config.json":   `{"eos_token":"ab","model_max_length":77}`,
		"chat_template.jinja":     "{{ 'x' }}<|user|><|assistant|>",
		"special_tokens_map.json": `"eos_token": "ab"`,
	} {
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %v\n%s\nwant %s", name, err, got, want)
		}
	}
	small, err := ParseCompact(tk.Compact())
	if err != nil {
		t.Fatal(err)
	}
	if f, err := small.Format(""); err != nil || f.Name != "tulu" {
		t.Errorf("format %v, %v", f, err)
	}
}

// TestSaveFails: nothing is left behind where nothing can be written.
func TestSaveFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokenizer.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json", "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := loadFamily(t, "wordlevel").Save(dir); err == nil {
		t.Error("a folder was overwritten")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d entries left behind (%v)", len(entries), err)
	}
}
