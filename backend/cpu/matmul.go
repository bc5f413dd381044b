package cpu

import (
	"fmt"

	"nrt/backend/device"
)

// Blocking of the matrix product, none of which changes a bit of the result
// (see kernels.gemm): a tile of A, depthMax deep, stays in the first-level cache
// while chunk panels of B run past it; these panels and mcTiles tiles of A stay
// in the second level of their worker. So a row of C is written chunk panels
// long, as far as the processor likes to fetch ahead, and seldom. Rows of A that
// are not packed share cache sets and are taken nearDepth at a time. B is packed
// for all workers packDepth deep and at most packMax floats at a time, or panel
// by panel by each worker for itself when it has no more than ownRows rows of C.
const (
	depthMax  = 512
	nearDepth = 256
	chunk     = 8
	mcTiles   = 44
	packDepth = 4096
	packMax   = 1 << 22
	ownRows   = 512
)

// farRows is from how many floats apart on rows of A are packed.
const farRows = 1024

// small is how many multiply-adds one thread does in a few microseconds, less
// than it takes to share them out.
const small = 1 << 17

// MatMul computes C = op(A)·op(B). The micro-kernel reads A with any strides
// and B by rows, so only a transposed B must be packed; packing A or B is
// otherwise a question of caches.
func (d *dev[T]) MatMul(c, a, b device.Buffer, m, n, k int, transA, transB, accumulate bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.matMul(c, &left[T]{x: d.in("MatMul", "a", a, m*k), m: m, k: k, transposed: transA}, b, n, transB, accumulate)
}

func (d *dev[T]) matMul(c device.Buffer, a *left[T], b device.Buffer, n int, transB, accumulate bool) {
	m, k := a.m, a.k
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("cpu: MatMul: negative dimension in (%d, %d, %d)", m, n, k))
	}
	var B []T
	w := d.weights("MatMul", "b", b, n, k)
	if w == nil || !transB {
		B = d.in("MatMul", "b", b, k*n)
	}
	C := d.out("MatMul", "c", c, m*n)
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		if !accumulate {
			clear(C)
		}
		return
	}
	A, rs, cs := a.read(d, w == nil || w.p.rounds)
	switch {
	case w != nil:
		d.project(C, n, A, rs, cs, w.p, m, accumulate)
		return
	case transB:
		if packed := d.packs.lookup(d, b.(*buffer[T]), n, k); packed != nil {
			d.project(C, n, A, rs, cs, d.packed(packed, n, k), m, accumulate)
			return
		}
		B, k = d.along(&d.rounded.right, B, n, k), d.depth(k)
	default:
		if B, k = d.down(&d.rounded.right, B, k, n), d.depth(k); m <= ownRows || n*k < 1<<13 {
			d.product(C, n, A, rs, cs, right[T]{rows: B, ld: n}, m, n, k, accumulate)
			return
		}
	}
	nr, depth := d.k.nr, depthOf(k, packDepth)
	nc := packMax / depth / nr * nr
	for j := 0; j < n; j += nc {
		w := min(nc, n-j)
		for p := 0; p < k; p += depth {
			h := min(depth, k-p)
			packed := grow(&d.shared, (w+nr-1)/nr*nr*h)
			if transB {
				d.packTransposed(packed, B[j*k+p:], k, w, h)
			} else {
				d.packRows(packed, B[p*n+j:], n, w, h)
			}
			b := panels[T]{full: packed, n: w, k: h, pairs: d.pairs()}
			d.product(C[j:], n, A[p*cs:], rs, cs, right[T]{packed: b}, m, w, h, accumulate || p > 0)
		}
	}
}

// right is the right operand of a product: rows (k, n), ld > 0 apart, or panels.
type right[T real] struct {
	rows   []T
	ld     int
	packed panels[T]
}

// project multiplies by packed weights; a is what left.read gives.
func (d *dev[T]) project(c []T, ldc int, a []T, rs, cs int, b panels[T], m int, accumulate bool) {
	if m > d.k.fewMax[b.format] || cs != 1 {
		d.product(c, ldc, a, rs, cs, right[T]{packed: b}, m, b.n, b.k, accumulate)
		return
	}
	f := &d.jobs.few
	f.parts = append(f.parts[:0], fewPart[T]{c, a, rs, b})
	d.startFew(m, accumulate)
}

