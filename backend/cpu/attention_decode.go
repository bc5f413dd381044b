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

// cluster is a decoding task at work, on copies of its queries. Row (g·n+i)·group+j
// of q, p and out is query head j of the task's key head g, for its i-th Seq.
type cluster[T real] struct {
	a           *attn[T]
	t           attnTask
	heads, rows int // key heads; of q, p and out
	shared      int // keys with which all Seqs begin
	blocks      []block
	q, out      []T // (rows, Dim)
	p           []T // scores, then probabilities, ld apart: most keys of a Seq, and a vector
	ld          int
	spare       []T // a vector
}

// decode computes the queries of a task's Seqs.
func (a *attn[T]) decode(s *scratch[T], t attnTask) {
	k, dim, group, heads := a.d.k, a.h.Dim, a.group, t.kvEnd-t.kv
	c := cluster[T]{a: a, t: t, heads: heads, rows: heads * t.n * group, blocks: s.blocks[:0]}
	if t.n > 1 {
		c.shared = a.seqs[t.seq].Past[0].Len
	}
	most := 0
	for i := range t.n {
		most = max(most, a.most[t.seq+i])
		a.runs(t.seq+i, c.shared, a.most[t.seq+i], func(x run) {
			for ; x.n > 0; x.at, x.row, x.n = x.at+keyBlock, x.row+keyBlock, x.n-keyBlock {
				c.blocks = append(c.blocks, block{run{x.at, x.row, min(x.n, keyBlock)}, i})
			}
		})
	}
	s.blocks, c.ld = c.blocks, most+k.lanes // dotRows writes whole vectors
	c.p, c.q, c.out = grow(&s.b, c.rows*c.ld+k.lanes), grow(&s.c, c.rows*dim), grow(&s.d, c.rows*dim)
	c.spare = c.p[c.rows*c.ld:]
	for r := 0; r < c.rows; r += group {
		copy(c.q[r*dim:(r+group)*dim], a.q[c.head(r)*dim:])
	}
	c.scores(s)
	for r := range c.rows {
		top, sum := k.softmax(c.p[r*c.ld:][:a.most[t.seq+r/group%t.n]], a.scale)
		a.lse[c.head(r)] = a.scale*top + T(math.Log(float64(sum)))
		c.p[r*c.ld+most] = 1 / sum // kept behind the row
	}
	c.mix(s)
	for r := range c.rows {
		k.scale(row(c.out, r, dim), c.p[r*c.ld+most])
	}
	for r := 0; r < c.rows; r += group {
		copy(a.out[c.head(r)*dim:], c.out[r*dim:(r+group)*dim])
	}
}

// head is where row r stands among all heads of all queries.
func (c *cluster[T]) head(r int) int {
	i, group := r/c.a.group, c.a.group
	return c.a.seqs[c.t.seq+i%c.t.n].Q.Start*c.a.h.Query + (c.t.kv+i/c.t.n)*group + r%group
}

// after is where x has the block after the i-th, from key head g on. Behind the
// last keys come the first values.
func (c *cluster[T]) after(x []T, i, g int) []T {
	if i++; i == len(c.blocks) {
		i, x = 0, c.a.v
	}
	return x[c.blocks[i].row*c.a.kw+g*c.a.h.Dim:]
}

// scores sets p to the products of queries and keys: those of the shared keys, which
// are packed for all rows of a key head, then those of each Seq's own.
func (c *cluster[T]) scores(s *scratch[T]) {
	a, k, t, dim, group, ld := c.a, c.a.d.k, c.t, c.a.h.Dim, c.a.group, c.ld
	kt := grow(&s.a, (c.shared+k.nr-1)/k.nr*k.nr*dim)
	for g := 0; g < c.heads && c.shared > 0; g++ {
		a.transposed(kt, a.k, t.seq, t.kv+g, 0, c.shared)
		for r, end := g*t.n*group, (g+1)*t.n*group; r < end; r += k.mr {
			for j := 0; j < c.shared; j += k.nr {
				k.gemm(c.p[r*ld+j:], ld, c.q[r*dim:], dim, 1, kt[j*dim:], k.nr, min(k.mr, end-r), min(k.nr, c.shared-j), dim, false)
			}
		}
	}
	for i, b := range c.blocks {
		if group == 1 {
			a.dots(c.p[b.seq*ld+b.at:], t.n*ld, c.q[b.seq*dim:], t.n*dim, c.spare, b.run, t.kv*dim, dim, c.heads, c.after(a.k, i, t.kv))
			continue
		}
		for g := range c.heads {
			r := (g*t.n + b.seq) * group
			a.dots(c.p[r*ld+b.at:], ld, c.q[r*dim:], dim, c.spare, b.run, (t.kv+g)*dim, 0, group, c.after(a.k, i, t.kv+g))
		}
	}
}

// mix sets out to the sums of values, weighted by p, in the order of scores.
func (c *cluster[T]) mix(s *scratch[T]) {
	a, k, t, dim, group, ld := c.a, c.a.d.k, c.t, c.a.h.Dim, c.a.group, c.ld
	for g := 0; g < c.heads && c.shared > 0; g++ {
		v := a.v[a.seqs[t.seq].Past[0].Start*a.kw+(t.kv+g)*dim:]
		for r, end := g*t.n*group, (g+1)*t.n*group; r < end; r += k.mr {
			a.tiles(c.out[r*dim:], dim, c.p[r*ld:], ld, 1, v, a.kw, min(k.mr, end-r), dim, c.shared, false)
		}
	}
	if group == 1 && dim%k.lanes == 0 {
		s.at = s.at[:0]
		for v := 0; v < c.heads*dim; v += k.lanes {
			s.at = append(s.at, v/dim*t.n*ld, v/dim*t.n*dim+v%dim)
		}
		for i, b := range c.blocks {
			k.mixRows(c.out[b.seq*dim:], c.p[b.seq*ld+b.at:], a.v[b.row*a.kw+t.kv*dim:], s.at, a.kw, c.after(a.v, i, t.kv), b.n, b.at > 0)
		}
		return
	}
	for _, b := range c.blocks {
		for g := range c.heads {
			r := (g*t.n + b.seq) * group
			for i := 0; i < group; i += k.mr {
				a.tiles(c.out[(r+i)*dim:], dim, c.p[(r+i)*ld+b.at:], ld, 1, a.v[b.row*a.kw+(t.kv+g)*dim:], a.kw, min(k.mr, group-i), dim, b.n, b.at > 0)
			}
		}
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
