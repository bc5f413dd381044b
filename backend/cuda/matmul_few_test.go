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

// fewTile makes the card as small as makes fewRows choose tiles of so many columns
// for n = 130, and its shared memory such that rings have few stages or many.
func fewTile(d *dev, columns int, q8, small bool) (undo func()) {
	was := *d.card
	d.card.sms = map[int]int{64: 1, 32: pick(q8, 2, 5), 16: 1 << 20}[columns]
	if small {
		d.card.shared = 72 << 10
	}
	return func() { d.card.sms, d.card.shared = was.sms, was.shared }
}

// last is the handle of the kernel that was launched last.
func last(d *dev) uint64 { return d.cur.items[len(d.cur.items)-1].Fn }

// TestFewTiles: whichever way warps stand, few rows have the bits that they have among
// more rows, which the general kernels compute.
func TestFewTiles(t *testing.T) {
	const n, more = 130, few + 1
	ks := []int{1, 40, 511, 512, 513, 1023, 1025, 1536, 2047, 2049, 2700, 4100, 4608}
	if testing.Short() || os.Getenv(emu.EnvCheck) != "" {
		ks = []int{40, 513, 2100, 4097}
	}
	d := openTest(t, dtBF16)
	used := map[uint64]bool{} // handles of kernels
	for i, k := range ks {
		off := i % 2
		a, _ := numbers(d, 1, device.Compute, more*k, off)
		b, _ := numbers(d, 2, device.Compute, n*k, off*3)
		for f, weights := range map[string]device.Buffer{"learning": b, "bf16": nil, "q8": nil} {
			q8 := f == "q8"
			if weights == nil {
				weights, _, _ = packed(t, d, map[bool]device.Format{false: device.BF16, true: device.Q8}[q8], n, k)
			}
			for j, kind := range []device.Kind{device.Compute, device.Wide} {
				acc := (i+j)%2 == 0
				c, cx := numbers(d, 3, kind, more*n, off)
				d.MatMul(c, a, weights, more, n, k, false, true, acc)
				want := read(d, c)
				for tile, columns := range []int{16, 32, 64} {
					m := []int{1, 5, few}[(i+j+tile)%3]
					x := d.AllocAs(kind, m*n+off).View(off, m*n)
					d.Write64(x, cx[:m*n])
					undo := fewTile(d, columns, q8, (i+j)%3 == 0)
					d.MatMul(x, a.View(0, m*k), weights, m, n, k, false, true, acc)
					undo()
					used[last(d)] = true
					same(t, fmt.Sprintf("(%d, %d, %d) %s, accumulate %v to %v, %d columns", m, n, k, f, acc, kind, columns), read(d, x), want[:m*n])
					d.Free(whole(x))
				}
				d.Free(whole(c))
			}
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for _, names := range fewKernel {
		for _, name := range names {
			if k := d.kernels[name]; k == nil || !used[k.handle] {
				t.Errorf("%s was not used", name)
			}
		}
	}
}

// TestFewTogether: products of one input start together, four at a time, where
// their weights have one format, and are what each is alone.
func TestFewTogether(t *testing.T) {
	d := openTest(t, dtBF16)
	const m, k = 3, 600
	a, _ := numbers(d, 1, device.Compute, m*k, 0)
	weights := func(f device.Format, n int) device.Buffer {
		w, _, _ := packed(t, d, f, n, k)
		return w
	}
	learning, _ := numbers(d, 2, device.Compute, 9*k, 1)
	bf, q8 := device.BF16, device.Q8
	for _, test := range []struct {
		launches int
		out      []device.Projection
	}{
		{1, []device.Projection{{B: weights(bf, 130), N: 130}, {B: weights(bf, 20), N: 20}, {B: learning, N: 9}}},
		{1, []device.Projection{{B: weights(q8, 1), N: 1}, {B: weights(q8, 64), N: 64}, {B: weights(q8, 65), N: 65}, {B: weights(q8, 16), N: 16}}},
		{2, []device.Projection{{B: weights(bf, 33), N: 33}, {B: weights(q8, 70), N: 70}}},
		{2, []device.Projection{{B: weights(bf, 5), N: 5}, {B: learning, N: 9}, {B: learning, N: 9}, {B: weights(bf, 40), N: 40}, {B: weights(bf, 17), N: 17}}},
	} {
		for i := range test.out {
			test.out[i].C = d.Alloc(m * test.out[i].N)
		}
		for _, columns := range []int{16, 32, 64} {
			undo := fewTile(d, columns, false, false)
			d.lock()
			d.flush()
			d.unlock()
			d.Project(test.out, a, m, k)
			if n := len(d.cur.items); n != test.launches {
				t.Errorf("%d products are %d launches, want %d", len(test.out), n, test.launches)
			}
			undo()
			for _, p := range test.out {
				c := d.Alloc(m * p.N)
				d.MatMul(c, a, p.B, m, p.N, k, false, true, false)
				same(t, fmt.Sprintf("%d of %d together, %d columns", p.N, len(test.out), columns), read(d, p.C), read(d, c))
			}
		}
	}
}

// TestFewUnderChecks runs both with each access to memory looked at.
func TestFewUnderChecks(t *testing.T) {
	emulator(t)
	if testing.Short() {
		t.Skip("they run twice")
	}
	t.Parallel()
	for _, check := range []emu.Check{emu.Address, emu.Races} {
		if out, err := emu.Again(t, check, "^TestFew(Tiles|Together)$"); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFewTogether")) {
			t.Errorf("%v: %v\n%s", check, err, out)
		}
	}
}
