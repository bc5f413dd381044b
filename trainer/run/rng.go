package run

import (
	"crypto/sha256"
	"encoding/binary"
)

// Seed derives an independent seed from the run's seed and what it is for: a
// purpose such as "rollout" and numbers such as step and question. No state of
// a random number generator is ever kept: what a resumed run draws follows from
// its counters, so it draws what the unbroken run would have.
func Seed(seed uint64, purpose string, index ...int) uint64 {
	// Hashed with the length of each part, so that no two different names are equal as
	// bytes.
	b := make([]byte, 0, 64)
	b = append(b, "nrt stream 1\n"...)
	b = binary.LittleEndian.AppendUint64(b, seed)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(purpose)))
	b = append(b, purpose...)
	for _, i := range index {
		b = binary.LittleEndian.AppendUint64(b, uint64(i))
	}
	key := sha256.Sum256(b)
	return binary.LittleEndian.Uint64(key[:8])
}
