//go:build amd64 || arm64

package cpu

// Assembly takes pointers and checks no length. What wraps it here asks for the last
// element of each slice first, and leaves out what has none.

// tiles is kernels.gemm by a micro-kernel. With split > 0 that one takes whole vectors
// of so many columns, or less than one.
func tiles(gemm func(c *float32, ldc int, a *float32, rs, cs int, b *float32, ldb, m, n, k, accumulate int), split int) func(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldb int, m, n, k int, accumulate bool) {
	return func(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldb int, m, n, k int, accumulate bool) {
		if m == 0 || n == 0 {
			return
		}
		_ = c[(m-1)*ldc+n-1]
		if k == 0 {
			for i := 0; i < m && !accumulate; i++ {
				clear(c[i*ldc : i*ldc+n])
			}
			return
		}
		_, _ = a[(m-1)*rs+(k-1)*cs], b[(k-1)*ldb+n-1]
		acc := number(accumulate)
		if split < n && n < 2*split {
			gemm(&c[0], ldc, &a[0], rs, cs, &b[0], ldb, m, split, k, acc)
			gemm(&c[split], ldc, &a[0], rs, cs, &b[split], ldb, m, n-split, k, acc)
			return
		}
		gemm(&c[0], ldc, &a[0], rs, cs, &b[0], ldb, m, n, k, acc)
	}
}

// number is how assembly takes a flag.
func number(flag bool) int {
	if flag {
		return 1
	}
	return 0
}

// transposer transposes so many blocks of size rows and columns.
type transposer struct {
	size int
	f    func(dst *float32, ldd int, src *float32, lds, blocks int)
}

// transposeBy is kernels.transpose by blocks, large ones first, and what is left of
// rows and columns one by one.
func transposeBy(all ...transposer) func(dst []float32, ldd int, src []float32, lds int, rows, cols int) {
	return func(dst []float32, ldd int, src []float32, lds int, rows, cols int) {
		if rows == 0 || cols == 0 {
			return
		}
		_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
		j := 0
		for _, t := range all {
			for ; j+t.size <= rows && cols >= t.size; j += t.size {
				t.f(&dst[j], ldd, &src[j*lds], lds, cols/t.size)
				edge(dst, ldd, src, lds, j, j+t.size, cols-cols%t.size, cols)
			}
		}
		edge(dst, ldd, src, lds, j, rows, 0, cols)
	}
}

// edge transposes rows [j0, j1), columns [p0, p1) one by one.
func edge(dst []float32, ldd int, src []float32, lds, j0, j1, p0, p1 int) {
	for j := j0; j < j1; j++ {
		for p := p0; p < p1; p++ {
			dst[p*ldd+j] = src[j*lds+p]
		}
	}
}
