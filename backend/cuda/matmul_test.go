//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

// numbers is n normal numbers from a seed, as the device holds them in a buffer of
// kind k, which lies at an odd address if offset is odd.
func numbers(d *dev, seed uint64, k device.Kind, n, offset int) (device.Buffer, []float64) {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float64, n)
	for i := range x {
		x[i] = r.NormFloat64()
	}
	b := d.AllocAs(k, n+offset).View(offset, n)
	d.Write64(b, x)
	d.Read64(x, b)
	return b, x
}

func read(d *dev, b device.Buffer) []float64 {
	x := make([]float64, b.Len())
	d.Read64(x, b)
	return x
}

// naive is the product in float64.
func naive(c, a, b []float64, m, n, k int, transA, transB, accumulate bool) []float64 {
	out := make([]float64, m*n)
	for i := range m {
		for j := range n {
			s := 0.0
			if accumulate {
				s = c[i*n+j]
			}
			for p := range k {
				x, y := a[pick(transA, p*m+i, i*k+p)], b[pick(transB, j*k+p, p*n+j)]
				s += x * y
			}
			out[i*n+j] = s
		}
	}
	return out
}

// near fails unless have is want but for tol of it and of want's root mean square.
func near(t *testing.T, what string, have, want []float64, tol float64) {
	t.Helper()
	rms := 0.0
	for _, w := range want {
		rms += w * w
	}
	rms = math.Sqrt(rms / float64(max(1, len(want))))
	for i, w := range want {
		if d := math.Abs(have[i] - w); !(d <= tol*(math.Abs(w)+rms)) {
			t.Fatalf("%s: [%d] of %d is %.9g, want %.9g", what, i, len(want), have[i], w)
		}
	}
}

// same fails unless have and want are the same bits.
func same(t *testing.T, what string, have, want []float64) {
	t.Helper()
	for i, w := range want {
		if math.Float64bits(have[i]) != math.Float64bits(w) {
			t.Fatalf("%s: [%d] of %d is %.17g, want %.17g exactly", what, i, len(want), have[i], w)
		}
	}
}

// The numbers of multiprocessors that make general choose large tiles, small
// tiles, and small tiles with slices of their own.
var routes = map[string]func(m, n int) int{
	"large tiles": func(m, n int) int { return 1 },
	"small tiles": func(m, n int) int { return tiles(product{m: m, n: n}, largeTile) + 1 },
	"slices":      func(m, n int) int { return 1 << 20 },
}

// TestProductRoutes: every kernel that may compute a product agrees with float64,
// and all of them agree bit for bit.
func TestProductRoutes(t *testing.T) {
	shapes := [][3]int{{1, 70, 40}, {5, 67, 1100}, {16, 130, 520}, {17, 9, 33}, {70, 65, 72}, {130, 136, 600}, {131, 129, 513}}
	if testing.Short() {
		shapes = shapes[:5]
	}
	for _, typ := range []Type{BF16, F32} {
		d := testDevice(t, typ)
		sms := d.card.sms
		for i, shape := range shapes {
			m, n, k := shape[0], shape[1], shape[2]
			for mode := range 8 {
				ta, tb, acc := mode&1 != 0, mode&2 != 0, mode&4 != 0
				if m > 100 && acc != (mode%3 == 0) {
					continue
				}
				kind := []device.Kind{device.Compute, device.Wide}[(mode+i)%2]
				off := i % 2 * (1 + mode%3)
				a, ax := numbers(d, 1, device.Compute, m*k, off)
				b, bx := numbers(d, 2, device.Compute, k*n, off*3)
				var want []float64
				for name, few := range map[string]bool{"few rows": true, "large tiles": false, "small tiles": false, "slices": false} {
					if few && (m > 16 || ta || !tb) || name == "large tiles" && m < 17 && mode%4 != i%4 {
						continue
					}
					c, cx := numbers(d, 3, kind, m*n, off)
					if few {
						d.MatMul(c, a, b, m, n, k, ta, tb, acc)
					} else {
						d.card.sms = routes[name](m, n)
						d.lock()
						d.general(product{c: dense(c.(*buffer), n), a: dense(a.(*buffer), pick(ta, m, k)), b: dense(b.(*buffer), pick(tb, k, n)),
							m: m, n: n, k: k, transA: ta, transB: tb, accumulate: acc})
						d.unlock()
						d.card.sms = sms
					}
					what := fmt.Sprintf("%v (%d, %d, %d) %v %v %v to %v, %s", typ, m, n, k, ta, tb, acc, kind, name)
					have := read(d, c)
					if want == nil {
						tol := 2e-5
						if typ == BF16 && kind == device.Compute {
							tol = 1.0 / 256
						}
						near(t, what, have, naive(cx, ax, bx, m, n, k, ta, tb, acc), tol)
						want = have
					}
					same(t, what, have, want)
				}
				d.Free(whole(a))
				d.Free(whole(b))
			}
		}
	}
}

