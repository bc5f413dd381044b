//go:build cuda

package cuda

import (
	"testing"

	"nrt/backend/device"
)

// counts are what the executor's graphs did; it is asked in its own thread.
func counts(d *dev) (captured, replayed int) {
	d.lock()
	defer d.unlock()
	d.do(func() error {
		captured, replayed = d.ex.graphs.captured, d.ex.graphs.replayed
		return nil
	})
	return captured, replayed
}

// A list that comes again is recorded the second time and replayed from then on;
// another address or another number is another list; uploads are not part of it.
func TestGraphs(t *testing.T) {
	d := openTest(t, dtF32)
	const n = 100
	a, b := d.Alloc(n), d.Alloc(n)
	want := make([]float32, n)
	list := func(to device.Buffer, scale float64, x float32) {
		v := make([]float32, n)
		for i := range v {
			v[i] = x * float32(i)
		}
		d.Write(b, v) // travels with the arguments
		d.Add(to, b)
		d.Add(to, b)
		d.Scale(to, scale)
		if to == a {
			for i := range want {
				want[i] = (want[i] + v[i] + v[i]) * float32(scale)
			}
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, captured, replayed int) {
		t.Helper()
		if c, r := counts(d); c != captured || r != replayed {
			t.Errorf("%s: %d captured, %d replayed, want %d and %d", what, c, r, captured, replayed)
		}
		equal(t, what, get(d, a), want)
	}
	d.Sync()
	list(a, 0.5, 1)
	check("once", 0, 0)
	list(a, 0.5, 2)
	check("twice", 1, 0)
	list(a, 0.5, 3)
	list(a, 0.5, 4)
	check("four times", 1, 2)
	list(a, 0.25, 5)
	check("another number", 1, 2)
	// Another buffer, and one that may get the address of a freed one.
	c := d.Alloc(n)
	d.Sync()
	list(c, 0.5, 1)
	check("another buffer", 1, 2)
	d.Free(a)
	a = put(d, device.Compute, want)
	d.Sync()
	for i := range 3 {
		list(a, 0.5, float32(i))
	}
	equal(t, "after Free and Alloc", get(d, a), want)
	// Uploads in other memory.
	d.lock()
	d.upload(make([]byte, 1<<20))
	d.unlock()
	d.Sync()
	before, _ := counts(d)
	for i := range 4 {
		list(a, 0.5, float32(i))
	}
	equal(t, "after the uploads' memory grew", get(d, a), want)
	if c, _ := counts(d); c != before+1 {
		t.Errorf("%d graphs captured, want %d", c, before+1)
	}
}

// More lists than graphs are kept: the least recently used is given back.
func TestGraphsAreBounded(t *testing.T) {
	c := emulator(t)
	d := openTest(t, dtF32)
	left := c.Live("exec")
	a := d.Alloc(10)
	d.Sync()
	for i := range maxGraphs + 5 {
		for range 2 {
			for range worthGraph {
				d.Scale(a, float64(i))
			}
			d.Sync()
		}
	}
	if n, _ := counts(d); n != maxGraphs+5 || c.Live("exec")-left != maxGraphs {
		t.Errorf("%d captured, %d kept, want %d and %d", n, c.Live("exec")-left, maxGraphs+5, maxGraphs)
	}
}

// The driver cannot record: the work is done all the same.
func TestWithoutGraphs(t *testing.T) {
	c := emulator(t)
	want := step(openTest(t, dtBF16), 1)
	for _, f := range []string{"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"} {
		d := openTest(t, dtBF16)
		c.Fail(f, 1, 801)
		equal(t, f, step(d, 1), want)
		if n, r := counts(d); n != 0 || r != 0 {
			t.Errorf("%s failed: %d captured, %d replayed", f, n, r)
		}
	}
}

// Enqueuing allocates nothing once buffers have their size, and replaying
// neither.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	d := openTest(t, dtBF16)
	a, b := d.Alloc(100), d.Alloc(100)
	ids := make([]int32, 64)
	list := func() {
		for range 50 {
			d.Scale(a, 1)
			d.Add(a, b)
			d.lock()
			at := d.upload32(ids)
			d.launch("copy_bf16_bf16", grid(1), 32, 0, p(a.(*buffer)), p(b.(*buffer)), i64(1))
			_ = at
			d.unlock()
		}
		d.lock()
		d.flush()
		d.unlock()
	}
	for range 10 {
		list()
	}
	d.Sync()
	if n := testing.AllocsPerRun(20, list); n > 0 {
		t.Errorf("%v allocations for a list of 150 operations", n)
	}
}

// BenchmarkEnqueue is what an operation costs the goroutine that asks for it: its
// checks and its place in the list. The executor's part and the kernels' is not in
// it; they go on meanwhile.
func BenchmarkEnqueue(b *testing.B) {
	d := openTest(b, dtBF16)
	x := d.Alloc(8)
	b.ReportAllocs()
	for i := 1; b.Loop(); i++ {
		d.Scale(x, 1)
		if i%longList == 0 {
			b.StopTimer()
			d.Sync()
			b.StartTimer()
		}
	}
	d.Sync()
}
