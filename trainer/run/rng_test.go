package run

import (
	"fmt"
	"testing"
)

// Streams never change: a run must resume under a later version. The numbers
// come from a separate implementation (SHA-256 of the named parts).
func TestSeedGolden(t *testing.T) {
	for _, c := range []struct {
		have, want uint64
	}{
		{Seed(42, "rollout", 1, 2), 0x782daf956651ece8},
		{Seed(0, ""), 0x2dbfe32fdcc93988},
		{Seed(1<<64-1, "x", -1), 0x934eecf527c57513},
	} {
		if c.have != c.want {
			t.Errorf("have %#x, want %#x", c.have, c.want)
		}
	}
}

// Names that look alike have streams of their own.
func TestSeedsDiffer(t *testing.T) {
	seen := map[uint64]string{}
	note := func(name string, s uint64) {
		if other, ok := seen[s]; ok {
			t.Errorf("%s has the seed of %s", name, other)
		}
		seen[s] = name
	}
	for seed := range uint64(4) {
		for _, purpose := range []string{"", "a", "ab", "b", "a\x00"} {
			note(fmt.Sprint(seed, purpose), Seed(seed, purpose))
			for i := range 20 {
				note(fmt.Sprint(seed, purpose, i), Seed(seed, purpose, i))
				for j := range 20 {
					note(fmt.Sprint(seed, purpose, i, j), Seed(seed, purpose, i, j))
				}
			}
		}
	}
}
