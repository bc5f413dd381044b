package token

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// TestPieces: offsets are bytes of the source, whatever happened to the text.
func TestPieces(t *testing.T) {
	for _, c := range []struct{ family, text, want string }{
		{"gpt2", "The end", `"The"0-3 " end"3-7`},
		{"gpt2", "x<|endoftext|> y", `"x"0-1 "<|endoftext|>"1-14* " y"14-16`},
		// A token may hold part of a character.
		{"gpt2", "a\U0001F680", "\"a\"0-1 \"\uFFFD\"1-3 \"\uFFFD\"3-4 \"\uFFFD\"4-5"},
		// Ill-formed bytes are one U+FFFD, whose three bytes are all the source's.
		{"gpt2", "a\xe2\x82b", "\"a\"0-1 \"\uFFFD\"1-3 \"\uFFFD\"1-3 \"\uFFFD\"1-3 \"b\"3-4"},
		{"gpt2-prefix", "a", `" a"0-1`},
		{"llama2", "The end", `" The"0-3 " end"3-7`},
		{"llama2", "</s> a", `"</s>"0-4* " "4-4 " a"4-6`},
		{"metaspace-drop", "a\U0001F9FFb", `" a"0-5 "b"5-6`},
		{"qwen2", "e\u0301t\u00e9", "\"\u00e9\"0-3 \"t\"3-4 \"\u00e9\"4-6"},
		{"added", "a  <l>  b", `" a"0-1 "<l>"1-6 " "6-6 " "6-7 " b"7-9`},
		{"wordlevel", " river  zzz\n", `"river"1-6 "<unk>"8-11*`},
	} {
		tk := loadFamily(t, c.family)
		var got []string
		for _, p := range tk.Pieces(c.text) {
			s := fmt.Sprintf("%q%d-%d", p.Text, p.Start, p.End)
			if p.Special {
				s += "*"
			}
			got = append(got, s)
		}
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%s: %q:\n got %s\nwant %s", c.family, c.text, g, c.want)
		}
	}
}

// TestPiecesTile: without rewriting, pieces cover the text without gap or
// overlap, and the byte-level ones spell it.
func TestPiecesTile(t *testing.T) {
	for _, name := range []string{"gpt2", "llama3", "digits", "deepseek", "tekken"} {
		tk := loadFamily(t, name)
		for _, s := range vectorTexts(t) {
			if !utf8.ValidString(s) {
				continue
			}
			at := 0
			for _, p := range tk.Pieces(s) {
				if p.Start != at {
					t.Fatalf("%s: %q: piece %+v begins at %d", name, s, p, at)
				}
				at = p.End
				if raw := s[p.Start:p.End]; Valid(raw) != p.Text {
					t.Fatalf("%s: %q: piece %+v stands for %q", name, s, p, raw)
				}
			}
			if at != len(s) {
				t.Fatalf("%s: %q: pieces end at %d of %d", name, s, at, len(s))
			}
		}
	}
}

// TestEncodeMore: a text cut in two before a space has the ids of the whole, and
// special tokens spelt in it stay text (unless any word is a token).
func TestEncodeMore(t *testing.T) {
	for _, name := range []string{"gpt2", "gpt2-prefix", "llama2", "llama3", "llama2-metaspace", "metaspace-never", "wordlevel"} {
		tk := loadFamily(t, name)
		want := tk.EncodeText("The river end")
		if got := append(tk.EncodeText("The"), tk.EncodeMore(" river end")...); !slices.Equal(got, want) {
			t.Errorf("%s: have %v, want %v", name, got, want)
		}
		if id := tk.EOS(); name != "wordlevel" && id >= 0 && slices.Contains(tk.EncodeMore(tk.Token(id)), id) {
			t.Errorf("%s: %q is token %d", name, tk.Token(id), id)
		}
	}
}

// TestMergeLong: the heap and the plain search agree.
func TestMergeLong(t *testing.T) {
	for _, name := range []string{"gpt2", "llama2", "metaspace-never"} {
		tk := loadFamily(t, name)
		p := tk.words.(*bpe)
		g := newGenerator(t, 5)
		for range 400 {
			word := strings.ReplaceAll(g.text(30), " ", "▁")
			var a, b scratch
			p.symbols(&a, word)
			p.symbols(&b, word)
			p.mergeShort(&a)
			if len(b.syms) > 0 {
				p.mergeLong(&b)
			}
			var short, long []int32
			for _, s := range a.syms {
				short = append(short, s.id, s.n)
			}
			for _, s := range b.syms {
				if s.n >= 0 {
					long = append(long, s.id, s.n)
				}
			}
			if !slices.Equal(short, long) {
				t.Fatalf("%s: %q: %v by search, %v by heap (ids and lengths)", name, word, short, long)
			}
		}
	}
}

