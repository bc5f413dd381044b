//go:build cuda

package cuda

import (
	"fmt"
	"strings"
	"sync"

	"gorgonia.org/cu"
	"nrt/backend/cuda/internal/driver"
	"nrt/backend/device"
)

// dev is an open card. Its operations exclude each other.
type dev struct {
	dt   dtype // the compute type
	name string
	card *card

	mu      sync.Mutex
	closed  bool
	cur     *list // being filled
	ex      *executor
	kernels map[string]*kernel
	entries map[string]string  // kernel → file of ptx it is in
	spaces  map[string]segment // of workspace, by slot
	arena   segment            // what upload fills, over and over
	floats  []float32          // a small Write
	flushes int                // lists handed over

	attention struct{ forward, backward attentionWork }
	gemm      gemmState
}

var _ device.Device = (*dev)(nil)

// Open opens a card. The device may be shared by goroutines. An error says what
// is missing: Devices lists the cards that can be opened.
func Open(o Options) (device.Device, error) {
	d, err := open(o)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// open opens a card. What it opened before an error is closed again.
func open(o Options) (*dev, error) {
	file, err := driver.Load()
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", driver.Wrap("cuDeviceGetCount", err))
	}
	if o.Ordinal < 0 || o.Ordinal >= n {
		return nil, fmt.Errorf("cuda: no device %d: the driver sees %d", o.Ordinal, n)
	}
	c, err := find(o.Ordinal, file)
	if err != nil {
		return nil, fmt.Errorf("cuda: device %d: %w", o.Ordinal, err)
	}
	if c.Unusable != "" {
		return nil, fmt.Errorf("cuda: device %d (%s): %s", o.Ordinal, c.Name, c.Unusable)
	}
	d := &dev{card: c, kernels: map[string]*kernel{}, spaces: map[string]segment{}, gemm: gemmState{limits: usualLimits}}
	switch o.Type {
	case BF16:
		d.dt = dtBF16
	case F32:
		d.dt = dtF32
	default:
		return nil, fmt.Errorf("cuda: type: want BF16 or F32, have %v", o.Type)
	}
	d.name = fmt.Sprintf("cuda:%d %s %s", o.Ordinal, c.Name, o.Type)
	ptx := ptxModules()
	d.entries = entries(ptx)
	d.ex = newExecutor(c, ptx)
	d.cur = <-d.ex.lists
	go d.ex.run()
	if err := d.ex.call(d.ex.open); err != nil {
		d.ex.call(d.ex.close)
		d.ex.stop()
		return nil, fmt.Errorf("cuda: device %d (%s): %w", o.Ordinal, c.Name, err)
	}
	if err := d.openBLAS(o.GEMM); err != nil {
		d.Close()
		return nil, fmt.Errorf("cuda: device %d (%s): %w", o.Ordinal, c.Name, err)
	}
	return d, nil
}

// entries finds the kernels in PTX: name → file.
func entries(ptx map[string]string) map[string]string {
	m := map[string]string{}
	for file, text := range ptx {
		for {
			_, after, ok := strings.Cut(text, ".visible .entry ")
			if !ok {
				break
			}
			name, rest, _ := strings.Cut(after, "(")
			m[strings.TrimSpace(name)] = file
			text = rest
		}
	}
	return m
}

func (d *dev) Name() string { return d.name }

// longList is how many launches a list may have before the executor gets it, so
// that the card does not wait for the host to finish a whole pass.
const longList = 256

// lock begins an operation. Between it and unlock a list is only flushed where
// the operation asks for that, so that what it uploads stays in place.
func (d *dev) lock() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		panic("cuda: used after Close")
	}
	if len(d.cur.items) >= longList || len(d.cur.frees) > 0 {
		d.flush() // what was freed may be what comes to be allocated
	}
}

func (d *dev) unlock() { d.mu.Unlock() }

// flush hands the list to the executor.
func (d *dev) flush() {
	if d.cur.empty() {
		return
	}
	d.flushes++
	d.ex.requests <- request{list: d.cur}
	d.cur = <-d.ex.lists
}

// do runs f in the executor's thread, behind the lists that were handed over. A
// failure sticks; after one f is not run.
func (d *dev) do(f func() error) error {
	if err := d.ex.err(); err != nil {
		return err
	}
	return d.ex.fail(d.ex.call(f))
}

// failed tells whether the driver has reported a failure.
func (d *dev) failed() bool { return d.ex.failure.Load() != nil }

// allocate returns memory of the card, a multiple of 256, and 0 for none or where
// the driver fails. release gives it back once the current list is done.
func (d *dev) allocate(bytes int) devptr {
	p, err := d.reserve(bytes)
	d.ex.fail(err)
	return p
}

// reserve is allocate whose failure is not the device's yet.
func (d *dev) reserve(bytes int) (p devptr, err error) {
	if bytes == 0 {
		return 0, nil
	}
	if err := d.ex.err(); err != nil {
		return 0, err
	}
	err = d.ex.call(func() (err error) {
		p, err = d.ex.allocate(bytes)
		return err
	})
	return p, err
}

func (d *dev) release(p devptr) {
	if p != 0 {
		d.cur.frees = append(d.cur.frees, p)
	}
}

// Sync waits for all work and returns the first failure since Open.
func (d *dev) Sync() error {
	d.lock()
	defer d.unlock()
	d.flush()
	d.do(func() error { return driver.Wrap("cuStreamSynchronize", d.ex.stream.Synchronize()) })
	return d.sticky()
}

func (d *dev) sticky() error {
	if err := d.ex.err(); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// Kept is how many bytes d holds for what it makes next. They are taken, says the driver
// (Info.Free), and yet d may use them. 0 where it does not say.
func Kept(d device.Device) (bytes int64) {
	x, ok := d.(*dev)
	if !ok {
		return 0
	}
	x.lock()
	defer x.unlock()
	err := x.ex.call(func() (err error) {
		bytes, err = x.ex.pool.Kept()
		return err
	})
	if err != nil {
		return 0
	}
	return bytes
}

// Profile has a profiler look at what d does from here on, or no longer, where it
// runs with one of NVIDIA's (ncu --profile-from-start off). What was asked of d before
// is done first, so that the marks stand between the work and not beside it. The calls
// are made where the context is current; a failure of theirs is d's business no
// further.
func Profile(d device.Device, on bool) error {
	x, ok := d.(*dev)
	if !ok {
		return fmt.Errorf("cuda: %s cannot be profiled: it is no CUDA device", d.Name())
	}
	if err := x.Sync(); err != nil {
		return err
	}
	x.lock()
	defer x.unlock()
	return x.ex.call(func() error { return driver.Profile(on) })
}

// Close waits for all work, gives everything back, buffers included, and returns
// the first failure since Open. A second Close does nothing.
func (d *dev) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.flush()
	d.ex.fail(d.ex.call(d.ex.close))
	d.ex.stop()
	return d.sticky()
}
