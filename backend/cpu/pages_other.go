//go:build !linux

package cpu

// zeroed returns n zeroed elements.
func zeroed[T real](n int) []T { return make([]T, n) }

// slab is where weights get their memory; on Linux it gathers them on large
// pages.
type slab struct{}

// take returns n zeroed elements.
func take[T real | uint16 | byte](_ *slab, n int) []T { return make([]T, n) }
