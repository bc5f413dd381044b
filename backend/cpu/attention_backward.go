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
	b := &d.jobs.attnBack
	b.set(d, op, d.in(op, "q", q, q.Len()), d.in(op, "k", k, k.Len()), d.in(op, "v", v, v.Len()), seqs, h)
	b.out, b.lse = d.in(op, "out", out, q.Len()), d.in(op, "lse", lse, q.Len()/h.Dim)
	b.dout = d.in(op, "dout", dout, q.Len())
	b.dq, b.dk, b.dv = d.out(op, "dq", dq, q.Len()), d.out(op, "dk", dk, k.Len()), d.out(op, "dv", dv, v.Len())
	b.families.find(seqs)
	work := 0
	for s := range seqs {
		work += 3 * seqs[s].Q.Len * b.most[s] * b.qw
	}
	n := len(b.families.ends) * h.KV
	d.pool.divide(n, work/max(n, 1), b)
}

// attnBack is one AttentionBackward call.
type attnBack[T real] struct {
	attn[T]
	dout, dq, dk, dv []T
	families         families
}

func (b *attnBack[T]) do(worker, lo, hi int) {
	s := &b.d.scratch[worker]
	for t := lo; t < hi; t++ {
		for _, seq := range b.families.at(t / b.h.KV) {
			for i, n := 0, b.seqs[seq].Q.Len; i < n; i += queryBlock {
				b.backward(s, attnTask{seq: seq, kv: t % b.h.KV, i0: i, i1: min(i+queryBlock, n)})
			}
		}
	}
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

// families are groups of Seqs that share key rows, directly or through others.
// They are in the order of their first member, members in their order.
type families struct {
	members    []int // of all families, one after the other
	ends       []int // of each family, in members
	parent     []int
	size, next []int // by root
	spans      []keySpan
}

// keySpan is key rows [lo, hi) of a Seq.
type keySpan struct{ lo, hi, seq int }

// at lists the members of family i.
func (f *families) at(i int) []int {
	from := 0
	if i > 0 {
		from = f.ends[i-1]
	}
	return f.members[from:f.ends[i]]
}

// root is the first member of a Seq's family.
func (f *families) root(i int) int {
	for f.parent[i] != i {
		f.parent[i] = f.parent[f.parent[i]]
		i = f.parent[i]
	}
	return i
}

// find groups seqs: spans sorted by their start meet when the next begins before
// all those that met have ended.
func (f *families) find(seqs []device.Seq) {
	f.members, f.ends, f.parent, f.spans = f.members[:0], f.ends[:0], f.parent[:0], f.spans[:0]
	add := func(lo, n, seq int) {
		if n > 0 {
			f.spans = append(f.spans, keySpan{lo, lo + n, seq})
		}
	}
	for i, s := range seqs {
		f.parent = append(f.parent, i)
		add(s.Own, s.Q.Len, i)
		for _, p := range s.Past {
			add(p.Start, p.Len, i)
		}
	}
	slices.SortFunc(f.spans, func(a, b keySpan) int { return a.lo - b.lo })
	for i := 0; i < len(f.spans); {
		end, first := f.spans[i].hi, f.root(f.spans[i].seq)
		for i++; i < len(f.spans) && f.spans[i].lo < end; i++ {
			end = max(end, f.spans[i].hi)
			other := f.root(f.spans[i].seq)
			f.parent[max(first, other)] = min(first, other)
			first = min(first, other)
		}
	}
	// A root is its family's first member. Each family gets a run of members
	// as long as it has any, which is then filled.
	f.size, f.next = append(f.size[:0], f.parent...), append(f.next[:0], f.parent...)
	clear(f.size)
	for i := range seqs {
		f.size[f.root(i)]++
	}
	n := 0
	for i, size := range f.size {
		if size > 0 {
			f.next[i] = n
			n += size
			f.ends = append(f.ends, n)
		}
	}
	f.members = append(f.members, f.parent...)
	for i := range seqs {
		next := &f.next[f.root(i)]
		f.members[*next] = i
		*next++
	}
}
