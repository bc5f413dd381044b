package cpu

import (
	"fmt"
	"os"

	"golang.org/x/sys/cpu"

	"nrt/backend/device"
)

//go:generate go run -C internal/asmgen . -isa avx2 -pkg cpu -out ../../kernels_avx2_amd64.s -stubs ../../kernels_avx2_amd64.go
//go:generate go run -C internal/asmgen . -isa avx512 -pkg cpu -out ../../kernels_avx512_amd64.s -stubs ../../kernels_avx512_amd64.go
//go:generate go run -C internal/asmgen . -isa bf16 -pkg cpu -out ../../kernels_bf16_amd64.s -stubs ../../kernels_bf16_amd64.go

// kernels32 picks the float32 kernels: the best this processor and operating
// system can run, or what NRT_CPU asks for.
func kernels32() (*kernels[float32], error) {
	avx2 := cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasBMI2
	avx512 := avx2 && cpu.X86.HasAVX512F
	want := os.Getenv("NRT_CPU")
	switch {
	case want == "generic":
		return genericKernels[float32]("generic"), nil
	case want == "avx512" && avx512, want == "" && avx512:
		return avx512Kernels(vendor() == authenticAMD), nil
	case want == "avx2" && avx2, want == "" && avx2:
		return avx2Kernels(vendor() == authenticAMD), nil
	case want == "":
		return genericKernels[float32]("generic"), nil
	case want == "avx2", want == "avx512":
		return nil, fmt.Errorf("cpu: NRT_CPU=%s: this machine cannot run it", want)
	}
	return nil, fmt.Errorf("cpu: NRT_CPU: want generic, avx2 or avx512, have %q", want)
}

// authenticAMD is the vendor whose processors multiply pairs of bfloat16 at twice the
// rate of float32 (from Zen 4 on), where Intel's do it at half of it and have tiles
// instead; and that follow streams of weights so well by themselves that to be asked
// for them costs a fifth of what memory gives (Zen 4), as long as loads are all that
// is waited for.
const authenticAMD = 'A' | 'u'<<8 | 't'<<16 | 'h'<<24

// asm is the set of assembly kernels of one instruction set. The methods wrap
// them as the functions of kernels: they check lengths, which assembly does
// not, and skip empty slices.
type asm struct {
	gemm        func(c *float32, ldc int, a *float32, rs, cs int, b *float32, ldb int, m, n, k, accumulate int)
	split       int // see tiles
	lanes       int
	dotRows     func(s *float32, lds int, q *float32, ldq int, k *float32, ldk, ldh int, soon *float32, heads, blocks, dim int)
	mixRows1    func(out, p, v *float32, at *int, ldv int, soon *float32, keys, accumulate int)
	mixRows8    func(out, p, v *float32, at *int, ldv int, soon *float32, keys, accumulate int)
	fewTile     [3]int // rows that fewF32 and its like take at once, by format
	fewMax      [3]int // and at all
	unasked     int    // rows up to which they do not ask for float32 and bfloat16 ahead
	fewF32      func(c *float32, ldc int, a *float32, rs int, b *float32, stride, m, panels, k, accumulate, ahead, turn int)
	fewBF16     func(c *float32, ldc int, a *float32, rs int, b *uint16, stride, m, panels, k, accumulate, ahead, turn int)
	fewPairs    func(c *float32, ldc int, a *float32, rs int, b *float32, stride, m, panels, k, accumulate, ahead, turn int)
	fewQ8       func(c *float32, ldc int, a *float32, rs int, b *byte, stride, m, panels, k, accumulate, ahead, turn int)
	widenBF16   func(dst *float32, src *uint16, vectors int)
	widenQ8     func(dst *float32, src *byte, h int)
	strip       func(dst *float32, ldd int, src *float32, lds, width, rows int)
	add         func(dst, src *float32, n int)
	scale       func(x *float32, n int, s float32)
	mulAdd      func(dst, a, b *float32, n int, s float32)
	dot         func(a, b *float32, n int) float32
	dot3        func(a, b, c *float32, n int) float32
	softmax     func(x *float32, n int, scale float32) (top, sum float32)
	stats       func(x *float32, n int, scale float32) (top, sum, weighted float32)
	exp         func(dst, x *float32, n int, scale, shift float32)
	softmaxBack func(dp, p *float32, n int, delta, scale float32)
	classBack   func(x *float32, n int, scale, lse, entropy, wl, we float32)
	rmsScale    func(out, x, w *float32, n int, s float32)
	rmsBack     func(dx, dout, x, w *float32, n int, s, t float32)
	rope        func(x, y, cos, sin *float32, n int, sign float32)
	swiglu      func(out, gate, up *float32, n int)
	swigluBack  func(dgate, dup, dout, gate, up *float32, n int)
	adamw       func(p, g, m, v *float32, n int, scale, b1, b2, c1, c2, keep, step, root, eps float32)
	sumSquares  func(x *float32, n int) float64
	above       func(x, p *float32, n int, limit float32) (count int, mass float64)
}

