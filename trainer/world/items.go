package world

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// The splits, by structure of the question.
const (
	SplitTrain   = "train"   // three or four operations, as in the text
	SplitHeldOut = "heldout" // three or four, with a triple never read anywhere
	SplitLonger  = "longer"  // five, with a triple never read anywhere
	SplitGate    = "gate"    // one to five, as in the text
)

// Item is one question with its reference answer.
type Item struct {
	Question string `json:"question"`
	Answer   string `json:"answer"`
	Family   string `json:"family"`
	Steps    int    `json:"steps"` // operations in the question
	Split    string `json:"split"`
	Keys     []Key  `json:"keys"` // hard words of Answer, in order
}

// Train draws n questions for training; the families take turns. Naming
// families leaves the others out (unknown names panic).
func (w *World) Train(n int, seed uint64, families ...string) []Item {
	return w.items(n, w.stream(streamTrain, seed), SplitTrain, families)
}

// HeldOut draws n test questions as long as Train's, each with a triple of
// operations that is in no text and in no training question.
func (w *World) HeldOut(n int, seed uint64, families ...string) []Item {
	return w.items(n, w.stream(streamHeldOut, seed), SplitHeldOut, families)
}

// Longer draws n test questions with five operations, more than any training
// question has, each with a held-out triple too.
func (w *World) Longer(n int, seed uint64, families ...string) []Item {
	return w.items(n, w.stream(streamLonger, seed), SplitLonger, families)
}

// items draws n items of a split, family by family in turn. Questions differ
// as far as a family has enough of them.
func (w *World) items(n int, r *rand.Rand, split string, families []string) []Item {
	const tries = 20
	turn := w.chosen(families)
	seen := make(map[key]bool, n)
	items := make([]Item, n)
	for i := range items {
		f := turn[i%len(turn)]
		n := steps(r, split)
		var p problem
		for range tries {
			p = f.draw(r, n, split == SplitHeldOut || split == SplitLonger)
			if !seen[p.key()] {
				break
			}
		}
		seen[p.key()] = true
		final := p.final()
		answer := p.answer(r, final, referenceCasual)
		items[i] = Item{
			Question: strings.Join(p.question(), " "), Answer: strings.Join(answer, " "),
			Family: f.name, Steps: len(p.seq), Split: split, Keys: p.keys(answer, final),
		}
	}
	return items
}

// Distinct takes out of items, which it changes, those whose question came before: a
// family has only so many.
func Distinct(items []Item) []Item {
	seen := make(map[string]bool, len(items))
	return slices.DeleteFunc(items, func(item Item) bool {
		again := seen[item.Question]
		seen[item.Question] = true
		return again
	})
}

// steps draws the number of operations for a split.
func steps(r *rand.Rand, split string) int {
	switch split {
	case SplitLonger:
		return maxSteps
	case SplitGate:
		return 1 + r.IntN(maxSteps)
	}
	return 3 + r.IntN(2)
}

// RightChain is the chain that solves the item, step by step; "" if the
// question is not one of this world.
func (w *World) RightChain(item Item) string {
	p, err := w.parse(item.Question)
	if err != nil {
		return ""
	}
	return strings.Join(p.rightChain(), " ")
}

// Paraphrases are all right answers to the item; nil if the question is not one
// of this world.
func (w *World) Paraphrases(item Item) []string {
	p, err := w.parse(item.Question)
	if err != nil {
		return nil
	}
	return p.paraphrases(p.final())
}
