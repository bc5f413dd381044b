package token

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The vectors in testdata/vectors are what Hugging Face's tokenizers give; see
// testdata/oracle.mjs.
type vectors struct {
	Size         int               `json:"size"`
	Special      []int32           `json:"special"`
	Random       []string          `json:"random"`
	RandomDecode []string          `json:"random_decode"`
	RandomIDs    []string          `json:"random_ids"`
	Big          map[string][2]any `json:"big"`
	Decoded      map[string]string `json:"decoded"`
	Skipped      map[string]string `json:"skipped"`
	IDs          [][]int32         `json:"ids"`
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// vectorTexts are the texts of testdata/texts.json; some are not UTF-8.
func vectorTexts(t testing.TB) []string {
	var raw []json.RawMessage
	readJSON(t, "testdata/texts.json", &raw)
	var out []string
	for _, r := range raw {
		var s string
		if r[0] == '{' {
			var b struct{ Base64 string }
			if err := json.Unmarshal(r, &b); err != nil {
				t.Fatal(err)
			}
			p, err := base64.StdEncoding.DecodeString(b.Base64)
			if err != nil {
				t.Fatal(err)
			}
			s = string(p)
		} else if err := json.Unmarshal(r, &s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// familyNames are the families with vectors.
func familyNames(t testing.TB) []string {
	paths, err := filepath.Glob("testdata/families/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/families: %v, %d files", err, len(paths))
	}
	for i, p := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(p), ".json")
	}
	return paths
}

func loadFamily(t testing.TB, name string) *Tokenizer {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "families", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	tk, err := Parse(name+".json", raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

// mulberry is the generator of oracle.mjs.
type mulberry uint32

func (m *mulberry) n(n int) int {
	*m += 0x6d2b79f5
	t := uint32(*m)
	t = (t ^ t>>15) * (t | 1)
	t ^= t + (t^t>>7)*(t|61)
	return int((t ^ t>>14) % uint32(n))
}

type generator struct {
	mulberry
	fragments []string
}

func newGenerator(t testing.TB, seed uint32) *generator {
	g := &generator{mulberry: mulberry(seed)}
	readJSON(t, "testdata/fragments.json", &g.fragments)
	return g
}

func (g *generator) rune() string {
	for {
		r := g.n([]int{0x80, 0x800, 0x3000, 0x10000, 0x32000}[g.n(5)])
		if r < 0xd800 || r > 0xdfff {
			return string(rune(r))
		}
	}
}

func (g *generator) text(parts int) string {
	var b strings.Builder
	for n := 1 + g.n(parts); n > 0; n-- {
		if g.n(6) == 0 {
			b.WriteString(g.rune())
		} else {
			b.WriteString(g.fragments[g.n(len(g.fragments))])
		}
	}
	return b.String()
}

// utf16Len is a text's length as JavaScript counts it.
func utf16Len(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// bigText is one of the megabyte texts of oracle.mjs.
func bigText(t testing.TB, name string) string {
	g := newGenerator(t, 7)
	var b strings.Builder
	n := 0
	add := func(s string) {
		b.WriteString(s)
		n += utf16Len(s)
	}
	switch name {
	case "words":
		words := []string{"The", "answer", "river", "is", "not", "chain", "42", "élève", "答案"}
		for n < 1000000 {
			w := words[g.n(9)]
			add(w + []string{" ", " ", " ", "\n", ", "}[g.n(5)])
		}
	case "letters":
		for n < 1000000 {
			add(string("abcdefghijklmnopqrstuvwxyzeeeeetttaaa"[g.n(37)]))
		}
	case "spaces":
		return strings.Repeat(" ", 1000000) + "x"
	case "same":
		return strings.Repeat("a", 1000000)
	case "mixed":
		for n < 400000 {
			add(g.text(20))
		}
	}
	return b.String()
}

func hashIDs(h hash.Hash, ids []int32) {
	var b []byte
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	h.Write(binary.LittleEndian.AppendUint32(b, 0xffffffff))
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil))[:16] }

// TestVectors compares every family with Hugging Face's own ids and texts.
func TestVectors(t *testing.T) {
	texts := vectorTexts(t)
	for _, name := range familyNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tk := loadFamily(t, name)
			var v vectors
			readJSON(t, filepath.Join("testdata", "vectors", name+".json"), &v)
			if tk.Size() != v.Size {
				t.Errorf("size %d, want %d", tk.Size(), v.Size)
			}
			if len(v.IDs) != len(texts) {
				t.Fatalf("%d vectors for %d texts: run testdata/oracle.mjs", len(v.IDs), len(texts))
			}
			if got := tk.EncodeSpecial(texts[20]); !slices.Equal(got, v.Special) {
				t.Errorf("with the post-processor: %v, want %v", got, v.Special)
			}
			for i, s := range texts {
				if got := tk.Encode(s); !slices.Equal(got, v.IDs[i]) {
					t.Errorf("text %d %q: ids %v, want %v\n%q\n%q", i, s, got, v.IDs[i], spell(tk, got), spell(tk, v.IDs[i]))
				}
				key := strconv.Itoa(i)
				want, ok := v.Decoded[key]
				if !ok {
					want = Valid(s)
				}
				if got := tk.Decode(v.IDs[i], false); got != want {
					t.Errorf("text %d %q: decoded %q, want %q", i, s, got, want)
				}
				if short, ok := v.Skipped[key]; ok {
					want = short
				}
				if got := tk.Decode(v.IDs[i], true); got != want {
					t.Errorf("text %d %q: decoded without specials %q, want %q", i, s, got, want)
				}
			}
			for batch := range v.Random {
				h, hd, hr := sha256.New(), sha256.New(), sha256.New()
				g := newGenerator(t, uint32(1000+batch))
				for i := range 100 {
					ids := tk.Encode(g.text(24))
					hashIDs(h, ids)
					hd.Write([]byte(tk.Decode(ids, false) + "\x00"))
					random := make([]int32, 1+g.n(12))
					for j := range random {
						random[j] = int32(g.n(v.Size))
					}
					hr.Write([]byte(tk.Decode(random, i%2 == 1) + "\x00"))
				}
				if sum(h) != v.Random[batch] {
					t.Errorf("random texts, seed %d: other ids", 1000+batch)
				}
				if sum(hd) != v.RandomDecode[batch] {
					t.Errorf("random texts, seed %d: other decoded texts", 1000+batch)
				}
				if sum(hr) != v.RandomIDs[batch] {
					t.Errorf("random ids, seed %d: other decoded texts", 1000+batch)
				}
			}
		})
	}
}

