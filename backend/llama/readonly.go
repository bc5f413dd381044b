package llama

import (
	"errors"
	"io/fs"
	"slices"

	"nrt/backend/device"
	"nrt/backend/safetensors"
)

// LoadReadOnly reads a Hugging Face folder into a model that answers and does not
// learn: its matrices are device.Weights in the format f, its norms and biases float32. No
// more than a few rows are in memory as float32 on the way.
func LoadReadOnly(dev device.Device, fsys fs.FS, f device.Format, show ...Progress) (*Model, error) {
	if f == device.AsStored {
		var err error
		if f, err = Stored(fsys); err != nil {
			return nil, err
		}
	}
	return load(fsys, show, func(c Config, src Source) (*Model, error) { return NewReadOnlyFrom(dev, c, f, src) })
}

// Stored is the format that keeps a folder's weights as they are in the least memory:
// BF16 where all of them are in bfloat16 and no adapter changes them, else F32.
func Stored(fsys fs.FS) (device.Format, error) {
	_, ck, err := openModel(fsys)
	if err != nil {
		return device.F32, err
	}
	f := device.BF16
	for _, at := range ck.found {
		if at.DType != safetensors.BF16 || ck.merge != nil {
			f = device.F32
		}
	}
	return f, ck.close()
}

// NewReadOnlyFrom is NewFrom for a model as LoadReadOnly makes it.
func NewReadOnlyFrom(dev device.Device, c Config, f device.Format, src Source) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := bare(dev, c)
	m.fixed = true
	var vectors []Param
	m.flat, vectors = layOut(dev, device.Compute, slices.DeleteFunc(c.Tensors(), func(s TensorSpec) bool { return len(s.Shape) > 1 }))
	for i, s := range c.Tensors() {
		p := Param{Name: s.Name, Shape: s.Shape, Decay: true}
		var err error
		if len(s.Shape) > 1 {
			p.Value, err = dev.NewWeights(f, s.Shape[0], s.Shape[1], func(first int, dst []float32) error {
				return src(i, first*s.Shape[1], dst)
			})
		} else {
			p, vectors = vectors[0], vectors[1:]
			data := make([]float32, s.Len())
			if err = src(i, 0, data); err == nil {
				dev.Write(p.Value, data)
			}
		}
		if err != nil {
			m.Free()
			return nil, err
		}
		m.params = append(m.params, p)
	}
	m.w = m.byRole(m.params)
	return m, dev.Sync()
}

// Trainable is the error of asking a read-only model to learn, nil for others.
func (m *Model) Trainable() error {
	if m.fixed {
		return errors.New("the model's weights are read-only: load it in float32 to train it")
	}
	return nil
}
