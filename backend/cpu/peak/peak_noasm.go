//go:build !amd64

package peak

func fmaLanes(string) int { return 0 }

func fma(string, int) float32 { return 0 }

func read(_ string, words []uint64) uint64 { return readGo(words) }
