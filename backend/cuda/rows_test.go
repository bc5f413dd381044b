//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"nrt/backend/cuda/internal/emu"
	"nrt/backend/device"
)

// rowRig makes buffers whose numbers are those of a seed and whose addresses are
// off numbers beside an aligned one.
type rowRig struct {
	d    *dev
	r    *rand.Rand
	off  int
	keep func(what string, x []float64)
}

func (g *rowRig) buf(k device.Kind, n int) device.Buffer {
	if k == device.Moment8 || k == device.Variance8 {
		return g.d.AllocAs(k, n)
	}
	x := make([]float64, n)
	for i := range x {
		x[i] = g.r.NormFloat64()
	}
	b := g.d.AllocAs(k, n+g.off).View(g.off, n)
	g.d.Write64(b, x)
	return b
}

func (g *rowRig) ids(n, limit int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(g.r.IntN(limit))
	}
	return ids
}

func (g *rowRig) done(what string, bufs ...device.Buffer) {
	for _, b := range bufs {
		x := make([]float64, b.Len())
		g.d.Read64(x, b)
		g.keep(what, x)
	}
}

// rowWork runs every operation on rows once for each of some shapes.
func rowWork(d *dev, off int, keep func(what string, x []float64)) {
	g := &rowRig{d, rand.New(rand.NewPCG(31, 0)), off, keep}
	const compute, wide = device.Compute, device.Wide
	for _, shape := range [][2]int{{1, 1}, {3, 5}, {2, 8}, {9, 67}, {33, 40}, {2, 530}} {
		n, w := shape[0], shape[1]
		name := func(op string) string { return fmt.Sprintf("%s(%d, %d)", op, n, w) }

		src, dst, ids := g.buf(compute, 7*w), g.buf(compute, n*w), g.ids(n, 7)
		d.GatherRows(dst, src, ids, w)
		g.done(name("GatherRows"), dst)
		to := g.buf(compute, 7*w)
		d.ScatterAddRows(to, dst, ids, w)
		g.done(name("ScatterAddRows"), to)
		few, also, more := dst.View(0, min(n, 3)*w), g.buf(compute, 9*w), g.buf(compute, 6*w)
		d.ScatterRows([]device.Scatter{{Dst: to, Src: few}, {Dst: also, Src: g.buf(compute, min(n, 3)*w)}, {Dst: more, Src: few}},
			[]int32{5, 0, 3}[:min(n, 3)], w)
		g.done(name("ScatterRows"), to, also, more)
		d.Embed(dst, to, ids, w)
		dtable := g.buf(wide, 7*w)
		d.EmbedBackward(dtable, g.buf(compute, n*w), ids, w)
		g.done(name("Embed"), dst, dtable)

		x, weight, out, rstd := g.buf(compute, n*w), g.buf(compute, w), g.buf(compute, n*w), g.buf(wide, n)
		d.RMSNorm(out, rstd, x, weight, n, w, 1e-5)
		dx, dw := g.buf(compute, n*w), g.buf(wide, w)
		d.RMSNormBackward(dx, dw, g.buf(compute, n*w), x, weight, rstd, n, w)
		g.done(name("RMSNorm"), out, rstd, dx, dw)

		h, h2, h3 := g.buf(compute, n*3*2*w), g.buf(compute, n*2*w), g.buf(compute, n*2*2*w)
		d.RoPE([]device.Rotation{{X: h, Heads: 3}, {X: h2, Heads: 1}, {X: h3, Heads: 2}}, g.buf(wide, 7*w), g.buf(wide, 7*w), ids, 2*w, n%2 == 0)
		g.done(name("RoPE"), h, h2, h3)

		gate, up := g.buf(compute, n*w), g.buf(compute, n*w)
		d.SwiGLU(out, gate, up)
		d.SwiGLUBackward(dx, dst, g.buf(compute, n*w), gate, up)
		g.done(name("SwiGLU"), out, dx, dst)

		for _, p := range []device.Buffer{g.buf(device.Master, n*w), g.buf(compute, n*w)} {
			for _, grad := range []device.Buffer{g.buf(wide, n*w), g.buf(compute, n*w)} {
				for _, m := range [][2]device.Buffer{
					{g.buf(wide, n*w), g.buf(wide, n*w)},
					{g.buf(device.Moment8, n*w), g.buf(device.Variance8, n*w)},
				} {
					if m[1].(*buffer).dt() == dtF32 {
						d.Zero(m[1]) // second moments are not negative
					}
					for step := range 2 {
						d.AdamW(p, grad, m[0], m[1], device.AdamW{LR: 0.1, Beta1: 0.9, Beta2: 0.95, Eps: 1e-6, WeightDecay: 0.1, Step: step + 1, Scale: 0.5})
					}
					g.done(name("AdamW"), p, m[0], m[1])
				}
			}
		}
		keep(name("SumSquares"), []float64{d.SumSquares(gate), d.SumSquares(rstd)})

		for _, k := range []device.Kind{compute, wide} {
			rows, drawn := make([]device.SampleRow, n), make([]device.Sampled, n)
			for i := range rows {
				rows[i] = device.SampleRow{Temperature: float64(g.r.IntN(3)), U: g.r.Float64(), TopK: g.r.IntN(w + 1), TopP: g.r.Float64(), MinP: g.r.Float64() / 9, Top: g.r.IntN(4)}
			}
			d.Sample(drawn, g.buf(k, n*w), rows, w)
			for _, s := range drawn {
				x := []float64{float64(s.ID), s.LogProb, s.Entropy}
				for _, a := range s.Top {
					x = append(x, float64(a.ID), a.LogProb)
				}
				keep(name("Sample"), x)
			}
		}
	}
	long := g.buf(compute, squarePiece+77)
	keep("SumSquares", []float64{d.SumSquares(long)})
}

