package devicetest

import (
	"cmp"
	"math"
	"reflect"
	"slices"

	"nrt/backend/device"
)

// ranking is the ids of x by descending value, ties by lower id.
func ranking(x []float64) []int32 {
	ids := make([]int32, len(x))
	for i := range ids {
		ids[i] = int32(i)
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(x[b], x[a]) })
	return ids
}

func testSample(s *suite) {
	for i := range 200 {
		vocab := 2 + s.r.IntN(70)
		if i%50 == 0 {
			vocab = 3000
		}
		x := s.random(vocab)
		r := device.SampleRow{Temperature: []float64{1, 0.5, 2, 0}[s.r.IntN(4)], Top: s.r.IntN(vocab + 3), U: s.r.Float64()}
		want, logp := s.expect(x.x, &r)
		out := make([]device.Sampled, 1)
		s.d.Sample(out, x.Buffer, []device.SampleRow{r}, vocab)
		have := out[0]
		if have.ID != want {
			s.Fatalf("vocab %d, %+v (seed %d): drew %d, want %d", vocab, r, s.seed, have.ID, want)
		}
		s.near("LogProb", []float64{have.LogProb}, []float64{logp[want]}, 2*s.tol.Value)
		s.near("Entropy", []float64{have.Entropy}, []float64{entropy(logp)}, 2*s.tol.Value)
		all := ranking(x.x)
		if len(have.Top) != min(r.Top, vocab) {
			s.Fatalf("%d alternatives, want %d of %d", len(have.Top), r.Top, vocab)
		}
		for j, a := range have.Top {
			if a.ID != all[j] {
				s.Fatalf("alternative %d is %d, want %d", j, a.ID, all[j])
			}
			s.near("Top", []float64{a.LogProb}, []float64{logp[a.ID]}, 2*s.tol.Value)
		}
	}
}

// expect says what r must draw from x, by sorting. It moves the thresholds of r
// to the middle between two outcomes, so that rounding cannot decide.
func (s *suite) expect(x []float64, r *device.SampleRow) (id int32, logp []float64) {
	scaled := slices.Clone(x)
	if r.Temperature > 0 {
		for i := range scaled {
			scaled[i] /= r.Temperature
		}
	}
	logp, _ = logSoftmax(scaled)
	kept := ranking(x)
	if r.Temperature == 0 {
		return kept[0], logp
	}
	weight := func(id int32) float64 { return math.Exp(logp[id]) }
	mass := func(ids []int32) (m float64) {
		for _, id := range ids {
			m += weight(id)
		}
		return m
	}
	if s.r.IntN(2) == 0 {
		r.TopK = 1 + s.r.IntN(len(kept)+2)
		kept = kept[:min(r.TopK, len(kept))]
	}
	if s.r.IntN(2) == 0 {
		n := s.likely(kept, weight)
		r.TopP = (mass(kept[:n]) + weight(kept[n])/2) / mass(kept)
		kept = kept[:n+1]
	}
	if s.r.IntN(2) == 0 {
		n := s.r.IntN(len(kept))
		r.MinP = weight(kept[n]) / weight(kept[0]) * 0.999
		for i := n + 1; i < len(kept); i++ {
			if weight(kept[i])/weight(kept[0]) < r.MinP*1.0001 {
				if weight(kept[i])/weight(kept[0]) > r.MinP*0.9999 {
					r.MinP = 0 // too close to call
					break
				}
				kept = kept[:i]
				break
			}
		}
	}
	n := s.likely(kept, weight)
	r.U = (mass(kept[:n]) + weight(kept[n])/2) / mass(kept)
	return kept[n], logp
}

// likely picks a place in ids whose token has enough weight to be told from
// rounding.
func (s *suite) likely(ids []int32, weight func(int32) float64) int {
	n := s.r.IntN(len(ids))
	for n > 0 && weight(ids[n]) < 1e-4 {
		n--
	}
	return n
}

// testSampleCold: a temperature towards 0 comes to draw as 0 does, with numbers that
// are finite; below Coldest all is as it is at 0.
func testSampleCold(s *suite) {
	const vocab = 120
	for round := range 100 {
		x, least, apart := make([]float64, vocab), 0, 1.0/4
		if round%2 == 1 { // as of a model gone wrong: rounding the largest is worth many nats
			least, apart = s.r.IntN(130), math.Ldexp(1, s.r.IntN(13))
		}
		for i, place := range s.r.Perm(vocab) { // no two alike, in bfloat16 neither
			x[i] = float64(least+place) * apart
		}
		logits := s.put(x)
		row := device.SampleRow{U: s.r.Float64(), TopP: []float64{0, math.SmallestNonzeroFloat64}[s.r.IntN(2)], Top: 3}
		draw := func(temperature float64) device.Sampled {
			row, out := row, make([]device.Sampled, 1)
			row.Temperature = temperature
			s.d.Sample(out, logits.Buffer, []device.SampleRow{row}, vocab)
			return out[0]
		}
		greedy := draw(0)
		for _, t := range []float64{1e-5, 3e-6, device.Coldest, 9e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9, 1e-12, 1e-38, 1e-45, 1e-300} {
			have := draw(t)
			for _, x := range []float64{have.LogProb, have.Entropy, have.Top[0].LogProb, have.Top[2].LogProb} {
				if math.IsNaN(x) || math.IsInf(x, 0) {
					s.Fatalf("temperature %g: %+v (seed %d)", t, have, s.seed)
				}
			}
			if have.ID != greedy.ID || have.Top[0].LogProb > 1e-5 || t < device.Coldest && !reflect.DeepEqual(have, greedy) {
				s.Fatalf("temperature %g: %+v, greedy %+v (seed %d)", t, have, greedy, s.seed)
			}
		}
	}
}

// testSampleTies: equal tokens stand in the order of their ids, U picks along them, and
// the ends of [0,1) are in.
func testSampleTies(s *suite) {
	const n = 40
	logits := s.put(make([]float64, 3*n))
	out := make([]device.Sampled, 3)
	s.d.Sample(out, logits.Buffer, []device.SampleRow{
		{Temperature: 1, U: 0, Top: 3}, {Temperature: 1, U: 0.9999999}, {Temperature: 0}}, n)
	for i, want := range []int32{0, n - 1, 0} {
		if out[i].ID != want {
			s.Errorf("row %d drew %d, want %d", i, out[i].ID, want)
		}
	}
	for i, a := range out[0].Top {
		if a.ID != int32(i) {
			s.Errorf("alternative %d is %d", i, a.ID)
		}
	}
	for i := range n {
		rows := []device.SampleRow{{Temperature: 1, U: (float64(i) + 0.5) / n}}
		s.d.Sample(out[:1], logits.View(0, n), rows, n)
		if out[0].ID != int32(i) {
			s.Errorf("U %g drew %d, want %d", rows[0].U, out[0].ID, i)
		}
		rows[0].TopK = i + 1
		rows[0].U = 0.999999
		s.d.Sample(out[:1], logits.View(0, n), rows, n)
		if out[0].ID != int32(i) {
			s.Errorf("TopK %d drew %d, want %d", i+1, out[0].ID, i)
		}
	}
}
