package device

import "testing"

// TestLogitsPitch: a row has room for the vocabulary, in an odd number of lines.
func TestLogitsPitch(t *testing.T) {
	for vocab, want := range map[int]int{1: 32, 32: 32, 33: 96, 64: 96, 1024: 1056, 32000: 32032, 128256: 128288} {
		if have := LogitsPitch(vocab); have != want {
			t.Errorf("a vocabulary of %d: %d, want %d", vocab, have, want)
		}
	}
}
