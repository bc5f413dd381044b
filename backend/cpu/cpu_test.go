package cpu

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nrt/backend/device"
	"nrt/backend/device/devicetest"
)

func mustNew(t testing.TB, o Options) device.Device {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// variants opens devices of every kernel table this machine runs. With -short, where
// threads are looked at rather than numbers, those are one in plain Go, of which
// float64 is the same source, and the last, which takes every way that the others take.
func variants(t *testing.T, f func(t *testing.T, open func(threads int) device.Device, tol devicetest.Tolerance)) {
	plain := tables(t)
	if testing.Short() {
		plain = slices.Delete(plain, 1, max(1, len(plain)-1))
	} else {
		t.Run("float64", func(t *testing.T) {
			f(t, func(threads int) device.Device {
				return newDev(genericKernels[float64]("float64"), threads)
			}, devicetest.Float64)
		})
	}
	for _, k := range plain {
		t.Run(k.name, func(t *testing.T) {
			f(t, func(threads int) device.Device { return newDev(k, threads) }, devicetest.Float32)
		})
	}
	for _, k := range roundingTables(t) {
		t.Run(k.name, func(t *testing.T) {
			f(t, func(threads int) device.Device { return rounding(k, threads) }, devicetest.Rounding)
		})
	}
}

// roundingTables are those for devices of type BFloat16: with products of pairs where
// the processor has them, and without.
func roundingTables(t testing.TB) (all []*kernels[float32]) {
	for _, k := range tables(t) {
		plain := *k
		plain.pairGemm = nil
		plain.name += "_rounding"
		all = append(all, &plain)
		if k.pairGemm != nil {
			pairs := *k
			pairs.name += "_bf16"
			all = append(all, &pairs)
		}
	}
	if testing.Short() { // the last has all that the others have
		all = all[len(all)-1:]
	}
	return all
}

func rounding(k *kernels[float32], threads int) *dev[float32] {
	d := newDev(k, threads)
	d.bf16 = true
	return d
}

func TestConformance(t *testing.T) {
	variants(t, func(t *testing.T, open func(int) device.Device, tol devicetest.Tolerance) {
		devicetest.Run(t, func() device.Device { return open(2) }, tol)
	})
}

// TestThreads: the number of threads does not change a bit.
func TestThreads(t *testing.T) {
	variants(t, func(t *testing.T, open func(int) device.Device, _ devicetest.Tolerance) {
		for _, threads := range []int{2, 5} {
			t.Run(fmt.Sprint(threads), func(t *testing.T) {
				devicetest.Identical(t, func() device.Device { return open(threads) }, func() device.Device { return open(1) })
			})
		}
	})
}

func TestNew(t *testing.T) {
	for _, o := range []Options{{Threads: -1}, {Type: 7}} {
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), "cpu: ") {
			t.Errorf("New(%+v): %v", o, err)
		}
	}
	t.Setenv("NRT_CPU", "sse9")
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "sse9") {
		t.Errorf("NRT_CPU=sse9: %v", err)
	}
	t.Setenv("NRT_CPU", "generic")
	d := mustNew(t, Options{Threads: 2})
	if d.Name() != "cpu generic ×2" {
		t.Errorf("Name is %q", d.Name())
	}
	if d := mustNew(t, Options{Type: Float64, Threads: 1}); d.Name() != "cpu float64 ×1" {
		t.Errorf("Name is %q", d.Name())
	}
}

