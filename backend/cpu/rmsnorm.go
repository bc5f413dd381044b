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
	X, W := d.in("RMSNorm", "x", x, rows*dim), d.in("RMSNorm", "w", w, dim)
	O, R := d.out("RMSNorm", "out", out, rows*dim), d.out("RMSNorm", "rstd", rstd, rows)
	d.pool.each(rows, 2*dim, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			xi := row(X, i, dim)
			r := T(1 / math.Sqrt(float64(d.k.dot(xi, xi))/float64(dim)+eps))
			R[i] = r
			d.k.rmsScale(row(O, i, dim), xi, W, r)
		}
	})
}

// RMSNormBackward. With y = x·r·w and dr/dx_j = −r³·x_j/dim,
//
//	dx_j += dout_j·w_j·r − x_j·r³/dim·Σ_i dout_i·w_i·x_i
//	dw_j += Σ_rows dout_j·x_j·r
//
// Threads share out rows for dx and columns for dw.
func (d *dev[T]) RMSNormBackward(dx, dw, dout, x, w, rstd device.Buffer, rows, dim int) {
	const op = "RMSNormBackward"
	positive(op, dim)
	d.mu.Lock()
	defer d.mu.Unlock()
	DO, X := d.in(op, "dout", dout, rows*dim), d.in(op, "x", x, rows*dim)
	W, R := d.in(op, "w", w, dim), d.in(op, "rstd", rstd, rows)
	DX, DW := d.out(op, "dx", dx, rows*dim), d.out(op, "dw", dw, dim)
	d.pool.each(rows, 4*dim, func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			do, xi, r := row(DO, i, dim), row(X, i, dim), R[i]
			t := d.k.dot3(do, xi, W) * r * r * r / T(dim)
			d.k.rmsBack(row(DX, i, dim), do, xi, W, r, t)
		}
	})
	d.columns(dim, 2*rows, func(_, lo, hi int) {
		for i := range rows {
			d.k.mulAdd(DW[lo:hi], row(DO, i, dim)[lo:hi], row(X, i, dim)[lo:hi], R[i])
		}
	})
}
