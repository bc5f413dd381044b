package world

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata")

// parts splits a document into question, chain and answer; a fact sheet is all
// question.
func parts(doc string) (question, chain, answer []string, sheet bool) {
	words := strings.Fields(doc)
	i, j := slices.Index(words, Think), slices.Index(words, Unthink)
	if i < 0 {
		return words, nil, nil, true
	}
	return words[:i], words[i+1 : j], words[j+1:], false
}

// TestGolden pins the bytes: a model published with a world seed is of no use
// in another world.
func TestGolden(t *testing.T) {
	w := New(1)
	var b strings.Builder
	b.WriteString(w.Describe())
	b.WriteString("\nwords\n" + strings.Join(w.Words(), " ") + "\n\npretrain\n")
	for doc := range w.Pretrain(40, 1) {
		b.WriteString(doc + "\n")
	}
	for _, items := range [][]Item{w.Train(14, 1), w.HeldOut(14, 1), w.Longer(14, 1)} {
		b.WriteString("\n" + items[0].Split + "\n")
		if err := WriteItems(&b, items); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join("testdata", "seed1.txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	have, wanted := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(have), len(wanted)) {
		if have[i] != wanted[i] {
			t.Fatalf("%s:%d:\nhave %s\nwant %s", path, i+1, have[i], wanted[i])
		}
	}
	if len(have) != len(wanted) {
		t.Fatalf("%s: have %d lines, want %d", path, len(have), len(wanted))
	}
}

func TestDeterminism(t *testing.T) {
	const seed = 11
	a, b := New(seed), New(seed)
	long, short := slices.Collect(a.Pretrain(500, 2)), slices.Collect(b.Pretrain(200, 2))
	if !slices.Equal(long[:200], short) {
		t.Errorf("seed %d: 500 documents do not begin with the same 200", seed)
	}
	if slices.Equal(short, slices.Collect(a.Pretrain(200, 3))) {
		t.Errorf("seed %d: call seeds 2 and 3 give the same documents", seed)
	}
	for name, draw := range map[string]func(*World, int, uint64) []Item{
		"train":   func(w *World, n int, s uint64) []Item { return w.Train(n, s) },
		"heldout": func(w *World, n int, s uint64) []Item { return w.HeldOut(n, s) },
		"longer":  func(w *World, n int, s uint64) []Item { return w.Longer(n, s) },
	} {
		same := func(x, y Item) bool {
			return x.Question == y.Question && x.Answer == y.Answer && slices.Equal(x.Keys, y.Keys) && x.Split == y.Split
		}
		if !slices.EqualFunc(draw(a, 90, 5)[:70], draw(b, 70, 5), same) {
			t.Errorf("seed %d: %s: 90 items do not begin with the same 70", seed, name)
		}
		if slices.EqualFunc(draw(a, 70, 5), draw(a, 70, 6), same) {
			t.Errorf("seed %d: %s: call seeds 5 and 6 give the same items", seed, name)
		}
	}
	if slices.Equal(slices.Collect(New(12).Pretrain(200, 2)), short) {
		t.Error("worlds 11 and 12 give the same documents")
	}
}

// TestVocabulary: closed, the same in every world, small, and with chatter that
// cannot be taken for work.
func TestVocabulary(t *testing.T) {
	w := New(1)
	if size := len(w.Words()) + len(Specials()); size > 220 {
		t.Errorf("%d words, want at most 220", size)
	}
	if !slices.Equal(w.Words(), New(99).Words()) {
		t.Error("worlds 1 and 99 have different words")
	}
	known := map[string]bool{Think: true, Unthink: true}
	for _, word := range w.Words() {
		if known[word] || strings.ContainsAny(word, " <%") {
			t.Errorf("word %q twice or malformed", word)
		}
		known[word] = true
	}
	check := func(text string) {
		for _, word := range strings.Fields(text) {
			if !known[word] {
				t.Fatalf("word %q of %q is not in the vocabulary", word, text)
			}
		}
		if strings.Join(strings.Fields(text), " ") != text {
			t.Fatalf("%q is not words and single spaces", text)
		}
	}
	for doc := range w.Pretrain(20_000, 4) {
		check(doc)
	}
	for _, items := range [][]Item{w.Train(700, 4), w.HeldOut(700, 4), w.Longer(700, 4)} {
		for _, item := range items {
			check(item.Question)
			check(item.Answer)
			check(w.RightChain(item))
		}
	}
	for word := range w.idle {
		if w.work[word] || w.values[word] {
			t.Errorf("word %q of chatter does work", word)
		}
	}
}

// TestTokenizer: one token a word, none unknown, and back.
func TestTokenizer(t *testing.T) {
	w := New(1)
	tok := w.Tokenizer()
	if want := len(w.Words()) + len(Specials()); tok.Size() != want {
		t.Errorf("%d tokens, want %d", tok.Size(), want)
	}
	if tok.Token(tok.BOS()) != BOS || tok.Token(tok.EOS()) != EOS || tok.Token(tok.UNK()) != Unk {
		t.Errorf("roles: bos %d, eos %d, unk %d", tok.BOS(), tok.EOS(), tok.UNK())
	}
	for doc := range w.Pretrain(2000, 5) {
		ids := tok.Encode(doc)
		if len(ids) != len(strings.Fields(doc)) || slices.Contains(ids, tok.UNK()) || tok.Decode(ids, false) != doc {
			t.Fatalf("%q becomes %v, which reads %q", doc, ids, tok.Decode(ids, false))
		}
	}
	format, err := tok.Format("world")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range w.Train(70, 5) {
		ids := slices.Concat(format.Prompt(item.Question), tok.Encode(w.RightChain(item)), format.Close, format.Answer(item.Answer))
		want := strings.Join([]string{BOS, item.Question, Think, w.RightChain(item), Unthink, item.Answer, EOS}, " ")
		if have := tok.Decode(ids, false); have != want {
			t.Fatalf("have %q\nwant %q", have, want)
		}
	}
}

// TestLengths holds the sequences to the budget and logs their statistics
// (tokens with <bos> and <eos>).
func TestLengths(t *testing.T) {
	const longest, usual = 56, 50
	w := New(1)
	type stat struct{ docs, tokens, longest, chain, over int }
	stats := map[string]*stat{}
	for doc := range w.Pretrain(40_000, 3) {
		question, chain, _, sheet := parts(doc)
		key := question[0]
		if sheet {
			key += " sheet"
		}
		n := len(strings.Fields(doc)) + 2
		if n > longest || len(chain) > 24 {
			t.Fatalf("%d tokens, %d in the chain: %s", n, len(chain), doc)
		}
		for _, key := range []string{key, "all"} {
			s := stats[key]
			if s == nil {
				s = &stat{}
				stats[key] = s
			}
			s.docs++
			s.tokens += n
			s.longest, s.chain = max(s.longest, n), max(s.chain, len(chain))
			if n > usual {
				s.over++
			}
		}
	}
	for key, s := range stats {
		t.Logf("%-10s %6d documents, %.1f tokens on average, at most %d (chain %d), %.1f %% over %d", key, s.docs,
			float64(s.tokens)/float64(s.docs), s.longest, s.chain, 100*float64(s.over)/float64(s.docs), usual)
	}
	if s := stats["all"]; s.over*20 > s.docs {
		t.Errorf("%d of %d documents have more than %d tokens", s.over, s.docs, usual)
	}
}

// TestEverySeedHasEverySplit: rejection sampling ends for any tables.
func TestEverySeedHasEverySplit(t *testing.T) {
	for seed := range uint64(60) {
		w := New(seed)
		w.Train(28, seed)
		w.HeldOut(28, seed)
		w.Longer(28, seed)
		w.Gate(28, seed)
		for range w.Pretrain(40, seed) {
		}
	}
}

func TestItems(t *testing.T) {
	w := New(3)
	for _, c := range []struct {
		split    string
		items    []Item
		from, to int
	}{
		{SplitTrain, w.Train(700, 1), 3, 4},
		{SplitHeldOut, w.HeldOut(700, 1), 3, 4},
		{SplitLonger, w.Longer(700, 1), 5, 5},
	} {
		seen := map[string]bool{}
		for i, item := range c.items {
			if item.Split != c.split || item.Steps < c.from || item.Steps > c.to || item.Family != w.Families()[i%7] {
				t.Errorf("%s %d: %+v", c.split, i, item)
			}
			if seen[item.Question] {
				t.Errorf("%s: %q twice", c.split, item.Question)
			}
			seen[item.Question] = true
			words := strings.Fields(item.Answer)
			keys := 1
			if item.Family == "why" {
				keys = 2
			}
			if len(item.Keys) != keys {
				t.Errorf("%q: keys %v", item.Answer, item.Keys)
			}
			for _, k := range item.Keys {
				if words[k.Position] != k.Word {
					t.Errorf("%q: key %+v is %q", item.Answer, k, words[k.Position])
				}
			}
			if !w.Key(item, item.Answer) || !w.Exact(item, item.Answer) {
				t.Errorf("the reference %q of %q is graded wrong", item.Answer, item.Question)
			}
		}
	}
	for _, item := range w.Train(30, 1, "date", "bool") {
		if item.Family != "date" && item.Family != "bool" {
			t.Errorf("asked for date and bool, have %s", item.Family)
		}
	}
}

// TestDistinct: a test of more questions than a family has holds each once, those that
// came first, and one that has no repeats stays as it is.
func TestDistinct(t *testing.T) {
	w := New(1)
	drawn := w.HeldOut(2000, 1, "bool")
	have := Distinct(w.HeldOut(2000, 1, "bool"))
	seen := map[string]bool{}
	for _, item := range drawn {
		if seen[item.Question] {
			continue
		}
		if n := len(seen); n >= len(have) || have[n].Question != item.Question || have[n].Answer != item.Answer {
			t.Fatalf("item %d is not %+v", n, item)
		}
		seen[item.Question] = true
	}
	if len(have) != len(seen) || len(have) == len(drawn) {
		t.Errorf("%d of %d items, %d of them differ", len(have), len(drawn), len(seen))
	}
	if n := len(Distinct(w.HeldOut(700, 1))); n != 700 {
		t.Errorf("%d of 700 that differ", n)
	}
}
