//go:build cuda

package cuda

import (
	"errors"
	"runtime"
	"sync/atomic"
	"unsafe"

	"gorgonia.org/cu"
	"nrt/backend/cuda/internal/driver"
)

// executor is the one goroutine that talks to the driver, locked to a thread of
// the system in which the card's primary context is current. It receives lists
// of work and single calls, in order, and enqueues them in one stream: what is
// freed is used again by what comes later, and nothing else needs to wait.
type executor struct {
	requests chan request
	lists    chan *list // empty ones
	replies  chan error // of a request with do
	gone     chan struct{}

	failure atomic.Pointer[error] // the first one

	card    *card
	stream  cu.Stream
	pool    driver.Pool
	stage   stage
	ptx     map[string]string
	modules map[string]cu.Module
	graphs  graphs
	live    map[devptr]bool
	opened  []func() error // undoes what open did, last first
}

// request is a list to run, or a function to call.
type request struct {
	list *list
	do   func() error
}

// inFlight is how many lists are under way: one is filled while others run.
const inFlight = 3

func newExecutor(c *card, ptx map[string]string) *executor {
	x := &executor{
		requests: make(chan request, inFlight), lists: make(chan *list, inFlight), replies: make(chan error),
		gone: make(chan struct{}), card: c, ptx: ptx, modules: map[string]cu.Module{}, live: map[devptr]bool{},
	}
	for range inFlight {
		x.lists <- &list{}
	}
	return x
}

// run serves until requests is closed.
func (x *executor) run() {
	// The thread ends with the goroutine, and the context with it stays behind.
	runtime.LockOSThread()
	for r := range x.requests {
		if r.do != nil {
			x.replies <- r.do()
			continue
		}
		x.fail(x.runList(r.list))
		r.list.reset()
		x.lists <- r.list
	}
	close(x.gone)
}

// call runs f in the executor's thread.
func (x *executor) call(f func() error) error {
	x.requests <- request{do: f}
	return <-x.replies
}

// stop ends the goroutine, after close.
func (x *executor) stop() {
	close(x.requests)
	<-x.gone
}

// fail keeps the first failure.
func (x *executor) fail(err error) error {
	if err != nil {
		first := err // so that err itself stays on the stack
		x.failure.CompareAndSwap(nil, &first)
	}
	return err
}

// err is the first failure.
func (x *executor) err() error {
	if p := x.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// open makes the context, the stream and the memory that the executor needs.
// After an error close undoes what was done.
func (x *executor) open() error {
	undo := func(f func() error) { x.opened = append(x.opened, f) }
	ctx, err := x.card.dev.RetainPrimaryCtx()
	if err != nil {
		return driver.Wrap("cuDevicePrimaryCtxRetain", err)
	}
	undo(func() error { return driver.Wrap("cuDevicePrimaryCtxRelease", x.card.dev.ReleasePrimaryCtx()) })
	if err := cu.SetCurrentContext(ctx); err != nil {
		return driver.Wrap("cuCtxSetCurrent", err)
	}
	undo(func() error { return driver.Wrap("cuCtxSetCurrent", cu.SetCurrentContext(cu.CUContext{})) })
	if x.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return driver.Wrap("cuStreamCreate", err)
	}
	undo(func() error { return driver.Wrap("cuStreamDestroy", x.stream.Destroy()) })
	if x.pool, err = driver.NewPool(x.card.dev); err != nil {
		return err
	}
	undo(x.pool.Destroy)
	return x.stage.open(undo)
}

// close frees everything and returns the first failure to do so.
func (x *executor) close() error {
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	for _, g := range x.graphs.known {
		keep(g.destroy())
	}
	if len(x.opened) > 0 && len(x.live) > 0 {
		for p := range x.live {
			keep(x.pool.Free(cu.DevicePtr(p), x.stream))
		}
		keep(driver.Wrap("cuStreamSynchronize", x.stream.Synchronize()))
	}
	for _, m := range x.modules {
		keep(driver.Wrap("cuModuleUnload", m.Unload()))
	}
	for i := len(x.opened) - 1; i >= 0; i-- {
		keep(x.opened[i]())
	}
	x.opened = nil
	return errors.Join(errs...)
}

// runList enqueues the work of a list. Of a device that has failed only the
// memory is given back.
func (x *executor) runList(l *list) error {
	err := x.err()
	for _, a := range l.args {
		if err == nil {
			err = x.copyIn(a.base, len(a.host), func(to []byte, at int) { copy(to, a.host[at:]) })
		}
	}
	if err == nil && len(l.items) > 0 {
		err = x.graphs.run(x, l)
	}
	for _, p := range l.frees {
		if f := x.free(p); err == nil {
			err = f
		}
	}
	return err
}

// enqueue launches the items of a list one by one.
func (x *executor) enqueue(l *list) error {
	for i := 0; i < len(l.items); {
		if it := &l.items[i]; it.Fn == 0 {
			args := l.params[it.Off : it.Off+uint64(it.Bytes)]
			words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(args))), len(args)/8)
			if err := l.calls[it.Grid[0]].run(x.stream, words); err != nil {
				return err
			}
			i++
			continue
		}
		end := i + 1
		for end < len(l.items) && l.items[end].Fn != 0 {
			end++
		}
		if err := driver.LaunchAll(l.items[i:end], l.params, x.stream); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// load compiles a file of kernels, unless it was, and looks one up.
func (x *executor) load(k *kernel, file, name string) error {
	m, ok := x.modules[file]
	if !ok {
		var err error
		if m, err = driver.LoadModule(x.ptx[file]); err != nil {
			return err
		}
		x.modules[file] = m
	}
	fn, err := m.Function(name)
	if err != nil {
		return driver.Wrap("cuModuleGetFunction "+name, err)
	}
	k.fn, k.handle = fn, driver.FunctionHandle(fn)
	return nil
}

// allocate returns memory for work that is enqueued from here on.
func (x *executor) allocate(bytes int) (devptr, error) {
	p, err := x.pool.Alloc(bytes, x.stream)
	if driver.OutOfMemory(err) {
		// What was freed may still be in use; then it is there after waiting.
		if err := x.stream.Synchronize(); err != nil {
			return 0, driver.Wrap("cuStreamSynchronize", err)
		}
		if err := x.pool.Trim(); err != nil {
			return 0, err
		}
		p, err = x.pool.Alloc(bytes, x.stream)
	}
	if err != nil {
		return 0, err
	}
	x.live[devptr(p)] = true
	return devptr(p), nil
}

func (x *executor) free(p devptr) error {
	delete(x.live, p)
	return x.pool.Free(cu.DevicePtr(p), x.stream)
}

// reset empties a list and keeps its memory.
func (l *list) reset() {
	if n := len(l.args); n > 0 {
		l.host = l.args[n-1].host[:0]
	}
	clear(l.args)
	clear(l.calls)
	l.items, l.params, l.calls, l.args, l.frees = l.items[:0], l.params[:0], l.calls[:0], l.args[:0], l.frees[:0]
}

func (l *list) empty() bool { return len(l.items) == 0 && len(l.args) == 0 && len(l.frees) == 0 }