// whole is the allocation that b is a view of.
func whole(b device.Buffer) device.Buffer { m := b.(*buffer).mem; return &buffer{mem: m, n: m.n} }

// TestProductRows: a row has the same bits in every batch, whatever kernel it
// makes the device choose.
func TestProductRows(t *testing.T) {
	const most, n, k = 70, 70, 1040
	for _, typ := range []Type{BF16, F32} {
		d := testDevice(t, typ)
		a, _ := numbers(d, 1, device.Compute, most*k, 0)
		b, _ := numbers(d, 2, device.Compute, n*k, 0)
		want := make([]float64, 0)
		for _, m := range []int{most, 33, 17, 16, 3, 1} {
			c := d.AllocAs(device.Wide, m*n)
			d.MatMul(c, a.View((most-m)*k, m*k), b, m, n, k, false, true, false)
			have := read(d, c)
			if m == most {
				want = have
			}
			same(t, fmt.Sprintf("%v, the last %d rows", typ, m), have, want[(most-m)*n:])
		}
	}
}

// TestProductNotFinite: what is not a number stays in its row of A and its column
// of C, also where tiles are padded.
func TestProductNotFinite(t *testing.T) {
	for _, typ := range []Type{BF16, F32} {
		d := testDevice(t, typ)
		for _, shape := range [][3]int{{5, 7, 20}, {21, 67, 530}} {
			m, n, k := shape[0], shape[1], shape[2]
			for mode := range 4 {
				ta, tb := mode&1 != 0, mode&2 != 0
				for _, odd := range []float64{math.NaN(), math.Inf(1)} {
					a, _ := numbers(d, 1, device.Compute, m*k, 0)
					b, _ := numbers(d, 2, device.Compute, k*n, 0)
					const row, col, p = 3, 6, 19
					d.Write64(a.View(pick(ta, p*m+row, row*k+p), 1), []float64{odd})
					d.Write64(b.View(pick(tb, col*k+p, p*n+col), 1), []float64{odd})
					c := d.Alloc(m * n)
					d.MatMul(c, a, b, m, n, k, ta, tb, false)
					for i, x := range read(d, c) {
						if bad := math.IsNaN(x) || math.IsInf(x, 0); bad != (i/n == row || i%n == col) {
							t.Fatalf("%v (%d, %d, %d) %v %v: %g makes [%d, %d] %g", typ, m, n, k, ta, tb, odd, i/n, i%n, x)
						}
					}
				}
			}
		}
	}
}

// TestProductOfNothing: without terms a sum is zero, or what was there.
func TestProductOfNothing(t *testing.T) {
	d := testDevice(t, BF16)
	c, cx := numbers(d, 1, device.Compute, 6, 0)
	none := d.Alloc(0)
	d.MatMul(c, none, none, 2, 3, 0, false, false, true)
	same(t, "accumulated", read(d, c), cx)
	d.MatMul(c, none, none, 2, 3, 0, false, false, false)
	same(t, "set", read(d, c), make([]float64, 6))
	d.MatMul(none, c, none, 3, 0, 2, false, true, false)
}

// TestProductRefusals: parameters that learn are AdamW's alone to change.
func TestProductRefusals(t *testing.T) {
	d := testDevice(t, BF16)
	defer func() {
		if recover() == nil {
			t.Error("a product was written over parameters")
		}
	}()
	d.MatMul(d.AllocAs(device.Master, 4), d.Alloc(4), d.Alloc(4), 2, 2, 2, false, false, false)
}
