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
// many.
type Progress func(done, all int64)

// piece is how many numbers of a model are in the host's memory at a time.
const piece = 1 << 22

// NewFrom makes a model that learns of the weights that a source hands over.
func NewFrom(dev device.Device, c Config, src Source) (*Model, error) {
	m, err := empty(dev, c, device.Master)
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

// Load reads a Hugging Face folder. No more than a few million numbers are in
// the host's memory as float32 on the way.
func Load(dev device.Device, fsys fs.FS, show ...Progress) (*Model, error) {
	return load(fsys, show, func(c Config, src Source) (*Model, error) { return NewFrom(dev, c, src) })
}

// load opens a folder, checks that its weights are those of its config.json, and
// only then makes a model: anything of the size that config.json claims.
func load(fsys fs.FS, show []Progress, make func(Config, Source) (*Model, error)) (*Model, error) {
	c, err := ReadConfig(fsys)
	if err != nil {
		return nil, err
	}
	ck, err := openCheckpoint(fsys, c.Tensors())
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
		t, _ := at.file.Tensor(at.name)
		all += t.End - t.Begin
	}
	return func(i, from int, dst []float32) error {
		if err := ck.read(i, from, dst); err != nil {
			return err
		}
		at := ck.found[i]
		t, _ := at.file.Tensor(at.name)
		done += int64(len(dst)) * int64(t.DType.Size())
		for _, p := range show {
			p(done, all)
		}
		return nil
	}
}