// TestRowsAnywhere: results are the same bits wherever buffers begin, in which
// order threads and blocks run, and whatever memory held before.
func TestRowsAnywhere(t *testing.T) {
	for _, dt := range []dtype{dtF32, dtBF16} {
		d, c := openTest(t, dt), emulator(t)
		var first [][]float64
		offs := []int{0, 1, 2, 4, 7}
		if os.Getenv(emu.EnvCheck) != "" {
			offs = offs[:2] // each access is looked at, which takes its time
		}
		for _, off := range offs {
			c.Seed(uint64(off))
			at := 0
			rowWork(d, off, func(what string, x []float64) {
				if off == 0 {
					first = append(first, x)
				}
				for i := range x {
					if math.Float64bits(x[i]) != math.Float64bits(first[at][i]) {
						t.Fatalf("%v %s, %d numbers further: [%d] of %d is %.9g, want %.9g", dt, what, off, i, len(x), x[i], first[at][i])
					}
				}
				at++
			})
		}
		c.Seed(0)
	}
}

// TestRowsUnderChecks: nothing is read or written beside the buffers, and no two
// threads meet at one place.
func TestRowsUnderChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("the tests run twice again")
	}
	t.Parallel()
	for _, check := range []emu.Check{emu.Races, emu.Address} {
		out, err := emu.Again(t, check, "^(TestRowsAnywhere|TestSampleNotFinite|TestSampleAgainstSorting|TestSampleWide)$")
		if err != nil || strings.Count(string(out), "--- PASS: ") != 4 {
			t.Errorf("%v: %v\n%s", check, err, out)
		}
	}
}

