package reward

import "math"

// clip sets Base, Harmful and Clipped of sc, and G to ∂R'/∂s, given the empty
// chain's reward (and, in the log modes, its u).
//
//	R' = max(0, R − R_base)      g' = 1[R > R_base]·g
//
// A chain that changes nothing (R = R_base) earns nothing. p and gm compare and
// subtract logarithms, R − R_base = R·(1 − e^{u_base − u}): the tempting
// difference of two exponentials loses every digit on a long answer.
func clip(sc *Scored, o Options, base, ubase float64) {
	sc.Base = base
	if o.Mode.Log() {
		sc.Harmful = sc.u <= ubase
	} else {
		sc.Harmful = sc.R <= base
	}
	switch {
	case !o.Clip:
		sc.Clipped = sc.R
	case sc.Harmful:
		sc.Clipped = 0
		fill(sc.G, 0)
	case o.Mode.product():
		sc.Clipped = sc.R * -math.Expm1(ubase-sc.u)
	default:
		sc.Clipped = sc.R - base
	}
}

// relative is R' in units of e^unit, for the group's statistics.
func relative(sc *Scored, o Options, ubase, unit float64) float64 {
	if !o.Mode.product() {
		return sc.Clipped
	}
	if !o.Clip {
		return math.Exp(sc.u - unit)
	}
	if sc.Harmful {
		return 0
	}
	return math.Exp(sc.u-unit) * -math.Expm1(ubase-sc.u)
}
