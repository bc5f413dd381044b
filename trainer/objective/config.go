package objective

import (
	"fmt"
	"math"
	"slices"

	"nrt/trainer/reward"
)

// Method names a way of training.
type Method string

// The methods of the package comment's table.
const (
	NRT      Method = "nrt"
	SFT      Method = "sft"
	LM       Method = "lm"
	RLPR     Method = "rlpr"
	VeriFree Method = "verifree"
	JEPO     Method = "jepo"
	STaR     Method = "star"
	RLVR     Method = "rlvr"
)

// methods is the table of them; a new one is a row more.
var methods = []method{
	{name: NRT, plan: planNRT, preset: presetNRT, samples: true, scores: true},
	{name: SFT, plan: planSFT, preset: presetSFT, check: checkSFT},
	{name: LM, plan: planLM, preset: presetSFT, check: checkSFT},
	{name: RLPR, plan: planRLPR, preset: presetRLPR, check: checkRLPR, samples: true, scores: true},
	{name: VeriFree, plan: planNRT, preset: presetVeriFree, check: checkVeriFree, samples: true, scores: true},
	{name: JEPO, plan: planJEPO, samples: true},
	{name: STaR, plan: planSTaR, preset: presetSTaR, check: checkSTaR, samples: true, verifies: true},
	{name: RLVR, plan: planRLVR, preset: presetRLVR, samples: true, verifies: true},
}

// method is what differs between methods.
type method struct {
	name   Method
	plan   func(p *Plan, next *State) error // fills Plan.signals, and of Plan.earned what it knows
	preset func(*Config)                    // the published settings; nil for DefaultConfig's
	check  func(Config) error               // what a configuration must hold to; nil for nothing more

	samples, verifies, scores bool // see Rollouts, Verifies, Scores
}

// Methods lists all methods.
func Methods() []Method {
	list := make([]Method, len(methods))
	for i, m := range methods {
		list[i] = m.name
	}
	return list
}

// row is the method's in the table; one that is not there has no plan.
func (m Method) row() method {
	if i := slices.IndexFunc(methods, func(row method) bool { return row.name == m }); i >= 0 {
		return methods[i]
	}
	return method{}
}

// Rollouts reports whether the method samples chains; sft and lm do not.
func (m Method) Rollouts() bool { return m.row().samples }

// Verifies reports whether the method looks at Sample.Matched, so that an answer
// must be sampled after each chain.
func (m Method) Verifies() bool { return m.row().verifies }

// Scores reports whether the method needs the empty chain's log-probabilities.
func (m Method) Scores() bool { return m.row().scores }

// What the answer's tokens are trained with.
const (
	Derived = "derived" // the method's own coefficient, for nrt ρ·g'/σ
	NLL     = "nll"     // 1
	Off     = "off"     // 0
)

// Length normalisers C (length.go).
const (
	NormConstant = "constant"
	NormToken    = "token"
	NormSequence = "sequence"
)

// Config is an objective. Start from DefaultConfig.
type Config struct {
	Method Method         `json:"method" yaml:"method"`
	Reward reward.Options `json:"reward" yaml:"reward"`

	// TokenLoss is derived, nll or off. nll trains the answer after wrong chains
	// too.
	TokenLoss string `json:"token_loss" yaml:"token_loss"`
	// LambdaTrace and LambdaToken weigh the two terms.
	LambdaTrace float64 `json:"lambda_trace" yaml:"lambda_trace"`
	LambdaToken float64 `json:"lambda_token" yaml:"lambda_token"`
	// TokenCap bounds a derived token coefficient before ρ and λ; 0 is none.
	TokenCap float64 `json:"token_cap" yaml:"token_cap"`

	// SigmaFloor divides by max(σ, average of σ over the steps so far).
	SigmaFloor bool `json:"sigma_floor" yaml:"sigma_floor"`
	// EMADecay is the decay per step of that average and of rlpr's filter.
	EMADecay float64 `json:"ema_decay" yaml:"ema_decay"`

	// Ratio corrects for the policy having moved since the rollout, within
	// [1−ClipLow, 1+ClipHigh].
	Ratio    bool    `json:"ratio" yaml:"ratio"`
	ClipLow  float64 `json:"clip_low" yaml:"clip_low"`
	ClipHigh float64 `json:"clip_high" yaml:"clip_high"`

	// LengthNorm is constant, token or sequence; LengthConstant is C of the first.
	LengthNorm     string  `json:"length_norm" yaml:"length_norm"`
	LengthConstant float64 `json:"length_constant" yaml:"length_constant"`

	// Format weighs the format loss; FormatPerLength divides it by C as well.
	Format          float64 `json:"format" yaml:"format"`
	FormatPerLength bool    `json:"format_per_length" yaml:"format_per_length"`
	// KL weighs the divergence from the reference policy, Entropy the bonus.
	KL      float64 `json:"kl" yaml:"kl"`
	Entropy float64 `json:"entropy" yaml:"entropy"`

	// FixedBaseline takes b from before training instead of from this step.
	FixedBaseline bool `json:"fixed_baseline" yaml:"fixed_baseline"`

	// FormatReward is rlpr's share of the format in the reward. FilterBeta drops
	// groups with std < FilterBeta·average std from step FilterFrom (the first
	// step is 1); 0 drops none.
	FormatReward float64 `json:"format_reward" yaml:"format_reward"`
	FilterBeta   float64 `json:"filter_beta" yaml:"filter_beta"`
	FilterFrom   int     `json:"filter_from" yaml:"filter_from"`
}

