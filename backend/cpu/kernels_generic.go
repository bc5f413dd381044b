package cpu

import "math"

// genericKernels is the table in plain Go: the oracle, and what runs where no
// vector kernels were generated.
func genericKernels[T real](name string) *kernels[T] {
	return &kernels[T]{
		name: name, mr: 4, nr: 4,
		gemm:        genericGemm[T],
		widenBF16:   genericWidenBF16[T],
		widenQ8:     genericWidenQ8[T],
		strip:       genericStrip[T],
		transpose:   genericTranspose[T],
		add:         genericAdd[T],
		scale:       genericScale[T],
		mulAdd:      genericMulAdd[T],
		dot:         genericDot[T],
		softmax:     genericSoftmax[T],
		stats:       genericStats[T],
		exp:         genericExp[T],
		softmaxBack: genericSoftmaxBack[T],
		classBack:   genericClassBack[T],
		rmsScale:    genericRMSScale[T],
		rmsBack:     genericRMSBack[T],
		dot3:        genericDot3[T],
		rope:        genericRope[T],
		swiglu:      genericSwiGLU[T],
		swigluBack:  genericSwiGLUBack[T],
		adamw:       genericAdamW[T],
		sumSquares:  genericSumSquares[T],
		above:       genericAbove[T],
	}
}

func exp[T real](x T) T { return T(math.Exp(float64(x))) }

// genericGemm runs rows one by one over four columns at a time. The conversion of
// a product, here and below, keeps a compiler from fusing it with a sum, which it
// might do in one of the two loops alone.
func genericGemm[T real](c []T, ldc int, a []T, rs, cs int, b []T, ldb int, m, n, k int, accumulate bool) {
	for i := range m {
		ci := c[i*ldc : i*ldc+n]
		for j := 0; j < n; j += 4 {
			w := min(4, n-j)
			var s [4]T
			if accumulate {
				copy(s[:w], ci[j:])
			}
			if w == 4 {
				s = gemmRow4(s, a, i*rs, cs, b, j, ldb, k)
			} else {
				for t := range w {
					s[t] = gemmRow1(s[t], a, i*rs, cs, b, j+t, ldb, k)
				}
			}
			copy(ci[j:], s[:w])
		}
	}
}

func gemmRow4[T real](s [4]T, a []T, ai, cs int, b []T, bi, ldb, k int) [4]T {
	s0, s1, s2, s3 := s[0], s[1], s[2], s[3]
	for range k {
		x, y := a[ai], b[bi:bi+4:bi+4]
		s0 += T(x * y[0])
		s1 += T(x * y[1])
		s2 += T(x * y[2])
		s3 += T(x * y[3])
		ai, bi = ai+cs, bi+ldb
	}
	return [4]T{s0, s1, s2, s3}
}

func gemmRow1[T real](s T, a []T, ai, cs int, b []T, bi, ldb, k int) T {
	for range k {
		s += T(a[ai] * b[bi])
		ai, bi = ai+cs, bi+ldb
	}
	return s
}

func genericWidenBF16[T real](dst []T, src []uint16) {
	for i, x := range src {
		dst[i] = T(fromBF16(x))
	}
}

func genericWidenQ8[T real](dst []T, src []byte, nr, h int) {
	for j := range nr {
		scale := T(fromBF16(uint16(src[2*j]) | uint16(src[2*j+1])<<8))
		for i := range h {
			dst[i*nr+j] = scale * T(int8(src[(2+i)*nr+j]))
		}
	}
}

func genericStrip[T real](dst []T, ldd int, src []T, lds int, width, rows int) {
	for i := range rows {
		copy(dst[i*ldd:i*ldd+width], src[i*lds:i*lds+width])
	}
}

func genericTranspose[T real](dst []T, ldd int, src []T, lds int, rows, cols int) {
	for j := range rows {
		for p, x := range src[j*lds : j*lds+cols] {
			dst[p*ldd+j] = x
		}
	}
}

