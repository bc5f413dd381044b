package view

import (
	"regexp"
	"strings"
	"testing"

	"nrt/trainer/reward"
	"nrt/web/chart"
)

// The card says of a word what the page says of it elsewhere, under each formula.
func TestTheCardsFacts(t *testing.T) {
	s := testState()
	s, out := s.Do("pin", "5")
	if len(out) != 0 || s.Word != 5 {
		t.Fatalf("sent %v, chose %d", out, s.Word)
	}
	golden(t, "card-open.html", Fragment(&s, "card"))
	wants(t, Fragment(&s, "card"), ">Ruth, in detail<", "9 % before, <b>92 %</b> after", "The hardest word of this answer. Its weight is 2.41; it adds 0.277 of the 0.372. Three chains made it less likely still.", ">chain 5<")
	for i, c := range testC {
		wants(t, Fragment(&s, "card"), " Chain "+intText(i+1)+": "+percentText(c[5])+" %.")
	}
	for _, mode := range reward.Modes() {
		x, _ := s.Do("mode", mode.String())
		why := Fragment(&x, "why")
		m := regexp.MustCompile(`Its weight is (\S+); it adds (\S+) of the (\S+)[.,]`).FindStringSubmatch(Fragment(&x, "card"))
		if m == nil {
			t.Fatalf("%s: %s", mode, Fragment(&x, "card"))
		}
		wants(t, why, "× "+m[1]+"<", m[2]+"</td>", strings.TrimSuffix(m[3], ".")+"</")
	}
	s, _ = s.Do("sentence", "2")
	wants(t, Fragment(&s, "card"), "% without sentence 3.", `class="dot gh"`)
}

// Numbers below the dots never run into each other or out of the drawing.
func TestTheCardsNumbersKeepApart(t *testing.T) {
	s := testState()
	for k := range testWords {
		x, _ := s.Do("pin", intText(k))
		sc, g := x.scores(), x.group()
		c := make([]float64, len(sc.chains))
		for j := range c {
			c[j] = g.Chains[j].C[k]
		}
		end := 0.0
		for _, l := range crowdNames(sc.chains, c, 4, chart.Scale{Hi: 1, From: 8, To: cardWidth - 16}) {
			half := 3.25 * float64(len(l.text))
			if l.x-half < end || l.x+half > cardWidth {
				t.Errorf("%s: %q at %g", testWords[k], l.text, l.x)
			}
			end = l.x + half
		}
	}
}

// The pointer's card goes with the pointer, a pinned one stays until it is let go.
func TestOpeningAndClosingTheCard(t *testing.T) {
	s := testState()
	step := func(name, value string, word int, pinned bool) {
		t.Helper()
		s, _ = s.Do(name, value)
		if s.card() != word || s.Pinned != pinned {
			t.Fatalf("after %s %q: card of word %d, pinned %t; want %d, %t", name, value, s.card(), s.Pinned, word, pinned)
		}
		if open := strings.Count(Fragment(&s, "strip"), `aria-expanded="true"`); (word >= 0) != (open == 1) {
			t.Fatalf("after %s: %d words say that they are open", name, open)
		}
		if (Fragment(&s, "card") == "") != (word < 0) {
			t.Fatalf("after %s: %q", name, Fragment(&s, "card"))
		}
	}
	step("peek", "3", 3, false)
	step("peek", "2", 2, false)
	step("peek", "", -1, false)
	step("peek", "99", -1, false)
	step("pin", "x", -1, false)
	step("pin", "3", 3, true)
	step("peek", "2", 3, true)
	step("peek", "", 3, true)
	step("pin", "2", 2, true)
	step("next", "", 2, true)
	step("pin", "2", -1, false)
	step("pin", "2", 2, true)
	step("unpin", "", -1, false)
	step("pin", "2", 2, true)
	sentence := s.Sentence
	step("release", "", -1, false)
	if s.Word != -1 || s.Sentence != sentence {
		t.Errorf("Esc left word %d and took sentence %d", s.Word, s.Sentence)
	}
	step("pin", "2", 2, true)
	s.Examples = append(s.Examples, s.Examples[0])
	step("example", "kinship", -1, false)
}

// Before a chain is complete the card says what is known.
func TestTheCardOfAnUnfinishedChain(t *testing.T) {
	s, id := live(t)
	for i, m := range pieces(id)[:1+len(testWords)] {
		if s, _ = s.Do("peek", "5"); i < 2 && s.card() >= 0 {
			t.Fatal("a card of a word of which nothing is known")
		}
		s = s.receives(m)
	}
	s, _ = s.Do("peek", "5")
	wants(t, Fragment(&s, "card"), "9 % before<", "Its weight is 2.41.", "After comes when chain 1 is complete.")
	if strings.Contains(Fragment(&s, "card"), `viewBox="0 0 300`) {
		t.Error("a drawing without chains")
	}
}
