package cpu

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

const (
	// vocabChunk is how many logits of a row exist at a time. It fixes the
	// order of summation, and Sample uses the same, so that a token's
	// log-probability is the same number when drawn and when trained on. It
	// is a multiple of every table's nr: a chunk begins with a panel.
	vocabChunk = 1536
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

// class is one classifier call, and as a job one chunk of the vocabulary for
// blocks of its rows.
type class[T real] struct {
	d          *dev[T]
	h          []T
	left       []T // h as the forward products read it, rows rs apart
	rs         int
	w          device.Buffer
	targets    []int32
	vocab, dim int
	scale      T
	fwd        device.Classified
	state      []spread
	kept       []T // fwd.Logits: those of row i from i·pitch on; nil for none
	pitch      int

	// The chunk: logits [j, j+n) for rows [r0, r1), size rows a block; panels is
	// that part of w.
	j, n, r0, r1, size int
	panels             panels[T]

	// The backward pass: nil in the forward one.
	dh, dlogits []T
	rows        []T // of the chunk of w, as products sum over them
	invTemp     float64
	wLogp, wEnt []float64
}

// set prepares for a call.
func (c *class[T]) set(d *dev[T], op string, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64, fwd device.Classified) {
	positive(op, vocab, dim)
	checkIDs(op, "targets", targets, vocab)
	if len(fwd.LogProb) != len(targets) || len(fwd.Entropy) != len(targets) || len(fwd.LSE) != len(targets) {
		panic(fmt.Sprintf("cpu: %s: results for %d, %d, %d rows, want %d", op, len(fwd.LogProb), len(fwd.Entropy), len(fwd.LSE), len(targets)))
	}
	packed := d.weights(op, "w", w, vocab, dim)
	if packed == nil {
		d.in(op, "w", w, vocab*dim)
	}
	*c = class[T]{d: d, h: d.in(op, "h", h, len(targets)*dim), w: w, targets: targets, vocab: vocab, dim: dim, scale: T(invTemp), invTemp: invTemp, fwd: fwd,
		state: c.state}
	l := left[T]{x: c.h, m: len(targets), k: dim}
	c.left, c.rs, _ = l.read(d, packed == nil || packed.p.rounds)
	if fwd.Logits != nil {
		c.kept, c.pitch = d.in(op, "Logits", fwd.Logits, device.LogitsLen(len(targets), vocab)), device.LogitsPitch(vocab)
	}
}

// keptOf is where the chunk's logits of row i are kept.
func (c *class[T]) keptOf(i int) []T { return c.kept[i*c.pitch+c.j:][:c.n] }

// pack returns rows [j, j+n) of w transposed and packed; j counts chunks.
func (c *class[T]) pack(j, n int) panels[T] {
	nr := c.d.k.nr
	if w, ok := c.w.(*weights[T]); ok {
		return w.p.part(j, n, nr)
	}
	w := c.w.(*buffer[T])
	if p := c.d.packs.lookup(c.d, w, c.vocab, c.dim); p != nil {
		whole := c.d.packed(p, c.vocab, c.dim)
		return whole.part(j, n, nr)
	}
	p := grow(&c.d.shared, (n+nr-1)/nr*nr*c.dim)
	c.d.packBuffer(p, w.data[j*c.dim:], n, c.dim)
	return c.d.packed(p, n, c.dim)
}

// block is how many rows a task takes out of n.
func (c *class[T]) block(n int) int {
	mr := c.d.k.mr
	want := (n + 4*c.d.pool.threads - 1) / (4 * c.d.pool.threads)
	return min(max(1, (want+mr-1)/mr), 4) * mr
}

// take makes [j, j+n) the chunk of the vocabulary.
func (c *class[T]) take(j, n int) { c.j, c.n, c.panels = j, n, c.pack(j, n) }

// chunk computes its logits for the rows [r0, r1), in parallel.
func (c *class[T]) chunk(r0, r1, cost int) {
	c.r0, c.r1, c.size = r0, r1, c.block(r1-r0)
	c.d.pool.divide((r1-r0+c.size-1)/c.size, c.size*cost, c)
}

func (c *class[T]) do(worker, lo, hi int) {
	s := &c.d.scratch[worker]
	for t := lo; t < hi; t++ {
		from, to := c.r0+t*c.size, min(c.r0+(t+1)*c.size, c.r1)
		if c.dlogits == nil {
			c.forward(s, from, to)
		} else {
			c.backward(s, from, to)
		}
	}
}

// Classifier. With x_v = invTemp·h·w_v: LSE = log Σ exp x_v, LogProb =
// x_target − LSE, Entropy = LSE − Σ p_v·x_v.
func (d *dev[T]) Classifier(out device.Classified, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64) {
	const op = "Classifier"
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &d.jobs.class
	c.set(d, op, h, w, targets, vocab, dim, invTemp, out)
	state := grow(&c.state, len(targets))
	clear(state)
	for j := 0; j < vocab; j += vocabChunk {
		n := min(vocabChunk, vocab-j)
		c.take(j, n)
		if m := len(targets); m <= d.k.fewMax[c.panels.format] { // few rows; share out the vocabulary
			logits := grow(&d.logits, m*n)
			d.project(logits, n, c.left, c.rs, 1, c.panels, m, false)
			c.look(logits, 0, m)
			continue
		}
		c.chunk(0, len(targets), n*(dim+8))
	}
	for i, s := range state {
		out.LSE[i] = s.lse()
		out.LogProb[i] -= out.LSE[i]
		out.Entropy[i] = s.entropy()
	}
}

func (c *class[T]) forward(s *scratch[T], lo, hi int) {
	logits := grow(&s.c, (hi-lo)*c.n)
	c.multiply(s, logits, lo, hi)
	c.look(logits, lo, hi)
}

// multiply sets logits to the chunk's of rows [lo, hi).
func (c *class[T]) multiply(s *scratch[T], logits []T, lo, hi int) {
	p := product[T]{d: c.d, c: logits, ldc: c.n, a: c.left[lo*c.rs:], rs: c.rs, cs: 1, b: right[T]{packed: c.panels}, k: c.panels.k}
	p.block(s, 0, hi-lo, 0, c.n)
}

// look takes the chunk's logits of rows [lo, hi) in.
func (c *class[T]) look(logits []T, lo, hi int) {
	n := c.n
	for i := lo; i < hi; i++ {
		x := row(logits, i-lo, n)
		if c.kept != nil {
			copy(c.keptOf(i), x)
		}
		top, sum, weighted := c.d.k.stats(x, c.scale)
		c.state[i] = c.state[i].join(spread{float64(top), float64(sum), float64(weighted)})
		if t := int(c.targets[i]) - c.j; t >= 0 && t < n {
			c.fwd.LogProb[i] = float64(c.scale * x[t])
		}
	}
}

// ClassifierBackward. For L = −Σ_t (a_t·log π(target_t) + e_t·H_t),
//
//	∂log π/∂x_v = 1[v=target] − p_v,  ∂H/∂x_v = −p_v·(log p_v + H)
//	∂L/∂logit_v = invTemp·(p_v·(a + e·(log p_v + H)) − a·1[v=target])
//	dh = dlogits·w,  dw += dlogitsᵀ·h
//
// dlogits exists for as many rows and one chunk of the vocabulary at a time as
// fit into logitsMax: first dlogits and dh by rows, then dw by vocabulary. Logits
// that were kept are copied to it a row of the chunk at a time, so that what
// follows works in a cache.
func (d *dev[T]) ClassifierBackward(dh, dw, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64, fwd device.Classified, wLogp, wEnt []float64) {
	const op = "ClassifierBackward"
	if len(wLogp) != len(targets) || wEnt != nil && len(wEnt) != len(targets) {
		panic(fmt.Sprintf("cpu: %s: %d and %d weights for %d rows", op, len(wLogp), len(wEnt), len(targets)))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &d.jobs.class
	c.set(d, op, h, w, targets, vocab, dim, invTemp, fwd)
	c.dh, c.wLogp, c.wEnt = d.out(op, "dh", dh, len(c.h)), wLogp, wEnt
	whole := d.in(op, "w", w, vocab*dim)
	var grad, hidden []T
	if dw != nil {
		grad = d.out(op, "dw", dw, len(whole))
	}
	chunk := min(vocabChunk, vocab)
	rows := min(len(targets), max(256, logitsMax/chunk))
	c.dlogits = grow(&d.logits, rows*chunk)
	for r0 := 0; r0 < len(targets); r0 += rows {
		r1 := min(r0+rows, len(targets))
		if grad != nil {
			hidden = d.down(&d.rounded.hidden, c.h[r0*dim:], r1-r0, dim)
		}
		for j := 0; j < vocab; j += chunk {
			n := min(chunk, vocab-j)
			if c.kept != nil {
				c.j, c.n = j, n
			} else {
				c.take(j, n)
			}
			c.rows = d.down(&d.rounded.right, whole[j*dim:], n, dim)
			c.chunk(r0, r1, n*(2*dim+8))
			if grad != nil {
				x := d.down(&d.rounded.right, c.dlogits, r1-r0, n)
				d.product(grad[j*dim:], dim, x, 1, n, right[T]{rows: hidden, ld: dim}, n, dim, d.depth(r1-r0), true)
			}
		}
	}
}

func (c *class[T]) backward(s *scratch[T], lo, hi int) {
	n, dim := c.n, c.dim
	g := c.dlogits[(lo-c.r0)*n : (hi-c.r0)*n]
	if c.kept == nil {
		c.multiply(s, g, lo, hi)
	}
	for i := lo; i < hi; i++ {
		x, a, e := row(g, i-lo, n), c.wLogp[i]*c.invTemp, 0.0
		if c.kept != nil {
			copy(x, c.keptOf(i))
		}
		if c.wEnt != nil {
			e = c.wEnt[i] * c.invTemp
		}
		c.d.k.classBack(x, c.scale, T(c.fwd.LSE[i]), T(c.fwd.Entropy[i]), T(a), T(e))
		if t := int(c.targets[i]) - c.j; t >= 0 && t < n {
			x[t] -= T(a)
		}
	}
	k := c.d.depth(n)
	if c.d.bf16 {
		x := grow(&s.c, (hi-lo)*k)
		c.d.round(x, g, n)
		g = x
	}
	p := product[T]{d: c.d, c: c.dh[lo*dim:], ldc: dim, a: g, rs: k, cs: 1, b: right[T]{rows: c.rows, ld: dim}, k: k, accumulate: c.j > 0}
	p.block(s, 0, hi-lo, 0, dim)
}