// avx512Kernels takes products of pairs too, where the processor is good at them.
func avx512Kernels(amd bool) *kernels[float32] {
	a := &asm{lanes: 16, fewTile: [3]int{12, 12, 12}, fewMax: [3]int{48, 48, 48},
		gemm: gemmAVX512, dotRows: dotRowsAVX512, mixRows1: mixRows1AVX512, mixRows8: mixRows8AVX512, fewF32: fewF32AVX512, fewBF16: fewBF16AVX512, fewQ8: fewQ8AVX512,
		widenBF16: widenBF16AVX512, widenQ8: widenQ8AVX512, strip: stripAVX512, add: addAVX512, scale: scaleAVX512, mulAdd: mulAddAVX512, dot: dotAVX512,
		dot3: dot3AVX512, softmax: softmaxAVX512, stats: statsAVX512, exp: expAVX512,
		softmaxBack: softmaxBackAVX512, classBack: classBackAVX512, rmsScale: rmsScaleAVX512,
		rmsBack: rmsBackAVX512, rope: ropeAVX512, swiglu: swigluAVX512, swigluBack: swigluBackAVX512,
		adamw: adamwAVX512, sumSquares: sumSquaresAVX512, above: aboveAVX512}
	k := a.kernels("avx512", 12, 32)
	if amd {
		a.unasked = 4
	}
	if amd && cpu.X86.HasAVX512BF16 {
		a.fewPairs, k.pairGemm, k.pair, k.pairRows = fewBF16, tiles(gemmBF16, 0), pairBF16, pairRowsBF16
	}
	return k
}

func avx2Kernels(amd bool) *kernels[float32] {
	a := &asm{lanes: 8, split: 8, fewTile: [3]int{6, 6, 4}, fewMax: [3]int{48, 48, 4},
		gemm: gemmAVX2, dotRows: dotRowsAVX2, mixRows1: mixRows1AVX2, mixRows8: mixRows8AVX2, fewF32: fewF32AVX2, fewBF16: fewBF16AVX2, fewQ8: fewQ8AVX2,
		widenBF16: widenBF16AVX2, widenQ8: widenQ8AVX2, strip: stripAVX2, add: addAVX2, scale: scaleAVX2, mulAdd: mulAddAVX2, dot: dotAVX2,
		dot3: dot3AVX2, softmax: softmaxAVX2, stats: statsAVX2, exp: expAVX2,
		softmaxBack: softmaxBackAVX2, classBack: classBackAVX2, rmsScale: rmsScaleAVX2,
		rmsBack: rmsBackAVX2, rope: ropeAVX2, swiglu: swigluAVX2, swigluBack: swigluBackAVX2,
		adamw: adamwAVX2, sumSquares: sumSquaresAVX2, above: aboveAVX2}
	if amd {
		a.unasked = 1
	}
	return a.kernels("avx2", 6, 16)
}

