package main

import (
	"math/rand/v2"
	"runtime"
	"sync"

	"nrt/backend/llama"
)

// drawn is how many numbers arbitraryWeights draws; copying hand of them is worth a
// processor.
const (
	drawn = 1 << 20
	hand  = 1 << 16
)

// arbitraryWeights are normal numbers with deviation 0.02, a million of them over
// and over: to draw billions takes minutes, and speed does not depend on them. A
// number depends on its place alone, so that it does not matter how many processors
// copy, or in which pieces a device asks.
//
// They are copied, by all processors: a remainder for each number, as one would
// write it, takes three times as long as everything that comes after.
func arbitraryWeights(c llama.Config) llama.Source {
	numbers := make([]float32, drawn)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range numbers {
		numbers[i] = float32(0.02 * r.NormFloat64())
	}
	specs := c.Tensors()
	return func(i, from int, dst []float32) error {
		if len(specs[i].Shape) == 1 {
			for j := range dst {
				dst[j] = 1
			}
			return nil
		}
		inHands(len(dst), func(first, last int) {
			at := (from + 7919*i + first) % drawn // so that no two tensors are alike
			for part := dst[first:last]; len(part) > 0; at = 0 {
				part = part[copy(part, numbers[at:]):]
			}
		})
		return nil
	}
}

// inHands has all processors do [0, n), each of them a run of at least hand.
func inHands(n int, do func(first, last int)) {
	var all sync.WaitGroup
	workers := max(1, min(runtime.GOMAXPROCS(0), n/hand))
	for w := range workers - 1 {
		all.Go(func() { do(w*n/workers, (w+1)*n/workers) })
	}
	do((workers-1)*n/workers, n) // this goroutine's share
	all.Wait()
}
