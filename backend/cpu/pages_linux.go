package cpu

import (
	"syscall"
	"unsafe"
)

// zeroed returns n zeroed elements. Matrix products and attention step through
// rows that lie pages apart, and decoding reads all weights for every token, so
// the kernel is asked for large pages; refused, the hint costs nothing.
func zeroed[T real | byte](n int) []T {
	const page = 2 << 20 // of every architecture that has this hint by default
	size := int(unsafe.Sizeof(*new(T)))
	if n*size < page {
		return make([]T, n)
	}
	x := make([]T, n+page/size)
	skip := (page - int(uintptr(unsafe.Pointer(&x[0]))%page)) % page / size
	x = x[skip : skip+n : skip+n]
	// An error means small pages, which serve as well.
	_ = syscall.Madvise(unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), n*size/page*page), syscall.MADV_HUGEPAGE)
	return x
}

// slab hands memory out front to back, and is collected as a whole: matrices
// smaller than a large page share some. Untouched pages cost nothing.
type slab struct{ left []byte }

// take returns n zeroed elements, on a cache line of their own.
func take[T real | uint16 | byte](s *slab, n int) []T {
	const line, chunk = 64, 16 << 20
	size := (n*int(unsafe.Sizeof(*new(T))) + line - 1) &^ (line - 1)
	if size > len(s.left) {
		s.left = zeroed[byte](max(size, chunk))
	}
	b := s.left[:size:size]
	s.left = s.left[size:]
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}
