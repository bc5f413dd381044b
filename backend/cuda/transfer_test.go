//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

func random(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// round is what a number becomes in a type, to the nearest, ties to even.
func round(t dtype, x float32) float32 {
	if t == dtF32 {
		return x
	}
	u := math.Float32bits(x)
	return math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
}

func rounded(t dtype, x []float32) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		y[i] = round(t, x[i])
	}
	return y
}

func equal(t *testing.T, what string, have, want []float32) {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(have), len(want))
	}
	for i := range have {
		if math.Float32bits(have[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: number %d of %d is %g, want %g", what, i, len(have), have[i], want[i])
		}
	}
}

func get(d *dev, b device.Buffer) []float32 {
	x := make([]float32, b.Len())
	d.Read(x, b)
	return x
}

func put(d *dev, k device.Kind, x []float32) device.Buffer {
	b := d.AllocAs(k, len(x))
	d.Write(b, x)
	return b
}

// kinds are those whose numbers are floats, with the types in which they are kept
// on a device of type dt and read.
func kinds(dt dtype) map[device.Kind][2]dtype {
	return map[device.Kind][2]dtype{device.Compute: {dt, dt}, device.Master: {dt, dtF32}, device.Wide: {dtF32, dtF32}}
}

func eachType(t *testing.T, f func(t *testing.T, d *dev)) {
	for _, dt := range []dtype{dtF32, dtBF16} {
		t.Run(dt.String(), func(t *testing.T) { f(t, openTest(t, dt)) })
	}
}

// Sizes about those at which the way of a transfer changes: with the arguments,
// in one part, in two, in both halves and more, and none.
func TestWriteAndRead(t *testing.T) {
	eachType(t, func(t *testing.T, d *dev) {
		for k, ts := range kinds(d.dt) {
			for _, n := range []int{0, 1, 7, 1000, smallWrite, smallWrite + 1, stageBytes / 4, stageBytes/4 + 3, 9 * stageBytes / 16} {
				what := fmt.Sprintf("%v of %d", k, n)
				b := d.AllocAs(k, n)
				equal(t, what+" at first", get(d, b), make([]float32, n))
				x := random(uint64(n), n)
				d.Write(b, x)
				want := rounded(ts[1], x)
				equal(t, what, get(d, b), want)
				// What operations see of it.
				low := d.Alloc(n)
				d.lock()
				d.copy(low.(*buffer).ptr(), d.dt, b.(*buffer).ptr(), ts[0], n)
				d.unlock()
				equal(t, what+" computed with", get(d, low), rounded(d.dt, x))
				x64 := make([]float64, n)
				d.Read64(x64, b)
				for i := range x64 {
					if x64[i] != float64(want[i]) {
						t.Fatalf("%s: Read64: number %d is %g, want %g", what, i, x64[i], want[i])
					}
					x64[i] = -x64[i]
				}
				d.Write64(b, x64)
				for i := range want {
					want[i] = -want[i]
				}
				equal(t, what+" negated", get(d, b), want)
				d.Zero(b)
				equal(t, what+" zeroed", get(d, b), make([]float32, n))
				d.Free(b)
				d.Free(low)
			}
		}
	})
}

// Views at every offset, so that addresses are aligned to the number alone, and
// what stands beside them stays.
func TestViews(t *testing.T) {
	eachType(t, func(t *testing.T, d *dev) {
		const n = 100
		for k, ts := range kinds(d.dt) {
			for off := range 9 {
				for _, m := range []int{0, 1, 8, 31, 64, n - off} {
					what := fmt.Sprintf("%v [%d, +%d)", k, off, m)
					x, y := random(1, n), random(2, m)
					a := put(d, k, x)
					v := a.View(off/2, n-off/2).View(off-off/2, m)
					d.Write(v, y)
					want := rounded(ts[1], x)
					copy(want[off:], rounded(ts[1], y))
					equal(t, what+" Write", get(d, a), want)
					d.Zero(v)
					clear(want[off : off+m])
					equal(t, what+" Zero", get(d, a), want)
					d.Copy(v, put(d, device.Wide, y))
					copy(want[off:], rounded(ts[1], y))
					equal(t, what+" Copy", get(d, a), want)
					d.Scale(v, 3)
					d.Add(v, put(d, device.Wide, y))
					for i, y := range rounded(ts[1], y) {
						want[off+i] = round(ts[1], round(ts[1], y*3)+random(2, m)[i])
					}
					equal(t, what+" Scale and Add", get(d, a), want)
				}
			}
		}
	})
}

