package cpu

import (
	"fmt"

	"nrt/backend/device"
)

// Blocking of the matrix product, none of which changes a bit of the result
// (see kernels.gemm): a panel of B, depthMax deep, stays in the first-level
// cache while the tiles of A run past it; mcTiles tiles of A stay in the second
// level of their worker; B is packed for all workers at most packMax floats at a
// time, or by each worker for itself when it has no more than ownRows rows of C.
const (
	depthMax = 384
	mcTiles  = 32
	packMax  = 1 << 20
	ownRows  = 384
)

// small is how many multiply-adds one thread does in a few microseconds, less
// than it takes to share them out.
const small = 1 << 17

// MatMul computes C = op(A)·op(B). The micro-kernel reads A with any strides
// and B by rows, so only a transposed B must be packed; packing A or B is
// otherwise a question of caches.
func (d *dev[T]) MatMul(c, a, b device.Buffer, m, n, k int, transA, transB, accumulate bool) {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("cpu: MatMul: negative dimension in (%d, %d, %d)", m, n, k))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var B []T
	w := d.weights("MatMul", "b", b, n, k)
	if w == nil || !transB {
		B = d.in("MatMul", "b", b, k*n)
	}
	A, C := d.in("MatMul", "a", a, m*k), d.out("MatMul", "c", c, m*n)
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		if !accumulate {
			clear(C)
		}
		return
	}
	rs, cs := k, 1
	if transA {
		rs, cs = 1, m
	}
	switch {
	case w != nil:
		d.project(C, n, A, rs, cs, &w.p, m, accumulate)
		return
	case transB:
		if packed := d.packs.lookup(d, b.(*buffer[T]), n, k); packed != nil {
			d.project(C, n, A, rs, cs, &panels[T]{full: packed, n: n, k: k}, m, accumulate)
			return
		}
	case m <= ownRows || n*k < 1<<13:
		d.product(C, n, A, rs, cs, right[T]{rows: B, ld: n}, m, n, k, accumulate)
		return
	}
	nr, depth := d.k.nr, depthOf(k)
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
			b := right[T]{packed: panels[T]{full: packed, n: w, k: h}}
			d.product(C[j:], n, A[p*cs:], rs, cs, b, m, w, h, accumulate || p > 0)
		}
	}
}

// right is the right operand of a product: rows (k, n), ld > 0 apart, or panels.
type right[T real] struct {
	rows   []T
	ld     int
	packed panels[T]
}

// project multiplies by packed weights.
func (d *dev[T]) project(c []T, ldc int, a []T, rs, cs int, b *panels[T], m int, accumulate bool) {
	if m > d.k.fewMax || cs != 1 {
		d.product(c, ldc, a, rs, cs, right[T]{packed: *b}, m, b.n, b.k, accumulate)
		return
	}
	// Time is that of reading b. Threads share out its panels.
	const piece = 1 << 15
	nr := d.k.nr
	count := (b.n + nr - 1) / nr
	tasks := min(count, 2*d.pool.threads, max(1, b.n*b.k/piece))
	d.pool.run(tasks, func(w, t int) {
		t0, t1 := count*t/tasks, count*(t+1)/tasks
		d.k.few(c[t0*nr:], ldc, a, rs, b, t0, t1, m, accumulate, grow(&d.scratch[w].b, m*nr))
	})
}

// depthOf cuts k into equal parts of at most depthMax.
func depthOf(k int) int {
	if k <= depthMax {
		return k
	}
	parts := (k + depthMax - 1) / depthMax
	return (k/parts + 31) &^ 31
}

// packTransposed packs b (n, k), with rows ldb apart, as panels of nr columns of
// bᵀ: panel j/nr holds (k, nr), the last one filled up with zeros.
func (d *dev[T]) packTransposed(dst, b []T, ldb, n, k int) {
	nr := d.k.nr
	d.pool.each((n+nr-1)/nr, 2*nr*k, func(_, lo, hi int) {
		for t := lo; t < hi; t++ {
			panel, w := row(dst, t, nr*k), min(nr, n-t*nr)
			if w < nr {
				clear(panel)
			}
			d.k.transpose(panel, nr, b[t*nr*ldb:], ldb, w, k)
		}
	})
}

