//go:build cuda

package cuda

import (
	"fmt"

	"gorgonia.org/cu"
	"nrt/backend/cuda/internal/cublas"
	"nrt/backend/cuda/internal/driver"
)

// blas is cuBLAS as the device uses it: for products of more than few rows whose
// operands are aligned.
type blas struct {
	handle *cublas.Handle
	gemm   *libraryCall
}

// openBLAS makes d use cuBLAS as Options.GEMM says. Who asks for it and does not get it
// learns what was tried; who leaves the choice open goes on without.
func (d *dev) openBLAS(choice string) error {
	switch choice {
	case "", GEMMAuto, GEMMCuBLAS:
	case GEMMOwn:
		return nil
	default:
		return fmt.Errorf("GEMM: want %s, %s or %s, have %q", GEMMAuto, GEMMOwn, GEMMCuBLAS, choice)
	}
	lib, err := cublas.Open()
	if err == nil {
		d.lock()
		defer d.unlock()
		work := d.workspace("cublas", cublas.WorkspaceBytes)
		b := &blas{}
		err = d.ex.call(func() (err error) {
			if b.handle, err = lib.NewHandle(driver.StreamHandle(d.ex.stream), uint64(work)); err == nil {
				d.ex.opened = append(d.ex.opened, b.handle.Close)
			}
			return err
		})
		if err == nil {
			b.gemm = &libraryCall{name: "cublasGemmEx", run: func(_ cu.Stream, args []uint64) error {
				return b.handle.Do((*cublas.Gemm)(args))
			}}
			d.gemm.blas = b
		}
	}
	if err != nil && choice == GEMMCuBLAS {
		return err
	}
	return nil
}

// takes tells whether cuBLAS computes x.
func (b *blas) takes(x product) bool {
	return b != nil && x.m > few && x.a.plain(x.a.ld) && x.b.plain(x.b.ld) && x.c.plain(x.c.ld)
}

// product enqueues x, a product of dense matrices.
func (b *blas) product(d *dev, x product) {
	g := b.describe(x)
	d.call(b.gemm, g[:]...)
}

// pair enqueues two products of one A and of one shape as one piece of work, or is
// false. k and v, and gate and up, are such: where rows are few, one of them alone
// has too few tiles to fill a card.
func (b *blas) pair(d *dev, x, y product) bool {
	if b == nil || x.format() != d.dt || y.format() != d.dt {
		return false
	}
	x, _ = x.unpacked()
	y, _ = y.unpacked()
	if !b.takes(x) || !b.takes(y) || x.n != y.n || x.b.ld != y.b.ld || x.b.dt != y.b.dt || x.c.ld != y.c.ld || x.c.dt != y.c.dt {
		return false
	}
	g := b.describe(x)
	if !g.And(uint64(y.b.at), uint64(y.c.at)) {
		return false
	}
	d.call(b.gemm, g[:]...)
	return true
}

func (b *blas) describe(x product) cublas.Gemm {
	return cublas.NewGemm(x.transA, x.transB, x.m, x.n, x.k, uint64(x.a.at), x.a.ld, uint64(x.b.at), x.b.ld, uint64(x.c.at), x.c.ld,
		x.a.dt == dtBF16, x.c.dt == dtBF16, x.accumulate)
}
