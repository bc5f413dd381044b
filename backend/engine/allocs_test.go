package engine

import "testing"

// TestNoAllocations: a step of sampling takes no memory but that of its results:
// the list of what was drawn, and now and then a longer chain.
func TestNoAllocations(t *testing.T) {
	e := New(newModel(t, false), nil, Options{})
	defer e.Close()
	r := request(3, 4)
	r.Sampling = Sampling{Temperature: 1, TopP: 0.95}
	r.MaxChain, r.Stop, r.Close, r.Reference, r.Baseline, r.MaxAnswer = 50, nil, nil, nil, false, 0
	if err := e.check(&r); err != nil {
		t.Fatal(err)
	}
	if err := e.reserve(memoryOf(e.model.Config, e.opts, []Request{r})); err != nil {
		t.Fatal(err)
	}
	b := newBatch(e, []Request{r}, nil)
	defer b.release()
	for i := range b.results[0].Chains {
		b.results[0].Chains[i].Tokens = make([]Token, 0, r.MaxChain)
	}
	for range 20 {
		b.step()
	}
	const drawn = 1
	if a := testing.AllocsPerRun(20, b.step); a > drawn {
		t.Errorf("a step of sampling: %v allocations, want %d", a, drawn)
	}
	if len(b.active) != 1 || len(b.results[0].Chains[3].Tokens) < 41 {
		t.Fatal("the chains ended before the measurement did")
	}
}
