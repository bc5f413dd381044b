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
	x := d.in(op, "logits", logits, len(rows)*vocab)
	d.pool.each(len(rows), 16*vocab, func(w, lo, hi int) {
		for i := lo; i < hi; i++ {
			out[i] = d.draw(&d.scratch[w].sampler, row(x, i, vocab), rows[i])
		}
	})
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
	if r.Temperature > 0 {
		scale = T(1 / r.Temperature)
	}
	sp := d.spread(x, scale)
	lse := sp.lse()
	logp := func(id int32) float64 { return float64(scale*x[id]) - lse }

	if len(s.banned) < len(x) {
		s.banned = make([]bool, len(x))
	}
	for _, id := range r.Ban {
		s.banned[id] = true
	}
	likeliest := s.first(x)
	res := device.Sampled{ID: likeliest, LogProb: math.Inf(-1), Entropy: sp.entropy()}
	if likeliest >= 0 && r.Temperature > 0 {
		p := grow(&s.p, len(x))
		d.k.exp(p, x, scale, scale*x[likeliest])
		if r.TopK > 0 || r.TopP > 0 && r.TopP < 1 || r.MinP > 0 {
			res.ID = choose(truncate(s.fill(x, p), r), r.U)
		} else {
			res.ID = s.pick(x, p, x[likeliest], scale, r.U)
		}
	}
	for _, id := range r.Ban {
		s.banned[id] = false
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

// first is the likeliest token that is not banned, −1 if all are.
func (s *sampler[T]) first(x []T) int32 {
	id := -1
	for i, v := range x {
		if !s.banned[i] && (id < 0 || v > x[id]) {
			id = i
		}
	}
	return int32(id)
}

// fill lists the tokens that are not banned.
func (s *sampler[T]) fill(x, p []T) []candidate[T] {
	c := s.candidates[:0]
	for i, v := range x {
		if !s.banned[i] {
			c = append(c, candidate[T]{int32(i), v, float64(p[i])})
		}
	}
	s.candidates = c
	return c
}

// pick draws by inverse CDF from all tokens that are not banned, without
// sorting them: their mass is first added up in bins that are ordered like the
// tokens, then only the bin in which the draw falls is sorted.
func (s *sampler[T]) pick(x, p []T, top, scale T, u float64) int32 {
	const bins, width = 256, 1.0 / 8 // nats below the likeliest
	bin := func(v T) int {
		if b := scale * (top - v) / width; b < bins-1 {
			return int(b)
		}
		return bins - 1
	}
	var mass [bins]float64
	for i, v := range x {
		if !s.banned[i] {
			mass[bin(v)] += float64(p[i])
		}
	}
	var total float64
	for _, m := range mass {
		total += m
	}
	limit, below, at := u*total, 0.0, 0
	for at < bins-1 && !(below+mass[at] > limit) {
		below += mass[at]
		at++
	}
	for at > 0 && mass[at] == 0 { // rounding left the whole mass a little short
		at--
	}
	c := s.candidates[:0]
	for i, v := range x {
		if !s.banned[i] && bin(v) == at {
			c = append(c, candidate[T]{int32(i), v, float64(p[i])})
		}
	}
	s.candidates = c
	return c[lead(c, func(_ int, m float64) bool { return below+m > limit })].id
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
