package peak

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Trip sends a word from one thread to another and back n times and returns the
// mean time of that: what no operation that two threads share can do without.
// Near processors take a fifth of a microsecond, those without a common cache up
// to a whole one, and the host of a virtual machine may move it from the ones to
// the others.
func Trip(n int) time.Duration {
	// A cache line each, and none that the processor would fetch beside another.
	var words [2]struct {
		_ [128]byte
		atomic.Int64
		_ [120]byte
	}
	await := func(w *atomic.Int64, v int64) {
		for i := 1; w.Load() != v; i++ {
			if i%(1<<14) == 0 {
				runtime.Gosched() // in case there is only one processor
			}
		}
	}
	there, back := &words[0].Int64, &words[1].Int64
	var start time.Duration
	each(2, func(t int) {
		for i := int64(1); i <= int64(n)+1; i++ {
			if t == 0 {
				if i == 2 { // the other thread runs
					start = Now()
				}
				there.Store(i)
				await(back, i)
			} else {
				await(there, i)
				back.Store(i)
			}
		}
	})
	return (Now() - start) / time.Duration(n)
}
