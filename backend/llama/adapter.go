package llama

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"nrt/backend/safetensors"
)

// LoRA's factors by themselves are a folder as PEFT has it, with a file that says
// what they are and beside which model, and one of their numbers.
const (
	AdapterConfig  = "adapter_config.json"
	AdapterWeights = "adapter_model.safetensors"
)

// peftConfig is adapter_config.json: first what is written, then what is refused
// where it is set, since it would mean other products. PEFT before 0.14 refuses a
// field that it does not know: those younger than its 0.5 are not written.
type peftConfig struct {
	PEFTType      string     `json:"peft_type"`
	TaskType      string     `json:"task_type"`
	Base          string     `json:"base_model_name_or_path"`
	Rank          int        `json:"r"`
	Alpha         float64    `json:"lora_alpha"`
	Modules       moduleList `json:"target_modules"`
	Dropout       float64    `json:"lora_dropout"`
	Bias          string     `json:"bias"`
	InferenceMode bool       `json:"inference_mode"`

	FanInFanOut bool           `json:"fan_in_fan_out"`
	RSLoRA      bool           `json:"use_rslora,omitempty"`
	DoRA        bool           `json:"use_dora,omitempty"`
	QALoRA      bool           `json:"use_qalora,omitempty"`
	Init        any            `json:"init_lora_weights"` // a name may stand for another base
	Saved       []string       `json:"modules_to_save"`
	Ranks       map[string]any `json:"rank_pattern"`
	Alphas      map[string]any `json:"alpha_pattern"`
	Layers      any            `json:"layers_to_transform"`
	Replication any            `json:"layer_replication,omitempty"`
	Invocation  any            `json:"alora_invocation_tokens,omitempty"`
}

// moduleList is target_modules: names, or the one word that means all matrices of
// the layers.
type moduleList []string

func (l *moduleList) UnmarshalJSON(raw []byte) error {
	if string(raw) == `"all-linear"` {
		*l = LoRAModules()
		return nil
	}
	if err := json.Unmarshal(raw, (*[]string)(l)); err != nil { // PEFT takes an expression too
		return fmt.Errorf("target_modules: want a list of names or \"all-linear\", have %.100s", raw)
	}
	return nil
}

// SaveAdapter writes the factors into a folder as PEFT reads it, with every bit of
// them; base is where the model that they belong to lies, for whoever loads them. Like
// Save it leaves dir as it was when it fails.
func (m *Model) SaveAdapter(dir, base string) error {
	if m.lora == nil {
		return errors.New("the model has no LoRA factors to save")
	}
	l, specs := m.lora, m.lora.Tensors(m.Config)
	config, err := json.MarshalIndent(peftConfig{
		PEFTType: "LORA", TaskType: "CAUSAL_LM", Base: base, Rank: l.Rank, Alpha: l.Alpha, Modules: l.Modules,
		Bias: "none", InferenceMode: true, Init: true, Ranks: map[string]any{}, Alphas: map[string]any{}, // PEFT asks for their keys
	}, "", "  ")
	if err != nil {
		return err
	}
	all := split(specs, 4, math.MaxInt64)[0]
	var data []float32
	return writeDir(dir, func(stage string) error {
		err := writeShard(stage, AdapterWeights, safetensors.F32, specs, all, func(i int) ([]float32, error) {
			data = resized(data, specs[i].Len())
			return data, m.read(data, l.params[i])
		})
		if err != nil {
			return err
		}
		return writeFile(stage, AdapterConfig, append(config, '\n'))
	}, func(dir, stage string) (steps []step, _ error) {
		for _, name := range []string{AdapterWeights, AdapterConfig} {
			steps = append(steps, step{filepath.Join(stage, name), filepath.Join(dir, name)})
		}
		return steps, nil
	})
}

// resized is a slice of n numbers, of undefined content, in s's memory if it has room.
func resized(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

// ReadAdapter sets the factors to those of a folder that SaveAdapter or PEFT wrote.
func (m *Model) ReadAdapter(fsys fs.FS) (err error) {
	if m.lora == nil {
		return errors.New("the model has no LoRA factors to read")
	}
	l, err := readAdapterConfig(fsys)
	if err != nil {
		return err
	}
	if have := m.lora.LoRA; l.Rank != have.Rank || l.Alpha != have.Alpha || !slices.Equal(l.Modules, have.Modules) {
		return fmt.Errorf("%s: rank %d, alpha %g and modules %v: the model has %d, %g and %v", AdapterConfig, l.Rank, l.Alpha, l.Modules, have.Rank, have.Alpha, have.Modules)
	}
	ck, err := openAdapter(fsys, l.Tensors(m.Config))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ck.close()) }()
	for i, p := range m.lora.params {
		data := make([]float32, p.Value.Len())
		if err := ck.read(i, 0, data); err != nil {
			return err
		}
		m.dev.Write(p.Value, data)
	}
	return m.dev.Sync()
}

// AdapterBase is where the model lies that a folder's adapter belongs beside, as
// adapter_config.json has it. The error of a folder without an adapter is
// fs.ErrNotExist.
func AdapterBase(fsys fs.FS) (string, error) {
	c, err := readPEFT(fsys)
	if err == nil && c.Base == "" {
		err = fmt.Errorf("parse %s: base_model_name_or_path: missing or empty", AdapterConfig)
	}
	return c.Base, err
}

func readPEFT(fsys fs.FS) (c peftConfig, err error) {
	raw, err := readSmall(fsys, AdapterConfig, maxConfigBytes)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("parse %s: %w", AdapterConfig, err)
	}
	return c, nil
}

