package run

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/trainer/objective"
)

// familyBase is tinyBase's tokenizer and shape with random weights of another family.
func familyBase(t *testing.T, modelType string) string {
	t.Helper()
	dir := tinyBase(t, 1)
	c, err := llama.ReadConfig(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	c.ModelType = modelType
	specs, rng := c.Tensors(), rand.New(rand.NewPCG(1, 2))
	m, err := llama.NewFrom(newCPU(t), c, func(i, _ int, dst []float32) error {
		for j := range dst {
			dst[j] = float32(0.2 * rng.NormFloat64())
			if strings.HasSuffix(specs[i].Name, "norm.weight") {
				dst[j]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	if err := m.Save(dir, safetensors.F32); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFamilies: a Qwen2 or a Qwen3 learns, biases and norms of heads too, its sampler
// agrees with its trainer, and a stopped run goes on to the same bits. With LoRA what
// is no matrix stays as it is.
func TestFamilies(t *testing.T) {
	for _, modelType := range []string{"qwen2", "qwen3"} {
		base := familyBase(t, modelType)
		for _, rank := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s rank %d", modelType, rank), func(t *testing.T) {
				dev := newCPU(t)
				whole := tinyRun(t, objective.NRT)
				whole.Model.Path, whole.LoRA.Rank, whole.Train.Steps, whole.Objective.KL = base, rank, 4, 0.1
				if err := train(t.Context(), dev, whole, io.Discard); err != nil {
					t.Fatal(err)
				}
				metrics, weights, completions := outcome(t, whole)
				for _, v := range metrics {
					if d := v["sampling/sampling_logp_difference/max"]; d > 1e-3 {
						t.Errorf("step %g: sampler and trainer differ by %g", v["step"], d)
					}
				}

				final := filepath.Join(whole.Output.Dir, "final")
				c, err := llama.ReadConfig(os.DirFS(final))
				if err != nil || c.ModelType != modelType {
					t.Errorf("the last model is a %q: %v", c.ModelType, err)
				}
				was, is := tensorsOf(t, base, "model.safetensors"), tensorsOf(t, final, "model.safetensors")
				if len(is) != len(was) {
					t.Errorf("%d tensors became %d", len(was), len(is))
				}
				for name, w := range was {
					learns := rank == 0 || strings.HasSuffix(name, "_proj.weight")
					if changed := !slices.Equal(w, is[name]); changed != learns {
						t.Errorf("%s: changed is %v", name, changed)
					}
				}

				again := whole
				again.Output.Dir = filepath.Join(t.TempDir(), "out")
				again = stopped(t, again, "step 2/")
				if err := train(context.Background(), dev, again, io.Discard); err != nil {
					t.Fatal(err)
				}
				metrics2, weights2, completions2 := outcome(t, again)
				if !reflect.DeepEqual(metrics, metrics2) || string(weights) != string(weights2) || string(completions) != string(completions2) {
					t.Error("stopped and resumed it ends otherwise")
				}
			})
		}
	}
}