// TestPool: every task runs once, workers park and wake, close ends them.
func TestPool(t *testing.T) {
	before := goroutines()
	p := newPool(4)
	for round := range 300 {
		n := round % 37
		counts := make([]int32, n)
		p.start(n, n, ranger(func(worker, lo, hi int) {
			if worker < 0 || worker >= 4 || hi != lo+1 {
				t.Errorf("worker %d has tasks %d to %d", worker, lo, hi)
			}
			counts[lo]++
		}))
		for i, c := range counts {
			if c != 1 {
				t.Fatalf("round %d: task %d ran %d times", round, i, c)
			}
		}
		if round%100 == 99 {
			time.Sleep(5 * spin) // long enough to park
		}
	}
	var sum atomic.Int64
	p.start(200_000, 100_000, ranger(func(_, lo, hi int) {
		for i := lo; i < hi; i++ {
			sum.Add(int64(i))
		}
	}))
	if have, want := sum.Load(), int64(200_000*(200_000-1)/2); have != want {
		t.Errorf("100,000 tasks: the items add up to %d, want %d", have, want)
	}
	p.close()
	expectGoroutines(t, before)
}

// TestPanics: a task's panic, whoever has it, is the caller's when all others have ended,
// and the pool goes on.
func TestPanics(t *testing.T) {
	p := newPool(3)
	defer p.close()
	const n = 40
	for bad := range n {
		var ended atomic.Int32
		func() {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.HasPrefix(v, fmt.Sprint("item ", bad)) || !strings.Contains(v, "TestPanics") || ended.Load() != n-1 {
					t.Fatalf("item %d: %s, after %d of %d", bad, v, ended.Load(), n-1)
				}
			}()
			p.start(n, n, ranger(func(_, i, _ int) {
				if i == bad {
					panic(fmt.Sprint("item ", i))
				}
				time.Sleep(10 * time.Microsecond)
				ended.Add(1)
			}))
		}()
	}
}

// TestTasksAreShort: however much an operation has to do, and with one thread too, a
// task is a few million simple operations.
func TestTasksAreShort(t *testing.T) {
	const n, cost = 30_000_000, 8
	for _, threads := range []int{1, 2} {
		p := newPool(threads)
		var items, longest atomic.Int64
		p.divide(n, cost, ranger(func(_, lo, hi int) {
			items.Add(int64(hi - lo))
			for l := longest.Load(); int64(hi-lo) > l && !longest.CompareAndSwap(l, int64(hi-lo)); l = longest.Load() {
			}
		}))
		if items.Load() != n || longest.Load()*cost > 5_000_000 {
			t.Errorf("%d threads: %d items, %d in one task, of %d", threads, items.Load(), longest.Load(), n)
		}
		p.close()
	}
}

// goroutines is how many there are once none comes or goes: those of an earlier test may
// be ending, and a browser starts one for the first Sleep.
func goroutines() int {
	n := -1
	for quiet := 0; quiet < 20; quiet++ {
		if have := runtime.NumGoroutine(); have != n {
			n, quiet = have, 0
		}
		time.Sleep(time.Millisecond)
	}
	return n
}

// expectGoroutines waits a while for goroutines to end.
func expectGoroutines(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if runtime.NumGoroutine() <= want {
			return
		}
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), want)
}