// DefaultConfig is a method with its published settings; where none are
// published, NRT's. An unknown method fails in Validate.
func DefaultConfig(m Method) Config {
	c := Config{
		Method:      m,
		Reward:      reward.Options{Mode: reward.WSLogP, Clip: true, BaseFloor: reward.DefaultBaseFloor},
		TokenLoss:   Derived,
		LambdaTrace: 1, LambdaToken: 1,
		EMADecay: 0.99,
		ClipLow:  0.2, ClipHigh: 0.28,
		LengthNorm: NormConstant, LengthConstant: 512,
		FilterFrom: 11,
	}
	if preset := m.row().preset; preset != nil {
		preset(&c)
	}
	return c
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	row := c.Method.row()
	if row.plan == nil {
		return fmt.Errorf("objective: method: want one of %v, have %q", Methods(), c.Method)
	}
	if err := c.Reward.Validate(); err != nil {
		return fmt.Errorf("objective: reward: %w", err)
	}
	if c.Reward.SigmaFloor != 0 {
		return fmt.Errorf("objective: reward: sigma floor: set by training, want 0, have %v", c.Reward.SigmaFloor)
	}
	for _, f := range []struct {
		name   string
		v      float64
		lo, hi float64
	}{
		{"lambda_trace", c.LambdaTrace, 0, 1e6},
		{"lambda_token", c.LambdaToken, 0, 1e6},
		{"token_cap", c.TokenCap, 0, math.MaxFloat64},
		{"ema_decay", c.EMADecay, 0, 0.999999},
		{"clip_low", c.ClipLow, 0, 1},
		{"clip_high", c.ClipHigh, 0, 1e6},
		{"format", c.Format, 0, 1e6},
		{"kl", c.KL, 0, 1e6},
		{"entropy", c.Entropy, -1e6, 1e6},
		{"format_reward", c.FormatReward, 0, 1},
		{"filter_beta", c.FilterBeta, 0, 1e6},
	} {
		if !(f.v >= f.lo && f.v <= f.hi) {
			return fmt.Errorf("objective: %s: want %v to %v, have %v", f.name, f.lo, f.hi, f.v)
		}
	}
	switch c.TokenLoss {
	case Derived, NLL, Off:
	default:
		return fmt.Errorf("objective: token_loss: want %s, %s or %s, have %q", Derived, NLL, Off, c.TokenLoss)
	}
	switch c.LengthNorm {
	case NormToken, NormSequence:
	case NormConstant:
		if !(c.LengthConstant > 0) || math.IsInf(c.LengthConstant, 0) {
			return fmt.Errorf("objective: length_constant: want > 0, have %v", c.LengthConstant)
		}
	default:
		return fmt.Errorf("objective: length_norm: want %s, %s or %s, have %q", NormConstant, NormToken, NormSequence, c.LengthNorm)
	}
	if c.FilterFrom < 0 {
		return fmt.Errorf("objective: filter_from: want ≥ 0, have %d", c.FilterFrom)
	}
	if row.check == nil {
		return nil
	}
	if err := row.check(c); err != nil {
		return fmt.Errorf("objective: %s: %w", c.Method, err)
	}
	return nil
}

// only reports a setting that a method does not have.
func only(field string, want, have any) error {
	if want == have {
		return nil
	}
	return fmt.Errorf("%s: want %v, have %v", field, want, have)
}
