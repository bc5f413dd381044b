package reward

import (
	"errors"
	"fmt"
	"math"
)

// Group is the K chains of one question, scored against each other:
//
//	A_k  = (R'_k − μ)/σ        μ, σ over the K chains, σ unbiased (ddof = 1)
//	G_ik = g'_ik/σ             the token weight, NOT centred
//
// Why G is not centred: the trace term Σ A_k ∇log π(z_k) may subtract μ because
// E[∇log π(z)] = 0; the token term is the derivative of R itself and has no such
// freedom. Differentiating ΣA automatically is the trap: Σ_k ∂A_k/∂R'_j = 0, so
// the answer would get no gradient at all.
//
// Options.NoStd keeps only the centring, A_k = K/(K−1)·(R'_k − μ) and G = g'.
// The factor makes A_k the reward minus the mean of the *other* chains
// (leave-one-out), because centring with a mean that holds R'_k itself returns
// (K−1)/K of the gradient. Only this form is unbiased, and the tests show it.
//
// A group of one chain has no others: A = 0, and G = 0 too unless NoStd or a floor is set.
//
// # Departures from the paper
//
//  1. σ floor: σ ← max(σ, Options.SigmaFloor) in A and G alike. Uncentred g'/σ
//     explodes in groups of nearly equal rewards. 0 gives the paper's form.
//  2. σ = 0 means σ ≤ 1e-9·(largest |R|, and |R_base| when clipping): below that
//     a difference is rounding, and dividing by it would amplify noise of equal
//     rewards to A = ±1. A is then 0 exactly. G is 0 too, unless a σ floor above
//     that threshold is there to divide by: equal good chains still teach the
//     answer, but never by a division by rounding.
//  3. p and gm: A and G do not change when all rewards of a group are multiplied
//     by one number, so they are computed in units of the group's best reward,
//     e^{u_k − max u}. A 5000-token answer has P = e^{-100000} = 0 in floating
//     point; its group still has a variance, ranks and weights. R, Clipped, Mean
//     and Sigma are plain numbers and may underflow. A σ floor is absolute, so it
//     silences such a group: the floor says that this spread is too small.
type Group struct {
	Base float64 // R_base
	Mean float64 // μ of R'
	// Sigma is the σ of R' before the floor, 0 when ZeroVariance.
	Sigma float64
	// ZeroVariance: the chains tie, so every A is 0.
	ZeroVariance bool
	// AllHarmful: clipping left every R' = 0; the group teaches nothing.
	AllHarmful bool
	// Floored: the floor, not σ, divided. A floor within rounding of σ is σ, and one
	// below rounding is none.
	Floored bool
	Chains  []Scored

	o           Options
	ubase, unit float64 // log R_base and the unit's logarithm (p, gm), else 0
	mean, sigma float64 // of rel
	noise       float64 // below this, in the unit, σ is rounding
	w, b, logb  []float64
	slab        []float64
}

// equal is the relative spread below which rewards tie (departure 2). It is far
// above the rounding of a float64 sum of 1e5 terms and below any difference that
// float32 log-probabilities carry.
const equal = 1e-9

// limits of a log-probability: above by rounding only, below anything a model
// gives, but small enough that sums and squares stay finite.
const (
	maxLogProb = 1e-3
	minLogProb = -1e100
)

// Score scores one chain: s[i] = log c_i and logb[i] = log b_i, both of length
// T ≥ 1. There is no group, so Advantage is 0 and TokenWeight nil.
func Score(s, logb []float64, o Options) (Scored, error) {
	var g Group
	if err := g.Score([][]float64{s}, logb, o); err != nil {
		return Scored{}, err
	}
	sc := g.Chains[0]
	sc.Advantage, sc.TokenWeight = 0, nil
	return sc, nil
}

// ScoreGroup scores the K chains of one question: s[k][i] = log c_ik, logb[i] =
// log b_i, all of length T ≥ 1. The error names chain and token of an input that
// is no log-probability. NaN and infinities never get through.
func ScoreGroup(s [][]float64, logb []float64, o Options) (Group, error) {
	var g Group
	err := g.Score(s, logb, o)
	return g, err
}

// Score is ScoreGroup into g, whose memory it uses again: what an earlier call
// returned through g is overwritten. After an error g must be scored again.
func (g *Group) Score(s [][]float64, logb []float64, o Options) error {
	if err := o.Validate(); err != nil {
		return fmt.Errorf("reward options: %w", err)
	}
	k, t := len(s), len(logb)
	if k == 0 {
		return errors.New("reward: group has no chains")
	}
	if t == 0 {
		return errors.New("reward: answer has no tokens")
	}
	if i := badLogProb(logb); i >= 0 {
		return fmt.Errorf("reward: baseline: token %d: %w", i, logProbError(logb[i]))
	}
	for j := range s {
		if err := checkChain(s[j], t); err != nil {
			return fmt.Errorf("reward: chain %d: %w", j, err)
		}
	}
	g.o = o
	g.reserve(k, t)
	l := exponentials(g.b, g.logb, logb)
	weights(g.w, g.b, g.logb, o)
	g.Base, g.ubase = value(o.Mode, g.w, g.b, l)
	for j := range g.Chains {
		sc := &g.Chains[j]
		sc.l = exponentials(sc.C, sc.s, s[j])
		evaluate(sc, o.Mode)
		clip(sc, o, g.Base, g.ubase)
	}
	g.statistics()
	g.Normalize(o.SigmaFloor)
	return nil
}

