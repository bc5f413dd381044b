package world

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// The kinds of chain, as Kind reports them.
const (
	Right   = "right"   // every step written, every state right
	Sloppy  = "sloppy"  // steps, but not the right chain
	Chatter = "chatter" // words that do no work
	Guess   = "guess"   // a state out of the blue
	Empty   = "empty"   // nothing
)

// Kinds lists the kinds of chain, best first.
func Kinds() []string { return []string{Right, Sloppy, Chatter, Guess, Empty} }

// chatterOpener is the first word of idle chatter: one word, so that a base's
// favourite first token tells its favourite kind.
const chatterOpener = "hmm"

// stock are the phrases of chatter, guessers how guesses begin. None of their
// words does work in any family.
var (
	stock = []string{
		"let me think", "this is fun", "who can tell", "what a nice game",
		"i like it", "give me time", "oh my", "here we go again",
	}
	guessers = []string{"maybe", "perhaps"}
)

// rightChain writes label, operation, state per step.
func (p problem) rightChain() []string {
	words, s := []string{}, p.start
	for i, o := range p.seq {
		s = p.apply(s, o)
		words = append(words, labels[i], p.ops[o].word, p.states[s])
	}
	return p.conclude(words, s)
}

// conclude ends a chain in state s with the verdict, where the family has one.
func (p problem) conclude(words []string, s int) []string {
	if p.price {
		words = append(words, priceWord, p.states[p.paying], verdict(s, p.paying))
	}
	return words
}

// chain draws a chain of kind k, and the state that the answer after it names.
func (p problem) chain(r *rand.Rand, k string) (words []string, final int) {
	switch k {
	case Right:
		return p.rightChain(), p.final()
	case Sloppy:
		return p.sloppy(r)
	case Chatter:
		final = p.final()
		if r.Float64() >= chatterRight {
			final = p.wrong(r, final)
		}
		return chatter(r), final
	case Guess:
		final = r.IntN(len(p.states))
		return []string{guessers[r.IntN(len(guessers))], p.states[final]}, final
	case Empty:
		return nil, p.final()
	}
	panic("world: no chain kind " + k)
}

// chatter is the opener and two to four stock phrases.
func chatter(r *rand.Rand) []string {
	words := []string{chatterOpener}
	for _, i := range r.Perm(len(stock))[:2+r.IntN(3)] {
		words = append(words, strings.Fields(stock[i])...)
	}
	return words
}

// wrong is a uniform state other than s.
func (p problem) wrong(r *rand.Rand, s int) int {
	return (s + 1 + r.IntN(len(p.states)-1)) % len(p.states)
}

// sloppy is the right chain with one or two bad steps: left out, state
// unchanged, or a random state. Later steps follow from the bad state; one that
// does not apply to it leaves it as it is. The answer follows the chain.
func (p problem) sloppy(r *rand.Rand) (words []string, final int) {
	right := p.rightChain()
	for {
		bad := r.Perm(len(p.seq))[:1]
		if r.Float64() < secondSlip {
			bad = r.Perm(len(p.seq))[:min(2, len(p.seq))]
		}
		words, s := []string{}, p.start
		var done []int
		for i, o := range p.seq {
			next := p.apply(s, o)
			if next == none {
				next = s
			}
			if slices.Contains(bad, i) {
				switch r.IntN(3) {
				case 0:
					continue
				case 1:
					next = s
				case 2:
					next = p.wrong(r, next)
				}
			}
			s, done = next, append(done, o)
			words = append(words, labels[i], p.ops[o].word, p.states[s])
		}
		// Nothing left is the empty kind; what is left may read like a held-out
		// triple; and a slip may change nothing (swapping two other cups).
		if len(done) == 0 || p.held.has(done) && !p.held.has(p.seq) {
			continue
		}
		if words = p.conclude(words, s); !slices.Equal(words, right) {
			return words, s
		}
	}
}