func (a *asm) kernels(name string, mr, nr int) *kernels[float32] {
	return &kernels[float32]{name: name, mr: mr, nr: nr,
		transpose: transposeBy(transposer{8, transpose8AVX2}, transposer{4, transpose4AVX2}),
		gemm:      tiles(a.gemm, a.split), lanes: a.lanes, few: a.fewRows, fewMax: a.fewMax,
		dotRows: func(s []float32, lds int, q []float32, ldq int, k []float32, ldk, ldh int, soon []float32, heads, blocks, dim int) {
			n := blocks * a.lanes
			_, _, _ = s[(heads-1)*lds+n-1], q[(heads-1)*ldq+dim-1], k[(n-1)*ldk+(heads-1)*ldh+dim-1]
			a.dotRows(&s[0], lds, &q[0], ldq, &k[0], ldk, ldh, &soon[0], heads, blocks, dim)
		},
		mixRows: a.mixRows,
		widenBF16: func(dst []float32, src []uint16) {
			if n := len(dst) / a.lanes; n > 0 {
				a.widenBF16(&dst[0], &src[:len(dst)][0], n)
			}
		},
		widenQ8: func(dst []float32, src []byte, nr, h int) {
			if h > 0 {
				_, _ = dst[h*nr-1], src[(2+h)*nr-1]
				a.widenQ8(&dst[0], &src[0], h)
			}
		},
		strip: func(dst []float32, ldd int, src []float32, lds int, width, rows int) {
			if width > 0 && rows > 0 {
				_, _ = dst[(rows-1)*ldd+width-1], src[(rows-1)*lds+width-1]
				a.strip(&dst[0], ldd, &src[0], lds, width, rows)
			}
		},
		add: func(dst, src []float32) {
			if n := len(dst); n > 0 {
				a.add(&dst[0], &src[:n][0], n)
			}
		},
		scale: func(x []float32, s float32) {
			if n := len(x); n > 0 {
				a.scale(&x[0], n, s)
			}
		},
		mulAdd: func(dst, x, y []float32, s float32) {
			if n := len(dst); n > 0 {
				a.mulAdd(&dst[0], &x[:n][0], &y[:n][0], n, s)
			}
		},
		dot: func(x, y []float32) float32 {
			n := len(x)
			if n == 0 {
				return 0
			}
			return a.dot(&x[0], &y[:n][0], n)
		},
		dot3: func(x, y, z []float32) float32 {
			n := len(x)
			if n == 0 {
				return 0
			}
			return a.dot3(&x[0], &y[:n][0], &z[:n][0], n)
		},
		softmax: func(x []float32, scale float32) (top, sum float32) {
			return a.softmax(&x[0], len(x), scale)
		},
		stats: func(x []float32, scale float32) (top, sum, weighted float32) {
			top, sum, weighted = a.stats(&x[0], len(x), scale)
			return scale * top, sum, weighted
		},
		exp: func(dst, x []float32, scale, shift float32) {
			if n := len(dst); n > 0 {
				a.exp(&dst[0], &x[:n][0], n, scale, shift)
			}
		},
		softmaxBack: func(dp, p []float32, delta, scale float32) {
			if n := len(dp); n > 0 {
				a.softmaxBack(&dp[0], &p[:n][0], n, delta, scale)
			}
		},
		classBack: func(x []float32, scale, lse, entropy, wl, we float32) {
			if n := len(x); n > 0 {
				a.classBack(&x[0], n, scale, lse, entropy, wl, we)
			}
		},
		rmsScale: func(out, x, w []float32, s float32) {
			if n := len(out); n > 0 {
				a.rmsScale(&out[0], &x[:n][0], &w[:n][0], n, s)
			}
		},
		rmsBack: func(dx, dout, x, w []float32, s, t float32) {
			if n := len(dx); n > 0 {
				a.rmsBack(&dx[0], &dout[:n][0], &x[:n][0], &w[:n][0], n, s, t)
			}
		},
		rope: func(x, y, cos, sin []float32, sign float32) {
			if n := len(x); n > 0 {
				a.rope(&x[0], &y[:n][0], &cos[:n][0], &sin[:n][0], n, sign)
			}
		},
		swiglu: func(out, gate, up []float32) {
			if n := len(out); n > 0 {
				a.swiglu(&out[0], &gate[:n][0], &up[:n][0], n)
			}
		},
		swigluBack: func(dgate, dup, dout, gate, up []float32) {
			if n := len(dgate); n > 0 {
				a.swigluBack(&dgate[0], &dup[:n][0], &dout[:n][0], &gate[:n][0], &up[:n][0], n)
			}
		},
		adamw: func(p, g, m, v []float32, c adamConst[float32]) {
			if n := len(p); n > 0 {
				a.adamw(&p[0], &g[:n][0], &m[:n][0], &v[:n][0], n, c.scale, c.b1, c.b2, c.c1, c.c2, c.keep, c.step, c.root, c.eps)
			}
		},
		sumSquares: func(x []float32) float64 {
			if len(x) == 0 {
				return 0
			}
			return a.sumSquares(&x[0], len(x))
		},
		above: func(x, p []float32, limit float32) (count int, mass float64) {
			n := len(x)
			if n == 0 {
				return 0, 0
			}
			return a.above(&x[0], &p[:n][0], n, limit)
		},
	}
}

func (a *asm) mixRows(out, p, v []float32, at []int, ldv int, soon []float32, keys int, accumulate bool) {
	acc, vectors := number(accumulate), len(at)/2
	_ = v[(keys-1)*ldv+vectors*a.lanes-1]
	for i := 0; i < vectors; i++ {
		_, _ = p[at[2*i]+keys-1], out[at[2*i+1]+a.lanes-1]
	}
	const most = 8 // vectors that mixRows8 takes
	for i := 0; i < vectors; {
		from, next := &v[i*a.lanes], &soon[i*a.lanes]
		if vectors-i >= most {
			a.mixRows8(&out[0], &p[0], from, &at[2*i], ldv, next, keys, acc)
			i += most
			continue
		}
		a.mixRows1(&out[0], &p[0], from, &at[2*i], ldv, next, keys, acc)
		i++
	}
}

