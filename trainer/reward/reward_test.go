package reward

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// allOptions is every mode, normalised or not, with every combination of clip
// and NoStd.
func allOptions() []Options {
	var all []Options
	for _, m := range Modes() {
		for i := range 8 {
			o := Options{Mode: m, Clip: i&1 != 0, NoStd: i&2 != 0, NormalizeWeights: i&4 != 0}
			if o.NormalizeWeights && m != WSInvP && m != WSLogP {
				continue
			}
			all = append(all, o)
		}
	}
	return all
}

func random(r *rand.Rand, k, t int) (s [][]float64, logb []float64) {
	logb = make([]float64, t)
	for i := range logb {
		logb[i] = -r.ExpFloat64() * 2
	}
	s = make([][]float64, k)
	for j := range s {
		s[j] = make([]float64, t)
		for i := range s[j] {
			s[j][i] = min(0, logb[i]+r.NormFloat64())
		}
	}
	return s, logb
}

func mustScore(t *testing.T, s [][]float64, logb []float64, o Options) Group {
	t.Helper()
	g, err := ScoreGroup(s, logb, o)
	if err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	return g
}

// TestTable computes every reward the way the table reads, by products and sums
// of probabilities, and g by central differences.
func TestTable(t *testing.T) {
	const seed = 11
	r := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		n := 1 + r.IntN(6)
		s, logb := random(r, 1, n)
		// A normalised weight sums to 1; −log b is bounded away from 0 so that
		// the naive quotient is well conditioned.
		for i := range logb {
			logb[i] -= .01
		}
		for _, o := range allOptions() {
			o.Clip, o.NoStd = false, false
			got, err := Score(s[0], logb, o)
			if err != nil {
				t.Fatal(err)
			}
			want, base := table(s[0], logb, o), table(logb, logb, o)
			close(t, fmt.Sprintf("seed %d %+v R", seed, o), got.R, want, 1e-12)
			close(t, fmt.Sprintf("seed %d %+v R_base", seed, o), got.Base, base, 1e-12)
			for i := range s[0] {
				const h = 1e-6
				x := append([]float64(nil), s[0]...)
				x[i] += h
				up := table(x, logb, o)
				x[i] -= 2 * h
				close(t, fmt.Sprintf("seed %d %+v g", seed, o), got.G[i], (up-table(x, logb, o))/(2*h), 1e-8)
			}
			// R is what the token contributions add up to.
			sum := 0.0
			for i, c := range got.Contribution {
				sum += c
				close(t, "c", got.C[i], math.Exp(s[0][i]), 1e-15)
			}
			if o.Mode.product() {
				close(t, fmt.Sprintf("%v log R", o.Mode), sum, got.LogR, 1e-12)
			} else {
				close(t, fmt.Sprintf("%v contributions", o.Mode), sum, got.R, 1e-12)
			}
		}
	}
}

// table is the R column of the package comment, naively.
func table(s, logb []float64, o Options) float64 {
	t := float64(len(s))
	product, sum, norm := 1.0, 0.0, 0.0
	for i := range s {
		c, b := math.Exp(s[i]), math.Exp(logb[i])
		w := 1.0
		switch o.Mode {
		case WSInvP:
			w = 1 / max(b, DefaultBaseFloor)
		case WSLogP:
			w = -math.Log(b)
		}
		product *= c
		sum += w * c
		norm += w
	}
	switch o.Mode {
	case LogP:
		return math.Log(product)
	case P:
		return product
	case GM:
		return math.Pow(product, 1/t)
	}
	if o.NormalizeWeights {
		return sum / norm
	}
	return sum / t
}

