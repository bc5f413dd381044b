package cpu

import (
	"syscall"
	"unsafe"
)

// floats returns n zeroed floats. Matrix products and attention step through
// rows that lie pages apart, so the kernel is asked for large pages; refused, the
// hint costs nothing.
func floats[T real](n int) []T {
	const page = 2 << 20 // of every architecture that has this hint by default
	var one T
	size := int(unsafe.Sizeof(one))
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
