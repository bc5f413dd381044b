package cpu

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

const (
	// vocabChunk is how many logits of a row exist at a time. It fixes the
	// order of summation, and Sample uses the same, so that a token's
	// log-probability is the same number when drawn and when trained on.
	vocabChunk = 2048
	// logitsMax bounds the gradient of the logits held by ClassifierBackward.
	logitsMax = 1 << 20
)

// spread is what a row's softmax is made of: with x the scaled logits,
// top = max x, sum = Σ exp(x−top), weighted = Σ exp(x−top)·(x−top).
type spread struct{ top, sum, weighted float64 }

// join merges the spreads of two parts of a row.
func (s spread) join(o spread) spread {
	if s.sum == 0 {
		return o
	}
	top := s.top
	if o.top > top || o.top != o.top {
		top = o.top
	}
	add := func(t spread) (sum, weighted float64) {
		e := math.Exp(t.top - top)
		if e == 0 {
			return 0, 0
		}
		return t.sum * e, e * (t.weighted + (t.top-top)*t.sum)
	}
	s1, w1 := add(s)
	s2, w2 := add(o)
	return spread{top, s1 + s2, w1 + w2}
}

// lse is log Σ exp x; entropy is log sum − weighted/sum, both terms ≥ 0.
func (s spread) lse() float64     { return s.top + math.Log(s.sum) }
func (s spread) entropy() float64 { return math.Log(s.sum) - s.weighted/s.sum }

// spread reads one row of logits chunk by chunk.
func (d *dev[T]) spread(logits []T, scale T) spread {
	var s spread
	for j := 0; j < len(logits); j += vocabChunk {
		top, sum, weighted := d.k.stats(logits[j:min(j+vocabChunk, len(logits))], scale)
		s = s.join(spread{float64(top), float64(sum), float64(weighted)})
	}
	return s
}

// class is one classifier call.
type class[T real] struct {
	d          *dev[T]
	h          []T
	w          device.Buffer
	targets    []int32
	vocab, dim int
	scale      T
}

func newClass[T real](d *dev[T], op string, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64, fwd device.Classified) class[T] {
	positive(op, vocab, dim)
	checkIDs(op, "targets", targets, vocab)
	if len(fwd.LogProb) != len(targets) || len(fwd.Entropy) != len(targets) || len(fwd.LSE) != len(targets) {
		panic(fmt.Sprintf("cpu: %s: results for %d, %d, %d rows, want %d", op, len(fwd.LogProb), len(fwd.Entropy), len(fwd.LSE), len(targets)))
	}
	if d.weights(op, "w", w, vocab, dim) == nil {
		d.in(op, "w", w, vocab*dim)
	}
	return class[T]{d: d, h: d.in(op, "h", h, len(targets)*dim), w: w, targets: targets, vocab: vocab, dim: dim, scale: T(invTemp)}
}

// panels returns rows [j, j+n) of w transposed and packed; j counts chunks.
func (c *class[T]) panels(j, n int) panels[T] {
	nr := c.d.k.nr
	if w, ok := c.w.(*weights[T]); ok {
		return w.p.part(j, n, nr)
	}
	w := c.w.(*buffer[T])
	if p := c.d.packs.lookup(c.d, w, c.vocab, c.dim); p != nil {
		whole := panels[T]{full: p, n: c.vocab, k: c.dim}
		return whole.part(j, n, nr)
	}
	p := grow(&c.d.shared, (n+nr-1)/nr*nr*c.dim)
	c.d.packTransposed(p, w.data[j*c.dim:], c.dim, n, c.dim)
	return panels[T]{full: p, n: n, k: c.dim}
}

// block is how many rows a task takes out of n.
func (c *class[T]) block(n int) int {
	mr := c.d.k.mr
	want := (n + 4*c.d.pool.threads - 1) / (4 * c.d.pool.threads)
	return min(max(1, (want+mr-1)/mr), 4) * mr
}

// blocks calls f for blocks of the rows [r0, r1), in parallel.
func (c *class[T]) blocks(r0, r1, cost int, f func(s *scratch[T], lo, hi int)) {
	size := c.block(r1 - r0)
	n := (r1 - r0 + size - 1) / size
	c.d.pool.each(n, size*cost, func(w, lo, hi int) {
		for t := lo; t < hi; t++ {
			f(&c.d.scratch[w], r0+t*size, min(r0+(t+1)*size, r1))
		}
	})
}

