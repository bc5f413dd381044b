package cpu

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"nrt/backend/device"
)

// Sample draws one token per row. Log-probabilities and entropy are made as in
// Classifier, from the same sums.
func (d *dev[T]) Sample(out []device.Sampled, logits device.Buffer, rows []device.SampleRow, vocab int) {
	const op = "Sample"
	positive(op, vocab)
	if len(out) != len(rows) {
		panic(fmt.Sprintf("cpu: %s: out has %d rows, want %d", op, len(out), len(rows)))
	}
	for i, r := range rows {
		if r.U < 0 || r.U >= 1 || r.Temperature < 0 || r.TopK < 0 || r.Top < 0 {
			panic(fmt.Sprintf("cpu: %s: rows[%d]: %+v", op, i, r))
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	j := &d.jobs.sample
	*j = sampleJob[T]{d: d, out: out, rows: rows, vocab: vocab, x: d.in(op, "logits", logits, len(rows)*vocab)}
	d.pool.divide(len(rows), 16*vocab, j)
}

type sampleJob[T real] struct {
	d     *dev[T]
	out   []device.Sampled
	rows  []device.SampleRow
	vocab int
	x     []T
}

func (j *sampleJob[T]) do(worker, lo, hi int) {
	for i := lo; i < hi; i++ {
		j.out[i] = j.d.draw(&j.d.scratch[worker].sampler, row(j.x, i, j.vocab), j.rows[i])
	}
}

// candidate is a token that may be drawn; p is relative to the most likely.
type candidate[T real] struct {
	id int32
	x  T
	p  float64
}

// sampler is the memory of one worker's draws.
type sampler[T real] struct {
	candidates []candidate[T]
	p          []T // relative to the likeliest
}

// before is the order of drawing: descending probability, ties by lower id.
func before[T real](a, b candidate[T]) int {
	if c := cmp.Compare(b.x, a.x); c != 0 {
		return c
	}
	return cmp.Compare(a.id, b.id)
}

func (d *dev[T]) draw(s *sampler[T], x []T, r device.SampleRow) device.Sampled {
	scale := T(1)
	if !r.Greedy() {
		scale = T(1 / r.Temperature)
	}
	sp := d.spread(x, scale)
	lse := sp.lse()
	logp := func(id int32) float64 { return float64(scale*x[id]) - lse }

	id, ok := int32(0), false
	if !r.Greedy() {
		p := grow(&s.p, len(x))
		d.k.exp(p, x, scale, T(sp.top))
		o := order[T]{k: d.k, s: s, x: x, p: p, top: T(sp.top) / scale, unit: 1 / scale}
		id, ok = o.draw(r)
	}
	if !ok {
		id = likeliest(x)
	}
	res := device.Sampled{ID: id, LogProb: logp(id), Entropy: sp.entropy()}
	if n := min(r.Top, len(x)); n > 0 {
		res.Top = make([]device.Alternative, n)
		for i, t := range best(x, n) {
			res.Top[i] = device.Alternative{ID: t.id, LogProb: logp(t.id)}
		}
	}
	return res
}

// likeliest is the id of the largest number, the first of several.
func likeliest[T real](x []T) int32 {
	id := 0
	for i, v := range x {
		if v > x[id] {
			id = i
		}
	}
	return int32(id)
}

// order is all tokens of a row in the order of drawing, which is never made:
// truncation keeps a beginning of it, of which only the mass matters, and a draw
// looks for the token at which so much mass is reached.
type order[T real] struct {
	k         *kernels[T]
	s         *sampler[T]
	x, p      []T
	top, unit T // about the largest x, and a nat
}

// draw truncates by TopK, then by TopP of what is left, then by MinP of the
// likeliest, and picks by inverse CDF. It is not ok when there is no mass to go by: the
// row has NaN or infinity, or numbers so large that rounding the largest is worth many
// nats.
func (o *order[T]) draw(r device.SampleRow) (id int32, ok bool) {
	all, kept := o.k.above(o.x, o.p, T(math.Inf(-1)))
	if !(kept > 0) || math.IsInf(kept, 1) {
		return -1, false
	}
	if r.TopK > 0 && r.TopK < all {
		_, kept = o.reach(all, kept, func(n int, _ float64) bool { return n >= r.TopK })
	}
	if r.TopP > 0 && r.TopP < 1 {
		limit := r.TopP * kept
		_, kept = o.reach(all, kept, func(n int, m float64) bool { return n >= 1 && m >= limit })
	}
	if r.MinP > 0 {
		// p ≥ MinP of the likeliest's is x ≥ top + log(MinP) nats; what is kept
		// ends before the first token that is less.
		id, _ := o.reach(all, kept, func(n int, _ float64) bool { return n >= 1 })
		least := r.MinP * float64(o.p[id])
		var m float64
		for _, v := range o.p {
			if float64(v) >= least {
				m += float64(v)
			}
		}
		kept = min(kept, m)
	}
	limit := r.U * kept
	id, _ = o.reach(all, kept, func(_ int, m float64) bool { return m > limit })
	return id, true
}

// reach finds the first token in the order at which enough(tokens, mass) of the
// tokens up to and including it holds, and their mass; all tokens are n, of the
// given mass. It halves the range of x in which the token lies until few are in
// it, and sorts those.
func (o *order[T]) reach(n int, mass float64, enough func(n int, mass float64) bool) (int32, float64) {
	const few = 24
	lo, hi := T(math.Inf(-1)), T(math.Inf(1)) // tokens > hi are not enough, > lo are
	nHi, mHi := 0, 0.0
	step := o.unit
	for at := o.top - step; n-nHi > few && at > lo && at < hi; {
		if c, m := o.k.above(o.x, o.p, at); enough(c, m) {
			lo, n = at, c
		} else {
			hi, nHi, mHi = at, c, m
		}
		switch {
		case math.IsInf(float64(lo), 0):
			step *= 2
			at = hi - step
		case math.IsInf(float64(hi), 0):
			step *= 2
			at = lo + step
		default:
			at = lo + (hi-lo)/2
		}
	}
	// Which tokens are in it no processor guesses one by one, so each is written down,
	// and written over by the next one where it is not.
	const stretch = 64
	var found [stretch]int32
	c := o.s.candidates[:0]
	for from := 0; from < len(o.x); from += stretch {
		in := 0
		for i, v := range o.x[from:min(from+stretch, len(o.x))] {
			found[in] = int32(from + i)
			in += one(v > lo) & one(v <= hi)
		}
		for _, id := range found[:in] {
			c = append(c, candidate[T]{id, o.x[id], float64(o.p[id])})
		}
	}
	o.s.candidates = c
	slices.SortFunc(c, before)
	at, m := 0, c[0].p
	for at < len(c)-1 && !enough(nHi+at+1, mHi+m) {
		at++
		m += c[at].p
	}
	// Where rounding left the whole mass a little short, the last one that has any.
	for at > 0 && c[at].p == 0 && !enough(nHi+at+1, mHi+m) {
		at--
	}
	return c[at].id, min(mHi+m, mass)
}

// one is 1 if b holds, else 0.
func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// best is the n likeliest tokens in order. Twice as many are gathered before they are
// sorted and cut to n.
func best[T real](x []T, n int) []candidate[T] {
	var top []candidate[T]
	full := false // the first n are the likeliest before the others
	for i, v := range x {
		t := candidate[T]{id: int32(i), x: v}
		if full && before(t, top[n-1]) > 0 {
			continue
		}
		if top = append(top, t); len(top) == 2*n {
			slices.SortFunc(top, before[T])
			top, full = top[:n], true
		}
	}
	slices.SortFunc(top, before[T])
	return top[:n]
}
