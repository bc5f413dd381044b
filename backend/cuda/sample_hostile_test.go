//go:build cuda

package cuda

import (
	"cmp"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"nrt/backend/cuda/internal/emu"
	"nrt/backend/device"
)

// TestSampleHostile draws from rows that no model makes, with every setting at its
// ends: what is drawn must be within top-k, the first where the setting
// leaves no other, and the alternatives must be the first of the order.
func TestSampleHostile(t *testing.T) {
	rounds := 20
	if os.Getenv(emu.EnvCheck) != "" {
		rounds = 4
	}
	for _, dt := range []dtype{dtF32, dtBF16} {
		d, r := openTest(t, dt), rand.New(rand.NewPCG(1, 0))
		for round := range rounds {
			vocab, n := pickOf(r, 1, 2, 31, 255, 256, 257, 520, 1500, 8191, 8193), 1+r.IntN(3)
			b := d.AllocAs(pickOf(r, device.Compute, device.Wide), n*vocab)
			x := hostileLogits(r, n, vocab)
			d.Write64(b, x)
			d.Read64(x, b)
			rows, out := make([]device.SampleRow, n), make([]device.Sampled, n)
			for i := range rows {
				rows[i] = hostileRow(r, vocab)
			}
			d.Sample(out, b, rows, vocab)
			for i, got := range out {
				if what := wrongDraw(got, rows[i], x[i*vocab:(i+1)*vocab]); what != "" {
					t.Fatalf("%v, round %d, %d logits, %+v: %s; drawn was %d", dt, round, vocab, rows[i], what, got.ID)
				}
			}
			d.Free(b)
		}
	}
}

func pickOf[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func hostileLogits(r *rand.Rand, n, vocab int) []float64 {
	special := []float64{math.Inf(1), math.Inf(-1), math.NaN(), 0, math.Copysign(0, -1), 3.4e38, -3.4e38, 1e-45, -1e-45, 1.2e-38}
	base, spread := pickOf(r, 0, 1, -7, 1e30, -1e30, 1e-40), math.Pow(10, float64(r.IntN(80)-44))
	of := pickOf(r,
		func(int) float64 { return base },
		func(int) float64 { return base + spread*r.NormFloat64() },
		func(int) float64 { return base + spread*math.Round(2*r.NormFloat64()) },
		func(int) float64 { return float64(math.Float32frombits(r.Uint32())) },
		func(int) float64 { return float64(math.Float32frombits(0x3f800000 + uint32(r.IntN(40)))) }, // neighbours
		func(int) float64 { return float64(math.Float32frombits(uint32(r.IntN(3)) | uint32(r.IntN(2))<<31)) },
		func(int) float64 { return 3 * r.NormFloat64() },
		func(int) float64 { return -math.Exp(10 * r.NormFloat64()) },
		func(int) float64 { return pickOf(r, special...) },
		func(i int) float64 { return 20 - 1e-6*float64(i) },
	)
	some, seldom := special[:1+r.IntN(len(special))], pickOf(r, 0, 0, 0.001, 0.1, 0.9)
	x := make([]float64, n*vocab)
	for i := range x {
		if x[i] = of(i % vocab); r.Float64() < seldom {
			x[i] = pickOf(r, some...)
		}
	}
	return x
}

func hostileRow(r *rand.Rand, vocab int) device.SampleRow {
	most := math.Nextafter(1, 0)
	row := device.SampleRow{
		Temperature: pickOf(r, 1, 1, 0.3, 2, 1e-5, 1e5, 1e-30, 1e30, 1e-45, 1e300, math.Inf(1), 1e-300, 0),
		U:           pickOf(r, 0, r.Float64(), r.Float64(), most, 1e-300, 0x1p-53),
		Top:         pickOf(r, 0, 1, 5, 256, 257, vocab),
		TopP:        pickOf(r, 0, 1, r.Float64(), most, 1e-300, 0.999999),
		MinP:        pickOf(r, 0, 0, r.Float64(), 1, 1e-12, 1e-13, 1.5, 1e-300),
	}
	if r.IntN(2) == 0 {
		row.TopK = 1 + r.IntN(vocab)
	}
	return row
}

// ordered is the ids by descending logits, ties by lower id, NaN last.
func ordered(x []float64) []int32 {
	order := make([]int32, len(x))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(x[b], x[a]) }) // NaN is less than −Inf
	return order
}

// wrongDraw says what is wrong with a draw, "" where nothing is.
func wrongDraw(got device.Sampled, row device.SampleRow, x []float64) string {
	order := ordered(x)
	if len(got.Top) != min(row.Top, len(x)) {
		return "so many alternatives were not asked for"
	}
	ids := map[int32]bool{}
	for _, a := range got.Top {
		ids[a.ID] = true
	}
	for _, id := range order[:len(got.Top)] {
		if !ids[id] {
			return "the alternatives are not the likeliest"
		}
	}
	at := slices.Index(order, got.ID)
	switch {
	case at < 0:
		return "it is no token"
	case row.Temperature > 0 && row.TopK > 0 && at >= row.TopK:
		return "it is beyond top-k"
	case at > 0 && (row.Temperature == 0 || row.U == 0):
		return "it is not the first"
	}
	return ""
}
