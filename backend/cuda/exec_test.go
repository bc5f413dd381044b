//go:build cuda

package cuda

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
)

// step is a short piece of work that uses everything of this file's concern: host
// arrays, kernels of all sizes, all kinds of buffers, a list that repeats.
func step(d *dev, seed uint64) []float32 {
	x := random(seed, 300)
	a, m, v := put(d, device.Compute, x), put(d, device.Master, x), put(d, device.Moment8, x)
	big := d.AllocAs(device.Wide, stageBytes/2)
	d.Write(big, make([]float32, stageBytes/2))
	for range 4 { // the same list, so that it becomes a graph
		d.Scale(a, 0.5)
		d.Add(a, m)
		d.Scale(m, 2)
		d.Add(m, a)
		d.Zero(v)
		d.Copy(big.View(1, 300), a)
		d.Sync()
	}
	y := get(d, a)
	y = append(y, get(d, big)[:400]...)
	y = append(y, get(d, m)...)
	for _, b := range []device.Buffer{a, m, v, big} {
		d.Free(b)
	}
	return y
}

// use opens a device, works, and closes it; the error is the first.
func use(dt dtype) (y []float32, err error) {
	d, err := open(Options{Type: map[dtype]Type{dtF32: F32, dtBF16: BF16}[dt]})
	if err != nil {
		return nil, err
	}
	y = step(d, 1)
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return y, err
}

// gives are the functions that give one object back, which stays where they fail.
var gives = map[string]bool{
	"cuMemFreeAsync": true, "cuMemFreeHost": true, "cuStreamDestroy_v2": true, "cuEventDestroy_v2": true, "cuModuleUnload": true,
	"cuMemPoolDestroy": true, "cuDevicePrimaryCtxRelease_v2": true, "cuGraphExecDestroy": true, "cuGraphDestroy": true,
}

