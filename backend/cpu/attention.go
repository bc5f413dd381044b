package cpu

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

// queryBlock is how many queries of one Seq a task takes at a time.
const queryBlock = 48

// attn is one attention call. The device keeps it for the memory of its slices.
type attn[T real] struct {
	d          *dev[T]
	h          device.Heads
	q, k, v    []T
	out, lse   []T
	qw, kw     int // row widths of q and k
	group      int // query heads per key head
	scale      T
	seqs       []device.Seq
	past, most []int // per Seq: rows of Past, rows of all keys
	tasks      []attnTask
}

// run is keys [at, at+n) of a Seq, which stand in rows [row, row+n) of k and v.
type run struct{ at, row, n int }

// set prepares for a call and checks seqs against the shapes.
func (a *attn[T]) set(d *dev[T], op string, q, k, v []T, seqs []device.Seq, h device.Heads) {
	positive(op, h.Query, h.KV, h.Dim)
	if h.Query%h.KV != 0 || h.Window < 0 {
		panic(fmt.Sprintf("cpu: %s: heads %+v", op, h))
	}
	*a = attn[T]{d: d, h: h, q: q, k: k, v: v, qw: h.Query * h.Dim, kw: h.KV * h.Dim,
		group: h.Query / h.KV, scale: T(1 / math.Sqrt(float64(h.Dim))), seqs: seqs,
		past: grow(&a.past, len(seqs)), most: grow(&a.most, len(seqs)), tasks: a.tasks[:0]}
	if len(q)%a.qw != 0 || len(k)%a.kw != 0 || len(k) != len(v) {
		panic(fmt.Sprintf("cpu: %s: q, k, v have %d, %d, %d floats for heads %+v", op, len(q), len(k), len(v), h))
	}
	rows, keys := len(q)/a.qw, len(k)/a.kw
	inside := func(s device.Span, n int) bool { return s.Start >= 0 && s.Len >= 0 && s.Start+s.Len <= n }
	for i, s := range seqs {
		a.past[i] = 0
		ok := inside(s.Q, rows) && inside(device.Span{Start: s.Own, Len: s.Q.Len}, keys)
		for _, p := range s.Past {
			ok = ok && inside(p, keys)
			a.past[i] += p.Len
		}
		if !ok {
			panic(fmt.Sprintf("cpu: %s: seq %d: %+v outside %d query rows and %d key rows", op, i, s, rows, keys))
		}
		a.most[i] = a.past[i] + s.Q.Len
	}
}

// runs calls f for the runs of keys of Seq s within [lo, hi).
func (a *attn[T]) runs(s, lo, hi int, f func(run)) {
	at := 0
	visit := func(row, n int) {
		from, to := max(lo, at), min(hi, at+n)
		if from < to {
			f(run{at: from, row: row + from - at, n: to - from})
		}
		at += n
	}
	for _, p := range a.seqs[s].Past {
		visit(p.Start, p.Len)
	}
	visit(a.seqs[s].Own, a.seqs[s].Q.Len)
}

// seen is the range of keys that query i of Seq s sees.
func (a *attn[T]) seen(s, i int) (lo, hi int) {
	p := a.past[s] + i
	if w := a.h.Window; w > 0 {
		lo = max(0, p-w+1)
	}
	return lo, p + 1
}

// transposed packs the keys (or values) [lo, hi) of Seq s, key head g, as
// panels of nr keys: panel (j−lo)/nr is (Dim, nr).
func (a *attn[T]) transposed(dst, src []T, s, g, lo, hi int) {
	nr, dim := a.d.k.nr, a.h.Dim
	a.runs(s, lo, hi, func(r run) {
		for r.n > 0 {
			j := r.at - lo
			n := min(r.n, nr-j%nr)
			a.d.k.transpose(dst[j/nr*nr*dim+j%nr:], nr, src[r.row*a.kw+g*dim:], a.kw, n, dim)
			r.at, r.row, r.n = r.at+n, r.row+n, r.n-n
		}
	})
}

// scores sets s[i·lds+j−lo] = x_i·y_j for queries [i0, i1) and the keys each
// tile of queries may see; x is q or dout of head h, y packed by transposed.
func (a *attn[T]) scores(s []T, lds int, x, y []T, seq, h, i0, i1, lo int) {
	mr, nr, dim := a.d.k.mr, a.d.k.nr, a.h.Dim
	start := a.seqs[seq].Q.Start
	for i := i0; i < i1; i += mr {
		m := min(mr, i1-i)
		from, _ := a.seen(seq, i)
		_, to := a.seen(seq, i+m-1)
		for j := (from - lo) / nr * nr; j < to-lo; j += nr {
			a.d.k.gemm(s[(i-i0)*lds+j:], lds, x[(start+i)*a.qw+h*dim:], a.qw, 1,
				y[j*dim:], nr, m, min(nr, to-lo-j), dim, false)
		}
	}
}

// mix sets out_i (+)= Σ_j p[i·ldp+j−lo]·y_j over keys [lo, …) for queries
// [i0, i1) of head h; rows of y (k or v) are read where they stand. p must be
// zero where a query of a tile does not see a key that another one does.
func (a *attn[T]) mix(out []T, p []T, ldp int, y []T, seq, h, i0, i1, lo int) {
	mr, dim := a.d.k.mr, a.h.Dim
	start, g := a.seqs[seq].Q.Start, h/a.group
	for i := i0; i < i1; i += mr {
		m := min(mr, i1-i)
		from, _ := a.seen(seq, i)
		_, to := a.seen(seq, i+m-1)
		acc := false
		a.runs(seq, from, to, func(r run) {
			a.tiles(out[(start+i)*a.qw+h*dim:], a.qw, p[(i-i0)*ldp+r.at-lo:], ldp, 1,
				y[r.row*a.kw+g*dim:], a.kw, m, dim, r.n, acc)
			acc = true
		})
	}
}

