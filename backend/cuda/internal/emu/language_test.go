//go:build cuda

package emu

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eachSeed runs a test in several orders of the threads.
func eachSeed(m *machine, f func()) {
	m.t.Helper()
	for seed := range uint64(8) {
		m.Seed(seed)
		f()
		if m.t.Failed() {
			m.t.Fatalf("with seed %d", seed)
		}
	}
}

func TestIndices(t *testing.T) {
	m := start(t, Plain, "language.cu")
	eachSeed(m, func() {
		out := buffer(m, make([]int32, 24*96))
		if e := m.launch("identity", [3]int{4, 3, 2}, 96, 0, out, 24*96-5); e != 0 {
			t.Fatal(e)
		}
		for i, v := range back(m, make([]int32, 24*96), out) {
			want := int32(i*10 + i%2 + 2*(i%96/32%2))
			if i >= 24*96-5 {
				want = 0
			}
			if v != want {
				t.Fatalf("thread %d wrote %d, want %d", i, v, want)
			}
		}
	})
}

func TestShuffles(t *testing.T) {
	m := start(t, Plain, "language.cu")
	eachSeed(m, func() {
		out := buffer(m, make([]int32, 224))
		m.runs("shuffles", 1, 32, 0, out)
		have := back(m, make([]int32, 224), out)
		for l := range int32(32) {
			next := (l + 1) % 32
			down := l + 4
			if down > 31 {
				down = l
			}
			last := int32(31)
			if l > 0 {
				last = l
			}
			votes := int32(0)
			for i := range 32 {
				if i%3 == 0 {
					votes |= 1 << i
				}
			}
			want := []int32{25, next * next, l ^ 3, down, votes, (l^16)*2 + 1, last}
			for i, w := range want {
				if h := have[32*int32(i)+l]; h != w {
					t.Errorf("lane %d, operation %d: have %d, want %d", l, i, h, w)
				}
			}
		}
	})
}

// The sums have the same bits in every thread and in every order of the threads.
func TestSumsOfABlock(t *testing.T) {
	m := start(t, Plain, "language.cu")
	r := rand.New(rand.NewPCG(1, 2))
	for _, threads := range []int{32, 96, 1024} {
		x := make([]float32, threads)
		sum := 0.0
		for i := range x {
			x[i] = r.Float32() - 0.5
			sum += float64(x[i])
		}
		most := slices.Max(x)
		first := float32(math.NaN())
		eachSeed(m, func() {
			out := buffer(m, make([]float32, 2*threads))
			m.runs("sums", 1, threads, 0, out, buffer(m, x))
			have := back(m, make([]float32, 2*threads), out)
			if first != first {
				first = have[0]
			}
			for i := range threads {
				if have[2*i] != first || math.Abs(float64(first)-sum) > 1e-4 {
					t.Fatalf("%d threads: sum %v in thread %d, %v in the first, want %v", threads, have[2*i], i, first, sum)
				}
				if have[2*i+1] != most {
					t.Fatalf("%d threads: maximum %v in thread %d, want %v", threads, have[2*i+1], i, most)
				}
			}
		})
	}
}

// The functions agree with those of package math, near their hard places too.
func TestFunctions(t *testing.T) {
	m := start(t, Plain, "language.cu")
	inf := float32(math.Inf(1))
	x := []float32{0, 1, -1, 0.5, 2, 1.0000001, 0.9999999, 1.5, 0.7071068, 0.70710677, 88.7, 88.73, -87.3, -87.4, 89, -104, 1e-38, 1e-40, 1e-45, 3e38, inf, -inf,
		float32(math.NaN()), 65504, 3.14159, math.Float32frombits(0x3f808000), math.Float32frombits(0x3f818000), math.Float32frombits(0x7f7fffff)}
	r := rand.New(rand.NewPCG(3, 4))
	for range 4000 {
		x = append(x, (r.Float32()-0.5)*170, r.Float32()*4, float32(math.Exp(r.Float64()*170-85)))
	}
	n := len(x)
	out := buffer(m, make([]float32, 10*n))
	m.runs("functions", 1, 64, 0, out, buffer(m, x), n)
	have := back(m, make([]float32, 10*n), out)
	near := func(name string, i int, have, want, ulps float64) {
		t.Helper()
		w := float32(want)
		if math.Abs(want) < 0x1p-126 && strings.HasPrefix(name, "f_exp") {
			w = 0 // the GPU has zero there
		}
		if math.IsNaN(want) != math.IsNaN(have) {
			t.Errorf("%s(%g) = %g, want %g", name, x[i], have, want)
			return
		}
		unit := float64(math.Nextafter32(float32(math.Abs(float64(w))), inf) - float32(math.Abs(float64(w))))
		if !math.IsNaN(want) && !(math.Abs(have-float64(w)) <= ulps*unit) && have != float64(w) {
			t.Errorf("%s(%g) = %g, want %g", name, x[i], have, want)
		}
	}
	for i, v := range x {
		d := float64(v)
		near("f_exp", i, float64(have[i]), math.Exp(d), 2)
		near("f_log", i, float64(have[n+i]), math.Log(d), 2)
		near("f_log2", i, float64(have[2*n+i]), math.Log2(d), 3)
		near("f_exp2", i, float64(have[6*n+i]), math.Exp2(d), 2)
		if !(d > 0.3) { // NaN too
			near("f_exp_below", i, float64(have[8*n+i]), math.Exp(d), 2)
		}
		near("f_rcp", i, float64(have[9*n+i]), 1/d, 2)
		near("f_rsqrt", i, float64(have[7*n+i]), 1/math.Sqrt(d), 2)
		b := bf16(v)
		near("to_bf16", i, float64(have[3*n+i]), float64(b), 0)
		near("pack_bf16", i, float64(have[4*n+i]), float64(b+b), 0)
		if v == v {
			near("f_max+f_min", i, float64(have[5*n+i]), float64(v+1), 0)
		} else if have[5*n+i] != 2 {
			t.Errorf("f_max, f_min of NaN and 1 sum up to %g, want 2", have[5*n+i])
		}
	}
}

