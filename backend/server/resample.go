package server

import (
	"context"
	"slices"
	"strings"

	"nrt/backend/engine"
	"nrt/web/wire"
)

// resample takes a chain and lets the model write it afresh, from some places on, in
// the background.
func (s *Server) resample(x *session, m *wire.Resample) {
	if !s.allowed(x, &x.fresh, m.ID) || !s.fits(x, m, m.MaxChain) {
		return
	}
	s.enqueue(&job{of: m, x: x, models: []string{m.Model}, results: s.metrics.resamples, work: func(ctx context.Context, j *job, r *replica) (wire.Message, error) {
		err := resampled(ctx, m, r, func(part *wire.Resampled) { x.say(part) }, s.o.onToken)
		s.metrics.resampling.Observe(j.seconds())
		return &wire.End{Head: wire.Head{ID: m.ID}, Seconds: j.seconds()}, err
	}})
}

// resampled lets r write what m asks for and says each place as soon as all of its
// chains are complete.
func resampled(ctx context.Context, m *wire.Resample, r *replica, say func(*wire.Resampled), onToken func()) error {
	reqs, err := resampling(m, r)
	if err != nil {
		return err
	}
	type place struct {
		fresh []wire.Fresh
		left  int
	}
	places := make([]place, len(reqs))
	for i := range places {
		places[i] = place{make([]wire.Fresh, m.N), m.N}
	}
	_, err = r.generate(ctx, reqs, func(ev engine.Event) {
		onToken()
		p := &places[ev.Request]
		f := &p.fresh[ev.Chain]
		switch ev.Part {
		case engine.PartChain:
			f.IDs = append(f.IDs, ev.Token.ID)
		case engine.PartReference:
			f.LogProbs = append(f.LogProbs, finite(ev.Token.LogProb))
		case engine.PartEnd:
			f.Text = clip(r.ending(m.Chain[:m.Cuts[ev.Request]], f.IDs), 32*wire.MaxChain)
			if p.left--; p.left == 0 {
				say(&wire.Resampled{Head: wire.Head{ID: m.ID}, Cut: m.Cuts[ev.Request], Fresh: p.fresh})
				p.fresh = nil
			}
		}
	})
	return err
}

// resampling lays m out for the engine as the chain's own ask did: a place is a
// prompt that goes on as the chain began, so that its chains share the rows of both.
func resampling(m *wire.Resample, r *replica) ([]engine.Request, error) {
	positions := r.model.Config.MaxPositions
	req, err := layout(m.Question, m.Answer, r.form, positions)
	if err != nil {
		return nil, err
	}
	req.Stop, req.AnswerStop = r.stop, r.stop
	most := min(m.MaxChain, positions-around(&req)) // of a whole chain, as in the ask
	req.MaxAnswer = 0
	req.N, req.Sampling = m.N, engine.Sampling{Temperature: m.Temperature, TopP: m.TopP}
	if err := r.knows("resample", "chain", m.Chain); err != nil {
		return nil, err
	}
	last := m.Cuts[len(m.Cuts)-1]
	if last >= most {
		return nil, failedAt("cuts", wire.CodeTooLong, "%d tokens of the chain stay; question and answer leave room for %d and more to come: the model reads %d tokens in all", last, most-1, positions)
	}
	if at := ends(&req, r, m.Chain[:last]); at >= 0 {
		return nil, failedAt("cuts", wire.CodeBadMessage, "resample: cuts: the chain ends with token %d; a cut comes before its end, have %d", at, last)
	}
	reqs := make([]engine.Request, len(m.Cuts))
	for i, cut := range m.Cuts {
		reqs[i] = req
		reqs[i].Prompt = slices.Concat(req.Prompt, m.Chain[:cut])
		reqs[i].MaxChain = most - cut
		reqs[i].Seed = seedAt(m.Seed, m.Of, cut)
	}
	return reqs, nil
}

// ends is where a chain ends within ids, at a stop token or its boundary; −1 if it
// goes on after them.
func ends(req *engine.Request, r *replica, ids []int32) int {
	for i := range ids {
		if slices.Contains(req.Stop, ids[i]) || len(req.Close) > 0 && len(ids)-i >= len(req.Close) && slices.Equal(ids[i:i+len(req.Close)], req.Close) {
			return i
		}
	}
	if req.StopText != "" && strings.Contains(r.tok.Decode(ids, false), req.StopText) {
		return len(ids) - 1
	}
	return -1
}

// seedAt mixes a group's seed with a chain's number and a place in it, so that no
// two of them share random numbers (the finaliser of SplitMix64).
func seedAt(seed uint64, chain, cut int) uint64 {
	for _, x := range []uint64{uint64(chain) + 1, uint64(cut) + 1} {
		seed += x * 0x9e3779b97f4a7c15
		seed = (seed ^ seed>>30) * 0xbf58476d1ce4e5b9
		seed = (seed ^ seed>>27) * 0x94d049bb133111eb
		seed ^= seed >> 31
	}
	return seed
}

// ending is the text of ids where they follow others, without what closes a chain.
func (r *replica) ending(after, ids []int32) string {
	n := len(ids)
	if n > 0 && (slices.Contains(r.stop, ids[n-1]) || len(r.form.Close) == 1 && ids[n-1] == r.form.Close[0]) {
		n--
	}
	d := r.tok.NewDecoder(false)
	for _, id := range after {
		d.Push(id)
	}
	var b strings.Builder
	for _, id := range ids[:n] {
		b.WriteString(d.Push(id))
	}
	b.WriteString(d.Flush())
	text := b.String()
	if r.form.StopText != "" {
		text, _, _ = strings.Cut(text, r.form.StopText)
	}
	return text
}
