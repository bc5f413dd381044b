package world

import (
	"slices"
	"strings"
)

// Key reports whether an answer names the right state, however it is phrased:
// exactly one word of the answer is a state of the item's family and it is the
// right one; where a verdict is asked, the same holds for it. A question that
// is not of this world is graded by Exact.
func (w *World) Key(item Item, answer string) bool {
	p, err := w.parse(item.Question)
	if err != nil {
		return w.Exact(item, answer)
	}
	final, named, judged := p.final(), 0, 0
	for _, word := range answerWords(answer) {
		if s, ok := p.state[word]; ok {
			if named++; s != final {
				return false
			}
		}
		if p.price && isVerdict(word) {
			if judged++; word != verdict(final, p.paying) {
				return false
			}
		}
	}
	return named == 1 && (!p.price || judged == 1)
}

// Exact reports whether an answer is the reference, word for word.
func (w *World) Exact(item Item, answer string) bool {
	return slices.Equal(answerWords(answer), answerWords(item.Answer))
}

// answerWords are the words before the first <eos>, if there is one.
func answerWords(answer string) []string { return until(strings.Fields(answer), EOS) }

// until cuts words before the first end.
func until(words []string, end string) []string {
	if i := slices.Index(words, end); i >= 0 {
		return words[:i]
	}
	return words
}

// Kind tells which kind of chain a model wrote, whatever it wrote; text from
// the first </think> or <eos> on is ignored. Words of chatter around the right steps are
// forgiven: the chain is right. A chain that does some work (a label, an
// operation, a price) is otherwise sloppy; one that only names a state is a
// guess.
func (w *World) Kind(item Item, chain string) string {
	words := until(until(strings.Fields(chain), Unthink), EOS)
	if len(words) == 0 {
		return Empty
	}
	var kept []string
	working, naming := false, false
	for _, word := range words {
		working = working || w.work[word]
		naming = naming || w.values[word]
		if !w.idle[word] {
			kept = append(kept, word)
		}
	}
	switch p, err := w.parse(item.Question); {
	case err == nil && slices.Equal(kept, p.rightChain()):
		return Right
	case working:
		return Sloppy
	case naming:
		return Guess
	}
	return Chatter
}

// EndsRight reports whether a chain of a question of this world ends at the right answer,
// by whatever way: the last state that it names is the final one and, where a verdict is
// asked, so is the last verdict. Text from the first </think> or <eos> on is ignored.
func (w *World) EndsRight(question, chain string) bool {
	p, err := w.parse(question)
	if err != nil {
		return false
	}
	last, judged, before := none, "", ""
	for _, word := range until(until(strings.Fields(chain), Unthink), EOS) {
		if s, ok := p.state[word]; ok && before != priceWord {
			last = s
		}
		if isVerdict(word) {
			judged = word
		}
		before = word
	}
	return last == p.final() && (!p.price || judged == verdict(last, p.paying))
}
