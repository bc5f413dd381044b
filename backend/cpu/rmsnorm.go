package cpu

import (
	"math"

	"nrt/backend/device"
)

// RMSNorm: out = x·r·w with r = 1/sqrt(mean x² + eps), one r per row.
func (d *dev[T]) RMSNorm(out, rstd, x, w device.Buffer, rows, dim int, eps float64) {
	positive("RMSNorm", dim)
	d.mu.Lock()
	defer d.mu.Unlock()
	j := &d.jobs.norm
	*j = normJob[T]{k: d.k, dim: dim, eps: eps, x: d.in("RMSNorm", "x", x, rows*dim), w: d.in("RMSNorm", "w", w, dim),
		out: d.out("RMSNorm", "out", out, rows*dim), rstd: d.out("RMSNorm", "rstd", rstd, rows)}
	d.pool.divide(rows, 2*dim, j)
}

type normJob[T real] struct {
	k               *kernels[T]
	dim             int
	eps             float64
	x, w, out, rstd []T
}

func (j *normJob[T]) do(_, lo, hi int) {
	for i := lo; i < hi; i++ {
		x := row(j.x, i, j.dim)
		r := T(1 / math.Sqrt(float64(j.k.dot(x, x))/float64(j.dim)+j.eps))
		j.rstd[i] = r
		j.k.rmsScale(row(j.out, i, j.dim), x, j.w, r)
	}
}

// normRows is how many rows add up to one part of dw. It does not depend on the
// number of threads, so neither does the sum.
const normRows = 64

// RMSNormBackward. With y = x·r·w and dr/dx_j = −r³·x_j/dim,
//
//	dx_j += dout_j·w_j·r − x_j·r³/dim·Σ_i dout_i·w_i·x_i
//	dw_j += Σ_rows dout_j·x_j·r
//
// Both in one pass over the rows, which memory limits; dw only if it is wanted.
func (d *dev[T]) RMSNormBackward(dx, dw, dout, x, w, rstd device.Buffer, rows, dim int) {
	const op = "RMSNormBackward"
	positive(op, dim)
	d.mu.Lock()
	defer d.mu.Unlock()
	blocks := (rows + normRows - 1) / normRows
	j := &d.jobs.normBack
	*j = normBackJob[T]{k: d.k, rows: rows, dim: dim, parts: grow(&j.parts, blocks*dim), sums: dw != nil,
		dout: d.in(op, "dout", dout, rows*dim), x: d.in(op, "x", x, rows*dim),
		w: d.in(op, "w", w, dim), rstd: d.in(op, "rstd", rstd, rows),
		dx: d.out(op, "dx", dx, rows*dim)}
	var sum []T
	if j.sums {
		sum = d.out(op, "dw", dw, dim)
	}
	d.pool.divide(blocks, 8*normRows*dim, j)
	for i := 0; j.sums && i < blocks; i++ {
		d.k.add(sum, row(j.parts, i, dim))
	}
}

type normBackJob[T real] struct {
	k                    *kernels[T]
	rows, dim            int
	dout, x, w, rstd, dx []T
	parts                []T  // of dw, one a block of rows
	sums                 bool // dw is wanted
}

func (j *normBackJob[T]) do(_, lo, hi int) {
	for b := lo; b < hi; b++ {
		part := row(j.parts, b, j.dim)
		clear(part)
		for i := b * normRows; i < min((b+1)*normRows, j.rows); i++ {
			dout, x, r := row(j.dout, i, j.dim), row(j.x, i, j.dim), j.rstd[i]
			t := j.k.dot3(dout, x, j.w) * r * r * r / T(j.dim)
			j.k.rmsBack(row(j.dx, i, j.dim), dout, x, j.w, r, t)
			if j.sums {
				j.k.mulAdd(part, dout, x, r)
			}
		}
	}
}
