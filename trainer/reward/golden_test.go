package reward

import (
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"testing"
)

// The golden file holds, for three groups, what every mode makes of them. It is
// read through embed so that the js/wasm run of this test sees the same bytes:
//
//	GOOS=js GOARCH=wasm go test -exec="$(go env GOROOT)/lib/wasm/go_js_wasm_exec"

var update = flag.Bool("update", false, "rewrite testdata/golden.json")

//go:embed testdata/golden.json
var goldenJSON []byte

type goldenGroup struct {
	Name  string
	B     []float64   // b_i
	C     [][]float64 // c_ik
	Cases []goldenCase
}

type goldenCase struct {
	Options      Options
	SigmaFloor   float64 `json:",omitempty"` // Options does not carry it in JSON
	Base         float64
	Mean, Sigma  float64
	ZeroVariance bool
	AllHarmful   bool
	Chains       []goldenChain
}

type goldenChain struct {
	R, Clipped, Advantage float64
	Harmful               bool
	G, TokenWeight        []float64
}

// groups are the inputs. Worked by hand:
//
// "two chains": K = 2, T = 2, b = (.5, .1), c_1 = (.8, .4), c_2 = (.4, .1).
// With two chains of which one is harmful R' = (x, 0), so μ = x/2,
// σ = sqrt((x/2)² + (x/2)²) = x/√2 and A = (x/2)/(x/√2) = ±1/√2 = ±.7071068 in
// every mode; the token weights tell the modes apart.
//
//	am       R_1 = (.8 + .4)/2 = .6     R_2 = (.4 + .1)/2 = .25    R_base = (.5 + .1)/2 = .3
//	         R' = (.3, 0)   σ = .3/1.4142136 = .2121320
//	         g_1 = (.8/2, .4/2) = (.4, .2)    g_2 = (.2, .05), clipped to 0
//	         g'_1/σ = (.4, .2)/.2121320 = (1.8856181, .9428090)
//	gm       R_1 = √.32 = .5656854      R_2 = √.04 = .2            R_base = √.05 = .2236068
//	         R' = (.3420786, 0)   σ = .2418861
//	         g_1 = .5656854/2 = .2828427 (both tokens)    g'_1/σ = 1.1693219
//	ws-logp  −log b = (.6931472, 2.3025851)
//	         R_1 = (.8·.6931472 + .4·2.3025851)/2 = (.5545177 + .9210340)/2 = .7377759
//	         R_2 = (.4·.6931472 + .1·2.3025851)/2 = (.2772589 + .2302585)/2 = .2537587
//	         R_base = (.5·.6931472 + .1·2.3025851)/2 = (.3465736 + .2302585)/2 = .2884160
//	         R' = (.4493598, 0)   σ = .3177454
//	         g_1 = (.5545177/2, .9210340/2) = (.2772589, .4605170)
//	         g'_1/σ = (.8725819, 1.4493273)
//	ws-1/p   R_1 = (.8/.5 + .4/.1)/2 = 2.8    R_2 = (.4/.5 + .1/.1)/2 = .9    R_base = 1
//	         R' = (1.8, 0)   σ = 1.2727922   g_1 = (.8, 2)
//	logp     R_1 = log .32 = −1.1394343   R_2 = log .04 = −3.2188758   R_base = log .05 = −2.9957323
//	         R' = (1.8562980, 0)   σ = 1.3126009   g_1 = (1, 1)
//	p        R_1 = .32   R_2 = .04   R_base = .05   R' = (.27, 0)   σ = .1909188   g_1 = (.32, .32)
//	ws-logp normalised: weights (.6931472, 2.3025851)/2.9957323 = (.2313782, .7686218)
//	         R_1 = .8·.2313782 + .4·.7686218 = .4925513
//	ws-1/p normalised: weights (2, 10)/12    R_1 = (1.6 + 4)/12 = .4666667
//
// TestByHand holds the code to these numbers, not to the golden file.
//
// "re-ranked": b = (.9, .9, .05): two easy tokens and a hard one. Chain 0
// (.99, .99, .05) polishes the easy ones, chain 1 (.7, .7, .4) finds the hard
// one, chain 2 changes nothing (a tie with R_base: harmful), chain 3 ruins all.
//
//	am       2.03/3 = .6766667   1.8/3 = .6   1.85/3 = .6166667 = R_base   1.01/3
//	         R' = (.06, 0, 0, 0): the chain that found the answer earns nothing
//	         μ = .015   σ = sqrt((.045² + 3·.015²)/3) = .03   A = (1.5, −.5, −.5, −.5)
//	ws-logp  −log b = (.1053605, .1053605, 2.9957323)
//	         R_1 = (1.98·.1053605 + .05·2.9957323)/3 = (.2086138 + .1497866)/3 = .1194668
//	         R_2 = (1.40·.1053605 + .40·2.9957323)/3 = (.1475047 + 1.1982929)/3 = .4485992
//	         R_base = (1.80·.1053605 + .05·2.9957323)/3 = (.1896489 + .1497866)/3 = .1131452
//	         R' = (.0063216, .3354540, 0, 0)
//
// "all harmful": b = (.6, 1e-6), the second below the floor 1e-4 of ws-1/p; no
// chain raises any token, so clipped every reward is 0 and the group is silent.
//
//	ws-1/p   R_base = (.6/.6 + 1e-6/1e-4)/2 = 1.01/2 = .505, below 1: one token is floored
//	         chain 0 (.5, 1e-6): (.5/.6 + .01)/2 = .4216667
var groups = []goldenGroup{
	{Name: "two chains", B: []float64{.5, .1}, C: [][]float64{{.8, .4}, {.4, .1}}},
	{Name: "re-ranked", B: []float64{.9, .9, .05}, C: [][]float64{{.99, .99, .05}, {.7, .7, .4}, {.9, .9, .05}, {.5, .5, .01}}},
	{Name: "all harmful", B: []float64{.6, 1e-6}, C: [][]float64{{.5, 1e-6}, {.3, 5e-7}, {.6, 1e-6}}},
}

