package world

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestKindOfGeneratedChains: chains are classified as they were made.
func TestKindOfGeneratedChains(t *testing.T) {
	const seed = 2
	w := New(seed)
	r := w.stream(1000, seed)
	for range 3000 {
		for _, f := range w.families {
			p := f.draw(r, 2+r.IntN(4), false)
			item := Item{Question: strings.Join(p.question(), " ")}
			for _, kind := range Kinds() {
				chain, final := p.chain(r, kind)
				if have := w.Kind(item, strings.Join(chain, " ")); have != kind {
					t.Fatalf("seed %d: %s\n%q made as %s, taken for %s", seed, item.Question, chain, kind, have)
				}
				if final < 0 || final >= len(f.states) {
					t.Fatalf("seed %d: %s: state %d after %q", seed, item.Question, final, chain)
				}
				ends := final == p.final() && (kind == Right || kind == Sloppy || kind == Guess && !p.price)
				if have := w.EndsRight(item.Question, strings.Join(chain, " ")+" </think> "+f.states[0]); have != ends {
					t.Fatalf("seed %d: %s\n%q ends right: %t, want %t", seed, item.Question, chain, have, ends)
				}
				if len(chain) > 0 && (chain[0] == chatterOpener) != (kind == Chatter) {
					t.Fatalf("seed %d: %s begins with %q", seed, kind, chain[0])
				}
			}
		}
	}
}

func TestEndsRight(t *testing.T) {
	w := New(1)
	for _, x := range []struct {
		question, chain string
		want            bool
	}{
		{"step : fay has 12 a) gets-3 b) loses-3 c) gets-1 how many ?", "a) gets-3 15 b) loses-3 12 c) gets-1 13", true},
		{"step : fay has 12 a) gets-3 b) loses-3 c) gets-1 how many ?", "a) gets-3 15 b) loses-3 13", true}, // by luck
		{"step : fay has 12 a) gets-3 b) loses-3 c) gets-1 how many ?", "a) gets-3 15 c) gets-1 13 b) loses-3 10", false},
		{"why : fay has 3 a) gets-2 pay 7 ?", "a) gets-2 5 pay 7 no", true},
		{"why : fay has 3 a) gets-2 pay 7 ?", "a) gets-2 5 pay 7 yes", false},
		{"why : fay has 3 a) gets-4 pay 5 ?", "a) gets-4 5 pay 5 yes", false},
		{"why : fay has 3 a) gets-2 pay 7 ?", "perhaps 5", false},
		{"what is the capital of france ?", "a) gets-3 15", false},
	} {
		if have := w.EndsRight(x.question, x.chain); have != x.want {
			t.Errorf("%s: %q ends right: %t", x.question, x.chain, have)
		}
	}
}

func TestKindOfAnything(t *testing.T) {
	w := New(1)
	item := Item{Question: "calc : 4 a) +3 b) *3 ?"}
	for chain, want := range map[string]string{
		"":                         Empty,
		"  ":                       Empty,
		"</think> a) +3 7":         Empty,
		"<eos>":                    Empty,
		"a) +3 7 b) *3 1":          Right,
		"hmm a) +3 7 oh b) *3 1":   Right,
		"a) +3 7 b) *3 1 hmm":      Right,
		"a) +3 7 b) *3 1 </think>": Right,
		"a) +3 7 b) *3 1 b) *3 1":  Sloppy,
		"a) +3 7 b) *3":            Sloppy,
		"a) +3 7":                  Sloppy,
		"b) *3 1 a) +3 7":          Sloppy,
		"a) +3 8 b) *3 4":          Sloppy,
		"pay":                      Sloppy,
		"maybe 1":                  Guess,
		"7":                        Guess,
		"hmm let me think 1":       Guess,
		"anna":                     Guess,
		"maybe":                    Chatter,
		"hmm":                      Chatter,
		"the the the":              Chatter,
		"<bos> <think> xyzzy \x00": Chatter,
	} {
		if have := w.Kind(item, chain); have != want {
			t.Errorf("%q is %s, want %s", chain, have, want)
		}
	}
	if have := w.Kind(Item{Question: "what ?"}, "a) +3 7"); have != Sloppy {
		t.Errorf("steps to a question of another world are %s", have)
	}
}

// TestShares holds the text to its stated proportions, and answers to chains.
func TestShares(t *testing.T) {
	const n, seed = 60_000, 9
	w := New(1)
	docs, sheets := 0, 0
	byKind, casual, rightAnswers := map[string]int{}, map[string]int{}, map[string]int{}
	byFamily, byWords := map[string]int{}, map[string]int{}
	bySteps := [maxSteps + 1]int{}
	long := 0
	for doc := range w.Pretrain(n, seed) {
		question, chain, answer, sheet := parts(doc)
		if sheet {
			sheets++
			continue
		}
		docs++
		byFamily[question[0]]++
		item := Item{Question: strings.Join(question, " ")}
		kind := w.Kind(item, strings.Join(chain, " "))
		steps := len(operations(w, question))
		bySteps[steps]++
		if steps > 1 {
			long++
			byKind[kind]++
		} else if kind == Sloppy {
			t.Fatalf("one step, sloppy: %s", doc)
		}
		byWords[kind]++
		if answer[len(answer)-1] == "!" {
			casual[kind]++
		}
		right := w.Key(item, strings.Join(answer, " "))
		if right {
			rightAnswers[kind]++
		}
		switch f := w.byName[question[0]]; kind {
		case Right, Empty:
			if !right {
				t.Fatalf("%s, wrong answer: %s", kind, doc)
			}
		case Sloppy, Guess:
			// The answer's state is the chain's last.
			i := len(chain) - 1
			if f.price && kind == Sloppy {
				i -= 3
			}
			if !slices.Contains(answer, chain[i]) {
				t.Fatalf("%s, but the answer does not follow %s: %s", kind, chain[i], doc)
			}
			if f.price && kind == Sloppy && !slices.Contains(answer, chain[i+3]) {
				t.Fatalf("%s, but the answer does not follow %s: %s", kind, chain[i+3], doc)
			}
		}
	}
	near := func(what string, have, of int, want float64) {
		t.Helper()
		share := float64(have) / float64(of)
		if tolerance := 4.5 * math.Sqrt(want*(1-want)/float64(of)); math.Abs(share-want) > tolerance {
			t.Errorf("seed %d: %s: %.3f, want %.3f ± %.3f", seed, what, share, want, tolerance)
		}
	}
	near("fact sheets", sheets, n, sheetShare)
	for _, k := range chainKinds {
		near(k.name, byKind[k.name], long, k.share)
		near("casual after "+k.name, casual[k.name], byWords[k.name], k.casual)
	}
	near("right after chatter", rightAnswers[Chatter], byWords[Chatter], chatterRight)
	for i, share := range stepShares {
		near("steps", bySteps[i+1], docs, share)
	}
	for family, share := range familyShares {
		near(family, byFamily[family], docs, share)
	}
	total := 0.
	for _, k := range chainKinds {
		total += k.share
	}
	if math.Abs(total-1) > 1e-9 {
		t.Errorf("the shares of the kinds sum to %g", total)
	}
}
