package llama

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"nrt/backend/device"
)

// LoRA (Hu et al. 2021, arXiv 2106.09685) trains two thin factors beside a matrix
// that stays as it is: W becomes W + Alpha/Rank·B·A. See linear for the products.
type LoRA struct {
	Rank    int
	Alpha   float64
	Modules []string // matrices of each layer, of LoRAModules
}

// LoRAModules are the matrices that may have factors, by their names in PEFT's
// target_modules: all of a layer.
func LoRAModules() []string {
	return []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
}

// inOrder is which of LoRAModules are among names, each once.
func inOrder(names []string) []string {
	return slices.DeleteFunc(LoRAModules(), func(name string) bool { return !slices.Contains(names, name) })
}

// Validate names the field that is wrong.
func (l LoRA) Validate() error {
	switch {
	case l.Rank < 1:
		return fmt.Errorf("lora: rank: want at least 1, have %d", l.Rank)
	case !(l.Alpha > 0) || math.IsInf(l.Alpha, 0):
		return fmt.Errorf("lora: alpha: want > 0, have %g", l.Alpha)
	case len(l.Modules) == 0:
		return fmt.Errorf("lora: modules: want some of %s", strings.Join(LoRAModules(), ", "))
	}
	for _, name := range l.Modules {
		if !slices.Contains(LoRAModules(), name) {
			return fmt.Errorf("lora: modules: want %s, have %q", strings.Join(LoRAModules(), ", "), name)
		}
	}
	return nil
}

func (l LoRA) scale() float64 { return l.Alpha / float64(l.Rank) }

// Tensors lists the factors of a model's matrices in the checkpoint's order, A
// before B, under the names that PEFT gives them.
func (l LoRA) Tensors(c Config) []TensorSpec {
	var list []TensorSpec
	for _, s := range c.Tensors() {
		if part := strings.Split(s.Name, "."); len(s.Shape) > 1 && slices.Contains(l.Modules, part[len(part)-2]) {
			list = append(list, TensorSpec{Name: factor(s.Name, "A"), Shape: []int{l.Rank, s.Shape[1]}},
				TensorSpec{Name: factor(s.Name, "B"), Shape: []int{s.Shape[0], l.Rank}})
		}
	}
	return list
}

// factor is PEFT's name of a tensor's factor, A or B.
func factor(tensor, which string) string {
	return "base_model.model." + strings.TrimSuffix(tensor, "weight") + "lora_" + which + ".weight"
}

// Floats is the memory that factors take in passes and steps of at most so many
// rows, beside what PassFloats and CacheFloats say.
func (l LoRA) Floats(rows int) Floats { return Floats{Compute: 4 * l.Rank * rows} }

// adapter is a model's factors and the memory of their products.
type adapter struct {
	LoRA
	flat   device.Buffer // all factors, of kind Master
	params []Param
	us     [3]scratch // u of what project does together (N, rank)
	du     scratch    // (N, rank)
}

func (a *adapter) u(i, n int) device.Buffer { return a.us[i].take(n * a.Rank) }

// adapt gives factors to a model that has none: A uniform within ±1/√in, which is
// PEFT's choice, and B zero, so that the model computes what it did.
func (m *Model) adapt(l LoRA, seed uint64) error {
	a := &adapter{LoRA: l, du: scratch{dev: m.dev}}
	for i := range a.us {
		a.us[i].dev = m.dev
	}
	a.flat, a.params = layOut(m.dev, device.Master, l.Tensors(m.Config))
	rng := rand.New(rand.NewPCG(seed, 0x6c6f7261))
	for i := 0; i < len(a.params); i += 2 { // each A
		p := a.params[i]
		data, bound := make([]float32, p.Value.Len()), 1/math.Sqrt(float64(p.Shape[1]))
		for j := range data {
			data[j] = float32((2*rng.Float64() - 1) * bound)
		}
		m.dev.Write(p.Value, data)
	}
	m.lora = a
	m.w = m.byRole(append(slices.Clone(m.params), a.params...))
	return m.dev.Sync()
}

func (a *adapter) free(dev device.Device) {
	dev.Free(a.flat)
	a.du.free()
	for i := range a.us {
		a.us[i].free()
	}
}

// Base is the model without its factors, as it was before they learned. It shares
// the weights, which stay m's to free; its own Free gives back the rest.
func (m *Model) Base() *Model {
	b := bare(m.dev, m.Config)
	b.flat, b.params, b.fixed, b.borrowed = m.flat, m.params, true, true
	b.w = b.byRole(b.params)
	return b
}

// errFactors refuses what a model with factors cannot do.
var errFactors = errors.New("the model has LoRA's factors, and learns in no other way")