// bf16 rounds by looking at both neighbours.
func bf16(x float32) float32 {
	u := math.Float32bits(x)
	if x != x {
		return x
	}
	down := math.Float32frombits(u &^ 0xffff)
	up := math.Float32frombits(u&^0xffff + 0x10000)
	low, high := u&0xffff, 0x10000-u&0xffff
	if low < high || low == high && u&0x10000 == 0 {
		return down
	}
	return up
}

func TestAtomics(t *testing.T) {
	m := start(t, Plain, "language.cu")
	eachSeed(m, func() {
		count, most, sum := buffer(m, []int32{5}), buffer(m, []int32{-1}), buffer(m, []float32{1})
		m.runs("atomics", 3, 64, 0, count, most, sum)
		c, x, s := back(m, []int32{0}, count)[0], back(m, []int32{0}, most)[0], back(m, []float32{0}, sum)[0]
		if c != 5+192 || x != 63 || s != 97 {
			t.Errorf("have count %d, maximum %d, sum %g; want 197, 63, 97", c, x, s)
		}
	})
}

func TestCopyPipeline(t *testing.T) {
	m := start(t, Plain, "language.cu")
	in := make([]uint32, 7*128)
	for i := range in {
		in[i] = uint32(i)
	}
	eachSeed(m, func() {
		out := buffer(m, make([]uint32, 5*128))
		m.runs("pipeline", 1, 32, 2*512, out, buffer(m, in), 4)
		for i, v := range back(m, make([]uint32, 5*128), out) {
			step, thread, word := i/128, i%128/4, i%4
			want := uint32((step*32+31-thread)*4 + word)
			if step == 4 {
				want = 0 // there are four rows
			}
			if v != want {
				t.Fatalf("step %d, thread %d, word %d: have %d, want %d", step, thread, word, v, want)
			}
		}
	})
}

func TestParametersOfEveryType(t *testing.T) {
	m := start(t, Plain, "language.cu")
	out := buffer(m, make([]int64, 64))
	m.runs("small", 1, 64, 0, out, int64(1)<<40, uint32(1)<<31, float32(2.5), -7)
	for i, v := range back(m, make([]int64, 64), out) {
		if want := int64(1)<<40 + 1<<31 + 2 - 7; v != want {
			t.Fatalf("thread %d has %d, want %d", i, v, want)
		}
	}
}

// More blocks than there are stacks, of threads that wait and of such that do not.
func TestManyBlocks(t *testing.T) {
	m := start(t, Plain, "language.cu")
	x := make([]float32, 64)
	for i := range x {
		x[i] = float32(i)
	}
	out := buffer(m, make([]float32, 128))
	m.runs("sums", 3000, 64, 0, out, buffer(m, x))
	for i, v := range back(m, make([]float32, 128), out) {
		if want := []float32{64 * 63 / 2, 63}[i%2]; v != want {
			t.Fatalf("out[%d] = %g, want %g", i, v, want)
		}
	}
	many := buffer(m, make([]int32, 5000*32))
	m.runs("identity", 5000, 32, 0, many, 5000*32)
	for i, v := range back(m, make([]int32, 5000*32), many) {
		if want := int32(i*10 + i%2); v != want {
			t.Fatalf("out[%d] = %d, want %d", i, v, want)
		}
	}
}
