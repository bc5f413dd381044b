package token

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// checkTokenizer runs whatever was parsed: no panic, streams equal wholes, and
// what is written reads back the same.
func checkTokenizer(t *testing.T, tk *Tokenizer, text string) {
	ids := tk.Encode(text)
	for _, id := range ids {
		if id < 0 || int(id) >= tk.Size() {
			t.Fatalf("id %d, size %d", id, tk.Size())
		}
	}
	checkPieces(t, tk, text)
	checkStream(t, tk, ids)
	var b bytes.Buffer
	if err := tk.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Parse("written", b.Bytes(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.Bytes())
	}
	if got := again.Encode(text); !slices.Equal(got, ids) {
		t.Fatalf("%q: %v after writing, %v before", text, got, ids)
	}
	small, err := ParseCompact(tk.Compact())
	if err != nil {
		t.Fatalf("%v\n%s", err, b.Bytes())
	}
	if got := small.Encode(text); !slices.Equal(got, ids) {
		t.Fatalf("%q: %v by the compact vocabulary, %v before", text, got, ids)
	}
	if got, want := small.Decode(ids, true), tk.Decode(ids, true); got != want {
		t.Fatalf("%v: decoded %q by the compact vocabulary, %q before", ids, got, want)
	}
}

func checkPieces(t *testing.T, tk *Tokenizer, text string) {
	t.Helper()
	var ids []int32
	for _, p := range tk.Pieces(text) {
		ids = append(ids, p.ID)
		if p.Start < 0 || p.Start > p.End || p.End > len(text) {
			t.Fatalf("%q: piece %+v", text, p)
		}
		if !utf8.ValidString(p.Text) {
			t.Fatalf("%q: piece %+v is not UTF-8", text, p)
		}
	}
	if want := tk.Encode(text); !slices.Equal(ids, want) {
		t.Fatalf("%q: pieces %v, ids %v", text, ids, want)
	}
}

func checkStream(t *testing.T, tk *Tokenizer, ids []int32) {
	t.Helper()
	for _, skip := range []bool{false, true} {
		d := tk.NewDecoder(skip)
		var b strings.Builder
		for _, id := range ids {
			s := d.Push(id)
			if !utf8.ValidString(s) {
				t.Fatalf("%v: the stream gave %q", ids, s)
			}
			b.WriteString(s)
		}
		b.WriteString(d.Flush())
		if want := tk.Decode(ids, skip); b.String() != want {
			t.Fatalf("%v: the stream gave %q, Decode %q", ids, b.String(), want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(file()))
	for _, name := range []string{"llama2", "qwen2", "added", "wordlevel", "deepseek", "metaspace-always"} {
		data, err := os.ReadFile("testdata/families/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		// Keep the structure, cut the vocabulary down, so that mutation finds it.
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			f.Fatal(err)
		}
		model := m["model"].(map[string]any)
		vocab := make(map[string]any)
		for tok, id := range model["vocab"].(map[string]any) {
			if id.(float64) < 12 {
				vocab[tok] = id
			}
		}
		vocab["a"], vocab["▁"], vocab["▁a"] = 20, 21, 22
		model["vocab"] = vocab
		if _, ok := model["merges"]; ok {
			model["merges"] = []string{"▁ a"}
		}
		small, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(small)
	}
	for _, c := range renderedTemplates(f) { // the fields of both files in one
		text := strings.TrimSuffix(file(), "}")
		more, err := json.Marshal(map[string]string{"bos_token": "<s>", "eos_token": "</s>", "chat_template": c.Template})
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text + "," + string(more[1:])))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tk, err := Parse("fuzz", data, data)
		if err != nil {
			tk, err = Parse("fuzz", data, nil)
		}
		if err != nil {
			return
		}
		checkTokenizer(t, tk, "a ab <s> b\xff é\n  12 ▁a")
		for _, name := range append(FormatNames(), "") {
			f, err := tk.Format(name)
			if err != nil {
				continue
			}
			f.Prompt("a b")
			f.Answer("ab")
			for _, msgs := range [][]Message{{{"system", "a"}}, {{"user", "a"}, {"assistant", "b"}, {"user", " b"}}} {
				if _, err := f.Messages(msgs); err != nil && name != "world" && name != "" {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
	})
}

// FuzzRoundTrip: byte-level ids hold any text.
func FuzzRoundTrip(f *testing.F) {
	var all []*Tokenizer
	for _, name := range []string{"gpt2", "llama3", "digits", "deepseek", "tekken", "digits-split"} {
		all = append(all, loadFamily(f, name))
	}
	others := []*Tokenizer{loadFamily(f, "qwen2"), loadFamily(f, "llama2"), loadFamily(f, "added"), loadFamily(f, "metaspace-drop"), loadFamily(f, "gemma")}
	for _, s := range vectorTexts(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, tk := range all {
			ids := tk.Encode(s)
			if got, want := tk.Decode(ids, false), Valid(s); got != want {
				t.Fatalf("%q: decoded %q, want %q", s, got, want)
			}
			checkPieces(t, tk, s)
			checkStream(t, tk, ids)
			if got := tk.Decode(tk.EncodeText(s), true); got != Valid(s) {
				t.Fatalf("%q as plain text: decoded %q", s, got)
			}
		}
		for _, tk := range others {
			checkPieces(t, tk, s)
			checkStream(t, tk, tk.Encode(s))
		}
	})
}

// FuzzStream decodes ids that no text gives.
func FuzzStream(f *testing.F) {
	var all []*Tokenizer
	for _, name := range []string{"gpt2", "llama2", "metaspace-always", "gemma", "wordlevel"} {
		all = append(all, loadFamily(f, name))
	}
	f.Add([]byte("\x00\x01\x02\xf0\xf1\x20\xff\xe4\x80"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, tk := range all {
			var ids []int32
			for i, b := range data {
				ids = append(ids, int32((int(b)*7+i%3)%(tk.Size()+5))-2)
			}
			checkStream(t, tk, ids)
			if s := tk.Decode(ids, false); !utf8.ValidString(s) {
				t.Fatalf("%v: decoded %q", ids, s)
			}
		}
	})
}

func FuzzCompact(f *testing.F) {
	for _, name := range []string{"wordlevel", "metaspace-drop"} {
		f.Add(loadFamily(f, name).Compact())
	}
	tk, err := Parse("seed", []byte(file(`"pre_tokenizer":{"type":"ByteLevel"}`)), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tk.Compact())
	f.Fuzz(func(t *testing.T, data []byte) {
		tk, err := ParseCompact(data)
		if err != nil {
			return
		}
		total := 0
		for id := range tk.Size() {
			total += len(tk.Token(int32(id)))
		}
		if total > 64*len(data)+1<<16 || tk.Size() > 16*len(data)+1<<18 {
			t.Fatalf("%d bytes gave %d tokens of %d bytes", len(data), tk.Size(), total)
		}
		checkTokenizer(t, tk, "a b ab <unk>\xffé")
	})
}
