package objective

import "math"

// The KL term is the k3 estimator, as in GRPO: with d = log π_ref − log π per
// sampled token,
//
//	ℒ += KL·(e^d − d − 1)      weight of log π:  KL·(e^d − 1)
//
// What that weight descends: E_π[(π_ref/π − 1) ∇log π] = −∇KL(π_ref‖π) at each
// state the chain went through, not the reverse divergence whose value k3
// estimates. The states are taken as given, and no importance ratio is applied.
//
// Departure: d is held at 20 and below. A token e^20 times likelier under the
// reference would otherwise be the whole batch.
//
// The entropy bonus is Entropy·H at each state the chain went through, over the
// same normaliser; H comes from the classifier, so it is a weight of its own.

const maxLogRatio = 20

func addKL(r run, ref []float64, scale float64, stats *TokenStats) {
	for t, now := range r.now {
		d := min(ref[t]-now, maxLogRatio)
		x := math.Expm1(d)
		r.w[t] += scale * x
		stats.KLSum += x - d
		stats.KLTokens++
	}
}
