package world

import (
	"slices"
	"strings"
	"testing"
)

// TestParaphrasesGrade: Key takes every paraphrase of the right state and none
// of a wrong one; Exact takes the reference alone.
func TestParaphrasesGrade(t *testing.T) {
	const seed = 4
	w := New(seed)
	for _, item := range w.HeldOut(28, seed) {
		p, err := w.parse(item.Question)
		if err != nil {
			t.Fatal(err)
		}
		all := w.Paraphrases(item)
		if !slices.Contains(all, item.Answer) {
			t.Errorf("seed %d: %q is no paraphrase of itself", seed, item.Answer)
		}
		exact := 0
		for _, answer := range all {
			if !w.Key(item, answer) || !w.Key(item, answer+" "+EOS) {
				t.Fatalf("seed %d: %s\n%q is graded wrong", seed, item.Question, answer)
			}
			if w.Exact(item, answer) {
				exact++
			}
		}
		if exact != 1 || !w.Exact(item, " "+item.Answer+"  "+EOS+" more") {
			t.Errorf("seed %d: %d of %d paraphrases match exactly", seed, exact, len(all))
		}
		for s := range p.states {
			if s == p.final() {
				continue
			}
			for _, answer := range p.paraphrases(s) {
				if w.Key(item, answer) {
					t.Fatalf("seed %d: %s\n%q is graded right", seed, item.Question, answer)
				}
			}
		}
		state := p.states[p.final()]
		for _, answer := range []string{"", "the", state + " " + state, strings.Join(p.states, " ")} {
			if w.Key(item, answer) {
				t.Errorf("seed %d: %s: %q is graded right", seed, item.Question, answer)
			}
		}
	}
}

func TestKeyOfWhyNeedsBoth(t *testing.T) {
	w := New(1)
	item := Item{Question: "why : bob has 5 a) gets-3 pay 7 ?"}
	item.Question = strings.Replace(item.Question, "bob", names[1], 1)
	for answer, want := range map[string]bool{
		"yes because ben has still 8 as asked .": true,
		"no because ben has only 8 as asked .":   false,
		"yes because ben has still 7 as asked .": false,
		"because ben has still 8":                false,
		"yes it leaves still":                    false,
		"yes no 8":                               false,
		"yes 8":                                  true,
	} {
		if w.Key(item, answer) != want {
			t.Errorf("%q: want %t", answer, want)
		}
	}
	strange := Item{Question: "what is this ?", Answer: "a test"}
	if !w.Key(strange, "a  test") || w.Key(strange, "8") || w.RightChain(strange) != "" || w.Paraphrases(strange) != nil {
		t.Error("a question of another world is not graded by its reference")
	}
}

// TestExactMatchIsRare: two references to one question hardly ever agree in the
// free families, so that an exact match cannot grade them, and often do in calc
// and bool, so that it can.
func TestExactMatchIsRare(t *testing.T) {
	const seed, pairs = 6, 20_000
	w := New(seed)
	r := w.stream(1001, seed)
	for _, c := range []struct {
		family   string
		from, to float64
	}{
		{"kin", 0, .06}, {"cups", 0, .06}, {"calc", .5, .7}, {"bool", .5, .7},
		{"step", 0, .02}, {"why", 0, .02}, {"date", 0, .02},
	} {
		f := w.byName[c.family]
		same := 0
		for range pairs {
			p := f.draw(r, 3, false)
			a := p.answer(r, p.final(), referenceCasual)
			if slices.Equal(a, p.answer(r, p.final(), referenceCasual)) {
				same++
			}
		}
		share := float64(same) / pairs
		t.Logf("%s: two references agree with probability %.4f; %d paraphrases", c.family, share, len(f.draw(r, 3, false).paraphrases(0)))
		if share < c.from || share > c.to {
			t.Errorf("seed %d: %s: two references agree with probability %.3f, want %.2f … %.2f", seed, c.family, share, c.from, c.to)
		}
	}
}

// TestRegisters: in every slot the first word tells the register.
func TestRegisters(t *testing.T) {
	for _, f := range New(1).families {
		for _, s := range f.form {
			if len(s.casual) == 0 {
				continue
			}
			first := func(phrases []string) string {
				want, _, _ := strings.Cut(phrases[0], " ")
				for _, p := range phrases {
					if have, _, _ := strings.Cut(p, " "); have != want {
						t.Errorf("%s: %q begins with %q, %q does not", f.name, phrases[0], want, p)
					}
				}
				return want
			}
			if first(s.formal) == first(s.casual) {
				t.Errorf("%s: both registers begin with %q", f.name, first(s.formal))
			}
		}
	}
}