// pairBF16 rounds by vectors, and the rest in Go.
func pairBF16(dst, src []float32) {
	whole := len(src) / 32
	if whole > 0 {
		_ = dst[16*whole-1]
		roundBF16(&dst[0], &src[0], whole)
	}
	for i := 16 * whole; 2*i < len(src); i++ {
		hi := uint16(0)
		if 2*i+1 < len(src) {
			hi = toBF16(src[2*i+1])
		}
		dst[i] = pairOf(toBF16(src[2*i]), hi)
	}
}

// pairRowsBF16 weaves two rows by vectors, and the rest in Go.
func pairRowsBF16(dst, first, second []float32) {
	whole := len(dst) / 16
	first = first[:len(dst)]
	if second != nil {
		second = second[:len(dst)]
	}
	if whole > 0 && second != nil {
		weaveBF16(&dst[0], &first[0], &second[0], whole)
	} else {
		whole = 0
	}
	for i := 16 * whole; i < len(dst); i++ {
		hi := uint16(0)
		if second != nil {
			hi = toBF16(second[i])
		}
		dst[i] = pairOf(toBF16(first[i]), hi)
	}
}

// fewGroup is how many panels the assembly takes at once; see groups in asmgen.
func (a *asm) fewGroup(f device.Format, m int) int {
	switch {
	case a.lanes == 16 && m <= 2, f != device.Q8 && m == 1:
		return 4
	case a.lanes == 16 && m <= 4, m <= 2:
		return 2
	}
	return 1
}

func (a *asm) fewRows(c []float32, ldc int, x []float32, rs int, b *panels[float32], t0, t1, m int, accumulate bool, edge []float32) {
	nr, acc := 2*a.lanes, number(accumulate)
	size := panelSize(b.format, b.k, nr)
	// The last elements that assembly reads and writes.
	_, _ = x[(m-1)*rs+b.k-1], c[(m-1)*ldc+min(t1*nr, b.n)-t0*nr-1]
	switch b.format {
	case device.F32:
		_ = b.full[t1*size-1]
	case device.BF16:
		_ = b.half[t1*size-1]
	case device.Q8:
		_ = b.bytes[t1*size-1]
	}
	// Rows in equal parts. The first meets panels that are not in a cache yet,
	// and asks for some rows of them in advance: as a stream a panel is too short
	// for the processor to find its pace by itself. In the last of its rows it asks
	// for the first ones of the next panels. While the other parts compute, the
	// whole of those arrives, without a turn. Float32 is asked for half as many rows
	// ahead: four panels would fill half of a first-level cache of 32 KiB, or more
	// requests be under way than a processor has.
	ahead := 32
	switch {
	case b.format != device.Q8 && m <= a.unasked:
		ahead = 0
	case b.format == device.F32:
		ahead = 16
	}
	tile := a.fewTile[b.format]
	parts := (m + tile - 1) / tile
	run := func(c []float32, ldc, t, n int) {
		for p := range parts {
			i := m * p / parts
			h, soon, turn := m*(p+1)/parts-i, ahead*nr, ahead
			if p > 0 {
				soon, turn = n*size, -1
			}
			switch b.format {
			case device.F32:
				few := a.fewF32
				if b.pairs {
					few = a.fewPairs
				}
				few(&c[i*ldc], ldc, &x[i*rs], rs, &b.full[t*size], 4*size, h, n, b.k, acc, 4*soon, turn)
			case device.BF16:
				a.fewBF16(&c[i*ldc], ldc, &x[i*rs], rs, &b.half[t*size], 2*size, h, n, b.k, acc, 2*soon, turn)
			case device.Q8:
				a.fewQ8(&c[i*ldc], ldc, &x[i*rs], rs, &b.bytes[t*size], size, h, n, b.k, acc, soon, turn)
			}
		}
	}
	group := a.fewGroup(b.format, (m+parts-1)/parts)
	for t := t0; t < t1; {
		at, w := (t-t0)*nr, b.n-t*nr
		if w < nr { // a cut panel, by way of a whole one
			edge = edge[:m*nr]
			for i := range m {
				copy(edge[i*nr:i*nr+w], c[i*ldc+at:])
			}
			run(edge, nr, t, 1)
			for i := range m {
				copy(c[i*ldc+at:i*ldc+at+w], edge[i*nr:])
			}
			return
		}
		n := min(group, t1-t, w/nr)
		if left := t1 - t - n; left == 1 && n > 2 {
			n-- // 3 and 2 are faster than 4 and 1
		}
		run(c[at:], ldc, t, n)
		t += n
	}
}
