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
	c := adamConst[T]{
		scale: T(o.Scale), eps: T(o.Eps),
		b1: T(o.Beta1), c1: T(1 - o.Beta1), b2: T(o.Beta2), c2: T(1 - o.Beta2),
		keep: T(1 - o.LR*o.WeightDecay),
		step: T(o.LR / (1 - math.Pow(o.Beta1, float64(o.Step)))),
		root: T(1 / math.Sqrt(1-math.Pow(o.Beta2, float64(o.Step)))),
	}
	if m8, v8 := moments8(m, v, n); m8 != nil {
		j := &d.jobs.adamw8
		*j = adamw8Job[T]{d: d, g: d.in("AdamW", "g", g, n), p: d.out("AdamW", "p", p, n), m: m8, v: v8, c: c}
		d.pool.divide(len(m8.scales), 32*device.Block8, j)
		return
	}
	j := &d.jobs.adamw
	*j = adamwJob[T]{k: d.k, g: d.in("AdamW", "g", g, n),
		p: d.out("AdamW", "p", p, n), m: d.out("AdamW", "m", m, n), v: d.out("AdamW", "v", v, n), c: c}
	d.pool.divide(n, 8, j)
}

type adamwJob[T real] struct {
	k          *kernels[T]
	p, g, m, v []T
	c          adamConst[T]
}

func (j *adamwJob[T]) do(_, lo, hi int) {
	j.k.adamw(j.p[lo:hi], j.g[lo:hi], j.m[lo:hi], j.v[lo:hi], j.c)
}

// squarePiece is how many floats add up to one part of SumSquares.
const squarePiece = 1 << 14

// SumSquares adds pieces of a fixed size in their order.
func (d *dev[T]) SumSquares(b device.Buffer) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := &d.jobs.squares
	x := d.in("SumSquares", "b", b, b.Len())
	*j = squaresJob[T]{k: d.k, x: x, parts: grow(&j.parts, (len(x)+squarePiece-1)/squarePiece)}
	d.pool.divide(len(j.parts), squarePiece, j)
	var sum float64
	for _, s := range j.parts {
		sum += s
	}
	return sum
}

type squaresJob[T real] struct {
	k     *kernels[T]
	x     []T
	parts []float64
}

func (j *squaresJob[T]) do(_, lo, hi int) {
	for i := lo; i < hi; i++ {
		j.parts[i] = j.k.sumSquares(j.x[i*squarePiece : min((i+1)*squarePiece, len(j.x))])
	}
}
