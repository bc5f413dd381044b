package data

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func examples(n int) []Example {
	list := make([]Example, n)
	for i := range list {
		list[i] = Example{Question: fmt.Sprintf("q%d", i), Answer: fmt.Sprintf("a%d", i), Line: i + 1}
	}
	return list
}

func sampler(t *testing.T, list []Example, seed uint64) *Sampler {
	t.Helper()
	s, err := NewSampler(list, seed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEpochs(t *testing.T) {
	const n = 13
	s := sampler(t, examples(n), 7)
	var all []int
	for len(all) < 4*n {
		all = append(all, s.Next(4)...)
	}
	for e := range 4 {
		epoch := slices.Clone(all[e*n : (e+1)*n])
		if e > 0 && slices.Equal(epoch, all[(e-1)*n:e*n]) {
			t.Errorf("epoch %d has the order of the one before", e)
		}
		slices.Sort(epoch)
		for i, x := range epoch {
			if i != x {
				t.Fatalf("epoch %d is no permutation: %v", e, all[e*n:(e+1)*n])
			}
		}
	}
	if got := s.Epoch(); got != 4 {
		t.Errorf("epoch %v, want 4", got)
	}
	if one := sampler(t, examples(1), 0).Next(3); !slices.Equal(one, []int{0, 0, 0}) {
		t.Errorf("of one example: %v", one)
	}
}

// The order of a seed is fixed for good: a run must resume under a later version.
// The numbers come from a separate implementation of PCG-DXSM and the shuffle.
func TestOrderGolden(t *testing.T) {
	for _, c := range []struct {
		seed  uint64
		epoch int
		want  []int
	}{
		{42, 0, []int{2, 3, 9, 6, 0, 8, 7, 4, 5, 1}},
		{42, 1, []int{4, 1, 5, 2, 3, 6, 7, 9, 0, 8}},
		{43, 0, []int{6, 5, 1, 0, 2, 8, 7, 4, 3, 9}},
	} {
		if got := permutation(c.seed, c.epoch, 10); !slices.Equal(got, c.want) {
			t.Errorf("seed %d, epoch %d: have %v, want %v", c.seed, c.epoch, got, c.want)
		}
	}
}

// Every place is as likely for every example: χ² over 10 places × 10 examples.
func TestShuffleUniform(t *testing.T) {
	const n, rounds = 10, 20_000
	var count [n][n]int
	for e := range rounds {
		for place, x := range permutation(1, e, n) {
			count[place][x]++
		}
	}
	chi := 0.0
	for _, row := range count {
		for _, c := range row {
			d := float64(c) - rounds/n
			chi += d * d / (rounds / n)
		}
	}
	// 81 degrees of freedom: mean 81, deviation 12.7.
	if chi > 81+5*12.7 || chi < 81-5*12.7 {
		t.Errorf("χ² = %.1f, want about 81", chi)
	}
}

// A draw has no number twice, and every number is as likely.
func TestDraw(t *testing.T) {
	count := make([]int, 10)
	for seed := range uint64(3000) {
		got := Draw(10, 4, seed)
		if len(got) != 4 || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != 4 || !slices.Equal(got, Draw(10, 4, seed)) {
			t.Fatalf("seed %d: %v", seed, got)
		}
		for _, x := range got {
			count[x]++
		}
	}
	for x, c := range count {
		if c < 1050 || c > 1350 { // 1200 ± 5.6 deviations
			t.Errorf("%d is drawn %d times of 3000", x, c)
		}
	}
	if got := Draw(3, 9, 1); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("9 of 3: %v", got)
	}
}

func TestRestore(t *testing.T) {
	list := examples(11)
	for at := range 40 {
		a := sampler(t, list, 3)
		a.Next(at)
		raw, err := json.Marshal(a.State())
		if err != nil {
			t.Fatal(err)
		}
		var p Position
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		b := sampler(t, list, 3)
		if err := b.Restore(p); err != nil {
			t.Fatal(err)
		}
		if x, y := a.Next(25), b.Next(25); !slices.Equal(x, y) {
			t.Fatalf("after %d: %v, restored %v", at, x, y)
		}
	}
}

func TestRestoreErrors(t *testing.T) {
	good := sampler(t, examples(5), 1).State()
	for _, c := range []struct {
		name   string
		change func(*Position, *[]Example)
		want   string
	}{
		{"fewer", func(_ *Position, e *[]Example) { *e = (*e)[:4] }, "used 5 examples, now there are 4"},
		{"other text", func(_ *Position, e *[]Example) { (*e)[2].Answer += "!" }, "the examples differ"},
		{"other order", func(_ *Position, e *[]Example) { (*e)[0], (*e)[1] = (*e)[1], (*e)[0] }, "the examples differ"},
		{"seed", func(p *Position, _ *[]Example) { p.Seed = 2 }, "used seed 2, now it is 1"},
		{"index", func(p *Position, _ *[]Example) { p.Index = 5 }, "out of range"},
		{"negative", func(p *Position, _ *[]Example) { p.Epoch = -1 }, "out of range"},
	} {
		p, list := good, examples(5)
		c.change(&p, &list)
		s := sampler(t, list, 1)
		before := s.State()
		if err := s.Restore(p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: have %v, want %s", c.name, err, c.want)
		}
		if s.State() != before {
			t.Errorf("%s: the sampler moved", c.name)
		}
	}
	if _, err := NewSampler(nil, 1); err == nil {
		t.Error("no error for no examples")
	}
}

func TestFingerprint(t *testing.T) {
	base := []Example{{Question: "ab", Answer: "c"}, {Text: "t"}, {Question: "q", Answer: "a", Messages: []Message{{Role: "user", Content: "q"}}}}
	seen := map[string]string{fingerprint(base): "base"}
	for name, list := range map[string][]Example{
		"none":           nil,
		"moved border":   {{Question: "a", Answer: "bc"}, base[1], base[2]},
		"text as answer": {base[0], {Answer: "t"}, base[2]},
		"role":           {base[0], base[1], {Question: "q", Answer: "a", Messages: []Message{{Role: "tool", Content: "q"}}}},
		"order":          {base[1], base[0], base[2]},
	} {
		fp := fingerprint(list)
		if other, ok := seen[fp]; ok || len(fp) != 32 {
			t.Errorf("%s has the fingerprint of %s", name, other)
		}
		seen[fp] = name
	}
	named := slices.Clone(base)
	named[0].File, named[0].Line, named[0].Extra = "x", 9, extra("id", "1")
	if fingerprint(named) != fingerprint(base) {
		t.Error("the file's name changes the fingerprint")
	}
}

// Shared counts held examples, not questions, and goes by what the policy is asked:
// another answer is no other question, another turn before it is.
func TestShared(t *testing.T) {
	asked := func(q, a string, before ...Message) Example {
		return Example{Question: q, Answer: a, Messages: before}
	}
	system := Message{Role: "system", Content: "briefly"}
	train := []Example{asked("q", "a"), asked("q", "b"), asked("r", "a", system), {Text: "t"}}
	for _, c := range []struct {
		held []Example
		want int
	}{
		{nil, 0},
		{[]Example{asked("q", "c"), asked("q", "a"), asked("s", "a")}, 2},
		{[]Example{asked("r", "a"), asked("r", "z", system), asked("q", "a", system)}, 1},
		{[]Example{{Text: "t"}, {Text: "u"}, asked("t", "")}, 1},
		{[]Example{asked("q", "a", Message{"user", "q"}), asked("q", "a", Message{"user", "p"}, Message{"assistant", "o"}, Message{"user", "q"})}, 1},
	} {
		if n := Shared(train, c.held); n != c.want {
			t.Errorf("%v: have %d, want %d", c.held, n, c.want)
		}
	}
	if n := Shared(nil, train); n != 0 {
		t.Errorf("with nothing: %d", n)
	}
}

func TestSplit(t *testing.T) {
	list := examples(4000)
	list = append(list, list[:500]...) // repeated questions
	train, held := Split(list, 0.1, 5)
	if len(train)+len(held) != len(list) || len(held) < 360 || len(held) > 540 {
		t.Fatalf("%d + %d of %d", len(train), len(held), len(list))
	}
	side := map[string]bool{}
	for _, e := range held {
		side[e.Question] = true
	}
	for _, e := range train {
		if side[e.Question] {
			t.Fatalf("%s is on both sides", e.Question)
		}
	}
	if n := Shared(train, held); n != 0 {
		t.Errorf("%d shared by the two sides", n)
	}
	// One more line moves no other.
	_, more := Split(append(examples(1), list...), 0.1, 5)
	if !reflect.DeepEqual(more[len(more)-len(held):], held) {
		t.Error("a new line moved others")
	}
	if _, other := Split(list, 0.1, 6); reflect.DeepEqual(other, held) {
		t.Error("the seed does not matter")
	}
	if _, none := Split(list, 0, 5); none != nil {
		t.Error("share 0 holds some out")
	}
	if rest, _ := Split(list, 1, 5); rest != nil {
		t.Error("share 1 leaves some")
	}
}

func BenchmarkReader(b *testing.B) {
	line := `{"question": "` + strings.Repeat("how many ", 25) + `", "answer": "` + strings.Repeat("so many ", 30) + "\"}\n"
	text := strings.Repeat(line, 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, _, err := ReadFrom(strings.NewReader(text), "f", Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
