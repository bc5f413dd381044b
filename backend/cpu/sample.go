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
		checkIDs(op, "Ban", r.Ban, vocab)
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
	p          []T
	banned     []bool // by id; all false between draws
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

	res := device.Sampled{ID: -1, LogProb: math.Inf(-1), Entropy: sp.entropy()}
	if r.Greedy() {
		res.ID = s.first(x, r.Ban)
	} else {
		p := grow(&s.p, len(x))
		d.k.exp(p, x, scale, T(sp.top))
		o := order[T]{k: d.k, s: s, x: x, p: p, top: T(sp.top) / scale, unit: 1 / scale}
		ok := false
		if len(r.Ban) == 0 {
			res.ID, ok = o.draw(r)
		}
		if !ok {
			res.ID = s.slow(d.k, x, p, scale, r)
		}
	}
	if res.ID >= 0 {
		res.LogProb = logp(res.ID)
	}
	if n := min(r.Top, len(x)); n > 0 {
		res.Top = make([]device.Alternative, n)
		for i, t := range best(x, n) {
			res.Top[i] = device.Alternative{ID: t.id, LogProb: logp(t.id)}
		}
	}
	return res
}

// ban marks the tokens that must not be drawn, until it is called again with
// banned false.
func (s *sampler[T]) ban(ids []int32, vocab int, banned bool) {
	if len(s.banned) < vocab {
		s.banned = make([]bool, vocab)
	}
	for _, id := range ids {
		s.banned[id] = banned
	}
}

// slow draws where tokens are banned or not numbers: it lists all others.
func (s *sampler[T]) slow(k *kernels[T], x, p []T, scale T, r device.SampleRow) int32 {
	likeliest := s.first(x, r.Ban)
	if likeliest >= 0 {
		k.exp(p, x, scale, scale*x[likeliest])
		return choose(truncate(s.fill(x, p, r.Ban), r), r.U)
	}
	return likeliest
}

// first is the likeliest token that is not banned, −1 if all are.
func (s *sampler[T]) first(x []T, banned []int32) int32 {
	s.ban(banned, len(x), true)
	id := -1
	for i, v := range x {
		if !s.banned[i] && (id < 0 || v > x[id]) {
			id = i
		}
	}
	s.ban(banned, len(x), false)
	return int32(id)
}

// fill lists the tokens that are not banned.
func (s *sampler[T]) fill(x, p []T, banned []int32) []candidate[T] {
	s.ban(banned, len(x), true)
	c := s.candidates[:0]
	for i, v := range x {
		if !s.banned[i] {
			c = append(c, candidate[T]{int32(i), v, float64(p[i])})
		}
	}
	s.candidates = c
	s.ban(banned, len(x), false)
	return c
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
// likeliest, and picks by inverse CDF. It is not ok when the row has NaN or
// infinity, which have no mass to go by.
func (o *order[T]) draw(r device.SampleRow) (id int32, ok bool) {
	all, kept := o.k.above(o.x, o.p, T(math.Inf(-1)))
	if !(kept > 0) {
		return -1, false
	}
	if r.TopK > 0 && r.TopK < all {
		_, kept = o.reach(all, kept, func(n int, _ float64) bool { return n >= r.TopK })
	}
	if r.TopP > 0 && r.TopP < 1 {
		limit := r.TopP * kept
		_, kept = o.reach(all, kept, func(_ int, m float64) bool { return m >= limit })
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
	// Half of all tokens may be > lo, which no processor guesses token by token, so
	// stretches without a candidate are passed over at once.
	const stretch = 64
	c := o.s.candidates[:0]
	for from := 0; from < len(o.x); from += stretch {
		to := min(from+stretch, len(o.x))
		x, p := o.x[from:to], o.p[from:to]
		above, _ := o.k.above(x, p, lo)
		if over, _ := o.k.above(x, p, hi); over == above {
			continue
		}
		for i, v := range x {
			if v > lo && v <= hi {
				c = append(c, candidate[T]{int32(from + i), v, float64(p[i])})
			}
		}
	}
	o.s.candidates = c
	at := lead(c, func(n int, m float64) bool { return enough(nHi+n, mHi+m) })
	for _, t := range c[:at+1] {
		mHi += t.p
	}
	return c[at].id, min(mHi, mass)
}

// truncate keeps the likeliest tokens by TopK, then by TopP of what is left,
// then by MinP of the likeliest. The result is not sorted.
func truncate[T real](c []candidate[T], r device.SampleRow) []candidate[T] {
	if r.TopK > 0 && r.TopK < len(c) {
		lead(c, func(n int, _ float64) bool { return n >= r.TopK })
		c = c[:r.TopK]
	}
	if r.TopP > 0 && r.TopP < 1 {
		limit := r.TopP * mass(c)
		c = c[:lead(c, func(_ int, m float64) bool { return m >= limit })+1]
	}
	if r.MinP > 0 {
		limit := 0.0
		for _, t := range c {
			limit = max(limit, t.p)
		}
		limit *= r.MinP
		c = slices.DeleteFunc(c, func(t candidate[T]) bool { return t.p < limit })
	}
	return c
}

// choose picks by inverse CDF.
func choose[T real](c []candidate[T], u float64) int32 {
	limit := u * mass(c)
	return c[lead(c, func(_ int, m float64) bool { return m > limit })].id
}

func mass[T real](c []candidate[T]) float64 {
	var m float64
	for _, t := range c {
		m += t.p
	}
	return m
}

// lead finds the first index, in the order of before, at which enough(tokens,
// mass) of the tokens up to and including it holds, and rearranges c so that
// those tokens come first. It is a quickselect by weight: the expected cost is
// linear, where sorting a vocabulary for each token would not be.
func lead[T real](c []candidate[T], enough func(n int, mass float64) bool) int {
	lo, hi, before0 := 0, len(c), 0.0
	for hi-lo > 8 {
		mid := partition(c[lo:hi]) + lo // c[lo:mid] come before c[mid], the rest after
		m := before0 + mass(c[lo:mid])
		switch {
		case mid > lo && enough(mid, m):
			hi = mid
		case enough(mid+1, m+c[mid].p):
			return mid
		default:
			lo, before0 = mid+1, m+c[mid].p
		}
	}
	slices.SortFunc(c[lo:hi], before)
	for i := lo; i < hi; i++ {
		before0 += c[i].p
		if enough(i+1, before0) {
			return i
		}
	}
	// Rounding left the whole mass a little short: the last token, or the last
	// one that has any mass.
	i := len(c) - 1
	for i > 0 && c[i].p == 0 {
		i--
	}
	return i
}

// partition puts a median of three at its place and returns the place.
func partition[T real](c []candidate[T]) int {
	n := len(c)
	a, b, e := 0, n/2, n-1
	if before(c[b], c[a]) < 0 {
		a, b = b, a
	}
	if before(c[e], c[b]) < 0 {
		b = e
		if before(c[b], c[a]) < 0 {
			b = a
		}
	}
	c[b], c[n-1] = c[n-1], c[b]
	pivot, at := c[n-1], 0
	for i := range n - 1 {
		if before(c[i], pivot) < 0 {
			c[i], c[at] = c[at], c[i]
			at++
		}
	}
	c[at], c[n-1] = c[n-1], c[at]
	return at
}

// best is the n likeliest tokens in order.
func best[T real](x []T, n int) []candidate[T] {
	top := make([]candidate[T], 0, n+1)
	for i, v := range x {
		t := candidate[T]{id: int32(i), x: v}
		if len(top) == n && before(t, top[n-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, t, before)
		top = slices.Insert(top, at, t)
		top = top[:min(len(top), n)]
	}
	return top
}