// TestVectorsBig is TestVectors for texts of a megabyte: prose and a mixture of
// all for every family, words of a megabyte for one of each kind.
func TestVectorsBig(t *testing.T) {
	all, kinds := familyNames(t), []string{"gpt2", "llama3", "llama2", "llama2-metaspace", "metaspace-always", "wordlevel"}
	for text, names := range map[string][]string{"words": all, "mixed": all, "letters": kinds, "spaces": kinds, "same": kinds} {
		s := bigText(t, text)
		for _, name := range names {
			t.Run(text+"/"+name, func(t *testing.T) {
				t.Parallel()
				tk := loadFamily(t, name)
				var v vectors
				readJSON(t, filepath.Join("testdata", "vectors", name+".json"), &v)
				ids := tk.Encode(s)
				h := sha256.New()
				hashIDs(h, ids)
				if want := v.Big[text]; float64(len(ids)) != want[0] || sum(h) != want[1] {
					t.Errorf("%d ids, hash %s; want %v", len(ids), sum(h), want)
				}
			})
		}
	}
}

// TestVariants compares settings that no family has: hashes over all texts.
func TestVariants(t *testing.T) {
	texts := vectorTexts(t)
	var variants []struct {
		Family       string
		Patch        map[string]json.RawMessage
		IDs, Decoded string
	}
	readJSON(t, "testdata/variants.json", &variants)
	for _, v := range variants {
		var doc map[string]json.RawMessage
		readJSON(t, filepath.Join("testdata", "families", v.Family+".json"), &doc)
		label, err := marshal(v.Patch)
		if err != nil {
			t.Fatal(err)
		}
		for field, value := range v.Patch {
			if field == "model" {
				var model, patch map[string]json.RawMessage
				if json.Unmarshal(doc["model"], &model) != nil || json.Unmarshal(value, &patch) != nil {
					t.Fatalf("%s: a model that is no object", label)
				}
				for k, x := range patch {
					model[k] = x
				}
				if value, err = marshal(model); err != nil {
					t.Fatal(err)
				}
			}
			doc[field] = value
		}
		raw, err := marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		tk, err := Parse(v.Family, raw, nil)
		if err != nil {
			t.Errorf("%s: %v", label, err)
			continue
		}
		h, hd := sha256.New(), sha256.New()
		for _, s := range texts {
			ids := tk.Encode(s)
			hashIDs(h, ids)
			hd.Write([]byte(tk.Decode(ids, false) + "\x00"))
		}
		if sum(h) != v.IDs {
			t.Errorf("%s with %s: other ids", v.Family, label)
		}
		if sum(hd) != v.Decoded {
			t.Errorf("%s with %s: other decoded texts", v.Family, label)
		}
	}
}

func spell(tk *Tokenizer, ids []int32) []string {
	var out []string
	for _, id := range ids {
		out = append(out, tk.Token(id))
	}
	return out
}