// Project starts the products together where there are few rows and all weights
// are packed. Rows are rounded once for all of them.
func (d *dev[T]) Project(out []device.Projection, a device.Buffer, m, k int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := left[T]{x: d.in("Project", "a", a, m*k), m: m, k: k}
	if !d.projectFew(out, &l) {
		for _, p := range out {
			d.matMul(p.C, &l, p.B, p.N, true, false)
		}
	}
}

func (d *dev[T]) projectFew(out []device.Projection, a *left[T]) bool {
	m, k := a.m, a.k
	f := &d.jobs.few
	f.parts = f.parts[:0]
	if m <= 0 || k <= 0 {
		return false
	}
	for _, p := range out {
		var b panels[T]
		if w := d.weights("Project", "b", p.B, p.N, k); w != nil {
			b = w.p
		} else if x, ok := p.B.(*buffer[T]); ok {
			b = d.packed(d.packs.kept(x, p.N, k), p.N, k)
		}
		if b.format == device.F32 && b.full == nil || m > d.k.fewMax[b.format] {
			return false
		}
		x, rs, _ := a.read(d, b.rounds)
		f.parts = append(f.parts, fewPart[T]{d.out("Project", "c", p.C, m*p.N), x, rs, b})
	}
	d.startFew(m, false)
	return true
}

// few is the job of products of the same few rows; its items are the panels of
// all parts in turn.
type few[T real] struct {
	d          *dev[T]
	m          int
	accumulate bool
	parts      []fewPart[T]
}

type fewPart[T real] struct {
	c  []T // (m, b.n)
	a  []T // rows rs apart
	rs int
	b  panels[T]
}

// startFew computes the parts of jobs.few.
func (d *dev[T]) startFew(m int, accumulate bool) {
	// Time is that of reading the weights, and from some rows on that of
	// multiplying. Threads share out the panels, in more pieces than there are
	// threads, since one may be slowed down by what else its core does.
	const piece, rows = 1 << 15, 8
	f := &d.jobs.few
	f.d, f.m, f.accumulate = d, m, accumulate
	count, size := 0, 0
	for _, p := range f.parts {
		count += (p.b.n + d.k.nr - 1) / d.k.nr
		size += p.b.n * p.b.k
	}
	tasks := max(1, size*max(1, m/rows)/piece)
	if tasks > d.pool.threads {
		tasks -= tasks % d.pool.threads
	}
	d.pool.start(count, min(count, 4*d.pool.threads, tasks), f)
}

func (f *few[T]) do(worker, lo, hi int) {
	nr := f.d.k.nr
	for i := range f.parts {
		p := &f.parts[i]
		n := (p.b.n + nr - 1) / nr
		if from, to := max(lo, 0), min(hi, n); from < to {
			f.d.k.few(p.c[from*nr:], p.b.n, p.a, p.rs, &p.b, from, to, f.m, f.accumulate, grow(&f.d.scratch[worker].b, f.m*nr))
		}
		lo, hi = lo-n, hi-n
	}
}

// depthOf cuts k into equal parts of at most most.
func depthOf(k, most int) int {
	if k <= most {
		return k
	}
	parts := (k + most - 1) / most
	return (k/parts + 31) &^ 31
}

// packTransposed packs b (n, k), with rows ldb apart, as panels of nr columns of
// bᵀ: panel j/nr holds (k, nr), the last one filled up with zeros.
func (d *dev[T]) packTransposed(dst, b []T, ldb, n, k int) {
	j := &d.jobs.packing
	*j = packing[T]{k: d.k, dst: dst, b: b, ldb: ldb, n: n, depth: k, transposed: true}
	d.pool.divide((n+d.k.nr-1)/d.k.nr, 2*d.k.nr*k, j)
}

// packRows packs b (k, n), with rows ldb apart, into the same panels.
func (d *dev[T]) packRows(dst, b []T, ldb, n, k int) {
	j := &d.jobs.packing
	*j = packing[T]{k: d.k, dst: dst, b: b, ldb: ldb, n: n, depth: k}
	d.pool.divide((n+d.k.nr-1)/d.k.nr, d.k.nr*k, j)
}

// packing is the job of packing b; its items are panels.
type packing[T real] struct {
	k             *kernels[T]
	dst, b        []T
	ldb, n, depth int
	transposed    bool
}

