package server

import (
	"context"
	"fmt"
	"net/http"

	"nrt/backend/engine"
	"nrt/trainer/reward"
	"nrt/trainer/verdict"
	"nrt/web/wire"
)

// v1Score is POST /v1/score: what chains do for a reference answer, as one line of
// "nrt score --json" with line 1. Either chains are given as text, or n of them are
// sampled, as "nrt explain" does: with temperature, top_p, seed and max_chain.
// mode is ws-logp by default, clip on, normalize off, seed 0: the verdict could not
// name one that was drawn.
func (s *Server) v1Score(a *api) error {
	if err := a.read(); err != nil {
		return err
	}
	f := &a.fields
	q := verdict.Question{Model: f.text("model", 200), Question: f.text("question", wire.MaxQuestion), Answer: f.text("answer", wire.MaxAnswer)}
	var o reward.Options
	var err error
	mode := reward.WSLogP.String()
	if f.has("mode") {
		mode = f.text("mode", 40)
	}
	if o.Mode, err = reward.ParseMode(mode); err != nil {
		f.bad("mode", "want one of %v, have %q", wire.Modes(), clip(mode, 40))
	}
	o.Clip = f.flag("clip", true)
	o.NormalizeWeights = f.flag("normalize", false)
	chains, given := f.texts("chains", false)
	var req engine.Request
	longest := 0
	switch {
	case given:
		if len(chains) < 1 || len(chains) > wire.MaxVariants {
			f.bad("chains", "want 1 to %d, have %d", wire.MaxVariants, len(chains))
		}
		for _, name := range []string{"n", "temperature", "top_p", "seed", "max_chain"} {
			if f.has(name) {
				f.bad(name, "goes with sampled chains, not with given ones")
			}
		}
	case !f.has("n"):
		f.bad("chains", "is missing: want a list of strings, or n")
	default:
		req = f.sampling(0)
		longest = int(f.whole("max_chain", int64(s.o.Chain), 1, int64(s.o.Chain)))
	}
	if err := f.rest(); err != nil {
		return err
	}
	if err := a.find(q.Model); err != nil {
		return err
	}
	var v verdict.Verdict
	err = a.compute(func(ctx context.Context, r *replica) error {
		q.Reference = r.form.Answer(q.Answer)
		var reqs []engine.Request
		if given {
			reqs, err = r.given(q, chains, 2*s.o.Chain)
		} else {
			reqs, err = r.sampled(req, q, longest)
		}
		if err != nil {
			return err
		}
		results, err := r.generate(ctx, reqs, func(engine.Event) { s.o.onToken() })
		if err != nil {
			return shorten("question", err)
		}
		whole := results[0]
		for _, more := range results[1:] {
			whole.Chains = append(whole.Chains, more.Chains...)
		}
		v, _, err = verdict.Judge(q, r.tok, r.form, whole, o)
		return err
	})
	if err != nil {
		return err
	}
	for i, text := range chains {
		v.Chains[i].Text = text // as given, not as decoded
	}
	a.answer(http.StatusOK, verdict.Line{Line: 1, Verdict: v})
	return nil
}

// given asks about chains that are text, of at most longest tokens each.
func (r *replica) given(q verdict.Question, chains []string, longest int) ([]engine.Request, error) {
	req := verdict.Given(r.tok, r.form, r.form.Prompt(q.Question), q.Answer, chains)
	positions := r.model.Config.MaxPositions
	if around(&req) > positions {
		return nil, tooLong("question", "question (%d tokens) and answer (%d) have no room: the model reads %d tokens in all", len(req.Prompt), len(req.Reference), positions)
	}
	for i, c := range req.Forced {
		if n, limit := len(c), min(longest, positions-around(&req)); n > limit {
			return nil, tooLong(fmt.Sprintf("chains[%d]", i), "want at most %d tokens beside question and answer, have %d", limit, n)
		}
	}
	return dealt(req, req.Forced), nil
}

// sampled asks for chains of the model's own, of at most longest tokens.
func (r *replica) sampled(req engine.Request, q verdict.Question, longest int) ([]engine.Request, error) {
	req.Prompt, req.Stop, req.Close, req.StopText = r.form.Prompt(q.Question), r.stop, r.form.Close, r.form.StopText
	req.Reference, req.Baseline = q.Reference, true
	positions := r.model.Config.MaxPositions
	if around(&req) >= positions {
		return nil, tooLong("question", "question (%d tokens) and answer (%d) leave no room for a chain: the model reads %d tokens in all", len(req.Prompt), len(req.Reference), positions)
	}
	req.MaxChain = min(longest, positions-around(&req))
	return []engine.Request{req}, nil
}