func TestWeightedSumsOfTheEmptyChain(t *testing.T) {
	logb := log([]float64{.5, 1e-4, .03})
	sc, err := Score(logb, logb, Options{Mode: WSInvP, Clip: true})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "R_base of ws-1/p", sc.Base, 1)
	if !sc.Harmful || sc.Clipped != 0 || sc.R != sc.Base {
		t.Errorf("c = b must tie with R_base and earn nothing: %+v", sc)
	}
	floored, err := Score(log([]float64{1, 1}), log([]float64{1e-9, 1}), Options{Mode: WSInvP, BaseFloor: .01})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "floored weight", floored.R, (100.0+1)/2)
	one, err := Score([]float64{-1, -2}, []float64{0, 0}, Options{Mode: WSLogP, NormalizeWeights: true, Clip: true})
	if err != nil {
		t.Fatal(err)
	}
	if one.R != 0 || one.Base != 0 {
		t.Errorf("b = 1 everywhere leaves ws-logp no weight, have %+v", one)
	}
}

// TestGroup checks A and the token weight against their definitions.
func TestGroup(t *testing.T) {
	const seed = 5
	r := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		k := 2 + r.IntN(7)
		s, logb := random(r, k, 1+r.IntN(5))
		for _, o := range allOptions() {
			for _, floor := range []float64{0, .01, 3} {
				o.SigmaFloor = floor
				g := mustScore(t, s, logb, o)
				var mu, ss float64
				for _, c := range g.Chains {
					mu += c.Clipped / float64(k)
				}
				for _, c := range g.Chains {
					ss += (c.Clipped - mu) * (c.Clipped - mu)
				}
				sigma := math.Sqrt(ss / float64(k-1))
				what := fmt.Sprintf("seed %d K %d %+v", seed, k, o)
				close(t, what+" μ", g.Mean, mu, 1e-11)
				if !g.ZeroVariance {
					close(t, what+" σ", g.Sigma, sigma, 1e-9)
				}
				sumA := 0.0
				for j, c := range g.Chains {
					sumA += c.Advantage
					want, div := 0.0, 1.0
					if o.NoStd {
						for i, d := range g.Chains {
							if i != j {
								want += (c.Clipped - d.Clipped) / float64(k-1)
							}
						}
					} else if div = max(sigma, floor); !g.ZeroVariance {
						want = (c.Clipped - mu) / div
					}
					close(t, what+" A", c.Advantage, want, 1e-8)
					for i := range c.G {
						if div > 0 {
							close(t, what+" g/σ", c.TokenWeight[i], c.G[i]/div, 1e-8)
						}
					}
					if o.Clip && c.Harmful && (c.Clipped != 0 || c.G[0] != 0 || c.TokenWeight[0] != 0) {
						t.Errorf("%s: harmful chain %d keeps a reward: %+v", what, j, c)
					}
				}
				close(t, what+" ΣA", sumA, 0, 1e-9)
			}
		}
	}
}

// TestOrderOfChains: permuting the chains permutes the results.
func TestOrderOfChains(t *testing.T) {
	const seed = 3
	r := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		k := 2 + r.IntN(6)
		s, logb := random(r, k, 4)
		perm := r.Perm(k)
		p := make([][]float64, k)
		for i, j := range perm {
			p[i] = s[j]
		}
		for _, o := range allOptions() {
			a, b := mustScore(t, s, logb, o), mustScore(t, p, logb, o)
			for i, j := range perm {
				close(t, fmt.Sprintf("seed %d %+v", seed, o), b.Chains[i].Advantage, a.Chains[j].Advantage, 1e-9)
				close(t, fmt.Sprintf("seed %d %+v", seed, o), b.Chains[i].TokenWeight[0], a.Chains[j].TokenWeight[0], 1e-9)
			}
		}
	}
}