// TestRowsMisuse: buffers of a kind that an operation does not take, and Masters
// as results, which would leave what AdamW updates behind.
func TestRowsMisuse(t *testing.T) {
	d := openTest(t, dtBF16)
	c, w := func(n int) device.Buffer { return d.Alloc(n) }, func(n int) device.Buffer { return d.AllocAs(device.Wide, n) }
	m := func(n int) device.Buffer { return d.AllocAs(device.Master, n) }
	m8, v8 := d.AllocAs(device.Moment8, 4), d.AllocAs(device.Variance8, 4)
	o := device.AdamW{Step: 1}
	for name, f := range map[string]func(){
		"GatherRows of two types": func() { d.GatherRows(c(4), w(4), []int32{0}, 4) },
		"GatherRows to a master":  func() { d.GatherRows(m(4), c(4), []int32{0}, 4) },
		"GatherRows of moments":   func() { d.GatherRows(m8, m8, []int32{0}, 4) },
		"ScatterRows to a master": func() { d.ScatterRows([]device.Scatter{{Dst: m(4), Src: c(4)}}, []int32{0}, 4) },
		"ScatterRows of two types": func() {
			d.ScatterRows([]device.Scatter{{Dst: c(4), Src: c(4)}, {Dst: w(4), Src: w(4)}}, []int32{0}, 4)
		},
		"ScatterRows of moments":       func() { d.ScatterRows([]device.Scatter{{Dst: m8, Src: m8}}, []int32{0}, 4) },
		"ScatterAddRows of two types":  func() { d.ScatterAddRows(w(4), c(4), []int32{0}, 4) },
		"Embed to wide":                func() { d.Embed(w(4), c(4), []int32{0}, 4) },
		"EmbedBackward to compute":     func() { d.EmbedBackward(c(4), c(4), []int32{0}, 4) },
		"RMSNorm with narrow rstd":     func() { d.RMSNorm(c(4), c(1), c(4), c(4), 1, 4, 1e-5) },
		"RMSNorm of wide":              func() { d.RMSNorm(c(4), w(1), w(4), c(4), 1, 4, 1e-5) },
		"RMSNormBackward to narrow dw": func() { d.RMSNormBackward(c(4), c(4), c(4), c(4), c(4), w(1), 1, 4) },
		"RoPE by narrow tables":        func() { d.RoPE([]device.Rotation{{X: c(4), Heads: 1}}, c(2), c(2), []int32{0}, 4, false) },
		"RoPE of a master":             func() { d.RoPE([]device.Rotation{{X: m(4), Heads: 1}}, w(2), w(2), []int32{0}, 4, false) },
		"SwiGLU of wide":               func() { d.SwiGLU(c(4), w(4), c(4)) },
		"AdamW with narrow moments":    func() { d.AdamW(m(4), w(4), c(4), c(4), o) },
		"AdamW with mixed moments":     func() { d.AdamW(m(4), w(4), w(4), v8, o) },
		"AdamW of moments":             func() { d.AdamW(m8, w(4), m8, v8, o) },
		"Sample of moments":            func() { d.Sample(make([]device.Sampled, 1), m8, make([]device.SampleRow, 1), 4) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f()
		}()
	}
}

// TestAdamWSeesItsMaster: the float32 copy moves by less than bfloat16 can tell,
// and what operations read is that copy rounded.
func TestAdamWSeesItsMaster(t *testing.T) {
	d := openTest(t, dtBF16)
	const n = 300
	p, g, m, v := d.AllocAs(device.Master, n), d.AllocAs(device.Wide, n), d.AllocAs(device.Wide, n), d.AllocAs(device.Wide, n)
	x, ones := make([]float32, n), make([]float32, n)
	for i := range x {
		x[i], ones[i] = 1, 1
	}
	d.Write(p, x)
	d.Write(g, ones)
	have, low := make([]float32, n), d.Alloc(n)
	for step := 1; step <= 40; step++ {
		d.AdamW(p, g, m, v, device.AdamW{LR: 1e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Step: step, Scale: 1})
		d.Read(have, p)
		if want := 1 - 1e-4*float64(step); math.Abs(float64(have[7])-want) > 1e-6 {
			t.Fatalf("after update %d the master is %v, want %v", step, have[7], want)
		}
		d.GatherRows(low, p, []int32{0}, n)
		seen := make([]float32, n)
		d.Read(seen, low)
		for i := range seen {
			if seen[i] != roundBF16(have[i]) {
				t.Fatalf("after update %d operations read %v of %v", step, seen[i], have[i])
			}
		}
	}
}

// TestRMSNormWide: rows whose sums take nearly all of the shared memory that a
// launch may have without asking; the kernel has some more of its own.
func TestRMSNormWide(t *testing.T) {
	for _, dt := range []dtype{dtF32, dtBF16} {
		for _, dim := range []int{freeShared / 4, 12280, 48 << 10 / 4, 48<<10/4 + 1} {
			d := openTest(t, dt)
			g := &rowRig{d: d, r: rand.New(rand.NewPCG(5, 0))}
			x, w, out, rstd := g.buf(device.Compute, dim), g.buf(device.Compute, dim), d.Alloc(dim), d.AllocAs(device.Wide, 1)
			d.RMSNorm(out, rstd, x, w, 1, dim, 1e-5)
			d.RMSNormBackward(d.Alloc(dim), d.AllocAs(device.Wide, dim), out, x, w, rstd, 1, dim)
			if err := d.Sync(); err != nil {
				t.Fatalf("%v, rows of %d: %v", dt, dim, err)
			}
		}
	}
}
