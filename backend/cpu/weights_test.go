package cpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

// TestWeightsAreReadInParts: a matrix of any size passes through a few megabytes.
func TestWeightsAreReadInParts(t *testing.T) {
	d := mustNew(t, Options{Threads: 2})
	const rows, cols = 3000, 1000
	calls := 0
	w, err := d.NewWeights(device.BF16, rows, cols, func(_ int, dst []float32) error {
		calls++
		if len(dst) > 1<<20 {
			t.Errorf("asks for %d floats at once", len(dst))
		}
		return nil
	})
	if err != nil || calls < 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
	d.Free(w)
}

// TestProductsAllocateNothing: in steady state.
func TestProductsAllocateNothing(t *testing.T) {
	for _, kind := range []Type{Float32, BFloat16} {
		productsAllocateNothing(t, mustNew(t, Options{Type: kind, Threads: 2}))
	}
}

func productsAllocateNothing(t *testing.T, d device.Device) {
	for _, m := range []int{1, 8, 300} {
		const n, k = 576, 500
		a, b, c := filled(d, m*k), filled(d, n*k), d.Alloc(m*n)
		measure := func(what string, f func()) {
			t.Helper()
			f()
			f()
			if n := testing.AllocsPerRun(10, f); n > 0 {
				t.Errorf("%s of %d rows allocates %g times", what, m, n)
			}
		}
		measure("a·bᵀ", func() { d.MatMul(c, a, b, m, n, k, false, true, false) })
		measure("a·b", func() { d.MatMul(c, a, b, m, n, k, false, false, false) })
		g := d.Alloc(n * k)
		measure("aᵀ·b", func() { d.MatMul(g, c, a, n, k, m, true, false, true) })
		for _, f := range []device.Format{device.F32, device.BF16, device.Q8} {
			w, err := d.NewWeights(f, n, k, func(int, []float32) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			ids := make([]int32, m)
			measure(f.String()+" product", func() { d.MatMul(c, a, w, m, n, k, false, true, false) })
			measure(f.String()+" lookup", func() { d.Embed(a, w, ids, k) })
		}
	}
}

// TestPairs: a row is rounded as one by one, whatever its length, NaN and infinity
// included; what is smaller than any normal number may be zero.
func TestPairs(t *testing.T) {
	for _, k := range roundingTables(t) {
		if k.pairGemm == nil {
			continue
		}
		r := rand.New(rand.NewPCG(5, 0))
		odd := []uint32{0, 1 << 31, 1, 0x007fffff, 0x00800000, 0x7f7fffff, 0x7f7f8000, 0x7f800000, 0xff800000, 0x7f800001, 0x7fffffff, 0xffc00001, 0x3f808000, 0x3f818000}
		for n := 1; n < 150; n++ {
			src, dst := make([]float32, n), make([]float32, (n+1)/2+1)
			for i := range src {
				src[i] = float32(r.NormFloat64())
				if r.IntN(3) == 0 {
					src[i] = math.Float32frombits(odd[r.IntN(len(odd))])
				}
			}
			dst[len(dst)-1] = 7
			k.pair(dst[:len(dst)-1], src)
			if dst[len(dst)-1] != 7 {
				t.Fatalf("%d numbers: wrote past the end", n)
			}
			for i := range 2 * (len(dst) - 1) {
				have, want := uint16(math.Float32bits(dst[i/2])>>(i%2*16)), uint16(0)
				if i < n {
					want = toBF16(src[i])
				}
				if tiny := i < n && math.Float32bits(src[i])&0x7f800000 == 0; have != want && !(tiny && have&0x7fff <= 0x80) {
					t.Fatalf("[%d] of %d: %x became %04x, want %04x", i, n, math.Float32bits(src[min(i, n-1)]), have, want)
				}
			}
		}
	}
}

// FuzzProduct holds a product of any shape, mode and format against plain sums
// in float64, on every kernel table, and asks that the vector tables agree bit
// for bit. Devices of type BFloat16 multiply what they have rounded.
func FuzzProduct(f *testing.F) {
	for i, s := range [][3]int{{1, 1, 1}, {1, 576, 192}, {2, 33, 31}, {3, 127, 97}, {4, 65, 400}, {5, 64, 32}, {12, 32, 385}, {13, 67, 33}, {40, 40, 1100}, {400, 7, 50}} {
		f.Add(uint16(s[0]), uint16(s[1]), uint16(s[2]), uint8(i*37), uint64(i))
	}
	f.Fuzz(func(t *testing.T, m0, n0, k0 uint16, mode uint8, seed uint64) {
		m, n, k := int(m0)%500+1, int(n0)%700+1, int(k0)%1200+1
		for m*n*k > 1<<22 { // keeps a case within milliseconds
			m, n, k = (m+1)/2, (n+1)/2, (k+1)/2
		}
		transA, transB, acc := mode&1 != 0, mode&2 != 0, mode&4 != 0
		packed, format := mode&8 != 0, device.Format(mode>>4%3)
		r := rand.New(rand.NewPCG(seed, 1))
		random := func(n int) []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(r.NormFloat64())
			}
			return x
		}
		a, b, c0 := random(m*k), random(n*k), random(m*n)
		var first []float32
		kerns := tables(t)
		exact := len(kerns)
		if packed && format != device.Q8 { // last, since they leave b rounded
			kerns = append(kerns, roundingTables(t)...)
		}
		for at, kern := range kerns {
			rounding := at >= exact
			if rounding {
				for i, x := range a {
					a[i] = fromBF16(toBF16(x))
				}
			}
			d := newDev(kern, 1+int(mode>>6))
			d.bf16 = rounding
			A, B, C := d.Alloc(m*k), d.Alloc(n*k), d.Alloc(m*n)
			d.Write(A, a)
			d.Write(B, b)
			d.Write(C, c0)
			w := B
			if packed {
				transB = true
				var err error
				if w, err = d.NewWeights(format, n, k, func(i int, dst []float32) error { copy(dst, b[i*k:]); return nil }); err != nil {
					t.Fatal(err)
				}
				d.Read(b, w) // what the format kept; that it keeps as it is
			}
			d.MatMul(C, A, w, m, n, k, transA, transB, acc)
			have := make([]float32, m*n)
			d.Read(have, C)
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			for i := range m {
				for j := range n {
					var want, size float64
					if acc {
						want = float64(c0[i*n+j])
					}
					for p := range k {
						x, y := a[i*k+p], b[p*n+j]
						if transA {
							x = a[p*m+i]
						}
						if transB {
							y = b[j*k+p]
						}
						want += float64(x) * float64(y)
						size += math.Abs(float64(x) * float64(y))
					}
					if d := math.Abs(float64(have[i*n+j]) - want); !(d <= 1e-6*(1+size+math.Abs(want))) {
						t.Fatalf("%s: (%d, %d, %d) mode %d seed %d: [%d, %d] is %g, want %g", kern.name, m, n, k, mode, seed, i, j, have[i*n+j], want)
					}
				}
			}
			if kern.name == "generic" || rounding {
				continue // need not fuse multiply and add
			}
			if first == nil {
				first = have
			}
			for i := range have {
				if math.Float32bits(have[i]) != math.Float32bits(first[i]) {
					t.Fatalf("%s: (%d, %d, %d) mode %d seed %d: [%d] is %g, %g by other vectors", kern.name, m, n, k, mode, seed, i, have[i], first[i])
				}
			}
		}
	})
}