// packRows packs b (k, n), with rows ldb apart, into the same panels.
func (d *dev[T]) packRows(dst, b []T, ldb, n, k int) {
	nr := d.k.nr
	d.pool.each((n+nr-1)/nr, nr*k, func(_, lo, hi int) {
		if w := n - lo*nr; w < (hi-lo)*nr {
			clear(row(dst, hi-1, nr*k)) // what the last panel lacks is 0
		}
		// A few rows of B at a time, along their length.
		for p := 0; p < k; p += stripRows {
			h := min(stripRows, k-p)
			for t := lo; t < hi; t++ {
				d.k.strip(dst[(t*k+p)*nr:], nr, b[p*ldb+t*nr:], ldb, min(nr, n-t*nr), h)
			}
		}
	})
}

// stripRows is how many rows are packed at a time: as many pages as the
// processor keeps translations of.
const stripRows = 32

// product computes C. Threads share out tiles of C, never k.
func (d *dev[T]) product(c []T, ldc int, a []T, rs, cs int, b right[T], m, n, k int, accumulate bool) {
	mr, nr := d.k.mr, d.k.nr
	rowTiles, colTiles := (m+mr-1)/mr, (n+nr-1)/nr
	rowBlocks, colBlocks := d.cut(rowTiles, colTiles, m*n*k, n > m || b.ld > 0)
	task := func(w, t int) {
		r, j := t%rowBlocks, t/rowBlocks
		i0, i1 := rowTiles*r/rowBlocks*mr, min(rowTiles*(r+1)/rowBlocks*mr, m)
		j0, j1 := colTiles*j/colBlocks*nr, min(colTiles*(j+1)/colBlocks*nr, n)
		d.block(&d.scratch[w], c, ldc, a, rs, cs, b, i0, i1, j0, j1, k, accumulate)
	}
	if m*n*k < small {
		for t := range rowBlocks * colBlocks {
			task(0, t)
		}
		return
	}
	d.pool.run(rowBlocks*colBlocks, task)
}

// cut says into how many blocks of rows and of columns to divide C, whose
// product costs so many multiply-adds: a few for every thread, the same number
// for each, and none with more rows of A than its cache holds. It cuts columns
// before rows or rows before columns, so that one operand is read by one thread.
func (d *dev[T]) cut(rowTiles, colTiles, cost int, columns bool) (rowBlocks, colBlocks int) {
	threads := d.pool.threads
	want := min(4*threads, cost/small)
	if threads == 1 || want <= 1 {
		want = 1
	} else {
		want = (want + threads - 1) / threads * threads
	}
	most := (rowTiles + mcTiles - 1) / mcTiles
	if columns {
		// Every block reads all of its rows of A, so it should be some panels wide.
		const wide = 6
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

// block computes rows [i0, i1) and columns [j0, j1) of C.
func (d *dev[T]) block(s *scratch[T], c []T, ldc int, a []T, rs, cs int, b right[T], i0, i1, j0, j1, k int, accumulate bool) {
	mr, nr := d.k.mr, d.k.nr
	rows, panels := i1-i0, (j1-j0+nr-1)/nr
	// Elements of a tile that lie far apart share cache sets and pages; packing
	// pays once a few panels read them, or many where they lie in rows.
	packA := panels >= 3 && cs > 1 || panels >= 16 && rs >= 1024 && rows >= mr
	packB := b.ld > 0 && rows > 2*mr
	depth := depthOf(k)
	for p := 0; p < k; p += depth {
		h, acc := min(depth, k-p), accumulate || p > 0
		ap, tile, ars, acs := a[i0*rs+p*cs:], mr*rs, rs, cs
		if packA {
			ap = d.packA(grow(&s.a, rows*depth), ap, rs, cs, rows, h)
			tile, ars = mr*h, 1
		}
		for j := j0; j < j1; j += nr {
			w := min(nr, j1-j)
			var bp []T
			bs := nr
			switch {
			case packB:
				bp = grow(&s.b, depthMax*nr)
				d.k.strip(bp, nr, b.rows[p*b.ld+j:], b.ld, w, h)
			case b.ld > 0:
				bp, bs = b.rows[p*b.ld+j:], b.ld
			case b.packed.format == device.F32:
				bp = b.packed.full[j*k+p*nr:]
			default:
				bp = grow(&s.b, depthMax*nr)
				d.widen(bp, &b.packed, j/nr, p, h)
			}
			for i := 0; i < rows; i += mr {
				t := min(mr, rows-i)
				if packA {
					acs = t
				}
				d.k.gemm(c[(i0+i)*ldc+j:], ldc, ap[i/mr*tile:], ars, acs, bp, bs, t, w, h, acc)
			}
		}
	}
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
