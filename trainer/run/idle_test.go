package run

import (
	"context"
	"io"
	"path/filepath"
	"reflect"
	"testing"

	"nrt/trainer/objective"
	"nrt/trainer/reward"
)

// change gives an option another value, which a method that reads it would not
// train the same model with.
func change(o option) {
	switch v := o.value.(type) {
	case *bool:
		*v = !*v
	case *int:
		*v += 2
	case *string:
		*v = "(.*)"
	case *[]string:
		*v = []string{"q_proj"}
	case *reward.Mode:
		*v = reward.P
	case *float64:
		switch o.key {
		case "top_p", "temperature", "ema_decay", "reward_clip":
			*v *= 0.5
		case "base_floor", "min_p", "format_reward", "decay", "min_lr_ratio":
			*v = 0.3
		default:
			*v += 2
		}
	default:
		panic(o.path())
	}
}

// What the table calls idle changes neither metrics nor weights: it refuses
// nothing that means something.
func TestIdleOptionsChangeNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("trains a hundred models")
	}
	dev := newCPU(t)
	result := func(c Config) ([]Values, string) {
		c.Output.Dir = filepath.Join(t.TempDir(), "out")
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		metrics, weights, _ := outcome(t, c)
		return metrics, string(weights)
	}
	made := tinyRun(t, objective.NRT)
	made.Train.Steps = 1
	if err := train(context.Background(), dev, made, io.Discard); err != nil {
		t.Fatal(err)
	}
	variants := []func(*Config){
		func(*Config) {},
		func(c *Config) { c.Data.HeldOut, c.Optim.Schedule = 0, "constant" },
		func(c *Config) { c.Model.Path = filepath.Join(made.Output.Dir, "final") },
		func(c *Config) { c.Objective.Reward.NoStd = true },
		func(c *Config) { c.Objective.Ratio = false },
		func(c *Config) { c.Objective.LengthNorm = objective.NormToken },
		func(c *Config) { c.Objective.TokenLoss = objective.Off },
		func(c *Config) { c.Objective.Reward.Mode, c.Objective.Format = reward.GM, 0 },
		func(c *Config) { c.Objective.FilterBeta = 0 },
	}
	runs := 0
	for _, m := range objective.Methods() {
		list := variants
		switch m {
		case objective.NRT:
		case objective.SFT: // which draws in evaluations alone
			list = variants[:2]
		case objective.RLPR:
			list = []func(*Config){variants[0], variants[len(variants)-1]}
		default:
			list = variants[:1]
		}
		for n, vary := range list {
			c := tinyRun(t, m)
			c.Train.Steps, c.Optim.Iterations = 2, 2
			vary(&c)
			if c.Validate() != nil {
				continue
			}
			var metrics []Values
			var weights string
			for i, o := range c.options() {
				if _, ok := means[o.path()]; !ok {
					continue
				}
				d := c
				change(d.options()[i])
				if d.Validate() != nil {
					continue
				}
				if d.Idle(c) == nil {
					continue
				}
				if metrics == nil {
					metrics, weights = result(c)
				}
				runs++
				if v, w := result(d); w != weights || !reflect.DeepEqual(v, metrics) {
					t.Errorf("%s, variant %d: %s is refused and has an effect", m, n, o.path())
				}
			}
		}
	}
	if runs < 80 {
		t.Errorf("%d runs: the test has lost its cases", runs)
	}
}
