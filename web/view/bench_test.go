package view

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// big is a reading of k chains and an answer of n words.
func big(k, n int) State {
	r := rand.New(rand.NewPCG(1, 2))
	e := Example{Name: "big", Ask: wire.Ask{Model: "m", Question: "Why?", Answer: "because", K: k, MaxChain: 256}, Start: wire.Start{Model: "m", K: k}}
	texts, base := make([]string, n), make([]float64, n)
	for i := range n {
		texts[i], base[i] = " word", -3*r.Float64()
		e.Start.Answer = append(e.Start.Answer, wire.Piece{ID: int32(i), Text: " word"})
	}
	e.Frame.Tokens = append(e.Frame.Tokens, tokens(-1, wire.PartBaseline, texts, base))
	for c := range k {
		lp := make([]float64, n)
		for i := range lp {
			lp[i] = -2 * r.Float64()
		}
		e.Frame.Tokens = append(e.Frame.Tokens, tokens(c, wire.PartChain, texts, nil), tokens(c, wire.PartReference, texts, lp))
		e.Frame.Done = append(e.Frame.Done, wire.Done{Chain: c, Finish: "length"})
	}
	return New([]Example{e})
}

// drawAll makes every fragment and returns how many bytes they have.
func drawAll(s *State) int {
	n := 0
	for _, id := range Containers {
		n += len(Fragment(s, id))
	}
	return n
}

// A switch of the formula, from the action to all fragments, fits a frame.
func TestModeSwitchFitsAFrame(t *testing.T) {
	s := big(16, 256)
	drawAll(&s)
	best := time.Hour
	bytes := 0
	for i := range 12 {
		began := time.Now()
		s, _ = s.Do("mode", reward.Modes()[i%6].String())
		bytes = drawAll(&s)
		best = min(best, time.Since(began))
	}
	t.Logf("16 chains of 256 words: %v, %d kB of HTML", best, bytes/1000)
	if best > 16*time.Millisecond {
		t.Errorf("a mode switch takes %v; a frame has 16 ms", best)
	}
}

func BenchmarkModeSwitch(b *testing.B) {
	s := big(16, 256)
	for i := 0; b.Loop(); i++ {
		s, _ = s.Do("mode", reward.Modes()[i%6].String())
		drawAll(&s)
	}
}

// BenchmarkClip is a change of an option, after which all six formulas are
// scored again.
func BenchmarkClip(b *testing.B) {
	s := big(16, 256)
	for i := 0; b.Loop(); i++ {
		s, _ = s.Do("clip", strconv.FormatBool(i%2 == 0))
		drawAll(&s)
	}
}

// BenchmarkFrame is a frame of the stream: sixteen chains, two tokens each.
func BenchmarkFrame(b *testing.B) {
	e := big(16, 256).Examples[0]
	start := e.Start
	start.ID = "q"
	s := New(nil)
	s.Link = Live
	s.Reading = &Reading{Ask: wire.Ask{Head: wire.Head{ID: "q"}, Model: "m", K: 16, MaxChain: 1 << 13}, Status: Asked}
	s = s.receives(&start)
	at := 0
	for b.Loop() {
		f := &wire.Frame{Head: wire.Head{ID: "q"}}
		for c := range 16 {
			t := tokens(c, wire.PartChain, []string{" a", " b"}, []float64{-1, -1})
			t.At = at % 400
			f.Tokens = append(f.Tokens, t)
		}
		at += 2
		s = s.receives(f)
		drawAll(&s)
	}
}
