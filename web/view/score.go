package view

import (
	"math"
	"slices"

	"nrt/trainer/reward"
)

// scores are the rewards of a reading's chains under all six formulas, computed
// once for a reading and its options.
type scores struct {
	of              *Reading
	clip, normalize bool
	mode            reward.Mode

	chains []int // the scored chains; groups hold them in this order
	at     []int // chain → index into chains, −1
	groups [6]reward.Group
	ranks  [6][]int // chain → rank from 1 under each formula, 0 unscored
	order  []int    // chains by rank under the chosen formula, then by number
	ready  bool     // all chains that will come have come
	b      []float64
	err    error

	worth   []float64 // of the sentences of chain worthOf, under mode; see losses
	worthOf int
	fresh   []afresh // of the sentences of chain freshOf, likewise
	freshOf int
}

// scores of the state as it is; kept until something that matters changes.
func (s *State) scores() *scores {
	r := s.Reading
	if r == nil {
		return &scores{}
	}
	old := s.sc
	if old != nil && old.of == r && old.clip == s.Clip && old.normalize == s.Normalize && len(old.chains) == r.done() {
		if old.mode != s.Mode {
			next := *old
			next.mode, next.worthOf, next.freshOf = s.Mode, -1, -1
			next.sort()
			s.sc = &next
		}
		return s.sc
	}
	s.sc = score(r, s.Choice)
	return s.sc
}

func score(r *Reading, c Choice) *scores {
	sc := &scores{of: r, clip: c.Clip, normalize: c.Normalize, mode: c.Mode, at: make([]int, len(r.Chains)), worthOf: -1, freshOf: -1}
	var refs [][]float64
	for i := range r.Chains {
		sc.at[i] = -1
		if r.scored(i) {
			sc.at[i] = len(sc.chains)
			sc.chains = append(sc.chains, i)
			refs = append(refs, r.Chains[i].Ref)
		}
	}
	sc.b = make([]float64, len(r.Base))
	for i, x := range r.Base {
		sc.b[i] = math.Exp(min(x, 0))
	}
	if len(sc.chains) == 0 {
		return sc
	}
	o := c.Options()
	for _, o.Mode = range reward.Modes() {
		g, err := reward.ScoreGroup(refs, r.Base, o)
		if err != nil {
			sc.err = err
			sc.chains = nil
			for i := range sc.at {
				sc.at[i] = -1
			}
			return sc
		}
		sc.groups[o.Mode] = g
		ranks := make([]int, len(r.Chains))
		for j, k := range g.Ranks() {
			ranks[sc.chains[j]] = k
		}
		sc.ranks[o.Mode] = ranks
	}
	sc.ready = r.ready()
	sc.sort()
	return sc
}

// sort orders the chains by rank under the chosen formula; chains that tie, and
// those without a reward, by their number.
func (sc *scores) sort() {
	sc.order = slices.Clone(sc.chains)
	ranks := sc.ranks[sc.mode]
	slices.SortStableFunc(sc.order, func(i, j int) int { return ranks[i] - ranks[j] })
}

// group is the chosen formula's group, nil without scored chains.
func (s *State) group() *reward.Group {
	sc := s.scores()
	if len(sc.chains) == 0 {
		return nil
	}
	return &sc.groups[s.Mode]
}

// chainScore is chain i under the chosen formula, nil while it has no reward.
func (s *State) chainScore(i int) *reward.Scored {
	sc := s.scores()
	if i < 0 || i >= len(sc.at) || sc.at[i] < 0 {
		return nil
	}
	return &sc.groups[s.Mode].Chains[sc.at[i]]
}

// helpful is how many chains earn more than no reasoning.
func (s *State) helpful() int {
	n := 0
	for _, c := range s.group().Chains {
		if !c.Harmful {
			n++
		}
	}
	return n
}

// rank of chain i under a formula, from 1; 0 while there is none.
func (s *State) rank(m reward.Mode, i int) int {
	sc := s.scores()
	if !sc.ready || i < 0 || i >= len(sc.ranks[m]) {
		return 0
	}
	return sc.ranks[m][i]
}

// baseTerm is what word i stands for without reasoning, in the units that the
// formula weighs: log b for the logarithmic ones, b for the sums.
func (s *State) baseTerm(i int) float64 {
	if s.Mode.Log() {
		return min(s.Reading.Base[i], 0)
	}
	return s.scores().b[i]
}

// divided reports whether the formula ends in a division by the number of words.
func (s *State) divided() bool {
	switch s.Mode {
	case reward.AM:
		return true
	case reward.WSInvP, reward.WSLogP:
		return !s.Normalize
	}
	return false
}

// weights are the formula's weights of the answer's words. They depend on the
// model without reasoning alone, so they are known before any chain is.
func (s *State) weights() []float64 {
	if g := s.group(); g != nil {
		return g.Chains[0].W
	}
	r := s.Reading
	if r == nil || len(r.Base) == 0 || len(r.Base) != len(r.Answer) {
		return nil
	}
	sc, err := reward.Score(r.Base, r.Base, s.Options())
	if err != nil {
		return nil
	}
	return sc.W
}
