package cpu

import (
	"fmt"

	"nrt/backend/device"
)

// Blocking of the matrix product: mcTiles tiles of rows of A, kc deep, stay in
// the second-level cache of their worker; B is packed at most packMax floats at
// a time. None of them changes a bit of the result (see kernels.gemm).
const (
	kc      = 384
	mcTiles = 16
	packMax = 4 << 20
)

// MatMul computes C = op(A)·op(B). The micro-kernel reads A with any strides
// and B by rows, so only a transposed B must be packed; packing A or B is
// otherwise a question of caches.
func (d *dev[T]) MatMul(c, a, b device.Buffer, m, n, k int, transA, transB, accumulate bool) {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("cpu: MatMul: negative dimension in (%d, %d, %d)", m, n, k))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	A, B := d.in("MatMul", "a", a, m*k), d.in("MatMul", "b", b, k*n)
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
	rs, cs := k, 1
	if transA {
		rs, cs = 1, m
	}
	if transB {
		if packed := d.packs.lookup(d, b.(*buffer[T]), n, k); packed != nil {
			d.product(C, n, A, rs, cs, packed, 0, m, n, k, accumulate)
			return
		}
	}
	nr := d.k.nr
	if !transB && (m < 64 || n*k < 1<<13) {
		d.product(C, n, A, rs, cs, B, n, m, n, k, accumulate)
		return
	}
	nc := max(packMax/k/nr, 1) * nr
	for j := 0; j < n; j += nc {
		w := min(nc, n-j)
		packed := grow(&d.shared, (w+nr-1)/nr*nr*k)
		if transB {
			d.packTransposed(packed, B[j*k:], w, k)
		} else {
			d.packRows(packed, B[j:], n, w, k)
		}
		d.product(C[j:], n, A, rs, cs, packed, 0, m, w, k, accumulate)
	}
}

// packTransposed packs b (n, k) as panels of nr columns of bᵀ: panel j/nr holds
// (k, nr), the last one filled up with zeros.
func (d *dev[T]) packTransposed(dst, b []T, n, k int) {
	nr := d.k.nr
	d.pool.each((n+nr-1)/nr, 2*nr*k, func(_, lo, hi int) {
		for t := lo; t < hi; t++ {
			panel, w := row(dst, t, nr*k), min(nr, n-t*nr)
			if w < nr {
				clear(panel)
			}
			d.k.transpose(panel, nr, b[t*nr*k:], k, w, k)
		}
	})
}

// packRows packs b (k, n), with rows ldb apart, into the same panels.
func (d *dev[T]) packRows(dst, b []T, ldb, n, k int) {
	nr := d.k.nr
	d.pool.each((n+nr-1)/nr, nr*k, func(_, lo, hi int) {
		for t := lo; t < hi; t++ {
			panel, w := row(dst, t, nr*k), min(nr, n-t*nr)
			for p := range k {
				to := panel[p*nr : p*nr+nr]
				copy(to, b[p*ldb+t*nr:p*ldb+t*nr+w])
				clear(to[w:])
			}
		}
	})
}

// product computes C with B either packed in panels (ldb 0) or in rows ldb
// apart. Threads share out tiles of C, never k.
func (d *dev[T]) product(c []T, ldc int, a []T, rs, cs int, b []T, ldb int, m, n, k int, accumulate bool) {
	mr, nr := d.k.mr, d.k.nr
	rowTiles, colTiles := (m+mr-1)/mr, (n+nr-1)/nr
	rowBlock, colBlock := rowTiles, colTiles
	const small = 1 << 17 // multiply-adds a thread does in a few microseconds
	if want := min(4*d.pool.threads, m*n*k/small); d.pool.threads > 1 && want > 1 {
		// Cut the longer side of C, so that the operand read again and again
		// is the smaller one; cut the other side if that was not enough.
		if n > m {
			colBlock = max(1, colTiles/want)
			rowBlock = max(1, rowTiles*((colTiles+colBlock-1)/colBlock)/want)
		} else {
			rowBlock = max(1, rowTiles/want)
			colBlock = max(1, colTiles*((rowTiles+rowBlock-1)/rowBlock)/want)
		}
	}
	rowBlock = min(rowBlock, mcTiles)
	rowBlocks, colBlocks := (rowTiles+rowBlock-1)/rowBlock, (colTiles+colBlock-1)/colBlock
	task := func(w, t int) {
		i0, j0 := t%rowBlocks*rowBlock*mr, t/rowBlocks*colBlock*nr
		i1, j1 := min(i0+rowBlock*mr, m), min(j0+colBlock*nr, n)
		d.block(&d.scratch[w], c, ldc, a, rs, cs, b, ldb, i0, i1, j0, j1, k, accumulate)
	}
	if m*n*k < small {
		for t := range rowBlocks * colBlocks {
			task(0, t)
		}
		return
	}
	d.pool.run(rowBlocks*colBlocks, task)
}

// block computes rows [i0, i1) and columns [j0, j1) of C.
func (d *dev[T]) block(s *scratch[T], c []T, ldc int, a []T, rs, cs int, b []T, ldb int, i0, i1, j0, j1, k int, accumulate bool) {
	mr, nr := d.k.mr, d.k.nr
	// Rows far apart share cache sets; packing pays once many panels read them.
	packA := j1-j0 >= 16*nr && max(rs, cs) >= 1024 && i1-i0 >= mr
	for p := 0; p < k; p += kc {
		depth, acc := min(kc, k-p), accumulate || p > 0
		if packA {
			d.packA(grow(&s.a, (i1-i0+mr-1)/mr*mr*kc), a[i0*rs+p*cs:], rs, cs, i1-i0, depth)
		}
		for j := j0; j < j1; j += nr {
			bp, bs := b, ldb
			if ldb == 0 {
				bp, bs = b[j*k+p*nr:], nr
			} else {
				bp = b[p*ldb+j:]
			}
			for i := i0; i < i1; i += mr {
				h := min(mr, i1-i)
				if packA {
					d.k.gemm(c[i*ldc+j:], ldc, s.a[(i-i0)*depth:], 1, h, bp, bs, h, min(nr, j1-j), depth, acc)
				} else {
					d.k.gemm(c[i*ldc+j:], ldc, a[i*rs+p*cs:], rs, cs, bp, bs, h, min(nr, j1-j), depth, acc)
				}
			}
		}
	}
}

// packA packs m rows and k columns of a into tiles (k, mr); a last tile of h
// rows is (k, h).
func (d *dev[T]) packA(dst, a []T, rs, cs, m, k int) {
	mr := d.k.mr
	for i := 0; i < m; i += mr {
		h, to := min(mr, m-i), dst[i*k:]
		if rs == 1 {
			for p := range k {
				copy(to[p*h:p*h+h], a[i+p*cs:])
			}
		} else {
			d.k.transpose(to, h, a[i*rs:], rs, h, k)
		}
	}
}
