package llama

import (
	"errors"

	"nrt/backend/device"
)

// Floats counts numbers by the kind of buffer that holds them.
type Floats struct{ Compute, Wide int }

// Bytes is what they take on a device.
func (f Floats) Bytes(dev device.Device) int64 {
	return dev.Bytes(device.Compute, int64(f.Compute)) + dev.Bytes(device.Wide, int64(f.Wide))
}

// scratch is a buffer that grows to the largest size asked for.
type scratch struct {
	dev  device.Device
	kind device.Kind
	buf  device.Buffer
	view device.Buffer // of what was asked for last
}

// take returns n floats of undefined content; the next take reuses them.
func (s *scratch) take(n int) device.Buffer {
	s.grow(n)
	if s.view == nil || s.view.Len() != n {
		s.view = s.buf.View(0, n)
	}
	return s.view
}

// grow makes room for n floats.
func (s *scratch) grow(n int) {
	if s.held() < n {
		s.free()
		s.buf = s.dev.AllocAs(s.kind, n)
	}
}

// reserve is grow where there may be no memory.
func (s *scratch) reserve(n int) (err error) {
	if s.held() < n {
		s.free()
		s.buf, err = s.dev.Reserve(s.kind, n)
	}
	return err
}

// held is how many numbers its memory has room for.
func (s *scratch) held() int {
	if s.buf == nil {
		return 0
	}
	return s.buf.Len()
}

func (s *scratch) free() {
	if s.buf != nil {
		s.dev.Free(s.buf)
		s.buf, s.view = nil, nil
	}
}

// arena is two buffers, of kinds Compute and Wide, that a layout function divides: it
// is called once to count and once to take, and what it took is undefined content.
type arena struct {
	narrow, broad region
	dry           bool // only counting
}

// region is one buffer of an arena and how much of it is handed out.
type region struct {
	memory scratch
	used   int
}

func newArena(dev device.Device) arena {
	return arena{narrow: region{memory: scratch{dev: dev}}, broad: region{memory: scratch{dev: dev, kind: device.Wide}}}
}

// layout divides the buffers anew, and replaces those that are too small.
func (a *arena) layout(divide func(*arena)) {
	a.count(divide)
	a.narrow.memory.grow(a.narrow.used)
	a.broad.memory.grow(a.broad.used)
	a.narrow.used, a.broad.used, a.dry = 0, 0, false
	divide(a)
}

// reserve makes the buffers large enough for a layout that is still to come.
func (a *arena) reserve(divide func(*arena)) error {
	a.count(divide)
	return errors.Join(a.narrow.memory.reserve(a.narrow.used), a.broad.memory.reserve(a.broad.used))
}

// count lets a layout take nothing, for used.
func (a *arena) count(divide func(*arena)) {
	a.narrow.used, a.broad.used, a.dry = 0, 0, true
	divide(a)
}

// take returns the next n floats, wide the next n of kind Wide.
func (a *arena) take(n int) device.Buffer { return a.next(&a.narrow, n) }
func (a *arena) wide(n int) device.Buffer { return a.next(&a.broad, n) }

func (a *arena) next(r *region, n int) device.Buffer {
	// Whole cache lines, and some between one and the next: rows of a power of two
	// in size would otherwise all begin at the same place of a cache.
	const line, apart = 16, 37 // floats, lines
	off := r.used
	r.used += ((n+line-1)/line + apart) * line
	if a.dry {
		return nil
	}
	return r.memory.buf.View(off, n)
}

func (a *arena) free() {
	a.narrow.memory.free()
	a.broad.memory.free()
}

// keptLogits is memory for the logits of all that is classified after a Forward.
type keptLogits struct {
	memory scratch
	all    device.Buffer
	used   int        // numbers of all since begin
	calls  int        // of next since begin
	parts  []keptPart // what each call got: often the same after the next Forward
}

// keptPart is the numbers from first on.
type keptPart struct {
	first int
	device.Buffer
}

func (l *keptLogits) begin() { l.used, l.calls = 0, 0 }

// next returns a buffer for the logits of n targets, or nil if they would be more
// than most since begin.
func (l *keptLogits) next(n, most, vocab int) device.Buffer {
	size := device.LogitsLen(n, vocab)
	if n == 0 || l.used+size > device.LogitsLen(most, vocab) {
		return nil
	}
	if all := l.memory.take(device.LogitsLen(most, vocab)); all != l.all {
		l.all, l.parts = all, nil
	}
	if l.calls == len(l.parts) {
		l.parts = append(l.parts, keptPart{})
	}
	p := &l.parts[l.calls]
	if p.Buffer == nil || p.first != l.used || p.Len() != size {
		*p = keptPart{l.used, l.all.View(l.used, size)}
	}
	l.used += size
	l.calls++
	return p.Buffer
}

func (l *keptLogits) free() {
	l.memory.free()
	l.all, l.parts = nil, nil
}
