package view

import (
	"math"
	"slices"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// What a sentence is worth can be told in two ways. Leaving it out keeps what the
// model wrote after it, which may say the same once more. So the chain is also cut
// before the sentence, and the model writes it afresh from there, several times: what
// the reward loses then is what the sentence made likely.

// freshN is how many times the model writes a chain afresh from a sentence on.
const freshN = 8

// What the page has written afresh, or read by other models, of its own accord: about
// what a large question costs. More the reader asks for.
const (
	autoFresh   = 4096 // tokens
	autoThrough = 8192
	autoSeconds = 1
)

// place is where a chain of a reading is cut.
type place struct{ chain, cut int }

// Fresh is one end of a chain that was written afresh.
type Fresh struct {
	Ref  []float64 // log c
	Text string
}

// rewriting is a request for a chain written afresh that is under way.
type rewriting struct {
	id     string // "" for none
	chain  int
	cuts   []int
	mine   bool // the reader asked for it
	queued bool
	before int     // queued: requests before it
	wait   float64 // queued: seconds, 0 unknown
}

// Places are the cuts before each sentence of chain i.
func (r *Reading) Places(i int) []int {
	var list []int
	for _, x := range r.changeable(i) {
		list = append(list, x.from)
	}
	return list
}

// Resample asks for chain i to be written afresh from some places on.
func (r *Reading) Resample(i int, cuts []int) *wire.Resample {
	m := &wire.Resample{Model: r.reader(), Question: r.Ask.Question, Answer: r.Ask.Answer, Of: i, Cuts: cuts, N: freshN,
		Temperature: r.Ask.Temperature, TopP: r.Ask.TopP, Seed: r.Ask.Seed, MaxChain: r.Ask.MaxChain}
	for _, t := range r.Chains[i].Tokens {
		m.Chain = append(m.Chain, t.ID)
	}
	return m
}

// unwritten are the places of chain i that were not written afresh yet.
func (r *Reading) unwritten(i int) []int {
	return slices.DeleteFunc(r.Places(i), func(cut int) bool { return len(r.fresh[place{i, cut}]) > 0 })
}

// freshTokens is about how many tokens are read and written to write chain i afresh
// from some places on: its ends are about as long as its own.
func (r *Reading) freshTokens(i int, cuts []int) int {
	n := 0
	for _, cut := range cuts {
		n += freshN * (len(r.Chains[i].Tokens) - cut + len(r.Answer))
	}
	return n
}

// quick reports whether all of that costs little.
func (r *Reading) quick(i int) bool { return r.cheap(r.freshTokens(i, r.Places(i)), autoFresh) }

// cheap reports whether so many tokens are at most most, and take no longer than
// autoSeconds, by the time that the chains took.
func (r *Reading) cheap(tokens, most int) bool {
	own := 0
	for i := range r.Chains {
		own += len(r.Chains[i].Tokens) + 2*len(r.Answer)
	}
	return tokens <= most && float64(tokens)*r.Seconds <= autoSeconds*float64(own)
}

// withFresh is the reading with what a model wrote from a place on; what does not
// fit the answer is left out as a whole.
func (r *Reading) withFresh(at place, list []wire.Fresh) *Reading {
	fresh := make([]Fresh, len(list))
	for j, f := range list {
		if len(f.LogProbs) != len(r.Answer) {
			return r
		}
		if _, err := reward.Score(f.LogProbs, r.Base, DefaultChoice().Options()); err != nil {
			return r
		}
		fresh[j] = Fresh{f.LogProbs, f.Text}
	}
	next := *r
	next.fresh = with(r.fresh, at, fresh)
	return &next
}

// afresh are the rewards of what the model wrote from one sentence on, under the
// chosen formula.
type afresh struct {
	r            []float64 // as they came; empty while there are none
	mean, lo, hi float64
}

// freshScores are those of the sentences of chain i; nil without any.
func (s *State) freshScores(i int) []afresh {
	if s.Reading == nil || i < 0 {
		return nil
	}
	sc := s.scores()
	if sc.freshOf != i {
		sc.fresh, sc.freshOf = s.freshNow(i), i
	}
	return sc.fresh
}

// freshNow is what freshScores keeps.
func (s *State) freshNow(i int) []afresh {
	if s.chainScore(i) == nil {
		return nil
	}
	places := s.Reading.Places(i)
	list, some := make([]afresh, len(places)), false
	for k, cut := range places {
		x := afresh{lo: math.Inf(1), hi: math.Inf(-1)}
		for _, f := range s.Reading.fresh[place{i, cut}] {
			sc, err := reward.Score(f.Ref, s.Reading.Base, s.Options())
			if err != nil {
				x.r = nil
				break
			}
			x.r = append(x.r, sc.R)
			x.mean += sc.R
			x.lo, x.hi = min(x.lo, sc.R), max(x.hi, sc.R)
		}
		if n := len(x.r); n > 0 {
			x.mean /= float64(n)
			list[k], some = x, true
		}
	}
	if !some {
		return nil
	}
	return list
}

// freshAt is that of sentence k, nil while it is not known.
func (s *State) freshAt(i, k int) *afresh {
	if list := s.freshScores(i); k >= 0 && k < len(list) && len(list[k].r) > 0 {
		return &list[k]
	}
	return nil
}

// wantsFresh adds to out the request for what the page lacks of the shown chain, of
// which there is one at a time.
func (s State) wantsFresh(out []wire.Message) (State, []wire.Message) {
	r, i := s.Reading, s.chain()
	mine := s.Fresh == i
	if w := s.rewriting; w.id != "" {
		// What the page does by itself is soon over; of the reader's wishes the last one
		// counts.
		if w.chain == i || !(w.mine && mine) {
			return s, out
		}
		out = append(out, cancel(w.id))
		s.rewriting = rewriting{}
	}
	// First what is known sooner.
	if s.losses(i) == nil && !(mine && s.refused[Edit{}.key(i)]) {
		return s, out
	}
	cuts := r.unwritten(i)
	if len(cuts) == 0 || s.tired[i] || !mine && !r.quick(i) {
		return s, out
	}
	// As many places as one request may have; the others follow.
	m := r.Resample(i, nil)
	for _, cut := range cuts {
		m.Cuts = append(m.Cuts, cut)
		if m.Tokens() > wire.MaxAfresh && len(m.Cuts) > 1 {
			m.Cuts = m.Cuts[:len(m.Cuts)-1]
			break
		}
	}
	m.Head = s.request("f")
	s.rewriting = rewriting{id: m.ID, chain: i, cuts: m.Cuts, mine: mine}
	if m.Validate() != nil {
		return s.freshOver(), out
	}
	return s, append(out, m)
}

// writingAfresh reports whether chain i is being written afresh, or will be next.
func (s *State) writingAfresh(i int) bool {
	return s.rewriting.id != "" && (s.rewriting.chain == i || s.Fresh == i && !s.tired[i] && len(s.Reading.unwritten(i)) > 0)
}

// resampled takes what the model wrote from one place on.
func (s State) resampled(m *wire.Resampled) State {
	w := s.rewriting
	if m.ID != w.id || w.id == "" || s.Reading == nil || !slices.Contains(w.cuts, m.Cut) || len(m.Fresh) != freshN {
		return s
	}
	s.rewriting.queued = false
	s.Reading = s.Reading.withFresh(place{w.chain, m.Cut}, m.Fresh)
	return s.keep(s.Reading)
}

// freshOver ends the request that is under way. If it left something out, asking
// again would bring no more.
func (s State) freshOver() State {
	w := s.rewriting
	s.rewriting = rewriting{}
	for _, cut := range w.cuts {
		if len(s.Reading.fresh[place{w.chain, cut}]) == 0 {
			s.tired = with(s.tired, w.chain, true)
			return s
		}
	}
	if w.mine && len(s.Reading.unwritten(w.chain)) == 0 {
		s.Say = "Every sentence of chain " + intText(w.chain+1) + " was written afresh. " + s.freshSaid(s.sentence())
	}
	return s
}

// freshFailed is the state after the server refused.
func (s State) freshFailed(m *wire.Failed) State {
	w := s.rewriting
	s = s.freshOver()
	if w.mine {
		s = s.told(m, sentenceOf(m.Message))
	}
	return s
}

// askFresh is the reader's wish that the shown chain be written afresh.
func (s State) askFresh() State {
	i := s.chain()
	if i < 0 || !s.Reading.scored(i) {
		return s
	}
	s.Fresh = i
	s.Say = "Writing chain " + intText(i+1) + " afresh from each sentence on, " + numeral(freshN) + " times."
	s.tired = without(s.tired, i)
	return s
}

// stopFresh leaves the shown chain as far as it has come.
func (s State) stopFresh() (State, []wire.Message) {
	i, w := s.chain(), s.rewriting
	s.Fresh, s.tired = -1, with(s.tired, i, true)
	s.Say = "Stopped."
	if w.id == "" || w.chain != i {
		return s, nil
	}
	s.rewriting = rewriting{}
	return s, []wire.Message{cancel(w.id)}
}

// freshSaid is what writing the shown chain afresh from sentence k on does, in a
// sentence; "" while it is not known.
func (s *State) freshSaid(k int) string {
	x := s.freshAt(s.chain(), k)
	if x == nil {
		return ""
	}
	return "Written afresh from sentence " + intText(k+1) + " on, the reward is " + number(x.mean) + " on average of " + intText(len(x.r)) +
		", from " + number(x.lo) + " to " + number(x.hi) + "."
}
