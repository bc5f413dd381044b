package cpu

import (
	"syscall"
	"unsafe"
)

// slab is memory on large pages, handed out front to back and collected as a
// whole: reading all weights for every token would otherwise miss the
// translation buffer at every fourth kilobyte. Untouched pages cost nothing.
type slab struct{ left []byte }

// take returns n zeroed elements, on a cache line of their own.
func take[T real | uint16 | byte](s *slab, n int) []T {
	const line, page, chunk, madviseHuge = 64, 2 << 20, 64 << 20, 14
	size := (n*int(unsafe.Sizeof(*new(T))) + line - 1) &^ (line - 1)
	if size > len(s.left) {
		b := make([]byte, max(size, chunk)+page)
		b = b[-uintptr(unsafe.Pointer(&b[0]))%page:]
		b = b[:len(b)&^(line-1)]
		// A hint: where it is not taken all works as before.
		_ = syscall.Madvise(b[:len(b)&^(page-1)], madviseHuge)
		s.left = b
	}
	b := s.left[:size:size]
	s.left = s.left[size:]
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}
