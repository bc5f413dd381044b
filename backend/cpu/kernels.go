package cpu

// real is a float type a device computes in.
type real interface{ float32 | float64 }

// kernels is what the operations are made of. Slices named alike have the same
// length. Elementwise kernels give each element the same bits wherever it
// stands, so ranges may be cut anywhere; reductions depend on their slice only.
type kernels[T real] struct {
	name   string
	mr, nr int // largest tile of gemm

	// gemm sets c[i·ldc+j] = c₀ + Σ_p a[i·rs+p·cs]·b[p·ldb+j] for i < m, j < n,
	// summed in the order of p, where c₀ is c[i·ldc+j] with accumulate and 0
	// without. m ≤ mr; any n; k ≥ 0. It touches nothing outside the tile.
	gemm func(c []T, ldc int, a []T, rs, cs int, b []T, ldb int, m, n, k int, accumulate bool)
	// few is the product of m ≤ fewMax[format] rows of a, rs apart, with panels
	// [t0, t1) of b; column 0 of c is the first of panel t0. The sums are those
	// of gemm over widened weights. edge is scratch for a cut panel, m·nr.
	few    func(c []T, ldc int, a []T, rs int, b *panels[T], t0, t1, m int, accumulate bool, edge []T)
	fewMax [3]int // by format; 0: there is no few
	// widenBF16 sets dst to bfloat16 numbers; widenQ8 to a block of a Q8 panel:
	// nr scales, then h rows of nr int8.
	widenBF16 func(dst []T, src []uint16)
	widenQ8   func(dst []T, src []byte, nr, h int)
	// pairGemm is gemm where each element of a and b is a pair of bfloat16, the first
	// number in the lower half, and meets the other's. pair makes such elements of src,
	// rounded, with a last half of 0 if need be; pairRows of one number of each row,
	// with 0 where second is nil. nil where the processor has no instruction that makes
	// it worth while.
	pairGemm func(c []T, ldc int, a []T, rs, cs int, b []T, ldb int, m, n, k int, accumulate bool)
	pair     func(dst, src []T)
	pairRows func(dst, first, second []T)
	// strip sets dst[i·ldd+j] = src[i·lds+j] for i < rows, j < width ≤ nr.
	strip func(dst []T, ldd int, src []T, lds int, width, rows int)
	// transpose sets dst[p·ldd+j] = src[j·lds+p] for j < rows, p < cols.
	transpose func(dst []T, ldd int, src []T, lds int, rows, cols int)

	// dotRows sets s[h·lds+j] = Σ_d q[h·ldq+d]·k[j·ldk+h·ldh+d] for h < heads and
	// j < blocks·lanes, with the additions of gemm. dim is a multiple of 16. It asks
	// for the same pieces of the rows from soon on. nil where there is no vector
	// kernel; Attention then packs keys and takes gemm.
	dotRows func(s []T, lds int, q []T, ldq int, k []T, ldk, ldh int, soon []T, heads, blocks, dim int)
	// mixRows adds Σ_j p[at[2i]+j]·v[j·ldv+i·lanes+l] to out[at[2i+1]+l], or sets it
	// without accumulate, for 2i < len(at), j < keys, l < lanes, with the additions
	// of gemm. It asks for as much from soon on.
	mixRows func(out, p, v []T, at []int, ldv int, soon []T, keys int, accumulate bool)
	lanes   int // of these two

	add   func(dst, src []T)
	scale func(x []T, s T)
	// mulAdd sets dst += a·b·s.
	mulAdd func(dst, a, b []T, s T)
	dot    func(a, b []T) T

	// softmax sets x = exp(scale·(x−max x)) and returns max x and Σ x.
	softmax func(x []T, scale T) (top, sum T)
	// stats returns m = max scale·x, Σ exp(scale·x−m), Σ exp(scale·x−m)·(scale·x−m).
	stats func(x []T, scale T) (top, sum, weighted T)
	// exp sets dst = exp(scale·x−shift).
	exp func(dst, x []T, scale, shift T)
	// softmaxBack sets dp = p·(dp−delta)·scale.
	softmaxBack func(dp, p []T, delta, scale T)
	// classBack sets x = p·(wl + we·(log p + entropy)), log p = scale·x−lse.
	classBack func(x []T, scale, lse, entropy, wl, we T)

	// rmsScale sets out = x·s·w; rmsBack sets dx += dout·w·s − x·t.
	rmsScale func(out, x, w []T, s T)
	rmsBack  func(dx, dout, x, w []T, s, t T)
	// dot3 is Σ a·b·c.
	dot3 func(a, b, c []T) T

	// rope rotates the pairs (x[i], y[i]) by the angle (cos[i], sign·sin[i]).
	rope func(x, y, cos, sin []T, sign T)

	// above counts the x > limit and adds up the p beside them.
	above func(x, p []T, limit T) (count int, mass float64)

	swiglu     func(out, gate, up []T)
	swigluBack func(dgate, dup, dout, gate, up []T)

	adamw func(p, g, m, v []T, c adamConst[T])
	// sumSquares adds in float64.
	sumSquares func(x []T) float64
}

// adamConst is one AdamW update with its bias corrections folded in:
// p = p·keep − step·m/(sqrt(v)·root + eps).
type adamConst[T real] struct {
	scale, b1, b2, c1, c2, keep, step, root, eps T
}