// reserve lays out k chains of t tokens in one slab: w, b, log b, then five
// slices a chain.
func (g *Group) reserve(k, t int) {
	if n := t * (3 + 5*k); cap(g.slab) < n {
		g.slab = make([]float64, n)
	}
	if cap(g.Chains) < k {
		g.Chains = make([]Scored, k)
	}
	g.Chains = g.Chains[:k]
	next := g.slab[:cap(g.slab)]
	take := func() []float64 {
		x := next[:t:t]
		next = next[t:]
		return x
	}
	g.w, g.b, g.logb = take(), take(), take()
	for j := range g.Chains {
		g.Chains[j] = Scored{W: g.w, s: take(), C: take(), Contribution: take(), G: take(), TokenWeight: take()}
	}
}

// statistics sets the unit, R' in it, μ, σ and the flags.
func (g *Group) statistics() {
	scale := 0.0
	g.unit = 0
	switch {
	case g.o.Mode.product():
		scale = 1 // the best reward, in its own unit
		g.unit = math.Inf(-1)
		for j := range g.Chains {
			g.unit = max(g.unit, g.Chains[j].u)
		}
	case g.o.Clip:
		scale = math.Abs(g.Base)
	}
	g.AllHarmful = g.o.Clip
	sum := 0.0
	for j := range g.Chains {
		sc := &g.Chains[j]
		sc.rel = relative(sc, g.o, g.ubase, g.unit)
		sum += sc.rel
		if !g.o.Mode.product() {
			scale = max(scale, math.Abs(sc.R))
		}
		g.AllHarmful = g.AllHarmful && sc.Harmful
	}
	g.noise = equal * scale
	g.mean = sum / float64(len(g.Chains))
	ss := 0.0
	for j := range g.Chains {
		d := g.Chains[j].rel - g.mean
		ss += d * d
	}
	g.sigma = unbiased(ss, len(g.Chains), g.noise)
	g.ZeroVariance = g.sigma == 0
	e := math.Exp(g.unit)
	g.Mean, g.Sigma = g.mean*e, g.sigma*e
}

// Normalize recomputes Advantage and TokenWeight of every chain with another σ
// floor (0 is none), without scoring again.
func (g *Group) Normalize(floor float64) {
	g.o.SigmaFloor = floor
	if floor > 0 {
		floor *= math.Exp(-g.unit)
	}
	g.Floored = !g.o.NoStd && floors(floor, g.sigma, g.noise)
	for j := range g.Chains {
		g.normalize(&g.Chains[j], max(g.sigma, floor))
	}
}

// normalize sets A and G of a chain from the group's μ and its σ or the floor.
func (g *Group) normalize(sc *Scored, sigma float64) {
	k := float64(len(g.Chains))
	sc.Advantage = 0
	if g.o.NoStd {
		if !g.ZeroVariance {
			sc.Advantage = k / (k - 1) * (sc.rel - g.mean) * math.Exp(g.unit)
		}
		copy(sc.TokenWeight, sc.G)
		return
	}
	if sigma <= g.noise || math.IsInf(sigma, 0) {
		fill(sc.TokenWeight, 0)
		return
	}
	if !g.ZeroVariance {
		sc.Advantage = (sc.rel - g.mean) / sigma
	}
	if !g.o.Mode.product() {
		for i, x := range sc.G {
			sc.TokenWeight[i] = x / sigma
		}
		return
	}
	x := 0.0
	if !g.o.Clip || !sc.Harmful {
		x = math.Exp(sc.u-g.unit) / sigma
	}
	for i, w := range sc.W {
		sc.TokenWeight[i] = x * w
	}
}

// Token weights that are all finite keep training alive; so every input is
// checked before any is used.
func checkChain(s []float64, t int) error {
	if len(s) != t {
		return fmt.Errorf("want %d answer tokens as in the baseline, have %d", t, len(s))
	}
	if i := badLogProb(s); i >= 0 {
		return fmt.Errorf("token %d: %w", i, logProbError(s[i]))
	}
	return nil
}

func badLogProb(s []float64) int {
	for i, x := range s {
		if !(x >= minLogProb && x <= maxLogProb) {
			return i
		}
	}
	return -1
}

func logProbError(x float64) error {
	return fmt.Errorf("want a log-probability (finite, ≤ 0), have %v", x)
}