// TestCompose: form C by the book is that of the library on what both can do.
func TestCompose(t *testing.T) {
	g := newGenerator(t, 11)
	for range 3000 {
		var b strings.Builder
		for n := 1 + g.n(9); n > 0; n-- {
			b.WriteString([]string{"a", "e", "q", "A", "\u0301", "\u0323", "\u0308", "\u0327", "\u030a", "\u212b", "\u1100", "\u1161", "\u11a8", "\uac00", "\u0915", "\u093c", "\u1e69", "\u0344", "\u0f71", "\u0f72", " "}[g.n(21)])
		}
		if got, want := compose(b.String()), norm.NFC.String(b.String()); got != want {
			t.Fatalf("%+q: %+q, want %+q", b.String(), got, want)
		}
	}
}

// TestValid: one U+FFFD for each maximal ill-formed part (Unicode 16, table 3-8
// and its neighbours).
func TestValid(t *testing.T) {
	for in, want := range map[string]string{
		"":                                  "",
		"é🙂":                                "é🙂",
		"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82A": "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA",
		"\xed\xa0\x80\xed\xbf\xbf\xed\xafA": "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA",
		"\xf4\x91\x92\x93\xffA\x80\xbfB":    "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB",
		"\xe1\x80\xe2\xf0\x91\x92\xf1\xbfA": "\uFFFD\uFFFD\uFFFD\uFFFDA",
		"\xe2\x82":                          "\uFFFD",
		"\uFFFD":                            "\uFFFD",
	} {
		if got := Valid(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestDecoderTiming: characters come out when they are complete, not later.
func TestDecoderTiming(t *testing.T) {
	tk := loadFamily(t, "gpt2")
	d := tk.NewDecoder(false)
	var got []string
	for _, id := range tk.Encode("a🚀\xe2") {
		got = append(got, d.Push(id))
	}
	rocket := len(got) - 4 // the last three are U+FFFD's bytes
	if got[0] != "a" || got[rocket] != "🚀" || strings.Join(got, "") != "a🚀\uFFFD" || d.Flush() != "" {
		t.Errorf("pushes gave %q", got)
	}
	// A character that never completes.
	d = tk.NewDecoder(false)
	if s := d.Push(tk.words.(*bpe).bytes[0xF0]); s != "" {
		t.Errorf("half a character gave %q", s)
	}
	if s := d.Flush(); s != "\uFFFD" {
		t.Errorf("half a character ended as %q", s)
	}
}

// TestStripped: added tokens within the white space that another one strips. The ids are
// those of Hugging Face's tokenizers 0.23.2.
func TestStripped(t *testing.T) {
	tk, err := Parse("t", []byte(file(`"added_tokens":[{"id":4,"content":"<r>","rstrip":true},{"id":5,"content":"  "},{"id":6,"content":"\n","lstrip":true,"rstrip":true}]`,
		`"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2," ":3},"merges":["a b"]}`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int32{
		"a<r>   ab": {0, 4, 5, 3, 2}, "<r>  \nab": {4, 5, 6, 2}, "\n\n\na": {6, 0}, "<r>\n": {4},
		"a  \n <r>    b": {0, 5, 6, 4, 5, 5, 1}, "<r>    ": {4, 5, 5},
	} {
		if got := tk.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%q: have %v, want %v", text, got, want)
		}
	}
}

// TestSkipNormalizedSpecial: Decode leaves out every token marked special, also
// those looked for in normalised text, which decode to something else than their
// content.
func TestSkipNormalizedSpecial(t *testing.T) {
	tk, err := Parse("t", []byte(file(`"added_tokens":[{"id":3,"content":"<sp>","normalized":true,"special":true}]`,
		`"normalizer":{"type":"Prepend","prepend":"_"}`, `"decoder":{"type":"Fuse"}`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := tk.Decode([]int32{0, 3, 1}, true); got != "ab" {
		t.Errorf("without specials %q", got)
	}
	if got := tk.Decode([]int32{0, 3, 1}, false); got != "a_<sp>b" {
		t.Errorf("with specials %q", got)
	}
}

// TestConcurrent uses one tokenizer from many goroutines (run with -race).
func TestConcurrent(t *testing.T) {
	tk := loadFamily(t, "llama3")
	texts := vectorTexts(t)
	want := make([][]int32, len(texts))
	for i, s := range texts {
		want[i] = tk.Encode(s)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range texts {
				i = (i*7 + g*31) % len(texts)
				if got := tk.Encode(texts[i]); !slices.Equal(got, want[i]) {
					t.Errorf("%q: %v, want %v", texts[i], got, want[i])
				}
				if i%3 == g%3 {
					tk.Pieces(texts[i])
				}
			}
		}()
	}
	wg.Wait()
}

// TestCacheOverflow: more words than the cache holds.
func TestCacheOverflow(t *testing.T) {
	tk := loadFamily(t, "gpt2")
	var b strings.Builder
	for i := range cacheWords + 5000 {
		fmt.Fprintf(&b, " w%d", i)
	}
	s := b.String()
	want := tk.Encode(s)
	if got := tk.Encode(s); !slices.Equal(got, want) {
		t.Error("other ids the second time")
	}
	if got := tk.Decode(want, false); got != s {
		t.Error("another text came back")
	}
}
