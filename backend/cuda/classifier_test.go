//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"testing"

	"nrt/backend/device"
)

func newClassified(n int) device.Classified {
	return device.Classified{LogProb: make([]float64, n), Entropy: make([]float64, n), LSE: make([]float64, n)}
}

// naiveClass is the classifier and the gradient of its loss in float64.
func naiveClass(h, w []float64, targets []int32, vocab, dim int, invTemp float64, a, e []float64) (c device.Classified, dh, dw []float64) {
	rows := len(targets)
	c, dh, dw = newClassified(rows), make([]float64, rows*dim), make([]float64, vocab*dim)
	x := naive(nil, h, w, rows, vocab, dim, false, true, false)
	for i, t := range targets {
		row := x[i*vocab : (i+1)*vocab]
		top, sum := math.Inf(-1), 0.0
		for v := range row {
			row[v] *= invTemp
			top = max(top, row[v])
		}
		for _, v := range row {
			sum += math.Exp(v - top)
		}
		c.LSE[i] = top + math.Log(sum)
		c.LogProb[i] = row[t] - c.LSE[i]
		for _, v := range row {
			c.Entropy[i] -= math.Exp(v-c.LSE[i]) * (v - c.LSE[i])
		}
		for v := range row {
			logp := row[v] - c.LSE[i]
			g := math.Exp(logp) * (a[i] + e[i]*(logp+c.Entropy[i]))
			if v == int(t) {
				g -= a[i]
			}
			for p := range dim {
				dh[i*dim+p] += invTemp * g * w[v*dim+p]
				dw[v*dim+p] += invTemp * g * h[i*dim+p]
			}
		}
	}
	return c, dh, dw
}

// TestClassifierInParts: with room for few logits, rows and vocabulary are done in
// many parts; the forward pass shows nothing of it, bit for bit.
func TestClassifierInParts(t *testing.T) {
	const rows, vocab, dim, invTemp = 9, 4500, 12, 0.7
	for _, typ := range []Type{BF16, F32} {
		d := testDevice(t, typ)
		h, hx := numbers(d, 1, device.Compute, rows*dim, 0)
		w, wx := numbers(d, 2, device.Compute, vocab*dim, 0)
		targets, a, e := make([]int32, rows), make([]float64, rows), make([]float64, rows)
		for i := range targets {
			targets[i] = int32((i * 1777) % vocab)
			a[i], e[i] = float64(i%3)-0.5, float64(i%4)-1
		}
		want, dhx, dwx := naiveClass(hx, wx, targets, vocab, dim, invTemp, a, e)
		var first device.Classified
		for _, room := range []int{usualLimits.logits, 8 * vocabPart, 2 * vocabPart} {
			d.gemm.limits.logits = room
			what := fmt.Sprintf("%v, room for %d logits", typ, room)
			have := newClassified(rows)
			d.Classifier(have, h, w, targets, vocab, dim, invTemp)
			near(t, what+": LogProb", have.LogProb, want.LogProb, 1e-5)
			near(t, what+": Entropy", have.Entropy, want.Entropy, 1e-5)
			near(t, what+": LSE", have.LSE, want.LSE, 1e-5)
			if first.LSE == nil {
				first = have
			}
			same(t, what+": LogProb", have.LogProb, first.LogProb)
			same(t, what+": Entropy", have.Entropy, first.Entropy)

			d.gemm.limits.logits = max(room, 4*backChunk)
			dh, _ := numbers(d, 3, device.Compute, rows*dim, 0)
			dw, was := numbers(d, 4, device.Wide, vocab*dim, 0)
			d.ClassifierBackward(dh, dw, h, w, targets, vocab, dim, invTemp, have, a, e)
			tol := 2e-5
			if typ == BF16 {
				tol = 1e-2
			}
			near(t, what+": dh", read(d, dh), dhx, tol)
			got := read(d, dw)
			for i := range got {
				got[i] -= was[i]
			}
			near(t, what+": dw", got, dwx, tol)

			// With logits kept, however many parts they are made and read in.
			d.gemm.limits.logits = room
			kept := newClassified(rows)
			kept.Logits = d.AllocAs(device.Wide, device.LogitsLen(rows, vocab))
			d.Classifier(kept, h, w, targets, vocab, dim, invTemp)
			same(t, what+": LogProb with logits kept", kept.LogProb, have.LogProb)
			same(t, what+": Entropy with logits kept", kept.Entropy, have.Entropy)
			d.gemm.limits.logits = max(room, 4*backChunk)
			dh2, _ := numbers(d, 5, device.Compute, rows*dim, 0)
			dw2, _ := numbers(d, 4, device.Wide, vocab*dim, 0)
			d.ClassifierBackward(dh2, dw2, h, w, targets, vocab, dim, invTemp, kept, a, e)
			same(t, what+": dh with logits kept", read(d, dh2), read(d, dh))
			same(t, what+": dw with logits kept", read(d, dw2), read(d, dw))
		}
	}
}

// TestClassifierSure: certainty and evenness come out exactly, and a row that is
// not a number keeps to itself.
func TestClassifierSure(t *testing.T) {
	d := testDevice(t, F32)
	h, w := d.Alloc(3), d.Alloc(6)
	d.Write64(h, []float64{1, 0, math.NaN()})
	d.Write64(w, []float64{300, 0, 0, 0, 0, 0})
	c := newClassified(3)
	d.Classifier(c, h, w, []int32{0, 3, 1}, 6, 1, 1)
	near(t, "sure", []float64{1 + c.LogProb[0], 1 + c.Entropy[0], c.LSE[0]}, []float64{1, 1, 300}, 1e-6)
	near(t, "even", []float64{c.LogProb[1], c.Entropy[1], c.LSE[1]}, []float64{-math.Log(6), math.Log(6), math.Log(6)}, 1e-6)
	if !math.IsNaN(c.LogProb[2]) || !math.IsNaN(c.Entropy[2]) || !math.IsNaN(c.LSE[2]) {
		t.Errorf("of NaN: %v %v %v", c.LogProb[2], c.Entropy[2], c.LSE[2])
	}
	d.Classifier(newClassified(0), d.Alloc(0), w, nil, 6, 1, 1)
}