// tiles is kernels.gemm for any n.
func (a *attn[T]) tiles(c []T, ldc int, x []T, rs, cs int, b []T, ldb, m, n, k int, acc bool) {
	nr := a.d.k.nr
	for j := 0; j < n; j += nr {
		a.d.k.gemm(c[j:], ldc, x, rs, cs, b[j:], ldb, m, min(nr, n-j), k, acc)
	}
}

// blank zeroes row i of p outside what the query sees, over the keys that its
// tile of queries sees.
func (a *attn[T]) blank(p []T, seq, i, tile, last, lo int) {
	from, _ := a.seen(seq, tile)
	_, to := a.seen(seq, last)
	l, h := a.seen(seq, i)
	clear(p[from-lo : l-lo])
	clear(p[h-lo : to-lo])
}

// Attention. For each query i of head h,
//
//	s_j = q_i·k_j/√Dim,  p = softmax(s),  out_i = Σ_j p_j·v_j,  lse_i = log Σ exp s_j
//
// A task is a block of queries of one Seq and one key head. The scores of a
// block are held whole (queryBlock × keys); out is divided by Σ at the end.
// Seqs of one query each, the steps of decoding, are computed together; see
// attention_decode.go.
func (d *dev[T]) Attention(out, lse, q, k, v device.Buffer, seqs []device.Seq, h device.Heads) {
	const op = "Attention"
	d.mu.Lock()
	defer d.mu.Unlock()
	a := &d.jobs.attn
	a.set(d, op, d.in(op, "q", q, q.Len()), d.in(op, "k", k, k.Len()), d.in(op, "v", v, v.Len()), seqs, h)
	a.out, a.lse = d.out(op, "out", out, q.Len()), d.out(op, "lse", lse, q.Len()/h.Dim)
	clusters, work := 0, 0
	for s := 0; s < len(seqs); s += max(1, a.together(s)) {
		clusters++
	}
	for s := 0; s < len(seqs); {
		n := a.together(s)
		if n > 0 {
			a.addDecode(s, n, clusters)
		}
		for g := 0; g < h.KV && n == 0; g++ {
			for i := 0; i < seqs[s].Q.Len; i += queryBlock {
				a.tasks = append(a.tasks, attnTask{seq: s, kv: g, i0: i, i1: min(i+queryBlock, seqs[s].Q.Len)})
			}
		}
		for end := s + max(n, 1); s < end; s++ {
			work += seqs[s].Q.Len * a.most[s] * a.qw
			if n > 0 { // memory limits a single query: each key is used once
				work += 3 * a.most[s] * a.kw
			}
		}
	}
	d.pool.divide(len(a.tasks), work/max(len(a.tasks), 1), a)
}

// attnTask is queries [i0, i1) of a Seq for the query heads of one key head, or,
// with n > 0, the queries of n Seqs of one query each for key heads [kv, kvEnd).
type attnTask struct{ seq, kv, i0, i1, n, kvEnd int }

func (a *attn[T]) do(worker, lo, hi int) {
	s := &a.d.scratch[worker]
	for _, t := range a.tasks[lo:hi] {
		if t.n > 0 {
			a.decode(s, t)
		} else {
			a.forward(s, t)
		}
	}
}

func (a *attn[T]) forward(s *scratch[T], t attnTask) {
	lo, _ := a.seen(t.seq, t.i0)
	_, hi := a.seen(t.seq, t.i1-1)
	nr, mr, start := a.d.k.nr, a.d.k.mr, a.seqs[t.seq].Q.Start
	keys := (hi - lo + nr - 1) / nr * nr
	kt, p := grow(&s.a, keys*a.h.Dim), grow(&s.b, (t.i1-t.i0)*keys)
	a.transposed(kt, a.k, t.seq, t.kv, lo, hi)
	var tops, sums [queryBlock]T
	for h := t.kv * a.group; h < (t.kv+1)*a.group; h++ {
		a.scores(p, keys, a.q, kt, t.seq, h, t.i0, t.i1, lo)
		for i := t.i0; i < t.i1; i++ {
			from, to := a.seen(t.seq, i)
			pi := row(p, i-t.i0, keys)
			tops[i-t.i0], sums[i-t.i0] = a.d.k.softmax(pi[from-lo:to-lo], a.scale)
			tile := i - (i-t.i0)%mr
			a.blank(pi, t.seq, i, tile, min(tile+mr, t.i1)-1, lo)
		}
		a.mix(a.out, p, keys, a.v, t.seq, h, t.i0, t.i1, lo)
		for i := t.i0; i < t.i1; i++ {
			a.finish(row(a.out, (start+i)*a.h.Query+h, a.h.Dim), (start+i)*a.h.Query+h, tops[i-t.i0], sums[i-t.i0])
		}
	}
}

// finish divides the sum of values by that of the exponentials, and keeps what
// the backward pass needs of row·heads+head at.
func (a *attn[T]) finish(out []T, at int, top, sum T) {
	a.d.k.scale(out, 1/sum)
	a.lse[at] = a.scale*top + T(math.Log(float64(sum)))
}
