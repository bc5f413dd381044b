//go:build cuda

package cuda

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"nrt/backend/cuda/internal/emu"
	"nrt/backend/device"
)

// TestSampleAgainstSorting holds draws from large vocabularies, many of whose
// logits are equal, against the sorted row in float64.
func TestSampleAgainstSorting(t *testing.T) {
	const seed = 5
	for _, dt := range []dtype{dtF32, dtBF16} {
		d, r := openTest(t, dt), rand.New(rand.NewPCG(seed, 0))
		vocabs := []int{300, 3000, 151936}
		if os.Getenv(emu.EnvCheck) != "" {
			vocabs = vocabs[:2]
		}
		for _, vocab := range vocabs {
			for name, logit := range map[string]func(i int) float64{
				"normal": func(int) float64 { return 3 * r.NormFloat64() },
				"ties":   func(int) float64 { return math.Round(2*r.NormFloat64()) / 2 },
				"equal":  func(int) float64 { return -7 },
				"masked": func(i int) float64 {
					if i%3 > 0 {
						return math.Inf(-1)
					}
					return math.Round(r.NormFloat64()) * 20
				},
				"sure": func(i int) float64 { return -0.1*float64(i) + 100 },
			} {
				n := 6
				if vocab > 1<<16 {
					n = 2
				}
				kind := []device.Kind{device.Compute, device.Wide}[r.IntN(2)]
				x := make([]float64, n*vocab)
				for i := range x {
					x[i] = logit(i % vocab)
				}
				b := d.AllocAs(kind, n*vocab)
				d.Write64(b, x)
				d.Read64(x, b)
				rows, out := make([]device.SampleRow, n), make([]device.Sampled, n)
				for i := range rows {
					rows[i] = device.SampleRow{Temperature: []float64{0.3, 1, 2}[i%3], U: r.Float64(), Top: []int{0, 5, 300}[i%3]}
					if i == n-1 {
						rows[i].U, rows[i].Top = math.Nextafter(1, 0), min(vocab, 5000)
					}
					if r.IntN(2) == 0 {
						rows[i].TopK = 1 + r.IntN(vocab)
					}
					if r.IntN(2) == 0 {
						rows[i].TopP = r.Float64()
					}
					if r.IntN(2) == 0 {
						rows[i].MinP = 0.2 * r.Float64()
					}
				}
				d.Sample(out, b, rows, vocab)
				for i := range rows {
					if err := plausible(x[i*vocab:(i+1)*vocab], rows[i], out[i]); err != nil {
						t.Errorf("%v, %d %s logits (seed %d), %+v: %v", dt, vocab, name, seed, rows[i], err)
					}
				}
				d.Free(b)
			}
		}
	}
}

