package cpu

import (
	"fmt"
	"os"
)

// kernels32 picks the float32 kernels: every arm64 processor has NEON, unless
// NRT_CPU asks for those in plain Go.
func kernels32(generic bool) (*kernels[float32], error) {
	switch want := os.Getenv("NRT_CPU"); {
	case generic || want == "generic":
		return genericKernels[float32]("generic"), nil
	case want == "neon" || want == "":
		return neonKernels(), nil
	default:
		return nil, fmt.Errorf("cpu: NRT_CPU: want generic or neon on this processor, have %q", want)
	}
}

// neonKernels is the table of generated kernels. The vector kernels take
// slices and check their lengths themselves; what has no NEON kernel runs in
// plain Go.
func neonKernels() *kernels[float32] {
	k := genericKernels[float32]("neon")
	k.mr, k.nr = 8, 12
	k.gemm, k.transpose = gemmNEON, transposeNEON
	k.add, k.scale, k.mulAdd = addNEON, scaleNEON, mulAddNEON
	k.dot, k.dot3, k.sumSquares = dotNEON, dot3NEON, sumSquaresNEON
	k.softmax, k.exp, k.softmaxBack = softmaxNEON, expNEON, softmaxBackNEON
	k.stats = func(x []float32, scale float32) (top, sum, weighted float32) {
		top, sum, weighted = statsNEON(x, scale)
		return scale * top, sum, weighted
	}
	k.classBack = classBackNEON
	k.rmsScale, k.rmsBack = rmsScaleNEON, rmsBackNEON
	k.rope = ropeNEON
	k.swiglu, k.swigluBack = swigluNEON, swigluBackNEON
	k.adamw = adamwNEON
	return k
}

// shortSlice is where a kernel goes that was given slices of unequal length.
func shortSlice() { panic("cpu: a kernel was given a slice that is too short") }

func gemmNEON(c []float32, ldc int, a []float32, rs, cs int, b []float32, ldb int, m, n, k int, accumulate bool) {
	if m == 0 || n == 0 {
		return
	}
	// The last element each operand must have.
	_ = c[(m-1)*ldc+n-1]
	if k == 0 {
		for i := 0; i < m && !accumulate; i++ {
			clear(c[i*ldc : i*ldc+n])
		}
		return
	}
	_, _ = a[(m-1)*rs+(k-1)*cs], b[(k-1)*ldb+n-1]
	acc := 0
	if accumulate {
		acc = 1
	}
	gemmTileNEON(&c[0], ldc, &a[0], rs, cs, &b[0], ldb, m, n, k, acc)
}

// transposeNEON moves blocks of 4 by 4, then single floats.
func transposeNEON(dst []float32, ldd int, src []float32, lds int, rows, cols int) {
	if rows == 0 || cols == 0 {
		return
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	j, whole := 0, cols&^3
	for ; j+4 <= rows && whole > 0; j += 4 {
		transpose4NEON(&dst[j], ldd, &src[j*lds], lds, whole/4)
		if whole < cols {
			genericTranspose(dst[whole*ldd+j:], ldd, src[j*lds+whole:], lds, 4, cols-whole)
		}
	}
	if j < rows {
		genericTranspose(dst[j:], ldd, src[j*lds:], lds, rows-j, cols)
	}
}
