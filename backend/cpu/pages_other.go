//go:build !linux

package cpu

// floats returns n zeroed floats.
func floats[T real](n int) []T { return make([]T, n) }