// TestClose: a device leaves no goroutine behind, be its threads spinning or
// parked, and whatever number they are.
func TestClose(t *testing.T) {
	before := goroutines()
	for i, threads := range []int{1, 2, 3, 8, 8} {
		d, err := New(Options{Threads: threads})
		if err != nil {
			t.Fatal(err)
		}
		if have := runtime.NumGoroutine() - before; have != threads-1 {
			t.Errorf("%d threads: %d goroutines", threads, have)
		}
		x := d.Alloc(1 << 20)
		d.Scale(x, 2)
		if i%2 == 1 {
			time.Sleep(5 * spin)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		d.Scale(x, 2) // serial from now on
		expectGoroutines(t, before)
	}
}

// TestDecodeBits: a row decoded from a cache is, to the bit, the row of the
// whole forward pass, whatever the blocks of the cache.
func TestDecodeBits(t *testing.T) {
	for _, k := range tables(t) {
		d := newDev(k, 2)
		h := device.Heads{Query: 4, KV: 2, Dim: 32, Window: 70}
		const n = 101
		q, key, v := filled(d, n*128), filled(d, n*64), filled(d, n*64)
		out, lse, o1, l1 := d.Alloc(n*128), d.Alloc(n*4), d.Alloc(128), d.Alloc(4)
		d.Attention(out, lse, q, key, v, []device.Seq{{Q: device.Span{Len: n}}}, h)
		for i := range n {
			a, b := i/3, i/2
			past := []device.Span{{Len: a}, {Start: a, Len: b - a}, {Start: b, Len: i - b}}
			d.Attention(o1, l1, q.View(i*128, 128), key, v, []device.Seq{{Q: device.Span{Len: 1}, Past: past, Own: i}}, h)
			have, want := make([]float64, 128), make([]float64, 128)
			d.Read64(have, o1)
			d.Read64(want, out.View(i*128, 128))
			for j := range want {
				if have[j] != want[j] {
					t.Fatalf("%s: row %d, [%d] is %g decoded, %g whole", k.name, i, j, have[j], want[j])
				}
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDecodeTogether: chains that share a prompt's rows and are decoded together
// get, to the bit, what each gets as a sequence read at once.
func TestDecodeTogether(t *testing.T) {
	for _, k := range tables(t) {
		t.Run(k.name, func(t *testing.T) { decodedTogether(t, newDev(k, 2)) })
	}
}

func decodedTogether(t *testing.T, d device.Device) {
	const seed = 43
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		h := device.Heads{KV: 1 + r.IntN(3), Dim: []int{4, 16, 32, 48, 80}[round%5]}
		h.Query = h.KV * []int{1, 2, 7, 30}[r.IntN(4)]
		prompt, chains := 1+r.IntN(70), 1+r.IntN(20)
		var seqs, whole []device.Seq
		rows := prompt
		for i := range chains {
			// The chain's own rows, in two blocks: keys so far and the query.
			n := r.IntN(40)
			past := []device.Span{{Len: prompt}, {Start: rows, Len: n}}
			seqs = append(seqs, device.Seq{Q: device.Span{Start: i, Len: 1}, Past: past, Own: rows + n})
			whole = append(whole, device.Seq{Q: device.Span{Start: rows, Len: n + 1}, Past: past[:1], Own: rows})
			rows += n + 1
		}
		qw, kw := h.Query*h.Dim, h.KV*h.Dim
		q, key, v := filled(d, rows*qw), filled(d, rows*kw), filled(d, rows*kw)
		out, lse := d.Alloc(rows*qw), d.Alloc(rows*h.Query)
		d.Attention(out, lse, q, key, v, whole, h)
		last := make([]int32, chains)
		for i, s := range seqs {
			last[i] = int32(s.Own)
		}
		q1, o1, l1 := d.Alloc(chains*qw), d.Alloc(chains*qw), d.Alloc(chains*h.Query)
		want, wantLSE := d.Alloc(chains*qw), d.Alloc(chains*h.Query)
		d.GatherRows(q1, q, last, qw)
		d.GatherRows(want, out, last, qw)
		d.GatherRows(wantLSE, lse, last, h.Query)
		d.Attention(o1, l1, q1, key, v, seqs, h)
		for _, pair := range [][2]device.Buffer{{o1, want}, {l1, wantLSE}} {
			a, b := make([]float64, pair[0].Len()), make([]float64, pair[0].Len())
			d.Read64(a, pair[0])
			d.Read64(b, pair[1])
			if !slices.Equal(a, b) {
				t.Fatalf("seed %d, round %d: heads %+v, prompt %d, %d chains: decoded together, not as read at once", seed, round, h, prompt, chains)
			}
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// TestDrawnEqualsTrained: Sample and Classifier give a token the same
// log-probability and entropy, to the bit.
func TestDrawnEqualsTrained(t *testing.T) {
	for _, k := range tables(t) {
		d := newDev(k, 2)
		const n, vocab, dim = 50, 2500, 24
		h, w, logits := filled(d, n*dim), filled(d, vocab*dim), d.Alloc(n*vocab)
		d.MatMul(logits, h, w, n, vocab, dim, false, true, false)
		rows, drawn, targets := make([]device.SampleRow, n), make([]device.Sampled, n), make([]int32, n)
		for i := range rows {
			rows[i] = device.SampleRow{Temperature: 1.25, U: float64(i) / n}
		}
		d.Sample(drawn, logits, rows, vocab)
		for i, s := range drawn {
			targets[i] = s.ID
		}
		c := device.Classified{LogProb: make([]float64, n), Entropy: make([]float64, n), LSE: make([]float64, n)}
		d.Classifier(c, h, w, targets, vocab, dim, 1/1.25)
		for i, s := range drawn {
			if s.LogProb != c.LogProb[i] || s.Entropy != c.Entropy[i] {
				t.Fatalf("%s: row %d: drawn %v %v, trained %v %v", k.name, i, s.LogProb, s.Entropy, c.LogProb[i], c.Entropy[i])
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSampleHuge: where what rounding takes from scaled logits is nats, the likeliest has
// no mass of 1, or none, or an infinite one, and is drawn.
func TestSampleHuge(t *testing.T) {
	for _, k := range tables(t) {
		t.Run(k.name, func(t *testing.T) { drawsHuge(t, newDev(k, 1)) })
	}
}

func drawsHuge(t *testing.T, d device.Device) {
	const vocab = 50
	rng := rand.New(rand.NewPCG(8, 8))
	x, logits, out := make([]float32, vocab), d.Alloc(vocab), make([]device.Sampled, 1)
	for range 200 {
		for size, temperature := range map[float64]float64{20: device.Coldest, 2e4: 1e-4, 1e12: 1, 1e30: 1e20} {
			best := rng.IntN(vocab)
			for i := range x {
				x[i] = float32(size * (1 - 0.3*rng.Float64()))
			}
			x[best] = float32(size * (1.1 + rng.Float64()))
			d.Write(logits, x)
			for _, row := range []device.SampleRow{{}, {TopK: 30}, {TopP: 1e-300}, {TopP: 5e-324}, {TopP: 0.9, MinP: 0.1}, {MinP: 1}} {
				row.Temperature, row.U = temperature*(1+rng.Float64()), rng.Float64()
				d.Sample(out, logits, []device.SampleRow{row}, vocab)
				if out[0].ID != int32(best) {
					t.Fatalf("logits of %g, %+v: drew %d, want %d", size, row, out[0].ID, best)
				}
			}
		}
	}
}

// TestFamilies holds families against a walk over all pairs of Seqs.
func TestFamilies(t *testing.T) {
	const seed = 41
	var f families
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		seqs := make([]device.Seq, 1+r.IntN(9))
		sets := make([]map[int]bool, len(seqs))
		for i := range seqs {
			span := func(most int) device.Span {
				s := device.Span{Start: r.IntN(60), Len: r.IntN(most)}
				for j := range s.Len {
					sets[i][s.Start+j] = true
				}
				return s
			}
			sets[i] = map[int]bool{}
			for range r.IntN(3) {
				seqs[i].Past = append(seqs[i].Past, span(5))
			}
			own := span(5)
			seqs[i].Own, seqs[i].Q.Len = own.Start, own.Len
		}
		group := make([]int, len(seqs)) // the lowest member each is connected to
		for i := range group {
			group[i] = i
		}
		for range seqs {
			for i := range seqs {
				for j := range seqs {
					for row := range sets[i] {
						if sets[j][row] {
							group[i] = min(group[i], group[j])
						}
					}
				}
			}
		}
		var want [][]int
		at := map[int]int{}
		for i, g := range group {
			if _, ok := at[g]; !ok {
				at[g] = len(want)
				want = append(want, nil)
			}
			want[at[g]] = append(want[at[g]], i)
		}
		f.find(seqs)
		var have [][]int
		for i := range f.ends {
			have = append(have, slices.Clone(f.at(i)))
		}
		if !reflect.DeepEqual(have, want) {
			t.Fatalf("seed %d: %+v: groups %v, want %v", seed, seqs, have, want)
		}
	}
}
