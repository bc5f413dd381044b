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
		case "base_floor", "min_p", "format_reward":
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
	variants := []func(*Config){
		func(*Config) {},
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
		if m != objective.NRT {
			list = variants[:1]
		}
		if m == objective.RLPR {
			list = append(list[:1:1], variants[6])
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
				alone := Default(m) // the variant itself may be idle
				vary(&alone)
				if alone.Idle(Default(m)) != nil {
					continue
				}
				change(alone.options()[i])
				if alone.Idle(Default(m)) == nil {
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
