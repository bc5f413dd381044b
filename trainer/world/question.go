package world

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// labels number the operations of a question and the steps of a chain.
var labels = [maxSteps]string{"a)", "b)", "c)", "d)", "e)"}

// priceWord stands before the price in why's questions and chains.
const priceWord = "pay"

// problem is one question, as numbers.
type problem struct {
	*family
	subjectName string // "" where the family has none
	start       int
	seq         []int // operations
	paying      int   // the price, where the family has one
}

// final is the state after all operations.
func (p problem) final() int {
	s := p.start
	for _, o := range p.seq {
		s = p.apply(s, o)
	}
	return s
}

// draw makes a question with n operations. With heldOut its operations contain
// a held-out triple, without they contain none.
func (f *family) draw(r *rand.Rand, n int, heldOut bool) problem {
	// Rejection is quick: at worst (n = 3, held out) one draw in three passes.
	seq := make([]int, 0, n)
	for range 1 << 16 {
		p := problem{family: f, start: r.IntN(len(f.states)), seq: seq}
		s := p.start
		for range n {
			o := f.drawOp(r, s, p.seq, false) // in every state one applies
			p.seq = append(p.seq, o)
			s = f.apply(s, o)
		}
		if f.held.has(p.seq) != heldOut {
			continue
		}
		if f.subject {
			p.subjectName = names[r.IntN(len(names))]
		}
		if f.price {
			p.paying = drawPrice(r, s)
		}
		return p
	}
	panic(fmt.Sprintf("world: %s: no sequence of %d operations with held out = %t", f.name, n, heldOut))
}

// drawOp draws an operation that applies in state s after the operations seq;
// seen draws among those only that do not complete a held-out triple. none if
// there is no such operation.
func (f *family) drawOp(r *rand.Rand, s int, seq []int, seen bool) int {
	if !seen {
		return pick(r, f.weights[s])
	}
	weights, total := slices.Clone(f.weights[s]), 0.
	for i := range weights {
		if f.held.ends(seq, i) {
			weights[i] = 0
		}
		total += weights[i]
	}
	if total == 0 {
		return none
	}
	return pick(r, weights)
}

// drawPrice draws a price of at least 1 near s: payable half of the time where
// both are possible.
func drawPrice(r *rand.Rand, s int) int {
	low, high := max(1, s-priceReach+1), min(maxNumber, s+priceReach)
	if payable := s >= 1; payable && (s == maxNumber || r.IntN(2) == 0) {
		return low + r.IntN(s-low+1)
	}
	return s + 1 + r.IntN(high-s)
}

// key is of two problems the same if they are the same question.
type key struct {
	family        *family
	subject       string
	start, paying int
	steps         int
	seq           [maxSteps]int
}

func (p problem) key() key {
	k := key{family: p.family, subject: p.subjectName, start: p.start, paying: p.paying, steps: len(p.seq)}
	copy(k.seq[:], p.seq)
	return k
}

// question writes the problem out.
func (p problem) question() []string {
	words := []string{p.name, ":"}
	if p.subject {
		words = append(words, p.subjectName, "has")
	}
	words = append(words, p.states[p.start])
	for i, o := range p.seq {
		words = append(words, labels[i], p.ops[o].word)
	}
	if p.price {
		words = append(words, priceWord, p.states[p.paying])
	}
	return append(words, p.ask...)
}

var errQuestion = errors.New("not a question of this world")

// parse reads a question back. It is strict: what it accepts, question writes
// the same way (up to white space).
func (w *World) parse(question string) (problem, error) {
	words := strings.Fields(question)
	var p problem
	i := 0
	next := func() string {
		if i++; i <= len(words) {
			return words[i-1]
		}
		return ""
	}
	fail := func(want string) (problem, error) {
		have := "the end"
		if i <= len(words) {
			have = words[i-1]
		}
		return problem{}, fmt.Errorf("%w: word %d: want %s, have %s", errQuestion, i, want, have)
	}
	if p.family = w.byName[next()]; p.family == nil {
		return fail("a family")
	}
	if next() != ":" {
		return fail(":")
	}
	if p.subject {
		if p.subjectName = next(); !slices.Contains(names, p.subjectName) {
			return fail("a name")
		}
		if next() != "has" {
			return fail("has")
		}
	}
	var ok bool
	if p.start, ok = p.state[next()]; !ok {
		return fail("a state")
	}
	s := p.start
	for n := 0; n < maxSteps && i < len(words) && words[i] == labels[n]; n++ {
		i++
		o, ok := p.opWord[next()]
		if !ok {
			return fail("an operation")
		}
		if s = p.apply(s, o); s == none {
			return fail("an operation that applies")
		}
		p.seq = append(p.seq, o)
	}
	if len(p.seq) == 0 {
		next()
		return fail(labels[0])
	}
	if p.price {
		if next() != priceWord {
			return fail(priceWord)
		}
		if p.paying, ok = p.state[next()]; !ok {
			return fail("a price")
		}
	}
	for _, a := range p.ask {
		if next() != a {
			return fail(a)
		}
	}
	if i < len(words) {
		next()
		return fail("the end")
	}
	return p, nil
}