// plausible tells whether s may be drawn by r from x: thresholds may be passed by
// no more than rounding explains.
func plausible(x []float64, r device.SampleRow, s device.Sampled) error {
	const slack = 2e-5
	all := make([]int32, len(x))
	for i := range all {
		all[i] = int32(i)
	}
	slices.SortStableFunc(all, func(a, b int32) int { return cmp.Compare(x[b], x[a]) })
	top := x[all[0]]
	var sum, weighted float64
	for _, v := range x {
		y := (v - top) / r.Temperature
		if e := math.Exp(y); e > 0 {
			sum += e
			weighted += e * y
		}
	}
	logp := func(id int32) float64 { return (x[id]-top)/r.Temperature - math.Log(sum) }
	if want := math.Log(sum) - weighted/sum; math.Abs(s.Entropy-want) > 1e-4*(1+want) {
		return fmt.Errorf("entropy %g, want %g", s.Entropy, want)
	}
	if len(s.Top) != min(r.Top, len(x)) {
		return fmt.Errorf("%d alternatives", len(s.Top))
	}
	for i, a := range s.Top {
		if a.ID != all[i] || !(math.Abs(a.LogProb-logp(a.ID)) < 1e-4*(1+math.Abs(logp(a.ID))) || a.LogProb == logp(a.ID)) {
			return fmt.Errorf("alternative %d is %+v, want %d, %g", i, a, all[i], logp(all[i]))
		}
	}

	kept := all
	at := slices.Index(kept, s.ID)
	if at < 0 {
		return fmt.Errorf("drew %d, which is nothing", s.ID)
	}
	if math.Abs(s.LogProb-logp(s.ID)) > 1e-4*(1+math.Abs(logp(s.ID))) {
		return fmt.Errorf("log-probability %g, want %g", s.LogProb, logp(s.ID))
	}
	if r.TopK > 0 && at >= r.TopK {
		return fmt.Errorf("drew number %d, more than TopK", at)
	}
	if r.TopK > 0 {
		kept = kept[:min(r.TopK, len(kept))]
	}
	best := x[kept[0]]
	weight := func(id int32) float64 { return math.Exp((x[id] - best) / r.Temperature) }
	mass := func(ids []int32) (m float64) {
		for _, id := range ids {
			m += weight(id)
		}
		return m
	}
	whole := mass(kept)
	before, with := mass(kept[:at]), mass(kept[:at+1])
	if r.TopP > 0 && r.TopP < 1 && before > (r.TopP+slack)*whole {
		return fmt.Errorf("drew behind the share %g, TopP", before/whole)
	}
	if weight(s.ID) < r.MinP*(1-slack) {
		return fmt.Errorf("drew the weight %g, less than MinP", weight(s.ID))
	}
	// What all truncation keeps lies between what it keeps with thresholds a little
	// tighter and a little wider.
	end := func(slack float64) (m float64) {
		for _, id := range kept {
			if r.TopP > 0 && r.TopP < 1 && m >= (r.TopP+slack)*whole || weight(id) < r.MinP*(1-slack) {
				break
			}
			m += weight(id)
		}
		return m
	}
	if least, most := r.U*end(-slack), r.U*end(slack); with < least-slack*whole || before > most+slack*whole {
		return fmt.Errorf("drew the shares %g … %g of what is kept, U is between %g and %g", before/whole, with/whole, least/whole, most/whole)
	}
	return nil
}

// TestSampleEqual draws every one of many equal tokens, each with the U in the
// middle of its share.
func TestSampleEqual(t *testing.T) {
	for _, dt := range []dtype{dtF32, dtBF16} {
		d := openTest(t, dt)
		const vocab = 701
		b := d.Alloc(vocab * vocab)
		rows, out := make([]device.SampleRow, vocab), make([]device.Sampled, vocab)
		for i := range rows {
			rows[i] = device.SampleRow{Temperature: 1, U: (float64(i) + 0.5) / vocab}
		}
		d.Sample(out, b, rows, vocab)
		for i := range rows {
			if out[i].ID != int32(i) {
				t.Errorf("%v: U %g drew %d, want %d", dt, rows[i].U, out[i].ID, i)
			}
		}
		d.Free(b)
	}
}

// TestSampleNotFinite: infinities and NaN draw a token that may be drawn.
func TestSampleNotFinite(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, dt := range []dtype{dtF32, dtBF16} {
		d := openTest(t, dt)
		for _, c := range []struct {
			x    []float64
			want []int32 // with U 0, 0.5 and almost 1
			nan  bool    // LogProb
		}{
			{[]float64{-inf, 0, -inf, 0}, []int32{1, 3, 3}, false},
			{[]float64{-inf, -inf}, []int32{0, 1, 1}, true},
			{[]float64{1, inf, 2, inf}, []int32{1, 3, 3}, true},
			{[]float64{nan, 1, 1}, []int32{1, 2, 2}, true},
			{[]float64{nan, nan}, []int32{0, 1, 1}, true},
			{[]float64{0, math.Copysign(0, -1)}, []int32{0, 1, 1}, false},
		} {
			b := d.AllocAs(device.Wide, len(c.x))
			d.Write64(b, c.x)
			for i, u := range []float64{0, 0.5, 0.999999} {
				for _, temperature := range []float64{1, 0} {
					var out [1]device.Sampled
					d.Sample(out[:], b, []device.SampleRow{{Temperature: temperature, U: u, Top: 2}}, len(c.x))
					want := c.want[i]
					if temperature == 0 {
						want = c.want[0]
					}
					if out[0].ID != want || math.IsNaN(out[0].LogProb) != c.nan {
						t.Errorf("%v, temperature %g, U %g: %+v, want %d", c.x, temperature, u, out[0], want)
					}
				}
			}
		}
	}
}

