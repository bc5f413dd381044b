package data

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Sampler deals examples without end: each epoch is a fresh permutation drawn
// from (seed, epoch) alone. A batch may run over the end of an epoch; none is
// dropped and none comes twice within an epoch.
type Sampler struct {
	state Position
	order []int // permutation of the current epoch
}

// Position is where a Sampler stands; it serialises as JSON.
type Position struct {
	Seed        uint64 `json:"seed"`
	Epoch       int    `json:"epoch"`       // epochs finished
	Index       int    `json:"index"`       // examples dealt in this epoch
	Examples    int    `json:"examples"`    // size of the data set
	Fingerprint string `json:"fingerprint"` // of the data set
}

// NewSampler starts at the first epoch. No examples is an error.
func NewSampler(examples []Example, seed uint64) (*Sampler, error) {
	if len(examples) == 0 {
		return nil, fmt.Errorf("no examples to train on")
	}
	s := &Sampler{state: Position{Seed: seed, Examples: len(examples), Fingerprint: fingerprint(examples)}}
	s.order = permutation(seed, 0, len(examples))
	return s, nil
}

// Next deals the next n examples, as indices into the list the sampler was made
// for.
func (s *Sampler) Next(n int) []int {
	out := make([]int, 0, n)
	for len(out) < n {
		take := min(n-len(out), len(s.order)-s.state.Index)
		out = append(out, s.order[s.state.Index:s.state.Index+take]...)
		s.state.Index += take
		if s.state.Index == len(s.order) {
			s.state.Epoch++
			s.state.Index = 0
			s.order = permutation(s.state.Seed, s.state.Epoch, len(s.order))
		}
	}
	return out
}

// Epoch counts epochs dealt, with the fraction of the current one.
func (s *Sampler) Epoch() float64 {
	return float64(s.state.Epoch) + float64(s.state.Index)/float64(len(s.order))
}

// State is the position to save.
func (s *Sampler) State() Position { return s.state }

// Restore moves to a saved position. The data and the seed must be those it was
// saved with; on error the sampler is unchanged.
func (s *Sampler) Restore(p Position) error {
	switch {
	case p.Examples != s.state.Examples:
		return fmt.Errorf("restore data position: the run used %d examples, now there are %d: resume with the same data files and filters", p.Examples, s.state.Examples)
	case p.Fingerprint != s.state.Fingerprint:
		return fmt.Errorf("restore data position: the examples differ from the run's (fingerprint %s, now %s): resume with the same data files in the same order", p.Fingerprint, s.state.Fingerprint)
	case p.Seed != s.state.Seed:
		return fmt.Errorf("restore data position: the run used seed %d, now it is %d: resume with the same seed", p.Seed, s.state.Seed)
	case p.Epoch < 0 || p.Index < 0 || p.Index >= p.Examples:
		return fmt.Errorf("restore data position: epoch %d, index %d of %d examples is out of range", p.Epoch, p.Index, p.Examples)
	}
	s.state = p
	s.order = permutation(p.Seed, p.Epoch, p.Examples)
	return nil
}

// Draw draws k of the numbers 0 … n−1, as a function of the seed alone, and
// returns them in ascending order.
func Draw(n, k int, seed uint64) []int {
	drawn := permutation(seed, 0, n)[:min(k, n)]
	slices.Sort(drawn)
	return drawn
}

// permutation is Fisher and Yates's shuffle of 0 … n−1 over PCG-DXSM, whose
// algorithm math/rand/v2 fixes. The bounded draw is our own (Lemire's
// multiplication with rejection), so that no change of rand.Rand's methods can
// change the order of a resumed run.
func permutation(seed uint64, epoch, n int) []int {
	// The second word keeps epochs of one seed apart; the odd constant spreads
	// small epoch numbers over all bits.
	src := rand.NewPCG(seed, uint64(epoch)*0x9e3779b97f4a7c15+1)
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := below(src, uint64(i+1))
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// below draws uniformly from [0,n).
func below(src *rand.PCG, n uint64) int {
	hi, lo := bits.Mul64(src.Uint64(), n)
	for lo < n { // possibly in the biased part: test exactly
		if lo >= -n%n {
			break
		}
		hi, lo = bits.Mul64(src.Uint64(), n)
	}
	return int(hi)
}
