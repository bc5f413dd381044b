package world

import (
	"slices"
	"strings"
	"testing"
)

func TestGateItems(t *testing.T) {
	w := New(1)
	steps := map[int]int{}
	for _, item := range w.Gate(1400, 1) {
		steps[item.Steps]++
		if strings.Join(item.Chain, " ") != w.RightChain(item.Item) || len(item.Roles) != len(item.Chain) {
			t.Fatalf("%q: chain %q, roles %q", item.Question, item.Chain, item.Roles)
		}
		question := strings.Fields(item.Question)
		f := w.byName[item.Family]
		for i, role := range item.Roles {
			word := item.Chain[i]
			switch role {
			case RoleOp:
				// Copied from behind the same label, or the price from behind "pay".
				at := slices.Index(question, item.Chain[i-1])
				if question[at+1] != word {
					t.Errorf("%q: %s is not behind %s", item.Question, word, item.Chain[i-1])
				}
			case RoleState:
				if _, ok := f.state[word]; !ok && !isVerdict(word) {
					t.Errorf("%q: %s is no state", item.Question, word)
				}
			case RoleLabel, RoleOpen:
				if !slices.Contains(question, word) || (role == RoleOpen) != (i == 0) {
					t.Errorf("%q: %s has the role %s", item.Question, word, role)
				}
			}
		}
		if w.byName[item.Family].held.has(mustParse(t, w, item.Question).seq) {
			t.Errorf("%q is held out", item.Question)
		}
	}
	for n := 1; n <= maxSteps; n++ {
		if steps[n] < 220 {
			t.Errorf("%d items with %d steps", steps[n], n)
		}
	}
	if item, ok := w.Teach(w.HeldOut(1, 1)[0]); !ok || len(item.Chain) == 0 {
		t.Error("no right chain for a held-out item")
	}
	if _, ok := w.Teach(Item{Question: "what ?"}); ok {
		t.Error("a right chain for a question of another world")
	}
}

func mustParse(t *testing.T, w *World, question string) problem {
	t.Helper()
	p, err := w.parse(question)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGateReport(t *testing.T) {
	w := New(1)
	items := w.Gate(700, 2)
	report := func(spoil func(i int, item GateItem, predicted []string)) error {
		var g GateReport
		for i, item := range items {
			predicted := slices.Clone(item.Chain)
			predicted[0] = chatterOpener
			spoil(i, item, predicted)
			if err := g.Add(item, predicted); err != nil {
				t.Fatal(err)
			}
		}
		return g.Err()
	}
	if err := report(func(int, GateItem, []string) {}); err != nil {
		t.Errorf("a perfect base fails: %v", err)
	}
	for name, c := range map[string]struct {
		spoil func(i int, item GateItem, predicted []string)
		want  string
		more  int // further lines of the error: a bad cell drags the total down; -1 for any
	}{
		"derives already": {func(_ int, item GateItem, p []string) { p[0] = item.Chain[0] }, "chatter as first choice", 0},
		"copies wrongly": {func(i int, item GateItem, p []string) {
			if item.Family == "kin" && item.Steps == 4 {
				p[1] = "?"
			}
		}, "kin 4 op: want ≥ 0.990", 1},
		"copies wrongly here and there": {func(i int, item GateItem, p []string) {
			if i%70 == 0 {
				p[len(p)-2] = "?"
			}
		}, "copying operations: want ≥ 0.999", -1},
		"half a table": {func(i int, item GateItem, p []string) {
			if item.Family == "calc" && item.Steps == 1 {
				p[2] = "?"
			}
		}, "calc 1 state: want ≥ 0.900, have 0.000", 0},
	} {
		if err := report(c.spoil); err == nil || !strings.Contains(err.Error(), c.want) || c.more >= 0 && strings.Count(err.Error(), "\n") != c.more {
			t.Errorf("%s: error %v, want %q and %d more", name, err, c.want, c.more)
		}
	}
	var g GateReport
	if err := g.Add(items[0], nil); err == nil {
		t.Error("no error for no predictions")
	}
	if err := (&GateReport{}).Err(); err == nil {
		t.Error("a gate nobody walked through passes")
	}
}
