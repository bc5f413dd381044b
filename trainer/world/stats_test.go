package world

import (
	"strings"
	"testing"
)

// TestLengths holds the sequences to the budget and logs their statistics
// (tokens with <bos> and <eos>).
func TestLengths(t *testing.T) {
	w := New(1)
	type stat struct{ docs, tokens, longest, over50 int }
	stats := map[string]*stat{}
	for text := range w.Pretrain(40_000, 3) {
		family, _, _ := strings.Cut(text, " ")
		if !strings.Contains(text, Think) {
			family += " sheet"
		}
		for _, key := range []string{family, "all"} {
			s := stats[key]
			if s == nil {
				s = &stat{}
				stats[key] = s
			}
			n := len(strings.Fields(text)) + 2
			s.docs++
			s.tokens += n
			s.longest = max(s.longest, n)
			if n > 50 {
				s.over50++
			}
		}
	}
	for key, s := range stats {
		t.Logf("%-10s %6d documents, %.1f tokens on average, at most %d, %.1f %% over 50",
			key, s.docs, float64(s.tokens)/float64(s.docs), s.longest, 100*float64(s.over50)/float64(s.docs))
	}
	t.Logf("%d words", len(w.Words())+len(Specials()))
	t.Log("\n" + w.Describe())
}
