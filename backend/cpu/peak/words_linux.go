package peak

import (
	"syscall"
	"unsafe"
)

// Words is memory to Read, n words, on large pages where the system gives them:
// with small ones, looking up addresses would be what is measured.
func Words(n int) []uint64 {
	const page = 2 << 20
	words := make([]uint64, n+page/8)
	skip := (page - uintptr(unsafe.Pointer(&words[0]))%page) % page / 8
	words = words[skip:][:n]
	if n >= page/8 {
		whole := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n*8/page*page)
		_ = syscall.Madvise(whole, syscall.MADV_HUGEPAGE) // a wish: all works without
	}
	fill(words)
	return words
}
