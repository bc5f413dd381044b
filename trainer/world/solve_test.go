package world

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// solver works questions out from their words, independently of the families'
// tables. Kin's relations are learned the way a model must: from the text.
type solver struct{ relations map[[2]string]string }

// newSolver reads the fact sheets about kin.
func newSolver(t *testing.T, w *World) solver {
	s := solver{map[[2]string]string{}}
	for doc := range w.Pretrain(20_000, 21) {
		words, _, _, sheet := parts(doc)
		if !sheet || words[0] != "kin" {
			continue
		}
		for i := 3; i+2 < len(words); i += 3 {
			key := [2]string{words[i-1], words[i+1]}
			if have, ok := s.relations[key]; ok && have != words[i+2] {
				t.Fatalf("the %s of %s is %s and %s", key[1], key[0], have, words[i+2])
			}
			s.relations[key] = words[i+2]
		}
	}
	if len(s.relations) != 48 {
		t.Fatalf("the sheets tell %d relations, want 48", len(s.relations))
	}
	return s
}

func (s solver) next(t *testing.T, family, state, op string) string {
	number := func(word string) int {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatalf("%s: %v", family, err)
		}
		return n
	}
	verb, amount, _ := strings.Cut(op, "-")
	switch family {
	case "kin":
		return s.relations[[2]string{state, op}]
	case "cups":
		switch state {
		case verb:
			return amount
		case amount:
			return verb
		}
		return state
	case "calc":
		k := number(op[1:])
		if op[0] == '*' {
			return strconv.Itoa(number(state) * k % 10)
		}
		return strconv.Itoa((number(state) + k) % 10)
	case "bool":
		a, b := state == "true", amount == "true"
		return strconv.FormatBool(map[string]bool{"and": a && b, "or": a || b, "xor": a != b}[verb])
	case "step", "why":
		n := number(state)
		switch verb {
		case "gets":
			n += number(amount)
		case "loses":
			n -= number(amount)
		case "doubles":
			n *= 2
		case "halves":
			n /= 2
		}
		if n < 0 || n > 20 {
			t.Fatalf("%s: %s from %s gives %d", family, op, state, n)
		}
		return strconv.Itoa(n)
	case "date":
		days := []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
		k := number(amount)
		if verb == "back" {
			k = -k
		}
		return days[(slices.Index(days, state)+k+7)%7]
	}
	t.Fatalf("no family %s", family)
	return ""
}

// solve gives the right chain and the key words.
func (s solver) solve(t *testing.T, question string) (chain string, keys []string) {
	words := strings.Fields(question)
	family, i := words[0], slices.Index(words, "a)")
	state := words[i-1]
	var out []string
	for strings.HasSuffix(words[i], ")") {
		state = s.next(t, family, state, words[i+1])
		out = append(out, words[i], words[i+1], state)
		i += 2
	}
	if family == "why" {
		have, _ := strconv.Atoi(state)
		price, err := strconv.Atoi(words[i+1])
		if err != nil || words[i] != "pay" {
			t.Fatalf("no price in %q", question)
		}
		verdict := "no"
		if have >= price {
			verdict = "yes"
		}
		out = append(out, "pay", words[i+1], verdict)
		return strings.Join(out, " "), []string{verdict, state}
	}
	return strings.Join(out, " "), []string{state}
}

func TestRightChainsAreRight(t *testing.T) {
	const seed = 5
	w := New(seed)
	s := newSolver(t, w)
	for _, item := range slices.Concat(w.Train(2100, 1), w.HeldOut(2100, 1), w.Longer(2100, 1)) {
		chain, keys := s.solve(t, item.Question)
		if have := w.RightChain(item); have != chain {
			t.Fatalf("seed %d: %s\nhave %s\nwant %s", seed, item.Question, have, chain)
		}
		for i, k := range item.Keys {
			if k.Word != keys[i] {
				t.Errorf("seed %d: %s: key %s, want %s", seed, item.Question, k.Word, keys[i])
			}
		}
		if w.Kind(item, chain) != Right || w.Kind(item, "hmm let me think "+chain+" </think> "+item.Answer) != Right {
			t.Errorf("seed %d: %q is not taken for right", seed, chain)
		}
	}
	// Every step of every fact sheet is right too.
	for doc := range w.Pretrain(20_000, 22) {
		words, _, _, sheet := parts(doc)
		if !sheet {
			continue
		}
		i := slices.Index(words, sheetWord)
		for state := words[i-1]; i < len(words); {
			if want := s.next(t, words[0], state, words[i+1]); words[i+2] != want {
				t.Fatalf("seed %d: word %d: %s, want %s: %s", seed, i+2, words[i+2], want, doc)
			}
			state = words[i+2]
			i += 3
			if words[0] == "why" {
				have, _ := strconv.Atoi(state)
				price, _ := strconv.Atoi(words[i+1])
				if words[i] != "pay" || (words[i+2] == "yes") != (have >= price) {
					t.Fatalf("seed %d: word %d: %s", seed, i+2, doc)
				}
				i += 3
			}
		}
	}
}

// TestPrices: the verdict is open, and a price does not give the number away.
func TestPrices(t *testing.T) {
	w := New(1)
	yes, n := 0, 0
	left := map[string]map[string]int{}
	for _, item := range w.Train(14_000, 2, "why") {
		words := strings.Fields(item.Question)
		price := words[slices.Index(words, "pay")+1]
		if left[price] == nil {
			left[price] = map[string]int{}
		}
		left[price][item.Keys[1].Word]++
		n++
		if item.Keys[0].Word == "yes" {
			yes++
		}
	}
	if share := float64(yes) / float64(n); share < .4 || share > .6 {
		t.Errorf("%.2f of the verdicts are yes", share)
	}
	best := 0
	for _, numbers := range left {
		most := 0
		for _, c := range numbers {
			most = max(most, c)
		}
		best += most
	}
	if share := float64(best) / float64(n); share > .2 {
		t.Errorf("the price alone gives the number away in %.2f of the questions", share)
	}
}