// goldenOptions are all modes with and without clipping, and the σ floor and the
// centring-only form once.
func goldenOptions() []Options {
	var o []Options
	for _, clip := range []bool{true, false} {
		for _, m := range Modes() {
			o = append(o, Options{Mode: m, Clip: clip})
		}
		for _, m := range []Mode{WSInvP, WSLogP} {
			o = append(o, Options{Mode: m, Clip: clip, NormalizeWeights: true})
		}
	}
	return append(o, Options{Mode: WSLogP, Clip: true, SigmaFloor: .5}, Options{Mode: WSLogP, Clip: true, NoStd: true})
}

func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	var want []goldenGroup
	if err := json.Unmarshal(goldenJSON, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(groups) {
		t.Fatalf("golden file has %d groups, want %d: run with -update", len(want), len(groups))
	}
	for i, w := range want {
		if len(w.Cases) != len(goldenOptions()) {
			t.Fatalf("%s: %d cases, want %d: run with -update", w.Name, len(w.Cases), len(goldenOptions()))
		}
		for _, c := range w.Cases {
			o := c.Options
			o.SigmaFloor = c.SigmaFloor
			g, err := ScoreGroup(logs(w.C), log(w.B), o)
			if err != nil {
				t.Fatal(err)
			}
			where := fmt.Sprintf("%s %+v", groups[i].Name, o)
			near(t, where+" base", g.Base, c.Base)
			near(t, where+" mean", g.Mean, c.Mean)
			near(t, where+" sigma", g.Sigma, c.Sigma)
			if g.ZeroVariance != c.ZeroVariance || g.AllHarmful != c.AllHarmful {
				t.Errorf("%s: flags %v %v, want %v %v", where, g.ZeroVariance, g.AllHarmful, c.ZeroVariance, c.AllHarmful)
			}
			for k, x := range c.Chains {
				h := g.Chains[k]
				at := fmt.Sprintf("%s chain %d", where, k)
				near(t, at+" R", h.R, x.R)
				near(t, at+" R'", h.Clipped, x.Clipped)
				near(t, at+" A", h.Advantage, x.Advantage)
				for j := range x.G {
					near(t, at+" g", h.G[j], x.G[j])
					near(t, at+" g/σ", h.TokenWeight[j], x.TokenWeight[j])
				}
				if h.Harmful != x.Harmful {
					t.Errorf("%s: harmful %v, want %v", at, h.Harmful, x.Harmful)
				}
			}
		}
	}
}