func (j *packing[T]) do(_, lo, hi int) {
	nr, k := j.k.nr, j.depth
	if w := j.n - lo*nr; w < (hi-lo)*nr {
		clear(row(j.dst, hi-1, nr*k)) // what the last panel lacks is 0
	}
	if j.transposed {
		for t := lo; t < hi; t++ {
			j.k.transpose(row(j.dst, t, nr*k), nr, j.b[t*nr*j.ldb:], j.ldb, min(nr, j.n-t*nr), k)
		}
		return
	}
	// A few rows of B at a time, along their length.
	for p := 0; p < k; p += stripRows {
		h := min(stripRows, k-p)
		for t := lo; t < hi; t++ {
			j.k.strip(j.dst[(t*k+p)*nr:], nr, j.b[p*j.ldb+t*nr:], j.ldb, min(nr, j.n-t*nr), h)
		}
	}
}

// stripRows is how many rows are packed at a time: as many pages as the
// processor keeps translations of.
const stripRows = 32

// product computes C. Threads share out tiles of C, never k.
func (d *dev[T]) product(c []T, ldc int, a []T, rs, cs int, b right[T], m, n, k int, accumulate bool) {
	p := &d.jobs.product
	*p = product[T]{d: d, c: c, ldc: ldc, a: a, rs: rs, cs: cs, b: b, m: m, n: n, k: k, accumulate: accumulate}
	p.rowTiles, p.colTiles = (m+d.k.mr-1)/d.k.mr, (n+d.k.nr-1)/d.k.nr
	p.rowBlocks, p.colBlocks = d.cut(p.rowTiles, p.colTiles, m*n*k, n > m || b.ld > 0, cs > 1 || rs >= farRows)
	tasks := p.rowBlocks * p.colBlocks
	if m*n*k < small {
		p.do(0, 0, tasks)
	} else {
		if p.colBlocks > d.pool.threads && m*k <= packMax && d.packsA(m/p.rowBlocks, p.colTiles/p.colBlocks, rs, cs) {
			p.tiles = grow(&d.tiles, m*k)
			d.pool.divide(p.rowTiles, 2*d.k.mr*k, (*tiling[T])(p))
		}
		d.pool.start(tasks, tasks, p)
	}
}

// tiling is the job of packing the a of a product for all workers; its items are
// tiles, k deep.
type tiling[T real] product[T]

func (t *tiling[T]) do(_, lo, hi int) {
	mr := t.d.k.mr
	i, end := lo*mr, min(hi*mr, t.m)
	t.d.packA(t.tiles[i*t.k:], t.a[i*t.rs:], t.rs, t.cs, end-i, t.k)
}

// product is the job of a product; its items are blocks of C.
type product[T real] struct {
	d                    *dev[T]
	c                    []T
	ldc                  int
	a                    []T
	rs, cs               int
	b                    right[T]
	m, n, k              int
	accumulate           bool
	rowTiles, colTiles   int
	rowBlocks, colBlocks int
	tiles                []T // a, if it is packed for all workers
}

func (p *product[T]) do(worker, lo, hi int) {
	mr, nr := p.d.k.mr, p.d.k.nr
	for t := lo; t < hi; t++ {
		r, j := t%p.rowBlocks, t/p.rowBlocks
		i0, i1 := p.rowTiles*r/p.rowBlocks*mr, min(p.rowTiles*(r+1)/p.rowBlocks*mr, p.m)
		j0, j1 := p.colTiles*j/p.colBlocks*nr, min(p.colTiles*(j+1)/p.colBlocks*nr, p.n)
		p.block(&p.d.scratch[worker], i0, i1, j0, j1)
	}
}

// cut says into how many blocks of rows and of columns to divide C, whose
// product costs so many multiply-adds: a few for every thread, the same number
// for each, and none with more rows of A than its cache holds. It cuts columns
// before rows or rows before columns, so that one operand is read by one thread.
func (d *dev[T]) cut(rowTiles, colTiles, cost int, columns, packed bool) (rowBlocks, colBlocks int) {
	threads := d.pool.threads
	want := min(4*threads, cost/small)
	if threads == 1 || want <= 1 {
		want = 1
	} else {
		want = (want + threads - 1) / threads * threads
	}
	most := (rowTiles + mcTiles - 1) / mcTiles
	if columns {
		// Every block packs its rows of A, if they are packed, and should be some
		// panels wide then.
		wide := 2
		if packed {
			wide = 6
		}
		colBlocks = min(colTiles, want, max(colTiles/wide/threads, 1)*threads)
		rowBlocks = max(most, min(want, threads)/colBlocks)
	} else {
		rowBlocks = min(rowTiles, max(most, want))
		for rowBlocks%threads != 0 && rowBlocks < rowTiles {
			rowBlocks++
		}
		colBlocks = min(colTiles, max(1, want/rowBlocks))
	}
	return min(rowBlocks, rowTiles), colBlocks
}

