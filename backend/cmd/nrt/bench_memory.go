package main

import (
	"fmt"

	"nrt/backend/device"
	"nrt/backend/llama"
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
	if have := b.dev.free(); have > 0 && need > have {
		return &memoryError{what, need, have, part}
	}
	return nil
}

// The plans below count floats of four bytes. They follow the layouts of package
// llama: Pass.plan, planActs and planBackward, Cache.

// trainingBytes is for the weights, the copies of them that the kernels like
// better to read, and the largest tensor while it is drawn or read from a file.
func trainingBytes(c llama.Config) int64 {
	all, largest := parameters(c)
	return 4 * (2*all + largest)
}

// servingBytes is for weights in the format f; norms are float32.
func servingBytes(c llama.Config, f device.Format) int64 {
	n := int64(0)
	for _, t := range c.Tensors() {
		if len(t.Shape) == 2 {
			n += f.Bytes(t.Shape[0], t.Shape[1])
		} else {
			n += 4 * int64(t.Len())
		}
	}
	return n
}

// parameters counts the floats of all tensors and of the largest.
func parameters(c llama.Config) (all, largest int64) {
	for _, t := range c.Tensors() {
		all += int64(t.Len())
		largest = max(largest, int64(t.Len()))
	}
	return all, largest
}

// trainBytes is for what a training step over rows tokens has beside the model:
// gradient, two moments, activations and their gradients.
func trainBytes(c llama.Config, rows int) int64 {
	all, _ := parameters(c)
	d, q, kv, f := int64(c.Hidden), int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim), int64(c.Intermediate)
	layer := 4*d + 2*q + 2*kv + 3*f + int64(c.Heads) + 2
	rest := 7*d + 2*q + 2*kv + 3*f + 1
	return 4 * (3*all + int64(rows)*(int64(c.Layers)*layer+rest))
}

// serveBytes is for reading rows tokens at once into a cache of so many, and for
// the logits of n of them.
func serveBytes(c llama.Config, rows, cache, n int) int64 {
	d, q, kv, f := int64(c.Hidden), int64(c.Heads*c.HeadDim), int64(c.KVHeads*c.HeadDim), int64(c.Intermediate)
	acts := 4*d + 2*q + 2*kv + 3*f + int64(c.Heads) + 3
	return 4 * (int64(cache)*int64(c.Layers)*2*kv + int64(rows)*acts + int64(n)*(d+int64(c.Vocab)))
}
