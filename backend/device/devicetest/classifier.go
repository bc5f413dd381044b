package devicetest

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

func newClassified(n int) device.Classified {
	return device.Classified{LogProb: make([]float64, n), Entropy: make([]float64, n), LSE: make([]float64, n)}
}

// classify is the naive classifier.
func classify(h, w []float64, targets []int32, vocab, dim int, invTemp float64) device.Classified {
	c := newClassified(len(targets))
	logits := matmul(nil, h, w, len(targets), vocab, dim, false, true, false)
	for i, t := range targets {
		x := logits[i*vocab : (i+1)*vocab]
		for j := range x {
			x[j] *= invTemp
		}
		logp, lse := logSoftmax(x)
		c.LogProb[i], c.LSE[i] = logp[t], lse
		c.Entropy[i] = entropy(logp)
	}
	return c
}

func logSoftmax(x []float64) (logp []float64, lse float64) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range x {
		top = max(top, v)
	}
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	lse = top + math.Log(sum)
	for _, v := range x {
		logp = append(logp, v-lse)
	}
	return logp, lse
}

func entropy(logp []float64) float64 {
	var h float64
	for _, l := range logp {
		if p := math.Exp(l); p > 0 {
			h -= p * l
		}
	}
	return h
}

func testClassifier(s *suite) {
	for i := range 14 {
		rows, vocab, dim := s.size(), s.size(), s.size()
		invTemp := []float64{1, 0.5, 1.7}[i%3]
		s.classifier(rows, vocab, dim, invTemp, i%4 == 3)
	}
	// Past any chunk of the vocabulary, and any block of rows.
	s.classifier(3, 4100, 3, 1, false)
	s.places = 1
	s.classifier(520, 2049, 1, 0.9, false)
	// A certain row has no entropy, and one of equals has log vocab.
	h, w := s.put([]float64{1, 0}), s.put([]float64{300, 0, 0, 0, 0, 0})
	c := newClassified(2)
	s.d.Classifier(c, h.Buffer, w.Buffer, []int32{0, 3}, 6, 1, 1)
	s.near("sure", []float64{1 + c.LogProb[0], 1 + c.Entropy[0], c.LSE[0]}, []float64{1, 1, 300}, s.tol.Value)
	s.near("even", []float64{c.LogProb[1], c.Entropy[1], c.LSE[1]}, []float64{-math.Log(6), math.Log(6), math.Log(6)}, s.tol.Value)
}

func (s *suite) classifier(rows, vocab, dim int, invTemp float64, noEntropy bool) {
	s.Helper()
	what := fmt.Sprintf("(%d, %d, %d, %g)", rows, vocab, dim, invTemp)
	h, w := s.random(rows*dim), s.random(vocab*dim)
	targets := s.ids(rows, vocab)
	have, want := newClassified(rows), classify(h.x, w.x, targets, vocab, dim, invTemp)
	s.d.Classifier(have, h.Buffer, w.Buffer, targets, vocab, dim, invTemp)
	s.near("LogProb "+what, have.LogProb, want.LogProb, 2*s.tol.Value)
	s.near("Entropy "+what, have.Entropy, want.Entropy, 2*s.tol.Value)
	s.near("LSE "+what, have.LSE, want.LSE, 2*s.tol.Value)

	wl, we := make([]float64, rows), make([]float64, rows)
	for i := range wl {
		wl[i], we[i] = s.r.NormFloat64(), s.r.NormFloat64()
	}
	if noEntropy {
		we = nil
	}
	loss := func() float64 {
		c := classify(h.x, w.x, targets, vocab, dim, invTemp)
		l := -dot(wl, c.LogProb)
		if we != nil {
			l -= dot(we, c.Entropy)
		}
		return l
	}
	dh, dw := s.random(rows*dim), s.randomAs(device.Wide, vocab*dim)
	s.d.ClassifierBackward(dh.Buffer, dw.Buffer, h.Buffer, w.Buffer, targets, vocab, dim, invTemp, have, wl, we)
	s.gradient("dh "+what, h.x, s.get(dh.Buffer), loss)
	s.gradient("dw "+what, w.x, minus(s.get(dw.Buffer), dw.x), loss)
	alone := s.random(rows * dim)
	s.d.ClassifierBackward(alone.Buffer, nil, h.Buffer, w.Buffer, targets, vocab, dim, invTemp, have, wl, we)
	s.row("dh without dw "+what, s.get(alone.Buffer), s.get(dh.Buffer))

	// With the logits kept, in a part of a buffer, all is the same. They begin as NaN,
	// so that one that is read and was not left there shows.
	what += " kept"
	size, before, after := device.LogitsLen(rows, vocab), 2*device.LogitsPitch(vocab), 3
	odd := make([]float64, before+size+after)
	for i := range odd {
		odd[i] = math.NaN()
	}
	all := s.putAs(device.Wide, odd)
	kept := newClassified(rows)
	kept.Logits = all.View(before, size)
	s.d.Classifier(kept, h.Buffer, w.Buffer, targets, vocab, dim, invTemp)
	s.row("LogProb "+what, kept.LogProb, have.LogProb)
	s.row("Entropy "+what, kept.Entropy, have.Entropy)
	s.row("LSE "+what, kept.LSE, have.LSE)
	dh2, dw2 := s.random(rows*dim), s.putAs(device.Wide, dw.x)
	for range 2 { // and may be read twice
		s.d.Write64(dw2.Buffer, dw.x)
		s.d.ClassifierBackward(dh2.Buffer, dw2.Buffer, h.Buffer, w.Buffer, targets, vocab, dim, invTemp, kept, wl, we)
		s.row("dh "+what, s.get(dh2.Buffer), s.get(dh.Buffer))
		s.row("dw "+what, s.get(dw2.Buffer), s.get(dw.Buffer))
	}
	for i, x := range s.get(all.Buffer) {
		if (i < before || i >= before+size) && !math.IsNaN(x) {
			s.Fatalf("%s: [%d] beside %d logits was written to", what, i-before, size)
		}
	}
}
