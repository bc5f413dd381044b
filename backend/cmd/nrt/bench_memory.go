package main

import (
	"fmt"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/trainer/run"
)

// memoryError is what there is no room for.
type memoryError struct {
	what       string
	need, have int64 // bytes
	part       bool  // other parts may fit
}

func (m *memoryError) Error() string {
	return fmt.Sprintf("%s needs %s of memory, and %s are free", m.what, gigabytes(m.need), gigabytes(m.have))
}

func gigabytes(n int64) string { return fmt.Sprintf("%.1f GB", float64(n)/1e9) }

// fits refuses what would not fit into free memory; where the system does not
// tell, everything fits.
func (b *bench) fits(what string, need int64, part bool) error {
	if have := b.room(); have > 0 && need > have {
		return &memoryError{what, need, have, part}
	}
	return nil
}

// room is how many bytes may be taken; 0 where that is not known. What a card has
// given and got back stays ready for the next taker and does not look free, so
// there the model alone is taken from what was free at first.
func (b *bench) room() int64 {
	switch {
	case !b.onCard():
		return b.dev.free()
	case b.unused == 0 || b.model == nil:
		return b.unused
	case b.learns:
		return max(1, b.unused-b.trainingBytes())
	}
	return max(1, b.unused-b.servingBytes())
}

func (b *bench) onCard() bool { return b.dev.kind == "cuda" }

// memory notes how much a card has given so far.
func (b *bench) memory(part string) {
	if free := b.dev.free(); b.onCard() && free > 0 {
		held := float64(b.unused-free) * 1e-9
		b.add(part, "memory taken so far, at most", "GB", spread{held, held, held, 1})
	}
}

// trainingBytes is for the weights of a model that learns. The CPU keeps them a
// second time, as its kernels like to read them.
func (b *bench) trainingBytes() int64 {
	need := b.dev.Bytes(device.Master, parameters(b.config))
	if b.dev.kind == "cpu" {
		need *= 2
	}
	return need
}

// servingBytes is for the weights of a model that only answers. Norms are of the
// compute type.
func (b *bench) servingBytes() int64 {
	n := int64(0)
	for _, t := range b.config.Tensors() {
		if len(t.Shape) == 2 {
			n += b.format().Bytes(t.Shape[0], t.Shape[1])
		} else {
			n += b.dev.Bytes(device.Compute, int64(t.Len()))
		}
	}
	return n
}

// format is what --weights asks for, as the device keeps it: one that computes in
// bfloat16 has nothing wider.
func (b *bench) format() device.Format {
	if f := b.o.weights.Format; b.dev.dtype != "bf16" || f != device.F32 {
		return f
	}
	return device.BF16
}

// parameters counts the numbers of all tensors.
func parameters(c llama.Config) (all int64) {
	for _, t := range c.Tensors() {
		all += int64(t.Len())
	}
	return all
}

// trainBytes is for what a training step over rows tokens has beside the model:
// gradient, two moments, activations and their gradients.
func (b *bench) trainBytes(rows int, how thrift) int64 {
	all := parameters(b.config)
	moments := 2 * b.dev.Bytes(device.Wide, all)
	if how.moments8 {
		moments = b.dev.Bytes(device.Moment8, all) + b.dev.Bytes(device.Variance8, all)
	}
	need := b.dev.Bytes(device.Wide, all) + moments + b.config.PassFloats(rows, rows, how.recompute).Bytes(b.dev)
	if b.onCard() {
		need += run.CardWorkspace
	}
	return need
}

// serveBytes is for reading rows tokens at once into a cache of so many, and for
// the logits of n of them.
func (b *bench) serveBytes(rows, cache, n int) int64 {
	return b.config.CacheFloats(cache, rows, n).Bytes(b.dev)
}

// thrift is what a training step does with less memory.
type thrift struct{ recompute, moments8 bool }

// thrifts are the ways to try, the fastest first.
var thrifts = []thrift{{}, {recompute: true}, {moments8: true}, {recompute: true, moments8: true}}

func (t thrift) String() string {
	s := ""
	if t.recompute {
		s += ", layers recomputed"
	}
	if t.moments8 {
		s += ", moments in 8 bits"
	}
	return s
}
