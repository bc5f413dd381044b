package objective

import "nrt/trainer/reward"

// VeriFree (sail-sg/VeriFree): the answer's probability itself is the reward,
//
//	ℒ = −A_RLOO Σ log π(z) − P Σ log c      A_RLOO = P_k − mean_{j≠k} P_j
//
// without importance ratio and without σ. That is nrt with mode p, no clip and
// centring only (reward.Options.NoStd is leave-one-out, and its token weight is
// the raw ∂P/∂s_i = P), so nrt.go computes it.
//
// P is what it is: on long answers it underflows and nothing is learned. That
// belongs to the method. Reward.NoStd = false puts σ back and with it scale.

func presetVeriFree(c *Config) {
	c.Reward = reward.Options{Mode: reward.P, NoStd: true, BaseFloor: c.Reward.BaseFloor}
}

func checkVeriFree(c Config) error {
	return only("reward.mode", reward.P, c.Reward.Mode)
}
