//go:build cuda

package cuda

import (
	"unsafe"

	"gorgonia.org/cu"
	"nrt/backend/cuda/internal/driver"
)

// stageBytes is one half of the pinned memory that transfers go through.
const stageBytes = 4 << 20

// stage is pinned memory in two halves: while the card copies one, the host fills
// or empties the other. Small transfers follow each other within a half.
type stage struct {
	half   [2][]byte
	done   [2]cu.Event // the card has finished with this half
	marked [2]bool     // done was recorded and not waited for
	now    int         // the half in use
	used   int         // bytes of it
}

func (s *stage) open(undo func(func() error)) error {
	for i := range s.half {
		var err error
		if s.half[i], err = driver.HostAlloc(stageBytes); err != nil {
			return err
		}
		undo(func() error { return driver.HostFree(s.half[i]) })
		if s.done[i], err = cu.MakeEvent(cu.DisableTiming); err != nil {
			return driver.Wrap("cuEventCreate", err)
		}
		undo(func() error { return driver.Wrap("cuEventDestroy", cu.DestroyEvent(&s.done[i])) })
	}
	return nil
}

// take returns n bytes of pinned memory for a copy that is enqueued next.
func (s *stage) take(n int, stream cu.Stream) ([]byte, error) {
	if s.used+n > stageBytes {
		if err := s.flip(stream); err != nil {
			return nil, err
		}
	}
	b := s.half[s.now][s.used : s.used+n : s.used+n]
	s.used += (n + 15) &^ 15
	return b, nil
}

// flip goes on with the other half, as soon as the card has finished with it.
func (s *stage) flip(stream cu.Stream) error {
	if err := s.done[s.now].Record(stream); err != nil {
		return driver.Wrap("cuEventRecord", err)
	}
	s.marked[s.now] = true
	s.now, s.used = 1-s.now, 0
	return s.wait(s.now)
}

func (s *stage) wait(i int) error {
	if !s.marked[i] {
		return nil
	}
	s.marked[i] = false
	return driver.Wrap("cuEventSynchronize", s.done[i].Synchronize())
}

// copyIn enqueues a copy of n bytes to the card. fill writes them into pinned
// memory, in order, from byte at on.
func (x *executor) copyIn(dst devptr, n int, fill func(pinned []byte, at int)) error {
	for at := 0; at < n; {
		pinned, err := x.stage.take(min(n-at, stageBytes), x.stream)
		if err != nil {
			return err
		}
		fill(pinned, at)
		err = cu.MemcpyHtoDAsync(cu.DevicePtr(dst)+cu.DevicePtr(at), unsafe.Pointer(&pinned[0]), int64(len(pinned)), x.stream)
		if err != nil {
			return driver.Wrap("cuMemcpyHtoDAsync", err)
		}
		at += len(pinned)
	}
	return nil
}

// copyOut copies n bytes from the card and waits for them. take receives them in
// order, from byte at on; meanwhile the next part is under way.
func (x *executor) copyOut(src devptr, n int, take func(pinned []byte, at int)) error {
	var last []byte // under way, or arrived
	from := 0       // where it starts
	for at := 0; at < n; {
		pinned, err := x.stage.take(min(n-at, stageBytes), x.stream)
		if err != nil {
			return err
		}
		err = cu.MemcpyDtoHAsync(unsafe.Pointer(&pinned[0]), cu.DevicePtr(src)+cu.DevicePtr(at), int64(len(pinned)), x.stream)
		if err != nil {
			return driver.Wrap("cuMemcpyDtoHAsync", err)
		}
		if last != nil {
			if err := x.stage.wait(1 - x.stage.now); err != nil {
				return err
			}
			take(last, from)
		}
		last, from = pinned, at
		at += len(pinned)
	}
	if err := x.stream.Synchronize(); err != nil {
		return driver.Wrap("cuStreamSynchronize", err)
	}
	if last != nil {
		take(last, from)
	}
	return nil
}

// floatsOf is pinned memory as floats.
func floatsOf(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}