// packsA says whether a block of C of so many rows and panels has its rows of A
// packed: elements of a tile that lie far apart share cache sets and pages; it
// pays once a few panels read them, or many where they lie in rows.
func (d *dev[T]) packsA(rows, panels, rs, cs int) bool {
	return panels >= 3 && cs > 1 || panels >= 16 && rs >= farRows && rows >= d.k.mr
}

// block computes rows [i0, i1) and columns [j0, j1) of C.
func (p *product[T]) block(s *scratch[T], i0, i1, j0, j1 int) {
	d, b, k, gemm := p.d, p.b, p.k, p.d.k.gemm
	if b.packed.pairs || b.ld > 0 && d.pairs() {
		gemm = d.k.pairGemm
	}
	mr, nr := d.k.mr, d.k.nr
	rows, panels := i1-i0, (j1-j0+nr-1)/nr
	packA := p.tiles == nil && d.packsA(rows, panels, p.rs, p.cs)
	packB := b.ld > 0 && rows > 2*mr
	depth := depthOf(k, depthMax)
	if !packA && p.tiles == nil {
		// Equal tiles: a last one of a row or two would take as long as one of four.
		tiles := (rows + mr - 1) / mr
		mr = (rows + tiles - 1) / tiles
		if b.ld == 0 {
			depth = depthOf(k, nearDepth)
		}
	}
	for q := 0; q < k; q += depth {
		h, acc := min(depth, k-q), p.accumulate || q > 0
		var a []T
		tile, rs, cs, skip := mr*p.rs, p.rs, p.cs, 0 // skip is how deep a tile of t rows begins
		switch {
		case p.tiles != nil:
			a, tile, rs, skip = p.tiles[i0*k:], mr*k, 1, q
		case packA:
			a, tile, rs = d.packA(grow(&s.a, rows*depth), p.a[i0*p.rs+q*p.cs:], p.rs, p.cs, rows, h), mr*h, 1
		default:
			a = p.a[i0*p.rs+q*p.cs:]
		}
		wide := nr
		if rows > mr && !packB {
			wide *= chunk
		}
		for jc := j0; jc < j1; jc += wide {
			je := min(jc+wide, j1)
			bp, bs, panel := d.rightPanels(s, b, packB, q, h, jc, je, k)
			for i := 0; i < rows; i += mr {
				t := min(mr, rows-i)
				if packA || p.tiles != nil {
					cs = t
				}
				for j := jc; j < je; j += nr {
					gemm(p.c[(i0+i)*p.ldc+j:], p.ldc, a[i/mr*tile+skip*t:], rs, cs, bp[(j-jc)/nr*panel:], bs, t, min(nr, je-j), h, acc)
				}
			}
		}
	}
}

// rightPanels gives rows [p, p+h) of columns [j0, j1) of b, k deep: the rows of a
// panel are stride floats apart, and panels begin panel floats apart.
func (d *dev[T]) rightPanels(s *scratch[T], b right[T], pack bool, p, h, j0, j1, k int) (at []T, stride, panel int) {
	nr := d.k.nr
	switch {
	case b.ld > 0 && !pack:
		return b.rows[p*b.ld+j0:], b.ld, nr
	case b.ld == 0 && b.packed.format == device.F32:
		return b.packed.full[j0*k+p*nr:], nr, k * nr
	}
	at = grow(&s.b, (j1-j0+nr-1)/nr*nr*h)
	for j := j0; j < j1; j += nr {
		if to := at[(j-j0)*h:]; pack {
			d.k.strip(to, nr, b.rows[p*b.ld+j:], b.ld, min(nr, j1-j), h)
		} else {
			d.widen(to, &b.packed, j/nr, p, h)
		}
	}
	return at, nr, h * nr
}

// packA packs m rows and k columns of a into tiles (k, mr); a last tile of h
// rows is (k, h).
func (d *dev[T]) packA(dst, a []T, rs, cs, m, k int) []T {
	mr := d.k.mr
	if rs == 1 {
		for p := 0; p < k; p += stripRows {
			depth := min(stripRows, k-p)
			for i := 0; i < m; i += mr {
				h := min(mr, m-i)
				d.k.strip(dst[i*k+p*h:], h, a[i+p*cs:], cs, h, depth)
			}
		}
		return dst
	}
	for i := 0; i < m; i += mr {
		h := min(mr, m-i)
		d.k.transpose(dst[i*k:], h, a[i*rs:], rs, h, k)
	}
	return dst
}