// TestSampleWide holds draws against the sorted row where the kernels cut it:
// vocabularies around a chunk, a part and what the threads of a block read at once,
// and rows whose tokens are so near one another that bins are split several times.
func TestSampleWide(t *testing.T) {
	const seed = 6
	inf := math.Inf(1)
	vocabs := []int{1, 15, 17, 1023, 1025, 8191, 8192, 8193, 16400, 128256}
	if os.Getenv(emu.EnvCheck) != "" {
		vocabs = []int{17, 1025, 8193}
	}
	for _, dt := range []dtype{dtF32, dtBF16} {
		d, r := openTest(t, dt), rand.New(rand.NewPCG(seed, 0))
		for _, vocab := range vocabs {
			for name, logit := range map[string]func(i int) float64{
				"near":   func(int) float64 { return 0.02 * r.NormFloat64() },
				"normal": func(int) float64 { return r.NormFloat64() },
				"equal":  func(int) float64 { return 0.5 },
				"two":    func(i int) float64 { return float64(i % 2) },
				"far":    func(i int) float64 { return 10 * float64(i%7) * r.NormFloat64() },
				"one": func(i int) float64 {
					if i == vocab/2 {
						return -3
					}
					return -inf
				},
			} {
				x := make([]float64, vocab)
				for i := range x {
					x[i] = logit(i)
				}
				b := d.AllocAs(device.Wide, vocab)
				d.Write64(b, x)
				d.Read64(x, b)
				for _, row := range []device.SampleRow{
					{Temperature: 1, U: r.Float64(), Top: 3},
					{Temperature: 0.7, U: r.Float64(), TopP: 0.999},
					{Temperature: 1, U: math.Nextafter(1, 0), TopP: math.Nextafter(1, 0)},
					{Temperature: 2, U: r.Float64(), TopK: 1 + r.IntN(vocab), TopP: r.Float64(), MinP: 0.01, Top: 300},
				} {
					var out [1]device.Sampled
					d.Sample(out[:], b, []device.SampleRow{row}, vocab)
					if err := plausible(x, row, out[0]); err != nil {
						t.Errorf("%v, %d %s logits (seed %d), %+v: %v", dt, vocab, name, seed, row, err)
					}
				}
				x[vocab/3] = inf
				d.Write64(b, x)
				var out [1]device.Sampled
				d.Sample(out[:], b, []device.SampleRow{{Temperature: 1, U: 0.9, Top: 1}}, vocab)
				if want := int32(vocab / 3); out[0].ID != want || out[0].Top[0].ID != want {
					t.Errorf("%v, %d %s logits with +Inf at %d: %+v", dt, vocab, name, want, out[0])
				}
				d.Free(b)
			}
		}
	}
}

// TestSampleLarge: in a row of more tokens than a thread's columns hold at once, and
// in one that a temperature without end makes equal, u picks along the ids of those
// that are equal.
func TestSampleLarge(t *testing.T) {
	if os.Getenv(emu.EnvCheck) != "" {
		t.Skip("large")
	}
	d := openTest(t, dtF32)
	const vocab = 600000
	b := d.Alloc(vocab)
	defer d.Free(b)
	for _, row := range []device.SampleRow{
		{Temperature: 1, U: 0.25}, {Temperature: 1, U: 0.75, TopK: 500000}, {Temperature: 1e300, U: 0.5},
		{Temperature: 1, U: math.Nextafter(1, 0)},
	} {
		n := vocab
		if row.TopK > 0 {
			n = row.TopK
		}
		var out [1]device.Sampled
		d.Sample(out[:], b, []device.SampleRow{row}, vocab)
		if want := int32(min(row.U*float64(n), float64(n-1))); out[0].ID != want {
			t.Errorf("%+v: %+v, want %d", row, out[0], want)
		}
	}
	x := make([]float64, vocab)
	for i := range x {
		if i%100 == 0 {
			x[i] = -0.001 // in the first bin, as −Inf keeps bins wide
		}
	}
	x[0] = math.Inf(-1)
	d.Write64(b, x)
	d.Read64(x, b)
	for _, row := range []device.SampleRow{{Temperature: 1, U: 0.3}, {Temperature: 1, U: 0.999}, {Temperature: 1, U: 0.5, TopP: 0.995, TopK: 599000}} {
		var out [1]device.Sampled
		d.Sample(out[:], b, []device.SampleRow{row}, vocab)
		if err := plausible(x, row, out[0]); err != nil {
			t.Errorf("%+v: %v", row, err)
		}
	}
}
