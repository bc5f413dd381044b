//go:build cuda

package cuda

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"nrt/backend/cuda/internal/emu"
	"nrt/backend/device"
)

// testDevice is openTest for tests of both types.
func testDevice(t *testing.T, typ Type) *dev {
	t.Helper()
	return openTest(t, map[Type]dtype{BF16: dtBF16, F32: dtF32}[typ])
}

// everyKernel runs each kernel of this part of the package on small operands at
// odd addresses and hands out the results.
func everyKernel(t *testing.T, d *dev, keep func(what string, x []float64)) {
	for i, shape := range [][3]int{{3, 5, 70}, {20, 67, 530}} {
		m, n, k := shape[0], shape[1], shape[2]
		for mode := range 4 {
			ta, tb := mode&1 != 0, mode&2 != 0
			a, _ := numbers(d, 1, device.Compute, m*k, mode)
			b, _ := numbers(d, 2, device.Compute, k*n, 1-i)
			for name := range routes {
				c, _ := numbers(d, 3, device.Wide, m*n, i)
				sms := d.card.sms
				d.card.sms = routes[name](m, n)
				d.MatMul(c, a, b, m, n, k, ta, tb, mode == 3)
				d.card.sms = sms
				keep(fmt.Sprintf("MatMul%v %v %v, %s", shape, ta, tb, name), read(d, c))
			}
		}
		a, _ := numbers(d, 4, device.Compute, m*k, 1)
		targets := make([]int32, m)
		for _, f := range []device.Format{device.F32, device.BF16, device.Q8} {
			w, b, x := packed(t, d, f, n, k)
			keep("Weights", x)
			c := d.Alloc(m * n)
			d.MatMul(c, a, w, m, n, k, false, true, false)
			keep("MatMul with "+f.String(), read(d, c))
			cl := newClassified(m)
			d.Classifier(cl, a, w, targets, n, k, 0.5)
			keep("Classifier", cl.LogProb)
			dh, dw := d.Alloc(m*k), d.AllocAs(device.Wide, n*k)
			d.ClassifierBackward(dh, dw, a, b, targets, n, k, 0.5, cl, make([]float64, m), cl.Entropy)
			keep("dh", read(d, dh))
			keep("dw", read(d, dw))
		}
	}
}

// TestThreadOrder: results do not depend on the order in which threads and blocks
// run, nor on what memory held before.
func TestThreadOrder(t *testing.T) {
	c := emulator(t)
	for _, typ := range []Type{BF16, F32} {
		d := testDevice(t, typ)
		var first [][]float64
		for seed := range uint64(3) {
			c.Seed(seed)
			at := 0
			everyKernel(t, d, func(what string, x []float64) {
				if seed == 0 {
					first = append(first, x)
				}
				same(t, fmt.Sprintf("%v %s, seed %d", typ, what, seed), x, first[at])
				at++
			})
		}
		c.Seed(0)
	}
}

// TestProductsUnderChecks runs everything with each access to memory looked at: by
// AddressSanitizer, and for what is read before it was written or reached by two
// threads with no barrier between them.
func TestProductsUnderChecks(t *testing.T) {
	c := emulator(t)
	if os.Getenv(emu.EnvCheck) == "" {
		t.Parallel()
		for _, check := range []emu.Check{emu.Address, emu.Races} {
			if out, err := emu.Again(t, check, "^TestProductsUnderChecks$"); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
				t.Errorf("%v: %v\n%s", check, err, out)
			}
		}
		return
	}
	for _, typ := range []Type{BF16, F32} {
		d := testDevice(t, typ)
		everyKernel(t, d, func(what string, _ []float64) {
			if err := d.Sync(); err != nil {
				t.Fatalf("%v %s: %v\n%s", typ, what, err, c.Fault())
			}
		})
	}
}
