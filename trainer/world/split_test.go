package world

import (
	"slices"
	"strings"
	"testing"
)

// operations picks the operations out of the words of a question or fact
// sheet, knowing nothing of how they were drawn.
func operations(w *World, words []string) []string {
	f := w.byName[words[0]]
	var seq []string
	for _, word := range words {
		if _, ok := f.opWord[word]; ok {
			seq = append(seq, word)
		}
	}
	return seq
}

func triples(w *World, words []string) []string {
	seq := operations(w, words)
	var all []string
	for i := 0; i+3 <= len(seq); i++ {
		all = append(all, w.byName[words[0]].group+" "+strings.Join(seq[i:i+3], " "))
	}
	return all
}

// TestNothingOfTheTestsIsRead: every test question has a triple of operations
// that occurs nowhere in 200,000 documents, their chains included, nor in the
// training questions. The texts are read as text, not through the holdout.
func TestNothingOfTheTestsIsRead(t *testing.T) {
	const seed = 1
	w := New(seed)
	read := map[string]bool{}
	for doc := range w.Pretrain(200_000, 7) {
		question, chain, _, _ := parts(doc)
		for _, words := range [][]string{question, slices.Concat(question[:1], chain)} {
			for _, x := range triples(w, words) {
				read[x] = true
			}
		}
	}
	for _, item := range w.Train(20_000, 7) {
		for _, x := range triples(w, strings.Fields(item.Question)) {
			read[x] = true
		}
	}
	for _, item := range slices.Concat(w.HeldOut(3000, 8), w.Longer(3000, 8)) {
		all := triples(w, strings.Fields(item.Question))
		if !slices.ContainsFunc(all, func(x string) bool { return !read[x] }) {
			t.Errorf("seed %d: %s: every triple was read: %s", seed, item.Split, item.Question)
		}
	}
	// And what may be read, is: the base is not starved.
	groups := map[string]int{}
	for x := range read {
		group, _, _ := strings.Cut(x, " ")
		groups[group]++
	}
	for _, f := range w.families {
		all := len(f.ops) * len(f.ops) * len(f.ops)
		allowed := 0
		for _, held := range f.held.inSet {
			if !held {
				allowed++
			}
		}
		if groups[f.group] != allowed {
			t.Errorf("%s: %d of %d allowed triples are read", f.group, groups[f.group], allowed)
		}
		if share := 1 - float64(allowed)/float64(all); share < heldOutShare-.01 || share > heldOutShare+.01 {
			t.Errorf("%s: %.3f of the triples are held out", f.group, share)
		}
	}
}

// TestGroupsAgree: families that share a holdout have the same operations.
func TestGroupsAgree(t *testing.T) {
	w := New(1)
	ops := map[string][]string{}
	for _, f := range w.families {
		var words []string
		for _, o := range f.ops {
			words = append(words, o.word)
		}
		if have, ok := ops[f.group]; ok && !slices.Equal(have, words) {
			t.Errorf("group %s: %v and %v", f.group, have, words)
		}
		ops[f.group] = words
	}
}
