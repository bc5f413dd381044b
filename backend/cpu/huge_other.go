//go:build !linux

package cpu

// slab is where memory comes from that large pages suit, on systems that take
// such hints.
type slab struct{}

// take returns n zeroed elements.
func take[T real | uint16 | byte](_ *slab, n int) []T { return make([]T, n) }
