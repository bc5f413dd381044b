// Package peak runs the processor at its limits, for a benchmark to compare
// with: multiply-adds that touch no memory, and reads that compute nothing.
//
// The functions do a known amount of work on a number of threads; the caller
// measures the time. Names of kernels are those of cpu.Options' devices:
// avx512, avx512_bf16, avx2, and generic for everything else.
package peak

import "sync"

// FMA runs n rounds of independent multiply-adds on each thread, into float32, and
// returns how many floating-point operations that was (a multiply-add is two).
// It is 0, and nothing is run, for kernels whose peak it does not know.
func FMA(kernels string, threads, n int) (flops float64) {
	lanes := fmaLanes(kernels)
	if lanes == 0 || n <= 0 {
		return 0
	}
	each(threads, func(int) { fma(kernels, n) })
	return 2 * chains * float64(lanes) * float64(n) * float64(threads)
}

// chains is the number of vector registers that a round of FMA adds to.
const chains = 12

// Read reads words rounds times, each thread a share of its own, and returns
// their exclusive or (0 after an even number of rounds), so that it may not be
// left out. It reads 8·len(words)·rounds bytes.
func Read(kernels string, threads, rounds int, words []uint64) uint64 {
	sums := make([]uint64, threads)
	each(threads, func(t int) {
		part := words[len(words)*t/threads : len(words)*(t+1)/threads]
		var sum uint64
		for range rounds {
			sum ^= read(kernels, part)
		}
		sums[t] = sum
	})
	var all uint64
	for _, s := range sums {
		all ^= s
	}
	return all
}

// fill writes to every page: those never written to are all one page of zeros.
func fill(words []uint64) {
	for i := range words {
		words[i] = uint64(i)
	}
}

// each calls f(0) … f(threads−1) at once and waits for all.
func each(threads int, f func(t int)) {
	var wg sync.WaitGroup
	for t := 1; t < threads; t++ {
		wg.Go(func() { f(t) })
	}
	f(0)
	wg.Wait()
}

// readGo is read in plain Go: four chains, for processors that load two words
// at a time.
func readGo(words []uint64) uint64 {
	var a, b, c, d uint64
	for len(words) >= 8 {
		a ^= words[0] ^ words[4]
		b ^= words[1] ^ words[5]
		c ^= words[2] ^ words[6]
		d ^= words[3] ^ words[7]
		words = words[8:]
	}
	for _, w := range words {
		a ^= w
	}
	return a ^ b ^ c ^ d
}
