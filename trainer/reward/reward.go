// Package reward scores a reasoning chain by what it does to the reference
// answer's probability, without a verifier.
//
// A chain z is sampled, then the model reads the reference answer y* after it.
// Per answer token i of T: s_i = log π(y*_i | question, z, y*_<i), c_i = e^{s_i},
// and b_i is the same probability after an empty chain, always a constant: if b
// were trained, the model would be paid for forgetting the answer. L = Σ s_i.
//
//	mode     reward R             g_i = ∂R/∂s_i        R_base (c = b)
//	logp     L                    1                    Σ log b
//	p        e^L                  e^L                  Π b
//	gm       e^{L/T}              R/T                  e^{mean log b}
//	am       (1/T) Σ c            c_i/T                mean b
//	ws-1/p   (1/T) Σ c/b          c_i/(T·b_i)          1
//	ws-logp  −(1/T) Σ c·log b     −c_i·log b_i / T     −(1/T) Σ b·log b
//
//	ws-* with NormalizeWeights divides the weights of c by their sum:
//	         Σ w c, Σ w = 1       w_i·c_i              Σ w b
//
// These are two shapes, and the code below has no more than two:
//
//	am, ws:   R = Σ w_i c_i                     g_i = w_i c_i
//	logp:     R = u                             g_i = w_i        } u = Σ w_i s_i
//	p, gm:    R = e^u                           g_i = R·w_i      }
//
// At the logits ∂R/∂ℓ_iv = g_i·(1[v = y*_i] − p_iv). Then, in this order:
//
//	clip      R' = max(0, R − R_base)     g' = 1[R > R_base]·g       (clip.go)
//	group     A_k = (R'_k − μ)/σ          token weight g'_ik/σ       (group.go)
//
// T is the same for all chains of a question, so logp, p and gm rank the chains
// of a group alike and differ only in spread; am and the two ws can re-rank.
//
// Everything is a function of its arguments; there is no state but EMA. Read
// reward.go, clip.go, group.go.
//
// # Departures from the paper
//
//  1. b is floored at Options.BaseFloor inside the weights of ws-1/p: one token
//     that the empty chain makes impossible would otherwise be the whole reward.
//     R_base uses the same weights, so it is 1 exactly when no token is floored
//     and below 1 otherwise: clipping compares like with like.
//  2. ws-logp normalised, when every b_i is 1: the weights are 0/0 and are taken
//     as 0, which is the value of the unnormalised reward.
//  3. A log-probability above 0 by rounding (at most 1e-3) counts as 0.
//
// group.go lists its own.
package reward

import (
	"fmt"
	"math"
)

// Mode says how the answer's token probabilities become one number.
type Mode int

// The six modes of the table above.
const (
	LogP   Mode = iota // "logp": log-likelihood, the JLB objective
	P                  // "p": likelihood, VeriFree
	GM                 // "gm": geometric mean
	AM                 // "am": arithmetic mean, RLPR
	WSInvP             // "ws-1/p": weighted sum, weight 1/b
	WSLogP             // "ws-logp": weighted sum, weight −log b
)

var modeNames = [...]string{"logp", "p", "gm", "am", "ws-1/p", "ws-logp"}

// Modes lists all modes in the order of the table.
func Modes() []Mode { return []Mode{LogP, P, GM, AM, WSInvP, WSLogP} }

// String is the mode's name in the table, as ParseMode reads it.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("mode(%d)", int(m))
	}
	return modeNames[m]
}

// ParseMode reads a mode's name.
func ParseMode(name string) (Mode, error) {
	for i, n := range modeNames {
		if n == name {
			return Mode(i), nil
		}
	}
	return 0, fmt.Errorf("reward mode: want one of %v, have %q", modeNames, name)
}

// MarshalText makes a Mode its name in JSON and YAML.
func (m Mode) MarshalText() ([]byte, error) {
	if m < 0 || int(m) >= len(modeNames) {
		return nil, fmt.Errorf("reward mode: have %d, want 0 to %d", int(m), len(modeNames)-1)
	}
	return []byte(modeNames[m]), nil
}

// UnmarshalText is the inverse of MarshalText.
func (m *Mode) UnmarshalText(text []byte) error {
	v, err := ParseMode(string(text))
	if err == nil {
		*m = v
	}
	return err
}

// Log reports whether R is a function of Σ w_i s_i (logp, p, gm); the other
// modes are sums Σ w_i c_i.
func (m Mode) Log() bool { return m == LogP || m == P || m == GM }

// product reports whether R = e^u, which is kept as u until the last moment.
func (m Mode) product() bool { return m == P || m == GM }

// DefaultBaseFloor is the floor of b in ws-1/p when Options.BaseFloor is 0.
const DefaultBaseFloor = 1e-4

