//go:build !linux

package peak

// Words is memory to Read, n words.
func Words(n int) []uint64 {
	words := make([]uint64, n)
	fill(words)
	return words
}
