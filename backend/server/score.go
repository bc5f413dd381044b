package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"nrt/backend/engine"
	"nrt/web/wire"
)

// score takes variants of a chain and scores them in the background.
func (s *Server) score(x *session, m *wire.Score) {
	if !s.allowed(x, &x.scores, m.ID) {
		return
	}
	j := &job{of: m, x: x, models: m.Readers(), results: s.metrics.scores, work: func(ctx context.Context, j *job, r *replica) (wire.Message, error) {
		return s.whatIf(ctx, j, m, r)
	}}
	if len(m.Models) > 0 {
		j.closes = func() wire.Message { return &wire.End{Head: wire.Head{ID: m.ID}, Seconds: j.seconds()} }
	}
	s.enqueue(j)
}

// whatIf reads the reference off after every variant and, if that was asked,
// lets the model answer.
func (s *Server) whatIf(ctx context.Context, j *job, m *wire.Score, r *replica) (wire.Message, error) {
	out, err := scored(ctx, m, r, s.o.Chain, func(engine.Event) { s.o.onToken() })
	if err != nil {
		return nil, err
	}
	s.metrics.scoring.Observe(time.Since(j.began).Seconds())
	return out, nil
}

// scored is the answer to m by the model r; chain bounds a variant.
func scored(ctx context.Context, m *wire.Score, r *replica, chain int, emit func(engine.Event)) (*wire.Scored, error) {
	reqs, err := scoring(m, r, chain)
	if err != nil {
		return nil, err
	}
	results, err := r.generate(ctx, reqs, emit)
	if err != nil {
		return nil, err
	}
	out := &wire.Scored{Head: wire.Head{ID: m.ID}}
	if len(m.Models) > 0 {
		out.Model = r.of.Name
	}
	for i, result := range results {
		for _, c := range result.Chains {
			var v wire.ScoredVariant
			for _, t := range c.Reference {
				v.LogProbs = append(v.LogProbs, finite(t.LogProb))
			}
			if m.Own {
				v.Answer, v.Match = own(r.form, engine.IDsOf(c.Answer), &reqs[i])
			}
			out.Variants = append(out.Variants, v)
		}
	}
	return out, nil
}

// scoring lays variants out for the engine as an ask lays out its chains, so that
// a chain left as it was has the ask's numbers.
func scoring(m *wire.Score, r *replica, chain int) ([]engine.Request, error) {
	positions := r.model.Config.MaxPositions
	req, err := layout(m.Question, m.Answer, r.form, positions)
	if err != nil {
		return nil, err
	}
	req.Stop, req.AnswerStop = r.stop, r.stop
	if !m.Own {
		req.MaxAnswer = 0
	}
	room := positions - around(&req)
	chains := make([][]int32, len(m.Variants))
	for i, v := range m.Variants {
		if chains[i], err = variant(v, r, fmt.Sprintf("variants[%d]", i)); err != nil {
			return nil, err
		}
		n := len(chains[i])
		switch {
		case n > 2*chain: // a reader writes into chains, so they may be longer than an ask's
			return nil, failedAt(fmt.Sprintf("variants[%d]", i), wire.CodeTooLong,
				"variant %d of the chain has %d tokens; it may have %d", i+1, n, 2*chain)
		case n > room:
			return nil, failedAt(fmt.Sprintf("variants[%d]", i), wire.CodeTooLong,
				"variant %d of the chain has %d tokens; question and answer leave room for %d: the model reads %d tokens in all", i+1, n, room, positions)
		}
	}
	return dealt(req, chains), nil
}

// dealt is a request with given chains as several that are read in one step each, in
// order: many long chains take no more memory than few, and a cancelled request ends after
// a step. The first has the baseline, if it is asked for.
func dealt(req engine.Request, chains [][]int32) (list []engine.Request) {
	longest := 0
	for _, c := range chains {
		longest = max(longest, len(c))
	}
	each := max(1, engine.DefaultBatchRows/(longest+around(&req)-len(req.Prompt)))
	for part := range slices.Chunk(chains, each) {
		req.Forced = part
		list = append(list, req)
		req.Baseline = false
	}
	return list
}

// variant is a chain as ids: the tokens left alone as they are, text cut as text
// that goes on.
func variant(v wire.Variant, r *replica, field string) ([]int32, error) {
	var chain []int32
	for i, p := range v.Parts {
		if err := r.knows("score", fmt.Sprintf("%s.parts[%d].ids", field, i), p.IDs); err != nil {
			return nil, err
		}
		chain = append(chain, p.IDs...)
		chain = append(chain, r.tok.EncodeMore(p.Text)...)
	}
	return chain, nil
}

// knows refuses ids that the model has no row for, in that field of that message.
func (r *replica) knows(message, field string, ids []int32) error {
	for i, id := range ids {
		if int(id) >= r.model.Config.Vocab {
			return failedAt(field, wire.CodeBadMessage, "%s: %s: token %d: want ids below %d, have %d", message, field, i, r.model.Config.Vocab, id)
		}
	}
	return nil
}
