package safetensors

import (
	"math"
	"math/rand/v2"
	"testing"
)

// halfValue is the definition of an IEEE 754 half, in float64.
func halfValue(h uint16) float64 {
	sign := 1.0
	if h&0x8000 != 0 {
		sign = -1
	}
	exp, man := int(h>>10&0x1f), float64(h&0x3ff)
	switch {
	case exp == 0x1f && man != 0:
		return math.NaN()
	case exp == 0x1f:
		return math.Inf(int(sign))
	case exp == 0:
		return sign * math.Ldexp(man, -24)
	}
	return sign * math.Ldexp(1+man/1024, exp-15)
}

func TestF16ToF32IsExactForEveryHalf(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		got, want := float64(f16ToF32(h)), halfValue(h)
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != (h&0x8000 != 0) {
			t.Fatalf("f16ToF32(%#04x) = %v, want %v", h, got, want)
		}
		if back := f32ToF16(f16ToF32(h)); back != h && !math.IsNaN(want) {
			t.Fatalf("f32ToF16(f16ToF32(%#04x)) = %#04x", h, back)
		}
	}
}

func TestBF16RoundTripsEveryValue(t *testing.T) {
	for i := range 1 << 16 {
		b := uint16(i)
		f := bf16ToF32(b)
		back := f32ToBF16(f)
		if f != f {
			if g := bf16ToF32(back); g == g {
				t.Fatalf("NaN %#04x became %v", b, g)
			}
		} else if back != b {
			t.Fatalf("%#04x came back as %#04x", b, back)
		}
	}
}

// TestRoundingIsNearestEven compares with the definition: no neighbour is
// nearer, and at equal distance the mantissa is even.
func TestRoundingIsNearestEven(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, c := range []struct {
		name   string
		round  func(float32) uint16
		value  func(uint16) float64
		maxAbs float64
	}{
		{"F16", f32ToF16, halfValue, 65504},
		{"BF16", f32ToBF16, func(b uint16) float64 { return float64(bf16ToF32(b)) }, float64(bf16ToF32(0x7f7f))},
	} {
		for n := range 400_000 {
			f := math.Float32frombits(rng.Uint32())
			if n%2 == 0 { // halves' own range, and exact ties
				f = float32(c.value(uint16(rng.Uint32())))
				if n%4 == 0 {
					next := math.Float32frombits(math.Float32bits(f) + 1<<15)
					f = (f + next) / 2
				}
			}
			if f != f || math.Abs(float64(f)) > c.maxAbs {
				continue
			}
			h := c.round(f)
			got := c.value(h)
			err := math.Abs(got - float64(f))
			for _, nb := range []uint16{h - 1, h + 1} {
				v := c.value(nb)
				if h&0x7fff == 0 || math.IsNaN(v) || math.IsInf(v, 0) || math.Signbit(v) != math.Signbit(got) {
					continue
				}
				if d := math.Abs(v - float64(f)); d < err || d == err && h&1 == 1 {
					t.Fatalf("%s seed %d: %v became %v, nearer or even is %v", c.name, seed, f, got, v)
				}
			}
		}
	}
}

func TestRoundingAtTheEdges(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		in        float32
		f16, bf16 uint16
	}{
		{0, 0, 0},
		{float32(math.Copysign(0, -1)), 0x8000, 0x8000},
		{1, 0x3c00, 0x3f80},
		{65504, 0x7bff, 0x4780},
		{65519.996, 0x7bff, 0x4780},
		{65520, 0x7c00, 0x4780},
		{-1e6, 0xfc00, 0xc974},
		{inf, 0x7c00, 0x7f80},
		{-inf, 0xfc00, 0xff80},
		{math.MaxFloat32, 0x7c00, 0x7f80},
		{0x1p-24, 1, 0x3380},
		{0x1p-25, 0, 0x3300},        // half a step, to even
		{0x1.000002p-25, 1, 0x3300}, // just above
		{0x1.8p-24, 2, 0x33c0},      // a step and a half, to even
		{0x1.ff8p-15, 0x3ff, 0x3880},
		{0x1.ffep-15, 0x400, 0x3880}, // rounds up to the smallest normal
		{math.SmallestNonzeroFloat32, 0, 0},
	} {
		if got := f32ToF16(c.in); got != c.f16 {
			t.Errorf("f32ToF16(%v) = %#04x, want %#04x", c.in, got, c.f16)
		}
		if got := f32ToBF16(c.in); got != c.bf16 {
			t.Errorf("f32ToBF16(%v) = %#04x, want %#04x", c.in, got, c.bf16)
		}
	}
	for _, bits := range []uint32{0x7f800001, 0x7fc00000, 0xff800001, 0xffffffff} {
		nan := math.Float32frombits(bits)
		if f := f16ToF32(f32ToF16(nan)); f == f {
			t.Errorf("F16: NaN %#08x became %v", bits, f)
		}
		if f := bf16ToF32(f32ToBF16(nan)); f == f {
			t.Errorf("BF16: NaN %#08x became %v", bits, f)
		}
	}
}
