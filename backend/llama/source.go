package llama

import (
	"errors"
	"io/fs"

	"nrt/backend/device"
)

// Source hands weights over: it fills dst with elements of tensor i of
// Config.Tensors, from one on. It is asked for all tensors in order, each from
// front to back.
type Source func(i, from int, dst []float32) error

// Progress is told how many bytes of a folder's weights have been read, of how
// many. Its error ends the reading.
type Progress func(done, all int64) error

// piece is how many numbers of a model are in the host's memory at a time.
const piece = 1 << 22

// NewFrom makes a model that learns of the weights that a source hands over.
func NewFrom(dev device.Device, c Config, src Source) (*Model, error) {
	return newFrom(dev, c, device.Master, src)
}

// NewLoRAFrom makes a model of such weights that stay as they are, of kind Compute,
// and of factors beside them that learn, drawn by the seed.
func NewLoRAFrom(dev device.Device, c Config, l LoRA, seed uint64, src Source) (*Model, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	l.Modules = inOrder(l.Modules)
	m, err := newFrom(dev, c, device.Compute, src)
	if err != nil {
		return nil, err
	}
	return m, m.adapt(l, seed)
}

func newFrom(dev device.Device, c Config, k device.Kind, src Source) (*Model, error) {
	m, err := empty(dev, c, k)
	if err != nil {
		return nil, err
	}
	buf := make([]float32, min(piece, m.flat.Len()))
	for i, p := range m.params {
		for from, n := 0, p.Value.Len(); from < n; from += piece {
			dst := buf[:min(piece, n-from)]
			if err := src(i, from, dst); err != nil {
				m.Free()
				return nil, err
			}
			dev.Write(p.Value.View(from, len(dst)), dst)
		}
	}
	return m, dev.Sync()
}

// Load reads a Hugging Face folder; an adapter in PEFT's format that lies in it too
// is merged into the weights. No more than a few million numbers are in the host's
// memory as float32 on the way.
func Load(dev device.Device, fsys fs.FS, show ...Progress) (*Model, error) {
	return load(fsys, show, func(c Config, src Source) (*Model, error) { return NewFrom(dev, c, src) })
}

// LoadLoRA is Load for a model as NewLoRAFrom makes it.
func LoadLoRA(dev device.Device, fsys fs.FS, l LoRA, seed uint64, show ...Progress) (*Model, error) {
	return load(fsys, show, func(c Config, src Source) (*Model, error) { return NewLoRAFrom(dev, c, l, seed, src) })
}

// load opens a folder, checks that its weights are those of its config.json, and
// only then makes a model: anything of the size that config.json claims.
func load(fsys fs.FS, show []Progress, make func(Config, Source) (*Model, error)) (*Model, error) {
	c, ck, err := openModel(fsys)
	if err != nil {
		return nil, err
	}
	m, err := make(c, ck.source(show))
	if err := errors.Join(err, ck.close()); err != nil {
		if m != nil {
			m.Free()
		}
		return nil, err
	}
	return m, nil
}

// source reads from the files, and tells how far it is.
func (ck *checkpoint) source(show []Progress) Source {
	var done, all int64
	for _, at := range ck.found {
		all += at.End - at.Begin
	}
	return func(i, from int, dst []float32) error {
		if err := ck.read(i, from, dst); err != nil {
			return err
		}
		done += int64(len(dst)) * int64(ck.found[i].DType.Size())
		for _, p := range show {
			if err := p(done, all); err != nil {
				return err
			}
		}
		return nil
	}
}