// Copy and Add between all kinds, and what Master's compute type then holds.
func TestKindsMix(t *testing.T) {
	eachType(t, func(t *testing.T, d *dev) {
		const n = 77
		x, y := random(1, n), random(2, n)
		for from, fs := range kinds(d.dt) {
			for to, ts := range kinds(d.dt) {
				src, dst := put(d, from, x), put(d, to, y)
				d.Add(dst, src)
				want := rounded(ts[1], y)
				for i, x := range rounded(fs[1], x) {
					want[i] = round(ts[1], want[i]+x)
				}
				equal(t, fmt.Sprintf("%v += %v", to, from), get(d, dst), want)
				d.Copy(dst, src)
				want = rounded(ts[1], rounded(fs[1], x))
				equal(t, fmt.Sprintf("%v = %v", to, from), get(d, dst), want)
				low := d.Alloc(n)
				d.lock()
				d.copy(low.(*buffer).ptr(), d.dt, dst.(*buffer).ptr(), ts[0], n)
				d.unlock()
				equal(t, fmt.Sprintf("%v = %v, computed with", to, from), get(d, low), rounded(d.dt, want))
			}
		}
	})
}

func TestMoments(t *testing.T) {
	eachType(t, func(t *testing.T, d *dev) {
		for _, k := range []device.Kind{device.Moment8, device.Variance8} {
			for _, n := range []int{1, 255, 256, 1000} {
				x := random(3, n)
				if k == device.Variance8 {
					for i := range x {
						x[i] *= x[i]
					}
				}
				b := put(d, k, x)
				var want []float32
				for i := 0; i < n; i += device.Block8 {
					codes, part := make([]byte, min(device.Block8, n-i)), make([]float32, min(device.Block8, n-i))
					device.DecodeMoments(k, part, codes, device.EncodeMoments(k, codes, x[i:i+len(codes)]))
					want = append(want, part...)
				}
				equal(t, fmt.Sprintf("%v of %d", k, n), get(d, b), want)
				d.Write(b, want)
				equal(t, "written back", get(d, b), want)
				d.Zero(b)
				equal(t, "zeroed", get(d, b), make([]float32, n))
				d.Free(b)
			}
		}
	})
}

// The kernels of flat give the same bits with so few threads that each has many
// runs, which otherwise takes millions of numbers, as with one run each.
func TestFlatOfFewThreads(t *testing.T) {
	eachType(t, func(t *testing.T, d *dev) {
		const n = 1003
		work := func(g dim3, threads, off int) (all [][]float32) {
			buf := func(k device.Kind, seed uint64) *buffer {
				return put(d, k, random(seed, n+off)).View(off, n).(*buffer)
			}
			done := func(bufs ...*buffer) {
				for _, b := range bufs {
					all = append(all, get(d, b))
				}
			}
			launch := func(name string, ps ...param) {
				d.lock()
				d.launch(name, g, threads, 0, ps...)
				d.unlock()
			}
			type kt struct {
				k device.Kind
				t dtype
			}
			for _, to := range []kt{{device.Compute, d.dt}, {device.Wide, dtF32}} {
				for _, from := range []kt{{device.Compute, d.dt}, {device.Wide, dtF32}} {
					x, y := buf(to.k, 1), buf(from.k, 2)
					launch(addKernel[to.t][from.t], p(x), p(y), i64(n))
					done(x)
					launch(copyKernel[to.t][from.t], p(x), p(y), i64(n))
					launch(scaleKernel[from.t], p(y), i64(n), f32(0.3))
					done(x, y)
					launch(zeroKernel[to.t], p(x), i64(n))
					done(x)
				}
				grad, low, whole, m, v := buf(to.k, 3), buf(device.Compute, 4), buf(device.Wide, 5), buf(device.Wide, 6), buf(device.Wide, 7)
				launch(scaleKernel[dtF32], p(v), i64(n), f32(0)) // second moments are not negative
				copied := at(0)
				if d.dt == dtBF16 {
					copied = p(low)
				}
				launch("adamw_"+to.t.suffix(), p(whole), copied, p(grad), p(m), p(v), i64(n),
					f32(1), f32(0.9), f32(0.1), f32(0.95), f32(0.05), f32(0.99), f32(0.1), f32(1), f32(1e-6))
				done(whole, low, m, v)
			}
			x, y, z := buf(device.Compute, 8), buf(device.Compute, 9), buf(device.Compute, 10)
			launch("swiglu_"+d.dt.suffix(), p(z), p(x), p(y), i64(n))
			done(z)
			launch("swiglu_backward_"+d.dt.suffix(), p(x), p(y), p(z), p(x), p(y), i64(n))
			done(x, y)
			return all
		}
		want := work(flat(n, d.dt), flatThreads, 0)
		for off := range 3 {
			for i, x := range work(grid(1), 32, off) {
				if off == 0 {
					equal(t, fmt.Sprintf("result %d", i), x, want[i])
				}
			}
			if off > 0 {
				have := work(flat(n, d.dt), flatThreads, off)
				for i, x := range work(grid(2), 32, off) {
					equal(t, fmt.Sprintf("result %d, %d numbers further", i, off), x, have[i])
				}
			}
		}
	})
}
