package cpu

import (
	"slices"

	"nrt/backend/device"
)

// AttentionBackward. With p_ij = exp(s_ij − lse_i) recomputed,
//
//	dv_j += Σ_i p_ij·dout_i
//	dp_ij = dout_i·v_j
//	ds_ij = p_ij·(dp_ij − δ_i)/√Dim,  δ_i = Σ_j p_ij·dp_ij = dout_i·out_i
//	dq_i  = Σ_j ds_ij·k_j
//	dk_j += Σ_i ds_ij·q_i
//
// Seqs that share keys add to the same rows of dk and dv, so a task is all
// Seqs that are connected through shared keys, in their order, for one key
// head: different tasks never meet.
func (d *dev[T]) AttentionBackward(dq, dk, dv, dout, q, k, v, out, lse device.Buffer, seqs []device.Seq, h device.Heads) {
	const op = "AttentionBackward"
	d.mu.Lock()
	defer d.mu.Unlock()
	a := newAttn(d, op, d.in(op, "q", q, q.Len()), d.in(op, "k", k, k.Len()), d.in(op, "v", v, v.Len()), seqs, h)
	b := &attnBack[T]{attn: a,
		dout: d.in(op, "dout", dout, q.Len()), out: d.in(op, "out", out, q.Len()),
		lse: d.in(op, "lse", lse, q.Len()/h.Dim),
		dq:  d.out(op, "dq", dq, q.Len()), dk: d.out(op, "dk", dk, k.Len()), dv: d.out(op, "dv", dv, v.Len())}
	families := related(seqs)
	work := 0
	for s := range seqs {
		work += 3 * seqs[s].Q.Len * a.most[s] * a.qw
	}
	n := len(families) * h.KV
	d.pool.each(n, work/max(n, 1), func(w, lo, hi int) {
		for t := lo; t < hi; t++ {
			for _, s := range families[t/h.KV] {
				for i := 0; i < seqs[s].Q.Len; i += queryBlock {
					b.backward(&d.scratch[w], attnTask{s, t % h.KV, i, min(i+queryBlock, seqs[s].Q.Len)})
				}
			}
		}
	})
}

type attnBack[T real] struct {
	*attn[T]
	dout, out, lse, dq, dk, dv []T
}

func (b *attnBack[T]) backward(s *scratch[T], t attnTask) {
	lo, _ := b.seen(t.seq, t.i0)
	_, hi := b.seen(t.seq, t.i1-1)
	nr, dim, start := b.d.k.nr, b.h.Dim, b.seqs[t.seq].Q.Start
	keys, n := (hi-lo+nr-1)/nr*nr, t.i1-t.i0
	kt, vt := grow(&s.a, keys*dim), grow(&s.b, keys*dim)
	p, dp := grow(&s.c, n*keys), grow(&s.d, n*keys)
	b.transposed(kt, b.k, t.seq, t.kv, lo, hi)
	b.transposed(vt, b.v, t.seq, t.kv, lo, hi)
	for h := t.kv * b.group; h < (t.kv+1)*b.group; h++ {
		b.scores(p, keys, b.q, kt, t.seq, h, t.i0, t.i1, lo)
		b.scores(dp, keys, b.dout, vt, t.seq, h, t.i0, t.i1, lo)
		for i := t.i0; i < t.i1; i++ {
			from, to := b.seen(t.seq, i)
			r := start + i
			pi, di := row(p, i-t.i0, keys), row(dp, i-t.i0, keys)
			b.d.k.exp(pi[from-lo:to-lo], pi[from-lo:to-lo], b.scale, b.lse[r*b.h.Query+h])
			at := r*b.qw + h*dim
			delta := b.d.k.dot(b.dout[at:at+dim], b.out[at:at+dim])
			b.d.k.softmaxBack(di[from-lo:to-lo], pi[from-lo:to-lo], delta, b.scale)
			for _, x := range [][]T{pi, di} { // mixKeys reads columns
				clear(x[:from-lo])
				clear(x[to-lo : hi-lo])
			}
		}
		b.mix(b.dq, dp, keys, b.k, t.seq, h, t.i0, t.i1, lo)
		b.mixKeys(b.dv, p, keys, b.dout, t, h, lo, hi)
		b.mixKeys(b.dk, dp, keys, b.q, t, h, lo, hi)
	}
}

// mixKeys sets dy_j += Σ_i p[i·ldp+j−lo]·x_i for the keys [lo, hi) over the
// queries of the task in their order; x is q or dout of head h, dy is dk or dv.
// A tile of keys starts at the first query that sees one of them.
func (b *attnBack[T]) mixKeys(dy, p []T, ldp int, x []T, t attnTask, h, lo, hi int) {
	mr, dim, start := b.d.k.mr, b.h.Dim, b.seqs[t.seq].Q.Start
	b.runs(t.seq, lo, hi, func(r run) {
		for j := 0; j < r.n; j += mr {
			i := max(t.i0, r.at+j-b.past[t.seq])
			b.tiles(dy[(r.row+j)*b.kw+t.kv*dim:], b.kw, p[(i-t.i0)*ldp+r.at+j-lo:], 1, ldp,
				x[(start+i)*b.qw+h*dim:], b.qw, min(mr, r.n-j), dim, t.i1-i, true)
		}
	})
}

// related groups the Seqs that share key rows, directly or through others. The
// groups are in the order of their first member, members in their order.
func related(seqs []device.Seq) [][]int {
	type span struct{ lo, hi, seq int }
	var spans []span
	parent := make([]int, len(seqs))
	for i, s := range seqs {
		parent[i] = i
		spans = append(spans, span{s.Own, s.Own + s.Q.Len, i})
		for _, p := range s.Past {
			spans = append(spans, span{p.Start, p.Start + p.Len, i})
		}
	}
	spans = slices.DeleteFunc(spans, func(s span) bool { return s.lo == s.hi })
	slices.SortFunc(spans, func(a, b span) int { return a.lo - b.lo })
	var find func(int) int
	find = func(i int) int {
		if parent[i] != i {
			parent[i] = find(parent[i])
		}
		return parent[i]
	}
	for i := 0; i < len(spans); {
		end := spans[i].hi
		first := find(spans[i].seq)
		for i++; i < len(spans) && spans[i].lo < end; i++ {
			end = max(end, spans[i].hi)
			other := find(spans[i].seq)
			parent[max(first, other)] = min(first, other)
			first = min(first, other)
		}
	}
	index := map[int]int{}
	var groups [][]int
	for i := range seqs {
		r := find(i)
		g, ok := index[r]
		if !ok {
			g = len(groups)
			index[r] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}
