package objective

import (
	"fmt"
	"math"
)

// The importance ratio r_t = π_θ(z_t)/π_old(z_t) makes several optimizer steps
// on one rollout sound. The weight of a sampled token is clamp(r_t)·A, a
// constant (CISPO's form), and 0 once the step has gone far enough:
//
//	A > 0 and r > 1+ClipHigh, or A < 0 and r < 1−ClipLow.
//
// ClipHigh > ClipLow lets unlikely tokens grow ("clip-higher").
//
// # Departures and readings
//
//  1. The tempting r·A of PPO is unbounded for A < 0 and r → ∞; the clamp bounds
//     it on that side too.
//  2. ρ of the derived token term is the whole chain's ratio Π r_t, clamped to
//     the same range, not its geometric mean: the answer was reached through the
//     whole chain. It is never dropped, since G has no sign to overshoot in.
//  3. A sampled closing boundary counts as chain in r, ρ, KL and entropy.

// Weights are the weights of one sample for the next optimizer step. now is the
// policy's present view of it; nil says that the policy has not moved (all r = 1).
// Lengths in now that differ from the sample's panic. A log-probability that is
// not finite is an error: the policy has diverged.
func (p *Plan) Weights(group, sample int, now *Current) (Weights, TokenStats, error) {
	s, sig := &p.groups[group].Samples[sample], &p.signals[group][sample]
	nc, nb, na := len(s.Chain), len(s.Boundary), len(s.Answer)
	slab := make([]float64, nc+nb+na)
	w := Weights{Chain: slab[:nc:nc], Boundary: slab[nc : nc+nb : nc+nb], Answer: slab[nc+nb:]}
	if now == nil {
		now = &Current{Chain: s.Chain, Boundary: s.Boundary}
	} else if err := now.check(s); err != nil {
		return w, TokenStats{}, fmt.Errorf("objective: group %d: chain %d: %w", group, sample, err)
	}
	var stats TokenStats
	if sig.out {
		return w, stats, nil
	}
	scale := p.scale[group][sample]

	runs := []run{{w: w.Chain, old: s.Chain, now: now.Chain}}
	if s.Closed {
		runs = append(runs, run{w: w.Boundary, old: s.Boundary, now: now.Boundary})
	}
	logRho := 0.0
	for _, r := range runs {
		logRho += p.trace(r, scale*p.cfg.LambdaTrace, sig.trace, &stats)
	}
	rho := p.clampRatio(math.Exp(logRho))
	stats.sequence(logRho, p.cfg)
	if sig.token != nil {
		c := scale * p.cfg.LambdaToken
		if p.cfg.Ratio && p.cfg.TokenLoss == Derived {
			c *= rho
		}
		for i, g := range sig.token {
			w.Answer[i] = c * g
		}
	}
	if !s.Closed {
		p.format(w.Boundary, group, scale)
		for i := range w.Boundary {
			w.Boundary[i] += scale * p.cfg.LambdaTrace * sig.force
		}
	}
	if p.cfg.KL > 0 {
		ref := &p.groups[group].Ref[sample]
		addKL(runs[0], ref.Chain, scale*p.cfg.KL, &stats)
		if s.Closed {
			addKL(runs[1], ref.Boundary, scale*p.cfg.KL, &stats)
		}
	}
	if p.cfg.Entropy != 0 {
		w.ChainEntropy = scale * p.cfg.Entropy
		if s.Closed {
			w.BoundaryEntropy = w.ChainEntropy
		}
	}
	if !p.cfg.Method.Rollouts() {
		stats = TokenStats{} // there is no rollout to have moved away from
	}
	return w, stats, nil
}

// run is a stretch of sampled tokens: where its weights go, and its
// log-probabilities at rollout and now.
type run struct{ w, old, now []float64 }

// trace fills the policy-gradient weights of a run and returns log Π r_t.
func (p *Plan) trace(r run, scale, a float64, stats *TokenStats) float64 {
	logRho := 0.0
	for t, old := range r.old {
		d := r.now[t] - old
		logRho += d
		ratio := math.Exp(d)
		low := a < 0 && ratio < 1-p.cfg.ClipLow
		high := a > 0 && ratio > 1+p.cfg.ClipHigh
		stats.token(d, ratio, low && p.cfg.Ratio, high && p.cfg.Ratio)
		switch {
		case !p.cfg.Ratio:
			r.w[t] = scale * a
		case low || high:
			r.w[t] = 0
		default:
			r.w[t] = scale * p.clampRatio(ratio) * a
		}
	}
	return logRho
}

func (p *Plan) clampRatio(r float64) float64 {
	return min(max(r, 1-p.cfg.ClipLow), 1+p.cfg.ClipHigh)
}

// tokenLoss applies TokenLoss and TokenCap to what the method derived.
func (p *Plan) tokenLoss() {
	capped, all := 0, 0
	for i := range p.signals {
		for k := range p.signals[i] {
			sig := &p.signals[i][k]
			switch {
			case sig.out:
			case p.cfg.TokenLoss == NLL:
				sig.token = ones(len(p.groups[i].Samples[k].Answer))
			case p.cfg.TokenLoss == Off:
				sig.token = nil
			default:
				for t, g := range sig.token {
					all++
					if p.cfg.TokenCap > 0 && g > p.cfg.TokenCap {
						sig.token[t] = p.cfg.TokenCap
						capped++
					}
				}
			}
		}
	}
	if all > 0 && p.cfg.TokenCap > 0 {
		p.metrics["nrt/token_capped"] = float64(capped) / float64(all)
	}
}
