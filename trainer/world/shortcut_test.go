package world

import "testing"

// TestNoShortcut: what can be read off one part of a question — its start, its
// last operation, its last two, its start and end — is little more than chance,
// so that a model without the chain stays near the logged figures.
func TestNoShortcut(t *testing.T) {
	const seed = 3
	w := New(seed)
	limits := map[string]float64{"kin": .15, "cups": .35, "calc": .16, "bool": .75, "step": .16, "why": .16, "date": .22}
	for _, f := range w.families {
		parts := map[string]func(p problem) [3]int{
			"start":          func(p problem) [3]int { return [3]int{p.start} },
			"last":           func(p problem) [3]int { return [3]int{p.seq[len(p.seq)-1]} },
			"last two":       func(p problem) [3]int { return [3]int(append([]int{0}, p.seq[len(p.seq)-2:]...)) },
			"start and last": func(p problem) [3]int { return [3]int{p.start, p.seq[len(p.seq)-1]} },
		}
		solve := func(items []Item) (all []problem) {
			for _, item := range items {
				all = append(all, mustParse(t, w, item.Question))
			}
			return all
		}
		train, test := solve(w.Train(6000, seed, f.name)), solve(w.HeldOut(1200, seed, f.name))
		for name, part := range parts {
			votes := map[[3]int][]int{}
			for _, p := range train {
				if votes[part(p)] == nil {
					votes[part(p)] = make([]int, len(f.states))
				}
				votes[part(p)][p.final()]++
			}
			right := 0
			for _, p := range test {
				best := 0
				for s, v := range votes[part(p)] {
					if v > votes[part(p)][best] {
						best = s
					}
				}
				if best == p.final() {
					right++
				}
			}
			share := float64(right) / float64(len(test))
			t.Logf("%s: %.3f from %s", f.name, share, name)
			if share > limits[f.name] {
				t.Errorf("seed %d: %s: %s gives the answer in %.3f, want at most %.2f", seed, f.name, name, share, limits[f.name])
			}
		}
	}
}