// TestShift: adding a constant to every chain's log-likelihood moves no A of
// logp, and (being a factor of every reward) none of p and gm; adding a constant
// to rewards moves no A of Advantages, and scaling them scales σ alone.
func TestShift(t *testing.T) {
	const seed = 8
	r := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		s, logb := random(r, 5, 3)
		moved := make([][]float64, len(s))
		for k := range s {
			moved[k] = append([]float64(nil), s[k]...)
			moved[k][1] -= 1.5
		}
		for _, m := range []Mode{LogP, P, GM} {
			a, b := mustScore(t, s, logb, Options{Mode: m}), mustScore(t, moved, logb, Options{Mode: m})
			for k := range a.Chains {
				close(t, fmt.Sprintf("seed %d %v A", seed, m), b.Chains[k].Advantage, a.Chains[k].Advantage, 1e-9)
			}
		}
		x, y := make([]float64, 5), make([]float64, 5)
		for i := range x {
			x[i] = r.NormFloat64()
			y[i] = 4*x[i] + 100
		}
		for _, noStd := range []bool{false, true} {
			a, b := make([]float64, 5), make([]float64, 5)
			p, q := Advantages(a, x, 0, noStd), Advantages(b, y, 0, noStd)
			close(t, "σ", q.Sigma, 4*p.Sigma, 1e-9)
			for i := range a {
				if noStd {
					a[i] *= 4
				}
				close(t, "A", b[i], a[i], 1e-9)
			}
		}
	}
}

// TestSameRanks: T is the same for all chains, so logp, p and gm rank alike.
func TestSameRanks(t *testing.T) {
	const seed = 21
	r := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		s, logb := random(r, 2+r.IntN(8), 1+r.IntN(20))
		want := ""
		for _, m := range []Mode{LogP, P, GM} {
			g := mustScore(t, s, logb, Options{Mode: m})
			got := fmt.Sprint(g.Ranks())
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("seed %d: %v ranks %s, logp %s", seed, m, got, want)
			}
			for i := range g.Chains {
				for j := range g.Chains {
					if g.Ranks()[i] < g.Ranks()[j] && g.Chains[i].Advantage < g.Chains[j].Advantage {
						t.Errorf("seed %d %v: chain %d ranks above %d but has less advantage", seed, m, i, j)
					}
				}
			}
		}
	}
}

// TestLongAnswers: 5000 tokens at −20 nats each make P = e^{-100000}. Ranks and
// advantages must not notice.
func TestLongAnswers(t *testing.T) {
	const n = 5000
	s := make([][]float64, 4)
	logb := make([]float64, n)
	fill(logb, -20.001)
	for k := range s {
		s[k] = make([]float64, n)
		fill(s[k], -20)
		s[k][17] += []float64{0, 1, -3, 2}[k]
	}
	for _, o := range []Options{{Mode: LogP}, {Mode: P}, {Mode: GM}, {Mode: P, Clip: true}, {Mode: GM, Clip: true}, {Mode: LogP, Clip: true}} {
		g := mustScore(t, s, logb, o)
		if got := fmt.Sprint(g.Ranks()); got != "[3 2 4 1]" {
			t.Errorf("%+v: ranks %s", o, got)
		}
		if g.ZeroVariance || g.AllHarmful {
			t.Errorf("%+v: a group with a spread of 5 nats reads as tied", o)
		}
		for k, c := range g.Chains {
			if math.IsNaN(c.Advantage) || math.IsInf(c.Advantage, 0) {
				t.Errorf("%+v: A_%d = %v", o, k, c.Advantage)
			}
		}
		if g.Chains[3].Advantage <= g.Chains[1].Advantage || g.Chains[1].Advantage <= g.Chains[0].Advantage {
			t.Errorf("%+v: advantages do not follow the ranks", o)
		}
	}
	// P with and without the long tail: the same advantages and token weights.
	short := [][]float64{{-1}, {0}, {-4}, {0}}
	short[3][0], short[1][0], short[0][0], short[2][0] = 0, -1, -2, -5
	a, b := mustScore(t, s, logb, Options{Mode: P}), mustScore(t, short, []float64{-9}, Options{Mode: P})
	for k := range a.Chains {
		close(t, "A of p", a.Chains[k].Advantage, b.Chains[k].Advantage, 1e-9)
		close(t, "g/σ of p", a.Chains[k].TokenWeight[0], b.Chains[k].TokenWeight[0], 1e-9)
	}
	if a.Chains[0].R != 0 || a.Chains[0].LogR > -99999 {
		t.Errorf("R = %v, log R = %v: want 0 and about −100000", a.Chains[0].R, a.Chains[0].LogR)
	}
	// A floor is absolute and silences such a group without a NaN.
	g := mustScore(t, s, logb, Options{Mode: P, SigmaFloor: .1})
	for _, c := range g.Chains {
		if c.Advantage != 0 || c.TokenWeight[0] != 0 {
			t.Errorf("floored p group: A %v, weight %v, want 0", c.Advantage, c.TokenWeight[0])
		}
	}
}