// functions are those of the driver, by their exported names.
func functions(t *testing.T) []string {
	text, err := os.ReadFile("internal/driver/symbols.h")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^X\((cu\w+)\)$`).FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// Every call of the driver that a short life of a device makes fails once. Either
// the work can be done without it, and comes out the same, or the error tells
// which function it was; nothing is lost, ends the process or hangs.
func TestEveryCallMayFail(t *testing.T) {
	c := emulator(t)
	calls := func() map[string]int {
		m := map[string]int{}
		for _, name := range functions(t) {
			m[name] = c.Calls(name)
		}
		return m
	}
	before := calls()
	want, err := use(dtBF16)
	if err != nil {
		t.Fatal(err)
	}
	counts := calls()
	points := 0
	for name, n := range counts {
		n -= before[name]
		switch name {
		case "cuGetErrorName", "cuGetErrorString", "cuStreamCreateWithPriority": // the emulator's cuStreamCreate calls the last
			continue
		}
		for nth := 1; nth <= n; nth++ {
			if nth == 6 && n > 8 {
				nth = n - 2 // the many launches between are alike
			}
			points++
			left := c.Live("")
			what := fmt.Sprintf("%s, call %d of %d", name, nth, n)
			c.Fail(name, nth, 999)
			have, err := use(dtBF16)
			c.Reset()
			if err == nil {
				equal(t, what, have, want)
			} else if base, _, _ := strings.Cut(name, "_v"); !strings.Contains(err.Error(), base) {
				t.Errorf("%s: %v", what, err)
			}
			if left = c.Live("") - left; left > 1 || left > 0 && !gives[name] {
				t.Errorf("%s: %d objects are left (error: %v)", what, left, err)
			}
		}
	}
	if points < 60 {
		t.Errorf("%d points tried, of %v", points, counts)
	}
}

// What fails sticks: Sync tells the first failure, operations do nothing more,
// reads give zeros, and Close gives everything back.
func TestFailureSticks(t *testing.T) {
	c := emulator(t)
	left := c.Live("")
	d, err := open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := put(d, device.Compute, random(1, 1000))
	c.Fail("cuLaunchKernel", 1, 700)
	d.Scale(a, 2)
	for range 2 {
		err := d.Sync()
		if err == nil || !strings.Contains(err.Error(), d.Name()+": cuLaunchKernel: ") {
			t.Fatalf("Sync: %v", err)
		}
	}
	launches := c.Calls("cuLaunchKernel")
	b := d.Alloc(2000)
	d.Copy(b.View(0, 1000), a)
	x := random(2, 2000)
	d.Read(x, b)
	equal(t, "read of a device that failed", x, make([]float32, 2000))
	d.Free(a)
	if n := c.Calls("cuLaunchKernel"); n != launches {
		t.Errorf("%d launches after the failure", n-launches)
	}
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), "cuLaunchKernel") {
		t.Errorf("Close: %v", err)
	}
	if n := c.Live("") - left; n != 0 {
		t.Errorf("%d objects are left", n)
	}
}

// Memory runs out: what was freed is used again; then Sync tells.
func TestOutOfMemory(t *testing.T) {
	c := emulator(t)
	d := openTest(t, dtF32)
	have := c.Live("bytes") + c.Live("kept")
	c.Memory(have + 10<<20)
	defer c.Memory(8 << 30)
	for range 5 {
		a := d.Alloc(2 << 20) // 8 MiB
		d.Scale(a, 2)
		d.Free(a)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	if n := Kept(d); n < 8<<20 {
		t.Errorf("%d bytes are kept of 8 MiB that were given back", n)
	}
	a := d.Alloc(2 << 20)
	if n := Kept(d); n >= 8<<20 {
		t.Errorf("%d bytes are kept while 8 MiB are in use", n)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := open(Options{Type: F32})
	if err != nil {
		t.Fatal(err)
	}
	a, b := e.Alloc(2<<20), e.Alloc(2<<20)
	e.Add(a, b)
	e.Free(a)
	if err := e.Sync(); err == nil || !strings.Contains(err.Error(), "cuMemAllocFromPoolAsync") {
		t.Errorf("16 MiB of 10: %v", err)
	}
	if err := e.Close(); err == nil {
		t.Error("Close lost the failure")
	}
}

// Weights that there is no memory for are an error before any of them is read, give back
// what they took, and leave the device as it was.
func TestWeightsOutOfMemory(t *testing.T) {
	c := emulator(t)
	d := openTest(t, dtF32)
	x := random(1, 100)
	b := put(d, device.Compute, x)
	d.Sync()
	have := c.Live("bytes")
	defer c.Memory(8 << 30)
	const rows, cols = 1 << 10, 1 << 12
	for _, try := range []struct {
		f    device.Format
		room int
	}{{device.F32, 10 << 20}, {device.BF16, 6 << 20}, {device.Q8, 3 << 20}, {device.Q8, 4<<20 + 4096}} { // the last has none for scales
		c.Memory(have + try.room)
		w, err := d.NewWeights(try.f, rows, cols, func(int, []float32) error {
			t.Errorf("%v was read", try.f)
			return nil
		})
		if !errors.Is(err, device.ErrNoMemory) || w != nil || !strings.Contains(err.Error(), d.Name()+": weights of 1024 × 4096 numbers: cuMemAllocFromPoolAsync") {
			t.Errorf("%v: %v, %v", try.f, w, err)
		}
		if err := d.Sync(); err != nil {
			t.Fatalf("%v: %v", try.f, err)
		}
		if n := c.Live("bytes") - have; n != 0 {
			t.Errorf("%v: %d bytes are kept", try.f, n)
		}
	}
	c.Memory(8 << 30)
	d.Scale(b, 2)
	for i := range x {
		x[i] *= 2
	}
	equal(t, "a buffer afterwards", get(d, b), x)
	w, err := d.NewWeights(device.Q8, rows, cols, func(int, []float32) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	d.Free(w)
}

// Memory that is reserved and not there is an error, gives back what it took, and leaves the
// device as it was.
func TestReserveOutOfMemory(t *testing.T) {
	for _, dt := range []dtype{dtF32, dtBF16} {
		for _, k := range []device.Kind{device.Compute, device.Master, device.Wide, device.Moment8, device.Variance8} {
			t.Run(fmt.Sprintf("%v of %v", k, dt), func(t *testing.T) {
				c := emulator(t)
				d := openTest(t, dt)
				x := random(1, 100)
				b := put(d, device.Wide, x)
				d.Sync()
				have := c.Live("bytes")
				const n = 1 << 20
				bytes := int(d.Bytes(k, n))
				c.Memory(have + bytes - 256)
				defer c.Memory(8 << 30)
				got, err := d.Reserve(k, n)
				if !errors.Is(err, device.ErrNoMemory) || got != nil || !strings.Contains(err.Error(), d.Name()+": 1048576 numbers: cuMemAllocFromPoolAsync") {
					t.Errorf("%v, %v", got, err)
				}
				if err := d.Sync(); err != nil {
					t.Fatal(err)
				}
				if left := c.Live("bytes") - have; left != 0 {
					t.Errorf("%d bytes are kept", left)
				}
				c.Memory(8 << 30)
				if got, err = d.Reserve(k, n); err != nil {
					t.Fatal(err)
				}
				d.Free(got)
				equal(t, "a buffer afterwards", get(d, b), x)
			})
		}
	}
}

// Mistakes of the caller panic with a text that names them.
func TestMisuse(t *testing.T) {
	d, e := openTest(t, dtBF16), openTest(t, dtBF16)
	a, b, freed := d.Alloc(10), e.Alloc(10), d.Alloc(10)
	view := freed.View(2, 3)
	d.Free(freed)
	m, v := d.AllocAs(device.Moment8, 10), d.AllocAs(device.Variance8, 10)
	someWeights := func(d *dev) device.Weights {
		w, err := d.NewWeights(device.BF16, 2, 5, func(int, []float32) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w, x := someWeights(d), someWeights(e)
	d.Free(w)
	for _, c := range []struct {
		want string
		do   func()
	}{
		{"cuda: Scale: b was freed", func() { d.Scale(freed, 1) }},
		{"cuda: Scale: b was freed", func() { d.Scale(view, 1) }},
		{"cuda: Free: b was freed", func() { d.Free(freed) }},
		{"cuda: Free: b was freed", func() { d.Free(w) }},
		{"cuda: Read: src was freed", func() { d.Read(make([]float32, 10), w) }},
		{"cuda: Free: b is of another device", func() { d.Free(x) }},
		{"cuda: Free of a view", func() { d.Free(a.View(0, 9)) }},
		{"cuda: Copy: src is a buffer of another device", func() { d.Copy(a, b) }},
		{"cuda: Write: dst has 10 floats, want 9", func() { d.Write(a, make([]float32, 9)) }},
		{"cuda: Read64: src has 10 floats, want 11", func() { d.Read64(make([]float64, 11), a) }},
		{"cuda: Scale: b is moment8 (m8), want [f32 bf16]", func() { d.Scale(m, 1) }},
		{"cuda: View of a buffer of kind variance8", func() { v.View(0, 1) }},
		{"cuda: View(5, 6) of a buffer of 10", func() { a.View(5, 6) }},
		{"cuda: Alloc(-1)", func() { d.Alloc(-1) }},
		{"cuda: Alloc of kind Kind(9)", func() { d.AllocAs(9, 1) }},
	} {
		func() {
			defer func() {
				if have := recover(); have != c.want {
					t.Errorf("have %v, want %s", have, c.want)
				}
			}()
			c.do()
		}()
	}
	d.Scale(a, 2) // the lock is free again
	f, err := open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	b = f.Alloc(1)
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, do := range map[string]func(){"Alloc": func() { f.Alloc(1) }, "Free": func() { f.Free(b) }, "Sync": func() { f.Sync() }} {
		func() {
			defer func() {
				if have := recover(); have != "cuda: used after Close" {
					t.Errorf("%s after Close: %v", name, have)
				}
			}()
			do()
		}()
	}
}

// Two goroutines share a device, each with buffers of its own.
func TestSharedDevice(t *testing.T) {
	d := openTest(t, dtBF16)
	want := [2][]float32{step(d, 10), step(d, 11)}
	var wg sync.WaitGroup
	for i := range want {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 3 {
				equal(t, fmt.Sprint("goroutine ", i), step(d, uint64(10+i)), want[i])
			}
		}()
	}
	wg.Wait()
}

// What is freed while kernels that use it are waiting is used by them first.
func TestFreeOfWhatIsInUse(t *testing.T) {
	d := openTest(t, dtF32)
	x := random(1, 5000)
	sum := d.Alloc(len(x))
	for range 20 {
		a := put(d, device.Compute, x)
		d.Add(sum, a)
		d.Free(a)
	}
	want := make([]float32, len(x))
	for range 20 {
		for i := range x {
			want[i] += x[i]
		}
	}
	equal(t, "sum", get(d, sum), want)
}

// Uploads of one list beyond the memory that they start with, and workspaces that
// grow while kernels use them.
func TestUploadsAndWorkspacesGrow(t *testing.T) {
	d := openTest(t, dtF32)
	for _, n := range []int{10, 1000, 30000, 5, 2 << 20, 100} {
		out, parts := d.Alloc(3*n).(*buffer), [][]float32{random(1, n), random(2, n), random(3, n)}
		var want []float32
		d.lock()
		for i, x := range parts {
			scratch := d.workspace("test", 4*n*(i+1))
			d.copy(scratch, dtF32, d.upload(bytesOf(x)), dtF32, n)
			d.copy(out.ptr()+devptr(4*n*i), dtF32, scratch, dtF32, n)
			want = append(want, x...)
			clear(x) // the host's memory is its own again
		}
		d.unlock()
		equal(t, fmt.Sprint("uploads of ", n), get(d, out), want)
		d.Free(out)
	}
}

// A mark for a profiler stands behind all work that was asked for before it, and its
// failure does not become the device's.
func TestProfileMarksWhatComesBetween(t *testing.T) {
	c := emulator(t)
	d := openTest(t, dtF32)
	x := put(d, device.Compute, random(1, 300))
	launched := func() int { return c.Calls("cuLaunchKernel") }
	mark := func(on bool) {
		t.Helper()
		if err := Profile(d, on); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	before := launched()
	d.Scale(x, 2)
	mark(true)
	if n := launched() - before; n != 1 {
		t.Errorf("%d launches before the mark, want 1", n)
	}
	d.Scale(x, 3)
	d.Scale(x, 4)
	mark(false)
	if n := launched() - before; n != 3 {
		t.Errorf("%d launches before the second mark, want 3", n)
	}
	if on, off := c.Calls("cuProfilerStart"), c.Calls("cuProfilerStop"); on != 1 || off != 1 {
		t.Errorf("%d and %d marks, want one of each", on, off)
	}
	c.Fail("cuProfilerStart", 1, 999)
	if err := Profile(d, true); err == nil || !strings.Contains(err.Error(), "cuProfilerStart") {
		t.Errorf("a mark that fails: %v", err)
	}
	if err := d.Sync(); err != nil {
		t.Errorf("after a mark that failed: %v", err)
	}
	host, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := Profile(host, true); err == nil {
		t.Error("the CPU was marked")
	}
}
