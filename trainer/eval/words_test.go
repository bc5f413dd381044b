package eval

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"So it IS 12 .":                    "so|it|is|12|.",
		"Let's see: don’t 'quote'":         "let's|see|:|don’t|'|quote|'",
		"#### \\boxed{12}</think>":         "####|\\|boxed|{|12|}|</think>",
		"<|eot_id|><think>a<b":             "<|eot_id|>|<think>|a|<|b",
		"so<｜end▁of▁sentence｜>":            "so|<｜end▁of▁sentence｜>",
		"x<=y <1> <":                       "x|<=|y|<1>|<",
		"所以 答案是12元":                        "所|以|答|案|是|12|元",
		"e\u0301tude na\u00efve 3½":        "e\u0301tude|na\u00efve|3½",
		"a) mother\nlena -> **b**\t\u00a0": "a|)|mother|lena|->|**|b|**",
	} {
		if have := strings.Join(Words(text), "|"); have != want {
			t.Errorf("%q: have %q, want %q", text, have, want)
		}
	}
}

// Words lose nothing of a text but its spaces.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"So it's <think> 12.", "<<a>>", "中文 é'x", "\xff<a\xff>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := strings.Map(func(r rune) rune {
			if unicode.IsSpace(r) {
				return -1
			}
			return r
		}, string([]rune(strings.ToLower(s))))
		list := Words(s)
		if have := strings.Join(list, ""); have != want {
			t.Errorf("%q: have %q of %q", s, have, list)
		}
		if slices.Contains(list, "") {
			t.Errorf("%q: an empty word in %q", s, list)
		}
	})
}

// The figures are worked out by hand.
func TestChanges(t *testing.T) {
	var before, after Vocabulary
	before.Add([]string{"hmm so", "hmm", "so so", "it"}, []float64{-1, -1, 1, 1})
	before.Add([]string{"hmm"}, []float64{0}) // all chains have it: no advantage among others
	after.Add([]string{"it", "it is"}, []float64{-0.5, 0.5})
	after.Add([]string{"it so", "so"}, nil) // no reward is known

	list := Changes(&before, &after)
	var names []string
	for _, w := range list {
		names = append(names, w.Word)
	}
	if have := strings.Join(names, " "); have != "it is so hmm" {
		t.Fatalf("order: %s", have)
	}
	// hmm: shares of the questions' chains ½ and 1, and ½ of one more; then none of two
	// questions, and ½ of one more.
	m, n := 2./3, 0.5/3
	v := (0.25 + 1 + 0.25 - 3*m*m) / 6
	w := (0.25 - 3*n*n) / 6
	for _, c := range []struct {
		have Word
		want Word
	}{
		{list[3], Word{"hmm", 3. / 5, 0, (n - m) / math.Sqrt(v+w), -1, 1}},
		{list[2], Word{"so", 2. / 5, 2. / 4, list[2].Z, 0, 1}},
		{list[0], Word{"it", 1. / 5, 3. / 4, list[0].Z, 1, 1}},
		{list[1], Word{"is", 0, 1. / 4, list[1].Z, 0.5, 1}},
	} {
		if math.Abs(c.have.Z-c.want.Z) > 1e-12 || c.have.Word != c.want.Word || c.have.Before != c.want.Before || c.have.After != c.want.After ||
			c.have.Advantage != c.want.Advantage || c.have.Questions != c.want.Questions {
			t.Errorf("have %+v, want %+v", c.have, c.want)
		}
	}

	// The other way round, all signs turn.
	for i, w := range Changes(&after, &before) {
		if o := list[len(list)-1-i]; o.Word != w.Word || o.Z != -w.Z || o.Before != w.After || o.Advantage != w.Advantage {
			t.Errorf("turned: %+v, %+v", o, w)
		}
	}
	// What does not change has no sign, even where it never varied.
	var one, other Vocabulary
	one.Add([]string{"a", "b"}, nil)
	other.Add([]string{"b", "a"}, nil)
	for _, w := range Changes(&one, &other) {
		if w.Z != 0 || w.Before != 0.5 || w.Questions != 0 {
			t.Errorf("%+v", w)
		}
	}
	if list := Changes(&Vocabulary{}, &one); list != nil {
		t.Errorf("nothing to compare with: %v", list)
	}
}