// TestTies: rewards that differ by rounding tie, and their difference is not
// blown up to A = ±1.
func TestTies(t *testing.T) {
	logb := []float64{-1, -2, -3}
	for _, o := range allOptions() {
		s := [][]float64{{-.5, -1, -1}, {-.5, -1, -1}, {-.5 + 1e-14, -1, -1 - 3e-15}}
		g := mustScore(t, s, logb, o)
		if !g.ZeroVariance || g.Sigma != 0 {
			t.Errorf("%+v: σ = %v, want a tie", o, g.Sigma)
		}
		for k, c := range g.Chains {
			if c.Advantage != 0 {
				t.Errorf("%+v: A_%d = %v, want 0", o, k, c.Advantage)
			}
			if !o.NoStd && c.TokenWeight[0] != 0 {
				t.Errorf("%+v: token weight %v without a σ to divide by", o, c.TokenWeight[0])
			}
		}
		if o.NoStd {
			continue
		}
		// With a floor equal good chains teach the answer, at g'/floor.
		g.Normalize(.25)
		if !g.Floored || g.Chains[0].Advantage != 0 {
			t.Errorf("%+v: floored %v, A %v", o, g.Floored, g.Chains[0].Advantage)
		}
		close(t, "g/floor", g.Chains[0].TokenWeight[0], g.Chains[0].G[0]/.25, 1e-12)
		// A floor below rounding is none.
		g.Normalize(1e-300)
		if g.Floored {
			t.Errorf("%+v: a floor below rounding divided", o)
		}
		if w := g.Chains[0].TokenWeight[0]; w != 0 {
			t.Errorf("%+v: divided by rounding: %v", o, w)
		}
	}
}

// TestTiesAgainstTheBaseline: three chains that are certain of the answer differ
// by 1e-12; R' = R − R_base is near 10 and its rounding must not rank them.
func TestTiesAgainstTheBaseline(t *testing.T) {
	g := mustScore(t, [][]float64{{-1e-12}, {-2e-12}, {-3e-12}}, []float64{-10}, Options{Mode: LogP, Clip: true})
	if !g.ZeroVariance || g.Chains[0].Advantage != 0 {
		t.Errorf("σ = %v, A = %v, want a tie", g.Sigma, g.Chains[0].Advantage)
	}
}

// TestAllHarmful: clipping leaves no signal at all, floor or not.
func TestAllHarmful(t *testing.T) {
	logb := []float64{-1, -2}
	s := [][]float64{{-1.5, -2}, {-1, -2}, {-3, -9}}
	for _, o := range allOptions() {
		if !o.Clip {
			continue
		}
		o.SigmaFloor = .5
		g := mustScore(t, s, logb, o)
		if !g.AllHarmful || !g.ZeroVariance || g.Mean != 0 {
			t.Errorf("%+v: want an all-harmful group, have %+v", o, g)
		}
		for _, c := range g.Chains {
			if c.Advantage != 0 || c.TokenWeight[0] != 0 || c.TokenWeight[1] != 0 || c.G[0] != 0 {
				t.Errorf("%+v: signal from an all-harmful group: %+v", o, c)
			}
		}
	}
	if g := mustScore(t, s, logb, Options{Mode: AM}); g.AllHarmful || !g.Chains[0].Harmful {
		t.Error("without clipping chains are harmful, but the group still teaches")
	}
}