func writeGolden(t *testing.T) {
	for i := range groups {
		g := &groups[i]
		g.Cases = nil
		for _, o := range goldenOptions() {
			r, err := ScoreGroup(logs(g.C), log(g.B), o)
			if err != nil {
				t.Fatal(err)
			}
			c := goldenCase{Options: o, SigmaFloor: o.SigmaFloor, Base: r.Base, Mean: r.Mean, Sigma: r.Sigma, ZeroVariance: r.ZeroVariance, AllHarmful: r.AllHarmful}
			for _, x := range r.Chains {
				c.Chains = append(c.Chains, goldenChain{R: x.R, Clipped: x.Clipped, Advantage: x.Advantage, Harmful: x.Harmful, G: x.G, TokenWeight: x.TokenWeight})
			}
			g.Cases = append(g.Cases, c)
		}
	}
	out, err := json.MarshalIndent(groups, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/golden.json", append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	goldenJSON = out
}

// TestByHand compares with the numbers of the comment above.
func TestByHand(t *testing.T) {
	const root = 0.70710678118654752
	for _, c := range []struct {
		o            Options
		r1, r2, base float64
		clipped      float64 // of chain 1; chain 2 is harmful
		g1, w1       []float64
	}{
		{Options{Mode: AM}, .6, .25, .3, .3, []float64{.4, .2}, []float64{1.8856181, .9428090}},
		{Options{Mode: GM}, .5656854, .2, .2236068, .3420786, []float64{.2828427, .2828427}, []float64{1.1693219, 1.1693219}},
		{Options{Mode: WSLogP}, .7377759, .2537587, .2884160, .4493598, []float64{.2772589, .4605170}, []float64{.8725819, 1.4493273}},
		{Options{Mode: WSInvP}, 2.8, .9, 1, 1.8, []float64{.8, 2}, []float64{.6285394, 1.5713484}},
		{Options{Mode: LogP}, -1.1394343, -3.2188758, -2.9957323, 1.8562980, []float64{1, 1}, []float64{.7618462, .7618462}},
		{Options{Mode: P}, .32, .04, .05, .27, []float64{.32, .32}, []float64{1.6761050, 1.6761050}},
		{Options{Mode: WSLogP, NormalizeWeights: true}, .4925513, .1694135, .1925513, .3, []float64{.1851026, .3074487}, []float64{.8725819, 1.4493273}},
		{Options{Mode: WSInvP, NormalizeWeights: true}, .4666667, .15, .1666667, .3, []float64{.1333333, .3333333}, []float64{.6285394, 1.5713484}},
	} {
		o := c.o
		o.Clip = true
		g, err := ScoreGroup(logs(groups[0].C), log(groups[0].B), o)
		if err != nil {
			t.Fatal(err)
		}
		check := func(what string, got, want float64) {
			t.Helper()
			if math.Abs(got-want) > 1e-7*(1+math.Abs(want)) {
				t.Errorf("%v %s = %.8f, by hand %.7f", c.o.Mode, what, got, want)
			}
		}
		a, b := g.Chains[0], g.Chains[1]
		check("R_1", a.R, c.r1)
		check("R_2", b.R, c.r2)
		check("R_base", g.Base, c.base)
		check("R'_1", a.Clipped, c.clipped)
		check("R'_2", b.Clipped, 0)
		check("σ", g.Sigma, c.clipped*root)
		check("A_1", a.Advantage, root)
		check("A_2", b.Advantage, -root)
		for i := range c.g1 {
			check("g_1", a.G[i], c.g1[i])
			check("g_1/σ", a.TokenWeight[i], c.w1[i])
			check("g'_2", b.G[i], 0)
		}
	}
	am, err := ScoreGroup(logs(groups[1].C), log(groups[1].B), Options{Mode: AM, Clip: true})
	if err != nil {
		t.Fatal(err)
	}
	ws, err := ScoreGroup(logs(groups[1].C), log(groups[1].B), Options{Mode: WSLogP, Clip: true})
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range []float64{1.5, -.5, -.5, -.5} {
		near(t, "re-ranked am A", am.Chains[k].Advantage, want)
	}
	if r := am.Ranks(); fmt.Sprint(r) != "[1 3 2 4]" {
		t.Errorf("ranks under am: %v", r)
	}
	if r := ws.Ranks(); fmt.Sprint(r) != "[2 1 3 4]" {
		t.Errorf("ranks under ws-logp: %v", r)
	}
	if !am.Chains[2].Harmful || am.Chains[2].R != am.Base {
		t.Error("the chain that changes nothing must tie with the baseline exactly")
	}
}

func log(p []float64) []float64 {
	s := make([]float64, len(p))
	for i, x := range p {
		s[i] = math.Log(x)
	}
	return s
}

func logs(p [][]float64) [][]float64 {
	s := make([][]float64, len(p))
	for i := range p {
		s[i] = log(p[i])
	}
	return s
}

// near fails unless the two agree to 1e-12, relative above 1.
func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-12*(1+math.Abs(want))) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
