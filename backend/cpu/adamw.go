package cpu

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

// AdamW updates, with g the scaled gradient and t the step,
//
//	m = β₁·m + (1−β₁)·g,  v = β₂·v + (1−β₂)·g²
//	p = p − LR·(m/(1−β₁ᵗ)/(sqrt(v/(1−β₂ᵗ)) + eps) + WeightDecay·p)
func (d *dev[T]) AdamW(p, g, m, v device.Buffer, o device.AdamW) {
	if o.Step < 1 {
		panic(fmt.Sprintf("cpu: AdamW: step %d, want >= 1", o.Step))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := p.Len()
	G := d.in("AdamW", "g", g, n)
	P, M, V := d.out("AdamW", "p", p, n), d.out("AdamW", "m", m, n), d.out("AdamW", "v", v, n)
	c := adamConst[T]{
		scale: T(o.Scale), eps: T(o.Eps),
		b1: T(o.Beta1), c1: T(1 - o.Beta1), b2: T(o.Beta2), c2: T(1 - o.Beta2),
		keep: T(1 - o.LR*o.WeightDecay),
		step: T(o.LR / (1 - math.Pow(o.Beta1, float64(o.Step)))),
		root: T(1 / math.Sqrt(1-math.Pow(o.Beta2, float64(o.Step)))),
	}
	d.pool.each(n, 8, func(_, lo, hi int) { d.k.adamw(P[lo:hi], G[lo:hi], M[lo:hi], V[lo:hi], c) })
}

// SumSquares adds pieces of a fixed size in their order.
func (d *dev[T]) SumSquares(b device.Buffer) float64 {
	const piece = 1 << 14
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.in("SumSquares", "b", b, b.Len())
	parts := make([]float64, (len(x)+piece-1)/piece)
	d.pool.each(len(parts), piece, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			parts[i] = d.k.sumSquares(x[i*piece : min((i+1)*piece, len(x))])
		}
	})
	var sum float64
	for _, s := range parts {
		sum += s
	}
	return sum
}
