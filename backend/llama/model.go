// Package llama is the Llama family: pre-norm decoder blocks with RMSNorm,
// rotary positions, grouped-query attention and SwiGLU, written out layer by
// layer for forward and backward, and the Hugging Face checkpoint around it.
// Mistral has a sliding window besides, Qwen2 biases on q, k and v, Qwen3 an
// RMSNorm of each head of q and k.
//
// # Reading order
//
// model.go (what the parts are) · linear.go (a matrix, forward and backward, and
// LoRA's factors beside it) · block.go (a layer, forward and backward) · pass.go (the
// whole model, forward and backward, for training) · cache.go (forward alone, for
// prefill and decode) · rope.go (the angles) · memory.go (what passes compute in) ·
// lora.go and adapter.go (what learns instead of the matrices) · readonly.go (weights in
// fewer bits) · config.go, source.go and checkpoint.go (files).
//
// # Invariants
//
//   - A batch is packed: rows of all sequences lie end to end, device.Seq says
//     which rows see which. There is no padding.
//   - Gradients of parameters accumulate until Grad.Zero; so does the gradient
//     of the residual stream; every other activation gradient is overwritten.
//   - One forward code path: training and decode differ only in where keys and
//     values lie.
package llama

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"nrt/backend/device"
	"nrt/backend/safetensors"
)

// tensors are a model by role: its weights, or the gradients of them, nil for what
// does not learn. Matrices are stored (out, in), as Hugging Face stores them, so
// y = x·Wᵀ.
type tensors struct {
	embed  device.Buffer // (vocab, hidden)
	layers []layer
	norm   device.Buffer // (hidden)
	head   device.Buffer // (vocab, hidden); embed itself when tied
}

// layer is attention and an MLP, each behind a norm of its own; what they compute is
// added to the residual stream.
type layer struct {
	attnNorm     device.Buffer // (hidden)
	q, k, v      linear        // (heads·dim, hidden), (kv·dim, hidden) twice
	qNorm, kNorm device.Buffer // (dim), of each head; nil but for Qwen3
	o            linear        // (hidden, heads·dim)

	mlpNorm  device.Buffer // (hidden)
	gate, up linear        // (ffn, hidden)
	down     linear        // (hidden, ffn)
}

// Model is a Llama on a device. Its methods are not safe for concurrent use.
type Model struct {
	Config Config

	dev      device.Device
	flat     device.Buffer // all parameters; of a read-only model, norms and biases alone
	params   []Param
	fixed    bool     // read-only: matrices are device.Weights, or another model's
	borrowed bool     // the weights are another model's; see Base
	lora     *adapter // what learns instead of the parameters; nil where these do
	w        tensors
	rope     ropeTable
	ones     scratch             // (N, 1), of a model with biases
	list     []device.Projection // project's: kept, since a step must not allocate
}

// Param is one named tensor of the model; Value is a view into Model.Flat, or
// device.Weights.
type Param struct {
	Name  string
	Shape []int
	Value device.Buffer
	Decay bool // matrices decay, norms and biases do not
}

// New makes a model with random weights: normal with standard deviation 0.02,
// the two projections back into the residual stream scaled by 1/√(2·layers)
// (GPT-2's rule), norms 1, biases 0.
func New(dev device.Device, c Config, seed uint64) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return NewFrom(dev, c, initial(c, seed))
}

// initial draws weights.
func initial(c Config, seed uint64) Source {
	rng := rand.New(rand.NewPCG(seed, 0x6c6c616d61))
	residual := 0.02 / math.Sqrt(2*float64(c.Layers))
	specs := c.Tensors()
	return func(i, _ int, data []float32) error {
		std, name := 0.02, specs[i].Name
		if strings.HasSuffix(name, "o_proj.weight") || strings.HasSuffix(name, "down_proj.weight") {
			std = residual
		}
		for j := range data {
			switch {
			case len(specs[i].Shape) > 1:
				data[j] = float32(rng.NormFloat64() * std)
			case strings.HasSuffix(name, ".bias"):
				data[j] = 0
			default:
				data[j] = 1
			}
		}
		return nil
	}
}

// Save writes the model as a Hugging Face folder (the tokenizer's files are the
// caller's to add), with LoRA's factors merged into the matrices. dt is the type
// the weights are stored in. When it fails dir is as it was.
func (m *Model) Save(dir string, dt safetensors.DType) error {
	merge := m.merger()
	var data []float32 // of one tensor after the other: a run has no room for all of them
	return writeCheckpoint(dir, m.Config, dt, func(i int) ([]float32, error) {
		data = resized(data, m.params[i].Value.Len())
		if err := m.read(data, m.params[i]); err != nil {
			return nil, err
		}
		return data, merge(i, 0, data)
	}, maxShard)
}

// read fails where the device has, which leaves no numbers.
func (m *Model) read(dst []float32, p Param) error {
	m.dev.Read(dst, p.Value)
	return m.dev.Sync()
}

// Clone copies the weights into a model of its own on the same device, of kind
// Master to train it, of kind Compute only to ask it. A read-only model, which
// nobody changes, has no copies: it is refused, as is one with LoRA's factors.
func (m *Model) Clone(k device.Kind) (*Model, error) {
	if err := m.Trainable(); err != nil {
		return nil, err
	}
	if m.lora != nil {
		return nil, errFactors
	}
	c, err := empty(m.dev, m.Config, k)
	if err != nil {
		return nil, err
	}
	m.dev.Copy(c.flat, m.flat)
	return c, m.dev.Sync()
}

