package cpu

import "math"

// Decoding adds one query to each of many sequences, and the chains of a
// question share the rows of their prompt. Its queries are therefore taken
// together: the prompt's keys and values are packed and read once for all
// chains, by the matrix kernel, and each chain's own keys where they stand. The
// additions, and so the bits, are those of the blocks of a training batch.

const (
	// clusterRows bounds the Seqs times query heads of a key head in a task:
	// enough to read a shared prompt seldom, few enough to keep all threads busy.
	clusterRows = 24
	// clusterScores bounds the scores that a task holds.
	clusterScores = 1 << 16
	// keyBlock is how many of a chain's own keys a task reads for all its heads
	// before it goes on, a multiple of lanes: they and those that are next, which
	// are asked for meanwhile, fit in the first-level cache.
	keyBlock = 16
)

// block is up to keyBlock of the own keys of a task's Seq number seq.
type block struct {
	run
	seq int
}

// together counts the Seqs from s on that decode in one task, 0 if s is not of
// that kind.
func (a *attn[T]) together(s int) int {
	if !a.decodes(s) {
		return 0
	}
	threads := 2 * a.d.pool.threads
	most := min(clusterRows/a.group, (len(a.seqs)+threads-1)/threads)
	n := 1
	for n < most && s+n < len(a.seqs) && a.decodes(s+n) && a.shares(s, s+n) {
		n++
	}
	return n
}

// decodes tells whether Seq s is one query that sees all keys.
func (a *attn[T]) decodes(s int) bool {
	return a.d.k.dotRows != nil && a.seqs[s].Q.Len == 1 && a.h.Dim%16 == 0 && len(a.k) >= a.d.k.lanes*a.kw &&
		(a.h.Window == 0 || a.most[s] <= a.h.Window)
}

// shares tells whether Seqs s and t begin with the same keys.
func (a *attn[T]) shares(s, t int) bool {
	p, q := a.seqs[s].Past, a.seqs[t].Past
	return len(p) > 0 && len(q) > 0 && p[0] == q[0]
}

// addDecode adds the tasks of n Seqs from s on: all key heads in one if there
// are clusters enough for all threads.
func (a *attn[T]) addDecode(s, n, clusters int) {
	threads := a.d.pool.threads
	heads := min(a.h.KV, (a.h.KV*clusters+threads-1)/threads, max(1, clusterScores/(n*a.group*a.most[s])))
	for g := 0; g < a.h.KV; g += heads {
		a.tasks = append(a.tasks, attnTask{seq: s, n: n, kv: g, kvEnd: min(g+heads, a.h.KV)})
	}
}