// Options choose a reward. The zero value is logp, unclipped, normalised by σ.
type Options struct {
	Mode Mode `json:"mode" yaml:"mode"`
	// NormalizeWeights makes the weights of ws-1/p and ws-logp sum to 1. The
	// other modes do not change.
	NormalizeWeights bool `json:"normalize_weights" yaml:"normalize_weights"`
	// Clip sets R' = max(0, R − R_base). Off, R' = R: a constant baseline would
	// vanish when the group is centred.
	Clip bool `json:"clip" yaml:"clip"`
	// BaseFloor is the least b in the weights of ws-1/p; 0 is DefaultBaseFloor.
	BaseFloor float64 `json:"base_floor" yaml:"base_floor"`
	// SigmaFloor divides by max(σ, SigmaFloor); 0 is none. It is in units of R'
	// and usually an EMA over training.
	SigmaFloor float64 `json:"-" yaml:"-"`
	// NoStd centres without dividing by σ; see group.go.
	NoStd bool `json:"no_std" yaml:"no_std"`
}

// Validate reports the first field that is out of range.
func (o Options) Validate() error {
	if o.Mode < 0 || int(o.Mode) >= len(modeNames) {
		return fmt.Errorf("mode: want 0 to %d, have %d", len(modeNames)-1, int(o.Mode))
	}
	if o.BaseFloor != 0 && !(o.BaseFloor >= 1e-30 && o.BaseFloor <= 1) {
		return fmt.Errorf("base_floor: want 0 or 1e-30 to 1, have %v", o.BaseFloor)
	}
	if !(o.SigmaFloor >= 0) || math.IsInf(o.SigmaFloor, 0) {
		return fmt.Errorf("sigma floor: want a finite number ≥ 0, have %v", o.SigmaFloor)
	}
	return nil
}

// Scored is one chain's reward. Slices have T entries; treat them as read-only.
type Scored struct {
	R    float64 // the reward; p and gm may underflow to 0 here, LogR does not
	LogR float64 // log R of p and gm, exactly; 0 in the other modes
	Base float64 // R_base: the same reward of the empty chain
	// Clipped is R' = max(0, R − R_base), or R when Options.Clip is off.
	Clipped float64
	// Harmful: R ≤ R_base, whether or not clipping is on.
	Harmful bool
	// Advantage is A, from the group; 0 for a chain scored alone.
	Advantage float64

	C []float64 // c_i
	// W is the weight of c_i (am, ws; 1/T is included) or of s_i (logp, p, gm).
	// The chains of a group share one slice.
	W []float64
	// Contribution is W·c (sums to R: am, ws) or W·s (sums to R for logp and to
	// log R for p and gm).
	Contribution []float64
	// G is g'_i = ∂R'/∂s_i, all 0 for a clipped chain.
	G []float64
	// TokenWeight is g'_i/σ, not centred; nil for a chain scored alone.
	TokenWeight []float64

	s   []float64
	l   float64 // Σ s_i
	u   float64 // Σ w_i s_i in the log modes
	rel float64 // R' in units of e^Group.unit
}

// weights fills w with what multiplies c_i, or s_i in the log modes.
func weights(w, b, logb []float64, o Options) {
	t := float64(len(w))
	switch o.Mode {
	case LogP, P:
		fill(w, 1)
		return
	case GM, AM:
		fill(w, 1/t)
		return
	case WSInvP:
		floor := o.BaseFloor
		if floor == 0 {
			floor = DefaultBaseFloor
		}
		for i, x := range b {
			w[i] = 1 / max(x, floor)
		}
	case WSLogP:
		for i, x := range logb {
			w[i] = 0 - x
		}
	}
	if o.NormalizeWeights {
		t = 0
		for _, x := range w {
			t += x
		}
	}
	for i := range w {
		if t > 0 {
			w[i] /= t
		} else {
			w[i] = 0
		}
	}
}

// value is R, and u in the log modes, of an answer with log-probabilities s,
// their sum l and their exponentials c. The empty chain goes through it too, so
// c = b ties with R_base to the last bit.
func value(m Mode, w, c []float64, l float64) (r, u float64) {
	switch m {
	case LogP:
		return l, l
	case P:
		return math.Exp(l), l
	case GM:
		u = l / float64(len(c))
		return math.Exp(u), u
	}
	for i, x := range w {
		r += x * c[i]
	}
	return r, 0
}

// evaluate fills R, LogR, Contribution and G (unclipped) of sc.
func evaluate(sc *Scored, m Mode) {
	sc.R, sc.u = value(m, sc.W, sc.C, sc.l)
	sc.LogR = 0
	if !m.Log() {
		for i, w := range sc.W {
			wc := w * sc.C[i]
			sc.Contribution[i], sc.G[i] = wc, wc
		}
		return
	}
	scale := 1.0
	if m.product() {
		sc.LogR, scale = sc.u, sc.R
	}
	for i, w := range sc.W {
		sc.Contribution[i], sc.G[i] = w*sc.s[i], scale*w
	}
}

// exponentials fills c = e^s with s held at 0 and below, and returns Σ s.
func exponentials(c, s, from []float64) (l float64) {
	for i, x := range from {
		x = min(x, 0)
		s[i], c[i] = x, math.Exp(x)
		l += x
	}
	return l
}

func fill(x []float64, v float64) {
	for i := range x {
		x[i] = v
	}
}