// readAdapterConfig reads adapter_config.json, which must mean what LoRA does.
func readAdapterConfig(fsys fs.FS) (l LoRA, err error) {
	c, err := readPEFT(fsys)
	if err != nil {
		return l, err
	}
	begin, named := c.Init.(string)
	for _, f := range []struct {
		name string
		bad  bool
		have any
	}{
		{"peft_type", c.PEFTType != "LORA", c.PEFTType},
		{"bias", c.Bias != "none" && c.Bias != "", c.Bias},
		{"fan_in_fan_out", c.FanInFanOut, true},
		{"use_rslora", c.RSLoRA, true},
		{"use_dora", c.DoRA, true},
		{"use_qalora", c.QALoRA, true},
		{"init_lora_weights", named && begin != "gaussian" && begin != "eva", begin},
		{"modules_to_save", len(c.Saved) > 0, c.Saved},
		{"rank_pattern", len(c.Ranks) > 0, c.Ranks},
		{"alpha_pattern", len(c.Alphas) > 0, c.Alphas},
		{"layers_to_transform", c.Layers != nil, c.Layers},
		{"layer_replication", c.Replication != nil, c.Replication},
		{"alora_invocation_tokens", c.Invocation != nil, c.Invocation},
	} {
		if f.bad {
			return l, fmt.Errorf("parse %s: %s: want plain LoRA beside the base as it is, have %v", AdapterConfig, f.name, f.have)
		}
	}
	l = LoRA{Rank: c.Rank, Alpha: c.Alpha, Modules: inOrder(c.Modules)}
	for _, name := range c.Modules { // PEFT does not keep their order
		if !slices.Contains(l.Modules, name) {
			l.Modules = append(l.Modules, name)
		}
	}
	if err := l.Validate(); err != nil {
		named := strings.NewReplacer("lora: rank", "r", "lora: alpha", "lora_alpha", "lora: modules", "target_modules")
		return l, fmt.Errorf("parse %s: %s", AdapterConfig, named.Replace(err.Error()))
	}
	return l, nil
}

// mergeAdapter lets a checkpoint whose folder is also an adapter's hand over the
// matrices with its factors merged into them.
func (ck *checkpoint) mergeAdapter(fsys fs.FS, c Config) error {
	if _, err := fs.Stat(fsys, AdapterConfig); errors.Is(err, fs.ErrNotExist) {
		return nil // whatever else is wrong, reading it tells
	}
	l, err := readAdapterConfig(fsys)
	if err != nil {
		return err
	}
	factors, err := openAdapter(fsys, l.Tensors(c))
	if err != nil {
		return err
	}
	ck.files = append(ck.files, factors.files...)
	ck.merge = l.merger(c, func(i int, dst []float32) error { return factors.read(i, 0, dst) })
	return nil
}

// openAdapter opens the factors, which must be those of specs.
func openAdapter(fsys fs.FS, specs []TensorSpec) (*checkpoint, error) {
	f, err := safetensors.Open(fsys, AdapterWeights)
	if err != nil {
		return nil, err
	}
	ck := &checkpoint{files: []*safetensors.File{f}}
	if err := ck.find(AdapterWeights, specs); err != nil {
		return nil, errors.Join(err, ck.close())
	}
	return ck, nil
}

// merger returns what adds to elements of tensor i, from one on, what its factors
// do.
func (m *Model) merger() Source {
	if m.lora == nil {
		return func(int, int, []float32) error { return nil }
	}
	return m.lora.merger(m.Config, func(i int, dst []float32) error { return m.read(dst, m.lora.params[i]) })
}

// merger is W + s·(B·A) for elements of tensors of c, in float32: each element's
// products with B are summed by rank, the sum is multiplied by s and added to W.
// get reads a factor of LoRA.Tensors.
func (l LoRA) merger(c Config, get func(i int, dst []float32) error) Source {
	specs, factors, at := c.Tensors(), l.Tensors(c), map[string]int{}
	for i, s := range factors {
		at[s.Name] = i
	}
	of := -1 // whose factors a and b are
	var a, b []float32
	return func(i, from int, w []float32) (err error) {
		first, ok := at[factor(specs[i].Name, "A")]
		if !ok {
			return nil
		}
		if of != i {
			of = -1
			a, b = resized(a, factors[first].Len()), resized(b, factors[first+1].Len())
			if err := errors.Join(get(first, a), get(first+1, b)); err != nil {
				return err
			}
			of = i
		}
		l.merge(w, a, b, from, specs[i].Shape[1])
		return nil
	}
}

// merge adds s·B·A to the elements of w, which begin at element from of a matrix with
// rows of `in`.
func (l LoRA) merge(w, a, b []float32, from, in int) {
	scale, threads := float32(l.scale()), runtime.GOMAXPROCS(0)
	rows := (from+len(w)-1)/in - from/in + 1
	each := (rows + threads - 1) / threads
	var wait sync.WaitGroup
	for begin := from / in; begin*in < from+len(w); begin += each {
		wait.Go(func() {
			sum := make([]float32, in)
			for row := begin; row < begin+each && row*in < from+len(w); row++ {
				lo, hi := max(row*in, from), min((row+1)*in, from+len(w))
				sum := sum[:hi-lo]
				clear(sum)
				for r, x := range b[row*l.Rank : (row+1)*l.Rank] {
					for j, y := range a[r*in+lo-row*in:][:len(sum)] {
						sum[j] += x * y
					}
				}
				for j, x := range sum {
					w[lo-from+j] += scale * x
				}
			}
		})
	}
	wait.Wait()
}
