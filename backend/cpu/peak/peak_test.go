package peak

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

func TestFMACountsWhatItDoes(t *testing.T) {
	for _, kernels := range []string{"generic", "avx2", "avx512", "avx512_bf16"} {
		lanes := fmaLanes(kernels)
		const n, threads = 1000, 3
		if have, want := FMA(kernels, threads, n), float64(2*chains*n*threads*lanes); have != want {
			t.Errorf("%s: %g operations, want %g", kernels, have, want)
		}
		if lanes == 0 {
			t.Logf("%s: not on this machine", kernels)
			continue
		}
		// Each round adds 1 to the first lane of every register, of a pair 2.
		want := float32(chains * n)
		if lanes == 32 {
			want *= 2
		}
		if have := fma(kernels, n); have != want {
			t.Errorf("%s: the registers hold %g, want %g", kernels, have, want)
		}
	}
	if have := FMA("avx512", 1, 0); have != 0 {
		t.Errorf("no rounds: %g operations", have)
	}
}

func TestReadSeesEveryWord(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, kernels := range []string{"generic", "avx2", "avx512", "avx512_bf16"} {
		for _, n := range []int{0, 1, 7, 8, 31, 32, 63, 64, 65, 1000, 4099} {
			words := make([]uint64, n)
			var want uint64
			for i := range words {
				words[i] = r.Uint64()
				want ^= words[i]
			}
			for _, threads := range []int{1, 2, 3} {
				if have := Read(kernels, threads, 1, words); have != want {
					t.Errorf("%s, %d words, %d threads: %x, want %x", kernels, n, threads, have, want)
				}
				if have := Read(kernels, threads, 3, words); have != want {
					t.Errorf("%s, %d words, %d threads, three rounds: %x, want %x", kernels, n, threads, have, want)
				}
			}
		}
	}
}

func TestWords(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1 << 18, 1<<18 + 1} {
		w := Words(n)
		if len(w) != n {
			t.Fatalf("%d words, want %d", len(w), n)
		}
		for i := range w {
			if w[i] != uint64(i) {
				t.Fatalf("word %d of %d is %d", i, n, w[i])
			}
		}
	}
}

// More blocks than one call of the assembly reads.
func TestReadLong(t *testing.T) {
	words := make([]uint64, 3<<20|5)
	for i := range words {
		words[i] = uint64(i) * 0x9e3779b97f4a7c15
	}
	want := readGo(words)
	for _, kernels := range []string{"avx2", "avx512"} {
		if have := read(kernels, words); have != want {
			t.Errorf("%s: %x, want %x", kernels, have, want)
		}
	}
}

// A trip takes time, and ends with one processor too.
func TestTrip(t *testing.T) {
	start := Now()
	if d := Trip(1000); d <= 0 || 1000*d > Now()-start {
		t.Errorf("a trip takes %v, a thousand took %v", d, Now()-start)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if d := Trip(10); d <= 0 {
		t.Errorf("a trip takes %v", d)
	}
}

// TestNow: what takes microseconds can be timed.
func TestNow(t *testing.T) {
	for range 100 {
		began, took := Now(), time.Duration(0)
		for took == 0 {
			took = Now() - began
		}
		if took > 0 && took < 20*time.Microsecond {
			return
		}
	}
	t.Error("never moved on by less than 20 µs")
}
