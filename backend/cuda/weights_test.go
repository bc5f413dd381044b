//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

// packed makes Weights of normal numbers and a Buffer of what they hold.
func packed(t *testing.T, d *dev, f device.Format, rows, cols int) (device.Weights, device.Buffer, []float64) {
	t.Helper()
	r := rand.New(rand.NewPCG(7, uint64(f)))
	w, err := d.NewWeights(f, rows, cols, func(first int, dst []float32) error {
		for i := range dst {
			dst[i] = float32(r.NormFloat64())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	x := read(d, w)
	b := d.Alloc(rows * cols)
	d.Write64(b, x)
	same(t, f.String()+" as a Buffer", read(d, b), x)
	return w, b, x
}

// TestWeightsInParts: rows are packed, read back and expanded in parts, and nothing
// shows of that; nor of which kernel computes.
func TestWeightsInParts(t *testing.T) {
	for _, typ := range []Type{BF16, F32} {
		d := testDevice(t, typ)
		d.gemm.limits = gemmLimits{packed: 3000, unpacked: 1, logits: usualLimits.logits}
		for _, f := range []device.Format{device.F32, device.BF16, device.Q8} {
			for _, shape := range [][3]int{{3, 150, 530}, {19, 150, 48}, {2, 5, 21}} {
				m, n, k := shape[0], shape[1], shape[2]
				what := fmt.Sprintf("%v %v (%d, %d, %d)", typ, f, m, n, k)
				w, b, wx := packed(t, d, f, n, k)
				for _, trans := range []bool{false, true} {
					a, ax := numbers(d, 5, device.Compute, m*k, 0)
					have, cx := numbers(d, 6, device.Wide, m*n, 0)
					want, _ := numbers(d, 6, device.Wide, m*n, 0)
					d.MatMul(have, a, w, m, n, k, trans, true, true)
					d.MatMul(want, a, b, m, n, k, trans, true, true)
					near(t, what, read(d, have), naive(cx, ax, wx, m, n, k, trans, true, true), 2e-5)
					same(t, what, read(d, have), read(d, want))
				}
				d.Free(w)
			}
		}
	}
}

// TestQ8 packs as the CPU's device does, bit for bit: on the card and in Go the
// same weights are the same model.
func TestQ8(t *testing.T) {
	d := testDevice(t, F32)
	const rows, cols = 9, 75
	r := rand.New(rand.NewPCG(9, 9))
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(r.NormFloat64() * math.Exp2(float64(r.IntN(300)-150)))
		if i/cols == 2 {
			x[i] = float32(r.IntN(255)-127) / 2 // ties
		}
	}
	x[3*cols+70] = float32(math.Inf(-1))
	w, err := d.NewWeights(device.Q8, rows, cols, func(first int, dst []float32) error {
		copy(dst, x[first*cols:])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	have := read(d, w)
	for i := range rows {
		for q := 0; q < cols; q += device.Q8Block {
			part := x[i*cols+q : i*cols+min(q+device.Q8Block, cols)]
			top := float32(0)
			for _, v := range part {
				top = max(top, float32(math.Abs(float64(v)))) // NaN and ∞ stay
			}
			scale := float64(roundBF16(top / 127))
			if math.IsInf(scale, 0) {
				scale = math.NaN()
			}
			for j, v := range part {
				want := scale
				if scale >= 0 {
					want = 0
					if scale > 0 {
						want = scale * max(-127, min(127, math.RoundToEven(float64(v)/scale)))
					}
				}
				if got := have[i*cols+q+j]; got != want && !(got != got && want != want) {
					t.Fatalf("[%d, %d]: %g became %g, want %g", i, q+j, v, got, want)
				}
			}
		}
	}
}
