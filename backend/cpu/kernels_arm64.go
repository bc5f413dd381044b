package cpu

import (
	"fmt"
	"os"
)

// kernels32 picks the float32 kernels: every arm64 processor has NEON, unless
// NRT_CPU asks for those in plain Go.
func kernels32() (*kernels[float32], error) {
	switch want := os.Getenv("NRT_CPU"); want {
	case "generic":
		return genericKernels[float32]("generic"), nil
	case "neon", "":
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
	k.gemm, k.transpose = tiles(gemmTileNEON, 0), transposeBy(transposer{4, transpose4NEON})
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
