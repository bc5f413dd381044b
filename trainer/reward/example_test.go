package reward_test

import (
	"fmt"
	"math"

	"nrt/trainer/reward"
)

// Two chains of one question, whose reference answer has three tokens. The first chain
// makes the last token, which the model does not guess by itself, three times as
// probable; the second makes the two easy ones easier, and the hard one harder. The mean
// of the probabilities rewards the second chain more, the sum weighted by −log b the
// first.
func ExampleScoreGroup() {
	logs := func(p ...float64) []float64 {
		s := make([]float64, len(p))
		for i, x := range p {
			s[i] = math.Log(x)
		}
		return s
	}
	none := logs(0.5, 0.5, 0.2) // b: after no chain
	chains := [][]float64{
		logs(0.5, 0.5, 0.6), // c: after each
		logs(0.9, 0.8, 0.1),
	}
	for _, mode := range []reward.Mode{reward.AM, reward.WSLogP} {
		g, err := reward.ScoreGroup(chains, none, reward.Options{Mode: mode, Clip: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: none %.3f\n", mode, g.Base)
		for k, c := range g.Chains {
			fmt.Printf("  chain %d: R %.3f, R′ %.3f, A %+.2f, token weights %.2f\n", k+1, c.R, c.Clipped, c.Advantage, c.TokenWeight)
		}
	}
	// Output:
	// am: none 0.400
	//   chain 1: R 0.533, R′ 0.133, A -0.71, token weights [3.54 3.54 4.24]
	//   chain 2: R 0.600, R′ 0.200, A +0.71, token weights [6.36 5.66 0.71]
	// ws-logp: none 0.338
	//   chain 1: R 0.553, R′ 0.215, A +0.71, token weights [1.53 1.53 4.27]
	//   chain 2: R 0.446, R′ 0.108, A -0.71, token weights [2.76 2.45 0.71]
}