// Classifier. With x_v = invTemp·h·w_v: LSE = log Σ exp x_v, LogProb =
// x_target − LSE, Entropy = LSE − Σ p_v·x_v.
func (d *dev[T]) Classifier(out device.Classified, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64) {
	const op = "Classifier"
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newClass(d, op, h, w, targets, vocab, dim, invTemp, out)
	state := make([]spread, len(targets))
	for j := 0; j < vocab; j += vocabChunk {
		n := min(vocabChunk, vocab-j)
		p := c.panels(j, n)
		look := func(logits []T, lo, hi int) {
			for i := lo; i < hi; i++ {
				x := row(logits, i-lo, n)
				top, sum, weighted := d.k.stats(x, c.scale)
				state[i] = state[i].join(spread{float64(top), float64(sum), float64(weighted)})
				if t := int(targets[i]) - j; t >= 0 && t < n {
					out.LogProb[i] = float64(c.scale * x[t])
				}
			}
		}
		if m := len(targets); m <= d.k.fewMax { // few rows; share out the vocabulary
			logits := grow(&d.logits, m*n)
			d.project(logits, n, c.h, dim, 1, p, m, false)
			look(logits, 0, m)
			continue
		}
		c.blocks(0, len(targets), n*(dim+8), func(s *scratch[T], lo, hi int) {
			logits := grow(&s.c, (hi-lo)*n)
			d.block(s, logits, n, c.h[lo*dim:], dim, 1, right[T]{packed: p}, 0, hi-lo, 0, n, dim, false)
			look(logits, lo, hi)
		})
	}
	for i, s := range state {
		out.LSE[i] = s.lse()
		out.LogProb[i] -= out.LSE[i]
		out.Entropy[i] = s.entropy()
	}
}

// ClassifierBackward. For L = −Σ_t (a_t·log π(target_t) + e_t·H_t),
//
//	∂log π/∂x_v = 1[v=target] − p_v,  ∂H/∂x_v = −p_v·(log p_v + H)
//	∂L/∂logit_v = invTemp·(p_v·(a + e·(log p_v + H)) − a·1[v=target])
//	dh = dlogits·w,  dw += dlogitsᵀ·h
//
// dlogits exists for as many rows and one chunk of the vocabulary at a time as
// fit into logitsMax: first dlogits and dh by rows, then dw by vocabulary.
func (d *dev[T]) ClassifierBackward(dh, dw, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64, fwd device.Classified, wLogp, wEnt []float64) {
	const op = "ClassifierBackward"
	if len(wLogp) != len(targets) || wEnt != nil && len(wEnt) != len(targets) {
		panic(fmt.Sprintf("cpu: %s: %d and %d weights for %d rows", op, len(wLogp), len(wEnt), len(targets)))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newClass(d, op, h, w, targets, vocab, dim, invTemp, fwd)
	W := d.in(op, "w", w, vocab*dim)
	DH, DW := d.out(op, "dh", dh, len(c.h)), d.out(op, "dw", dw, len(W))
	chunk := min(vocabChunk, vocab)
	rows := min(len(targets), max(256, logitsMax/chunk))
	dl := grow(&d.logits, rows*chunk)
	for r0 := 0; r0 < len(targets); r0 += rows {
		r1 := min(r0+rows, len(targets))
		for j := 0; j < vocab; j += chunk {
			n := min(chunk, vocab-j)
			p := c.panels(j, n)
			c.blocks(r0, r1, n*(2*dim+8), func(s *scratch[T], lo, hi int) {
				g := dl[(lo-r0)*n : (hi-r0)*n]
				d.block(s, g, n, c.h[lo*dim:], dim, 1, right[T]{packed: p}, 0, hi-lo, 0, n, dim, false)
				for i := lo; i < hi; i++ {
					x, a, e := row(g, i-lo, n), wLogp[i]*invTemp, 0.0
					if wEnt != nil {
						e = wEnt[i] * invTemp
					}
					d.k.classBack(x, c.scale, T(fwd.LSE[i]), T(fwd.Entropy[i]), T(a), T(e))
					if t := int(targets[i]) - j; t >= 0 && t < n {
						x[t] -= T(a)
					}
				}
				d.block(s, DH[lo*dim:], dim, g, n, 1, right[T]{rows: W[j*dim:], ld: dim}, 0, hi-lo, 0, dim, n, j > 0)
			})
			d.product(DW[j*dim:], dim, dl, 1, n, right[T]{rows: c.h[r0*dim:], ld: dim}, n, dim, r1-r0, true)
		}
	}
}