func TestSingleChain(t *testing.T) {
	for _, o := range allOptions() {
		g := mustScore(t, [][]float64{{-.1, -.2}}, []float64{-1, -1}, o)
		if !g.ZeroVariance || g.Chains[0].Advantage != 0 {
			t.Errorf("%+v: one chain has advantage %v", o, g.Chains[0].Advantage)
		}
		if o.NoStd && g.Chains[0].TokenWeight[0] != g.Chains[0].G[0] {
			t.Errorf("%+v: token weight %v, want g'", o, g.Chains[0].TokenWeight[0])
		}
	}
}

func TestErrors(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		s    [][]float64
		logb []float64
		o    Options
		want string
	}{
		{nil, []float64{-1}, Options{}, "group has no chains"},
		{[][]float64{{}}, nil, Options{}, "answer has no tokens"},
		{[][]float64{{-1}, {-1, -2}}, []float64{-1}, Options{}, "chain 1: want 1 answer tokens as in the baseline, have 2"},
		{[][]float64{{-1, -1}, {-1, nan}}, []float64{-1, -1}, Options{}, "chain 1: token 1: want a log-probability (finite, ≤ 0), have NaN"},
		{[][]float64{{-inf}}, []float64{-1}, Options{}, "chain 0: token 0: want a log-probability (finite, ≤ 0), have -Inf"},
		{[][]float64{{.5}}, []float64{-1}, Options{}, "chain 0: token 0"},
		{[][]float64{{-1}}, []float64{-inf}, Options{}, "baseline: token 0"},
		{[][]float64{{-1}}, []float64{-1}, Options{Mode: 9}, "mode: want 0 to 5, have 9"},
		{[][]float64{{-1}}, []float64{-1}, Options{BaseFloor: 2}, "base_floor: want"},
		{[][]float64{{-1}}, []float64{-1}, Options{SigmaFloor: nan}, "sigma floor: want"},
	} {
		_, err := ScoreGroup(c.s, c.logb, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestModeNames(t *testing.T) {
	for _, m := range Modes() {
		got, err := ParseMode(m.String())
		if err != nil || got != m {
			t.Errorf("%v reads back as %v, %v", m, got, err)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back Mode
		if err := json.Unmarshal(text, &back); err != nil || back != m {
			t.Errorf("%s reads back as %v, %v", text, back, err)
		}
	}
	if _, err := ParseMode("ws"); err == nil || !strings.Contains(err.Error(), "ws-logp") {
		t.Errorf("unknown mode: %v", err)
	}
	if _, err := json.Marshal(Mode(-1)); err == nil {
		t.Error("mode −1 has a name")
	}
	if Mode(7).String() != "mode(7)" {
		t.Error(Mode(7).String())
	}
}

func TestEMA(t *testing.T) {
	e := EMA{Decay: .99}
	if e.Value() != 0 {
		t.Errorf("empty average %v", e.Value())
	}
	e.Update(3)
	near(t, "first value", e.Value(), 3)
	e.Update(5)
	near(t, "second value", e.Value(), (.99*3+5)/1.99)
	for range 5000 {
		e.Update(7)
	}
	near(t, "long run", e.Value(), 7)
}

// TestReuse: scoring into a used Group gives what a fresh one gives, without
// allocating.
func TestReuse(t *testing.T) {
	const seed = 2
	r := rand.New(rand.NewPCG(seed, 0))
	var g Group
	for range 50 {
		s, logb := random(r, 1+r.IntN(6), 1+r.IntN(9))
		for _, o := range allOptions() {
			if err := g.Score(s, logb, o); err != nil {
				t.Fatal(err)
			}
			fresh := mustScore(t, s, logb, o)
			if a, b := fmt.Sprint(g.Chains, g.Mean, g.Sigma), fmt.Sprint(fresh.Chains, fresh.Mean, fresh.Sigma); a != b {
				t.Fatalf("seed %d %+v: reused\n%s\nfresh\n%s", seed, o, a, b)
			}
		}
	}
	s, logb := random(r, 6, 9)
	if n := testing.AllocsPerRun(10, func() {
		if err := g.Score(s, logb, Options{Mode: WSLogP, Clip: true}); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// close fails unless the two agree to tol, relative above 1.
func close(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*(1+math.Abs(want))) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
