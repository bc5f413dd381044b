package world

import "strconv"

// none marks a state that an operation does not lead to.
const none = -1

// op is one operation, one token.
type op struct {
	word string
	// next[s] is the state after s, or none where the operation does not apply
	// (losing coins one does not have).
	next []int
	// weight is how often it is drawn against the others.
	weight int
}

// family is one kind of task: a start state, n operations, a final state that
// the answer names. All of it is tables.
type family struct {
	name string
	// group names whose held-out triples it uses.
	group  string
	states []string
	ops    []op
	// subject: a name stands before the start state ("bob has 5").
	subject bool
	// price: the question ends with a price, the chain and answer with a verdict.
	price bool
	// ask are the words after the operations.
	ask []string
	// form is how answers are phrased.
	form []slot

	state  map[string]int // word to index in states
	opWord map[string]int // word to index in ops
	// weights are those of the operations in each state, 0 for one that does not apply.
	weights [][]float64 // (states, ops)
	held    *holdout
}

func (f *family) index() {
	f.state = make(map[string]int, len(f.states))
	for i, s := range f.states {
		f.state[s] = i
	}
	f.opWord = make(map[string]int, len(f.ops))
	f.weights = make([][]float64, len(f.states))
	for s := range f.weights {
		f.weights[s] = make([]float64, len(f.ops))
	}
	for i, o := range f.ops {
		f.opWord[o.word] = i
		for s, next := range o.next {
			if next != none {
				f.weights[s][i] = float64(o.weight)
			}
		}
	}
}

// apply is the state after operation o in state s, or none.
func (f *family) apply(s, o int) int { return f.ops[o].next[s] }

// numbers are the words 0 … n.
func numbers(n int) []string {
	words := make([]string, n+1)
	for i := range words {
		words[i] = strconv.Itoa(i)
	}
	return words
}

// table makes an operation of weight 1 from a function on n states.
func table(word string, n int, f func(s int) int) op {
	o := op{word: word, next: make([]int, n), weight: 1}
	for s := range o.next {
		o.next[s] = f(s)
		if o.next[s] < 0 || o.next[s] >= n {
			o.next[s] = none
		}
	}
	return o
}
