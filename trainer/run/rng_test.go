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

func TestRand(t *testing.T) {
	a, b := Rand(1, "x", 2), Rand(1, "x", 2)
	same, sum := 0, 0.0
	other := Rand(1, "x", 3)
	for range 1000 {
		x := a.Uint64()
		if x != b.Uint64() {
			t.Fatal("the same stream twice is not the same")
		}
		if x == other.Uint64() {
			same++
		}
		sum += float64(x) / (1 << 64)
	}
	if same > 0 || sum < 450 || sum > 550 {
		t.Errorf("%d equal draws of two streams; mean %v of one", same, sum/1000)
	}
}