// Free gives the model's memory back to the device.
func (m *Model) Free() {
	m.rope.free(m.dev)
	m.ones.free()
	if m.borrowed {
		return
	}
	if m.lora != nil {
		m.lora.free(m.dev)
	}
	for _, p := range m.params {
		if w, ok := p.Value.(device.Weights); ok {
			m.dev.Free(w)
		}
	}
	m.dev.Free(m.flat)
}

// Device is where the model lives.
func (m *Model) Device() device.Device { return m.dev }

// Params lists the tensors in the checkpoint's order.
func (m *Model) Params() []Param { return m.params }

// Learned lists the tensors that learn: all, or with LoRA the factors alone.
func (m *Model) Learned() []Param {
	if m.lora != nil {
		return m.lora.params
	}
	return m.params
}

// Flat is everything that learns in one buffer, in the order of Learned. A
// read-only model has none.
func (m *Model) Flat() device.Buffer {
	switch {
	case m.fixed:
		panic("llama: Flat: " + m.Trainable().Error())
	case m.lora != nil:
		return m.lora.flat
	}
	return m.flat
}

// NumParams counts the numbers in all parameters, LoRA's factors aside.
func (m *Model) NumParams() int {
	n := 0
	for _, p := range m.params {
		n += p.Value.Len()
	}
	return n
}

func (m *Model) heads() device.Heads {
	c := m.Config
	return device.Heads{Query: c.Heads, KV: c.KVHeads, Dim: c.HeadDim, Window: c.SlidingWindow}
}

// bare is a model without its weights.
func bare(dev device.Device, c Config) *Model {
	return &Model{Config: c, dev: dev, rope: ropeTable{inv: invFreq(c)}, ones: scratch{dev: dev}}
}

// empty is a model whose weights are 0, in one buffer of a kind.
func empty(dev device.Device, c Config, k device.Kind) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := bare(dev, c)
	m.flat, m.params = layOut(dev, k, c.Tensors())
	m.w = m.byRole(m.params)
	return m, nil
}

// layOut gives tensors their places in one zeroed buffer of a kind, end to end.
func layOut(dev device.Device, k device.Kind, specs []TensorSpec) (flat device.Buffer, list []Param) {
	n := 0
	for _, s := range specs {
		n += s.Len()
	}
	flat, n = dev.AllocAs(k, n), 0
	for _, s := range specs {
		list = append(list, Param{Name: s.Name, Shape: s.Shape, Value: flat.View(n, s.Len()), Decay: len(s.Shape) > 1})
		n += s.Len()
	}
	return flat, list
}

// byRole gives tensors, the model's or gradients of some of them, their places in
// the model by their names in the checkpoint.
func (m *Model) byRole(list []Param) tensors {
	shapes, values := map[string][]int{}, map[string]device.Buffer{}
	for _, p := range m.params {
		shapes[p.Name] = p.Shape
	}
	for _, p := range list {
		values[p.Name] = p.Value
	}
	vector := func(name string) device.Buffer {
		if shapes[name] == nil {
			panic("llama: Config.Tensors lacks " + name)
		}
		return values[name]
	}
	t := tensors{embed: vector(embedTokens), norm: vector("model.norm.weight")}
	for l := range m.Config.Layers {
		prefix := fmt.Sprintf("model.layers.%d.", l)
		at := func(part string) string { return prefix + part + ".weight" }
		matrix := func(part string) linear {
			w, shape := vector(at(part)), shapes[at(part)]
			return linear{out: shape[0], in: shape[1], w: w, bias: values[prefix+part+".bias"],
				a: values[factor(at(part), "A")], b: values[factor(at(part), "B")]}
		}
		t.layers = append(t.layers, layer{
			attnNorm: vector(at("input_layernorm")),
			q:        matrix("self_attn.q_proj"),
			k:        matrix("self_attn.k_proj"),
			v:        matrix("self_attn.v_proj"),
			qNorm:    values[at("self_attn.q_norm")],
			kNorm:    values[at("self_attn.k_norm")],
			o:        matrix("self_attn.o_proj"),
			mlpNorm:  vector(at("post_attention_layernorm")),
			gate:     matrix("mlp.gate_proj"),
			up:       matrix("mlp.up_proj"),
			down:     matrix("mlp.down_proj"),
		})
	}
	t.head = t.embed
	if !m.Config.TieEmbeddings {
		t.head = vector(lmHead)
	}
	return t
}

// Grad is the gradient of a loss by everything that learns.
type Grad struct {
	Flat   device.Buffer // laid out as Model.Flat
	Params []Param       // as Model.Learned, each Value its view into Flat
	dev    device.Device
	w      tensors
}

// NewGrad allocates a zero gradient for the model, which must be Trainable.
func (m *Model) NewGrad() *Grad {
	if err := m.Trainable(); err != nil {
		panic("llama: NewGrad: " + err.Error())
	}
	specs := m.Config.Tensors()
	if m.lora != nil {
		specs = m.lora.Tensors(m.Config)
	}
	g := &Grad{dev: m.dev}
	g.Flat, g.Params = layOut(m.dev, device.Wide, specs)
	g.w = m.byRole(g.Params)
	return g
}

// Zero forgets what was accumulated.
func (g *Grad) Zero() { g.dev.Zero(g.Flat) }

// Free gives the gradient's memory back.
func (g *Grad) Free() { g.dev.Free(g.Flat) }