// decode computes the queries of a task's Seqs. Row (g·n+i)·group+j of its
// scores is query head j of the task's key head g, for its i-th Seq.
func (a *attn[T]) decode(s *scratch[T], t attnTask) {
	k, dim, group, heads := a.d.k, a.h.Dim, a.group, t.kvEnd-t.kv
	rows, most, shared := heads*t.n*group, 0, 0
	for i := t.seq; i < t.seq+t.n; i++ {
		most = max(most, a.most[i])
	}
	if t.n > 1 {
		shared = a.seqs[t.seq].Past[0].Len
	}
	ld := most + k.lanes // dotRows writes whole vectors
	p, q, out := grow(&s.b, rows*ld+k.lanes), grow(&s.c, rows*dim), grow(&s.d, rows*dim)
	spare := p[rows*ld:]
	// at is where q and out have the query heads of row r's key head.
	at := func(r int) int {
		i := r / group
		return (a.seqs[t.seq+i%t.n].Q.Start*a.h.Query + (t.kv+i/t.n)*group) * dim
	}
	for r := 0; r < rows; r += group {
		copy(q[r*dim:(r+group)*dim], a.q[at(r):])
	}

	s.blocks = s.blocks[:0]
	for i := range t.n {
		a.runs(t.seq+i, shared, most, func(x run) {
			for ; x.n > 0; x.at, x.row, x.n = x.at+keyBlock, x.row+keyBlock, x.n-keyBlock {
				s.blocks = append(s.blocks, block{run{x.at, x.row, min(x.n, keyBlock)}, i})
			}
		})
	}
	if shared > 0 {
		kt := grow(&s.a, (shared+k.nr-1)/k.nr*k.nr*dim)
		for g := range heads {
			a.transposed(kt, a.k, t.seq, t.kv+g, 0, shared)
			for r := g * t.n * group; r < (g+1)*t.n*group; r += k.mr {
				m := min(k.mr, (g+1)*t.n*group-r)
				for j := 0; j < shared; j += k.nr {
					k.gemm(p[r*ld+j:], ld, q[r*dim:], dim, 1, kt[j*dim:], k.nr, m, min(k.nr, shared-j), dim, false)
				}
			}
		}
	}
	// after is where x has the block after the i-th, from key head g on. Behind the
	// last keys come the first values.
	after := func(x []T, i, g int) []T {
		if i++; i == len(s.blocks) {
			i, x = 0, a.v
		}
		return x[s.blocks[i].row*a.kw+g*dim:]
	}
	for i, b := range s.blocks {
		if group == 1 {
			a.dots(p[b.seq*ld+b.at:], t.n*ld, q[b.seq*dim:], t.n*dim, spare, b.run, t.kv*dim, dim, heads, after(a.k, i, t.kv))
			continue
		}
		for g := range heads {
			r := (g*t.n + b.seq) * group
			a.dots(p[r*ld+b.at:], ld, q[r*dim:], dim, spare, b.run, (t.kv+g)*dim, 0, group, after(a.k, i, t.kv+g))
		}
	}
	for r := range rows {
		i := t.seq + r/group%t.n
		top, sum := k.softmax(p[r*ld:r*ld+a.most[i]], a.scale)
		head := at(r)/dim + r%group
		a.lse[head] = a.scale*top + T(math.Log(float64(sum)))
		p[r*ld+most] = 1 / sum // kept behind the row
	}
	if shared > 0 {
		first := a.seqs[t.seq].Past[0].Start * a.kw
		for g := range heads {
			for r := g * t.n * group; r < (g+1)*t.n*group; r += k.mr {
				a.tiles(out[r*dim:], dim, p[r*ld:], ld, 1, a.v[first+(t.kv+g)*dim:], a.kw, min(k.mr, (g+1)*t.n*group-r), dim, shared, false)
			}
		}
	}
	whole := group == 1 && dim%k.lanes == 0
	s.at = s.at[:0]
	for c := 0; c < heads*dim && whole; c += k.lanes {
		s.at = append(s.at, c/dim*t.n*ld, c/dim*t.n*dim+c%dim)
	}
	for i, b := range s.blocks {
		if whole {
			k.mixRows(out[b.seq*dim:], p[b.seq*ld+b.at:], a.v[b.row*a.kw+t.kv*dim:], s.at, a.kw, after(a.v, i, t.kv), b.n, b.at > 0)
			continue
		}
		for g := range heads {
			r := (g*t.n + b.seq) * group
			for i := 0; i < group; i += k.mr {
				a.tiles(out[(r+i)*dim:], dim, p[(r+i)*ld+b.at:], ld, 1, a.v[b.row*a.kw+(t.kv+g)*dim:], a.kw, min(k.mr, group-i), dim, b.n, b.at > 0)
			}
		}
	}
	for r := range rows {
		k.scale(row(out, r, dim), p[r*ld+most])
	}
	for r := 0; r < rows; r += group {
		copy(a.out[at(r):at(r)+group*dim], out[r*dim:])
	}
}

// dots sets s[h·lds+j] = q_h·k_j for the keys of a block and so many heads: q_h is
// at h·ldq, and the columns of k_j at column + h·ldh. It asks for the rows from soon
// on. It may write a vector's length beyond the keys; spare is room for a vector.
func (a *attn[T]) dots(s []T, lds int, q []T, ldq int, spare []T, b run, column, ldh, heads int, soon []T) {
	lanes, rows, dim := a.d.k.lanes, len(a.k)/a.kw, a.h.Dim
	whole := min((b.n+lanes-1)/lanes, (rows-b.row)/lanes) // vectors that stay within k
	if whole > 0 {
		a.d.k.dotRows(s, lds, q, ldq, a.k[b.row*a.kw+column:], a.kw, ldh, soon, heads, whole, dim)
	}
	if done := whole * lanes; done < b.n {
		// The last rows of k, of which only the end is wanted.
		last := rows - lanes
		for h := range heads {
			from := a.k[last*a.kw+column+h*ldh:]
			a.d.k.dotRows(spare, 0, q[h*ldq:], 0, from, a.kw, 0, from, 1, 1, dim)
			copy(s[h*lds+done:h*lds+b.n], spare[b.row+done-last:])
		}
	}
}
