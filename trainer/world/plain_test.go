package world

import (
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	w := New(1)
	for _, x := range []struct{ question, want string }{
		{"kin : ben a) mother b) friend c) father who ?", "From memory: who is Ben’s mother’s friend’s father?"},
		{"cups : blue a) blue-green b) red-blue c) red-blue where ?", "A ball lies under the blue cup. Swap blue and green, swap red and blue and then swap red and blue. Where is the ball?"},
		{"calc : 8 a) +4 b) *9 ?", "Start with 8 and always keep the last digit only: plus 4 and then times 9. What comes out?"},
		{"bool : false a) or-true b) xor-true ?", "Start with false: or true and then either-or true. What comes out?"},
		{"step : gus has 0 a) gets-2 b) doubles c) halves how many ?", "Gus has no coins: gets 2, doubles them and then halves them, rounded down. How many are left?"},
		{"why : jane has 1 a) gets-3 b) loses-2 pay 7 ?", "Jane has a coin: gets 3 and then loses 2. Is that enough to pay 7, and why?"},
		{"date : saturday a) forward-1 b) back-2 which day ?", "Today is Saturday. Go forward a day and then back 2 days. Which day is it?"},
	} {
		if have, ok := w.Plain(x.question); !ok || have != x.want {
			t.Errorf("Plain(%q) = %q, %t, want %q", x.question, have, ok, x.want)
		}
	}
	if have, ok := w.Plain("kin : who ?"); ok {
		t.Errorf("no question became %q", have)
	}
}

// Every question of every family has plain words, which name all of its values.
func TestPlainCoversAllFamilies(t *testing.T) {
	w := New(1)
	for _, item := range w.HeldOut(200, 3) {
		have, ok := w.Plain(item.Question)
		if !ok || !strings.HasSuffix(have, "?") {
			t.Fatalf("Plain(%q) = %q, %t", item.Question, have, ok)
		}
		p, err := w.parse(item.Question)
		if err != nil {
			t.Fatal(err)
		}
		if start := p.states[p.start]; start != "0" && start != "1" && !strings.Contains(strings.ToLower(have), start) {
			t.Errorf("%q does not name the start of %q", have, item.Question)
		}
	}
}