func genericAdd[T real](dst, src []T) {
	for i, x := range src {
		dst[i] += x
	}
}

func genericScale[T real](x []T, s T) {
	for i := range x {
		x[i] *= s
	}
}

func genericMulAdd[T real](dst, a, b []T, s T) {
	for i := range dst {
		dst[i] += T(a[i] * b[i] * s)
	}
}

func genericDot[T real](a, b []T) T {
	var s T
	for i, x := range a {
		s += T(x * b[i])
	}
	return s
}

func genericDot3[T real](a, b, c []T) T {
	var s T
	for i, x := range a {
		s += T(x * b[i] * c[i])
	}
	return s
}

// top is the largest element; NaN wins over everything.
func top[T real](x []T) T {
	m := x[0]
	for _, v := range x {
		if v > m || v != v {
			m = v
		}
	}
	return m
}

func genericSoftmax[T real](x []T, scale T) (T, T) {
	m := top(x)
	var sum T
	for i, v := range x {
		e := exp(scale * (v - m))
		x[i] = e
		sum += e
	}
	return m, sum
}

func genericStats[T real](x []T, scale T) (T, T, T) {
	m := top(x)
	var sum, weighted T
	for _, v := range x {
		y := scale * (v - m)
		e := exp(y)
		sum += e
		if e > 0 {
			weighted += T(e * y)
		}
	}
	return scale * m, sum, weighted
}

func genericExp[T real](dst, x []T, scale, shift T) {
	for i, v := range x {
		dst[i] = exp(T(scale*v) - shift)
	}
}

func genericSoftmaxBack[T real](dp, p []T, delta, scale T) {
	for i, v := range dp {
		dp[i] = p[i] * (v - delta) * scale
	}
}

func genericClassBack[T real](x []T, scale, lse, entropy, wl, we T) {
	for i, v := range x {
		lp := T(scale*v) - lse
		p := exp(lp)
		if p == 0 {
			x[i] = 0
			continue
		}
		x[i] = p * (wl + T(we*(lp+entropy)))
	}
}

func genericRMSScale[T real](out, x, w []T, s T) {
	for i, v := range x {
		out[i] = v * s * w[i]
	}
}

func genericRMSBack[T real](dx, dout, x, w []T, s, t T) {
	for i := range dx {
		dx[i] += T(dout[i]*w[i]*s) - T(x[i]*t)
	}
}

func genericRope[T real](x, y, cos, sin []T, sign T) {
	for i := range x {
		a, b, c, s := x[i], y[i], cos[i], sign*sin[i]
		x[i] = T(a*c) - T(b*s)
		y[i] = T(b*c) + T(a*s)
	}
}

func sigmoid[T real](x T) T { return 1 / (1 + exp(-x)) }

func genericSwiGLU[T real](out, gate, up []T) {
	for i, g := range gate {
		out[i] = g * sigmoid(g) * up[i]
	}
}

func genericSwiGLUBack[T real](dgate, dup, dout, gate, up []T) {
	for i, g := range gate {
		s, d, u := sigmoid(g), dout[i], up[i]
		dup[i] = d * g * s
		dgate[i] = d * u * s * (1 + T(g*(1-s)))
	}
}

func genericAdamW[T real](p, g, m, v []T, c adamConst[T]) {
	for i, x := range g {
		x *= c.scale
		m[i] = T(c.b1*m[i]) + T(c.c1*x)
		v[i] = T(c.b2*v[i]) + T(c.c2*x*x)
		p[i] = T(c.keep*p[i]) - T(c.step*m[i]/(T(T(math.Sqrt(float64(v[i])))*c.root)+c.eps))
	}
}

func genericSumSquares[T real](x []T) float64 {
	var s float64
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return s
}

func genericAbove[T real](x, p []T, limit T) (count int, mass float64) {
	for i, v := range x {
		if v > limit {
			count++
			mass += float64(p[i])
		}
	}
	return count, mass
}
