package view

import (
	"maps"
	"slices"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// What the page asks the server about variants of chains: one request for what the
// reader made, one for all sentences of the shown chain left out in turn.

// waitingTries are variants that the server was asked for, by the request's name.
type waitingTries struct {
	keys []tryKey
	mine bool // the reader made it; else it is sentences left out
	own  bool // with the model's own answer after it
}

// wants adds to out what the page lacks to show: the reader's variant, and the
// shown chain without each of its sentences.
func (s State) wants(out []wire.Message) (State, []wire.Message) {
	r, i := s.Reading, s.chain()
	if i < 0 || !r.ready() {
		if r != nil && !r.under() && s.Reader != "" {
			s.Reader, s.AtStep = "", -1 // there are no chains to read, and none will come
		}
		return s, out
	}
	s, out = s.settled(out)
	if r = s.Reading; !r.scored(i) {
		if s.Link == Live {
			return s.wantsThrough(out)
		}
		return s, out
	}
	// An address may say what the chain does not have, or name no chain.
	if !s.Edit.none() && s.Chain != i {
		s.drafts = without(s.drafts, s.Chain)
		s.Chain, s.Edit = -1, Edit{}
	}
	if e := s.Edit.within(len(r.sentences(i))); e.key(i) != s.Edit.key(i) {
		d := draft{now: e}
		if !e.none() {
			d.past = []Edit{{}}
		}
		s = s.draft(i, d)
	}
	if s.Fresh >= len(r.Chains) {
		s.Fresh = -1
	}
	if s.Link != Live {
		return s, out
	}
	asked := func(mine bool) bool {
		for _, w := range s.waiting {
			if w.mine == mine && (!mine || w.keys[0] == s.Edit.key(i)) {
				return true
			}
		}
		return false
	}
	// The model's own answer is sampled, and shown once the sheet is closed: what is being
	// typed there is scored without it.
	own := s.sheetOpen() == nil
	ask := func(mine bool, keys []tryKey, list []wire.Variant) {
		m := &wire.Score{Head: s.request("w"), Model: r.reader(), Question: r.Ask.Question, Answer: r.Ask.Answer,
			Variants: list, Own: mine && own}
		w := waitingTries{keys, mine, m.Own}
		if err := m.Validate(); err != nil {
			s = s.refuse(w)
			if mine {
				s.Notice = &Notice{Code: wire.CodeBadMessage, Text: "This version is too long to be scored."}
			}
			return
		}
		waiting := map[string]waitingTries{m.ID: w}
		for id, old := range s.waiting {
			if mine && old.mine { // the reader has gone on
				out = append(out, cancel(id))
			} else {
				waiting[id] = old
			}
		}
		s.waiting = waiting
		out = append(out, m)
	}
	if e := s.Edit; s.edited() == i && !s.refused[e.key(i)] && !asked(true) {
		if t := s.try(i, e); t == nil || own && !t.Own {
			ask(true, []tryKey{e.key(i)}, []wire.Variant{r.variant(i, e)})
		}
	}
	wanted := s.worth[i] || s.Fresh == i || r.worthTokens(i) <= autoTokens
	if s.losses(i) == nil && wanted && !asked(false) && !s.refused[Edit{}.key(i)] {
		var keys []tryKey
		list := r.Without(i)
		for k := range list {
			keys = append(keys, Edit{}.toggle(k).key(i))
		}
		if len(list) > 0 {
			ask(false, keys, list)
		}
	}
	s, out = s.wantsThrough(out)
	return s.wantsFresh(out)
}

// scored takes what the server said of variants.
func (s State) scored(m *wire.Scored) State {
	w, ok := s.waiting[m.ID]
	if !ok || s.Reading == nil {
		return s
	}
	s.waiting = without(s.waiting, m.ID)
	s.Reading = s.Reading.withTries(w.keys, m.Variants, w.own)
	for _, k := range w.keys {
		if t, ok := s.Reading.tried[k]; !ok || w.own && !t.Own { // asking again would bring no more
			s = s.refuse(w)
			break
		}
	}
	s = s.keep(s.Reading)
	if w.mine && w.keys[0] == s.Edit.key(s.chain()) {
		s.Say = s.whatIfSaid()
	}
	return s
}

// withTries is the reading with what the server said of variants; entries that do
// not fit are left out.
func (r *Reading) withTries(keys []tryKey, list []wire.ScoredVariant, own bool) *Reading {
	next := *r
	next.tried = maps.Clone(r.tried)
	if next.tried == nil {
		next.tried = map[tryKey]Try{}
	}
	for j, v := range list {
		if j >= len(keys) || len(v.LogProbs) != len(r.Answer) || !own && next.tried[keys[j]].Own {
			continue // or more is known already
		}
		if _, err := reward.Score(v.LogProbs, r.Base, DefaultChoice().Options()); err == nil {
			next.tried[keys[j]] = Try{v.LogProbs, own, v.Answer, v.Match}
		}
	}
	return &next
}

// cancel calls a request off.
func cancel(id string) wire.Message { return &wire.Cancel{Head: wire.Head{ID: id}} }

// callOff gives up what is asked about variants of chains, and what is written afresh.
func (s State) callOff() (_ State, out []wire.Message) {
	for _, id := range slices.Sorted(maps.Keys(s.waiting)) {
		out = append(out, cancel(id))
	}
	if id := s.rewriting.id; id != "" {
		out = append(out, cancel(id))
	}
	s.waiting, s.rewriting = nil, rewriting{}
	return s, out
}

// callOffAll gives up also what other models are asked.
func (s State) callOffAll() (State, []wire.Message) {
	s, out := s.callOff()
	if id := s.through.id; id != "" {
		out = append(out, cancel(id))
	}
	s.through = rereading{}
	return s, out
}

// tryFailed is the state after the server refused variants: what the reader made
// is said; what the page asked for by itself waits for another occasion.
func (s State) tryFailed(m *wire.Failed) State {
	w := s.waiting[m.ID]
	s.waiting = without(s.waiting, m.ID)
	s = s.refuse(w)
	if _, known := s.Reading.tried[w.keys[0]]; w.mine && !known {
		s = s.told(m, sentenceOf(m.Message))
	}
	return s
}

// refuse notes that variants are not to be had for now.
func (s State) refuse(w waitingTries) State {
	k := w.keys[0]
	if !w.mine {
		k = Edit{}.key(k.chain)
	}
	s.refused = with(s.refused, k, true)
	return s
}

// forgive asks again for a variant that was refused.
func (s State) forgive(k tryKey) State {
	s.refused = without(s.refused, k)
	return s
}
