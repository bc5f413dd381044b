//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

const (
	// vocabPart is PART of kernels/classifier.cu: logits that are reduced at a time.
	vocabPart = 2048
	// backChunk is how much of the vocabulary ClassifierBackward does at a time. It
	// does not depend on the rows: it is part of the order in which dh is summed.
	backChunk = 2 * vocabPart
	// classThreads is THREADS of kernels/classifier.cu.
	classThreads = 128
)

// class is one classifier call with its arguments checked.
type class struct {
	d          *dev
	h, w       matrix
	packed     *weights // instead of w
	targets    devptr
	rows       int
	vocab, dim int
	scale      float64
	kept       *matrix // all logits, if Classified.Logits is there for them
}

// newClass checks what both operations take. The caller holds the lock.
func (d *dev) newClass(op string, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64, c device.Classified) class {
	positive(op, vocab, dim)
	checkIDs(op, "targets", targets, vocab)
	n := len(targets)
	if len(c.LogProb) != n || len(c.Entropy) != n || len(c.LSE) != n {
		panic(fmt.Sprintf("cuda: %s: results for %d, %d, %d rows, want %d", op, len(c.LogProb), len(c.Entropy), len(c.LSE), n))
	}
	x := class{d: d, h: dense(d.in(op, "h", h, n*dim, d.dt), dim), rows: n, vocab: vocab, dim: dim, scale: invTemp}
	if x.packed = d.weights(op, "w", w, vocab, dim); x.packed == nil {
		x.w = dense(d.in(op, "w", w, vocab*dim, d.dt), dim)
	}
	if c.Logits != nil {
		kept := dense(d.in(op, "Logits", c.Logits, device.LogitsLen(n, vocab), dtF32), device.LogitsPitch(vocab))
		x.kept = &kept
	}
	return x
}

// keep copies x to a workspace. It outlives the flushes that a product may cause
// when it needs more memory, which what upload copies does not.
func (d *dev) keep(slot string, x []byte) devptr {
	to := d.workspace(slot, len(x))
	d.flush()
	d.do(func() error {
		return d.ex.copyIn(to, len(x), func(pinned []byte, at int) { copy(pinned, x[at:]) })
	})
	return to
}

// logits enqueues those of rows [r, r+m) and the vocabulary [j, j+n).
func (x *class) logits(to matrix, r, m, j, n int) {
	p := product{c: to, a: x.h.from(r, 0), m: m, n: n, k: x.dim, transB: true}
	if x.packed != nil {
		p.packed = x.packed.part(j, n)
	} else {
		p.b = x.w.from(j, 0)
	}
	x.d.product(p)
}

// room is memory for logits that are not kept.
func (x *class) room(rows, cols int) (m matrix) {
	if x.kept == nil {
		m = matrix{at: x.d.workspace("logits", rows*cols*4), ld: cols, dt: dtF32}
	}
	return m
}

// place is where the logits from row r and number j of the vocabulary on are: in
// room, or where all are kept.
func (x *class) place(room matrix, r, j int) matrix {
	if x.kept == nil {
		return room
	}
	return x.kept.from(r, j)
}

// Classifier. With x_v = invTemp·h·w_v: LSE = log Σ exp x_v, LogProb =
// x_target − LSE, Entropy = LSE − Σ p_v·x_v. The logits are float32 whatever the
// compute type; the card reduces them to four floats a row.
func (d *dev) Classifier(out device.Classified, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64) {
	d.lock()
	defer d.unlock()
	x := d.newClass("Classifier", h, w, targets, vocab, dim, invTemp, out)
	if x.rows == 0 {
		return
	}
	x.targets = d.keep("class targets", bytesOf(targets))
	most := min(x.rows, d.gemm.limits.logits/vocabPart)
	if x.kept != nil { // rows of one product: fewer than 2³¹ numbers from first to last
		most = min(most, math.MaxInt32/x.kept.ld)
	}
	count := ceilDiv(vocab, vocabPart)
	cols := min(d.gemm.limits.logits/most/vocabPart, count) * vocabPart
	room := x.room(most, cols)
	parts := d.workspace("class parts", most*count*3*4)
	picked := d.workspace("class picked", most*4)
	result := d.workspace("class result", x.rows*4*4)
	for r := 0; r < x.rows; r += most {
		m := min(most, x.rows-r)
		mine := x.targets + devptr(4*r)
		for j := 0; j < vocab; j += cols {
			n := min(cols, vocab-j)
			logits := x.place(room, r, j)
			x.logits(logits, r, m, j, n)
			d.launch("class_parts", grid(m, ceilDiv(n, vocabPart*classThreads/32)), classThreads, 0,
				at(logits.at), i32(m), i32(logits.ld), i32(j), i32(n), f32(x.scale), at(mine), at(parts), at(picked))
		}
		d.launch("class_join", grid(ceilDiv(m, 128)), 128, 0,
			at(parts), i32(count), i32(m), at(picked), at(result+devptr(16*r)))
	}
	found := make([]float32, 4*x.rows)
	d.download(bytesOf(found), result)
	for i := range x.rows {
		top, sum, weighted, target := float64(found[4*i]), float64(found[4*i+1]), float64(found[4*i+2]), float64(found[4*i+3])
		out.LSE[i] = top + math.Log(sum)
		out.LogProb[i] = target - out.LSE[i]
		out.Entropy[i] = math.Log(sum) - weighted/sum
	}
}

// ClassifierBackward. For L = −Σ_t (a_t·log π(target_t) + e_t·H_t),
//
//	∂log π/∂x_v = 1[v=target] − p_v,  ∂H/∂x_v = −p_v·(log p_v + H)
//	∂L/∂logit_v = invTemp·(p_v·(a + e·(log p_v + H)) − a·1[v=target])
//	dh = dlogits·w,  dw += dlogitsᵀ·h
//
// A chunk of the vocabulary is done for some rows at a time, whose logits are computed
// again if they were not kept. dlogits is rounded to the compute type, as the operand
// of two products must be: each of its numbers for itself, by 2⁻⁹ of it at most, and
// what is summed of them is float32.
func (d *dev) ClassifierBackward(dh, dw, h, w device.Buffer, targets []int32, vocab, dim int, invTemp float64, fwd device.Classified, wLogp, wEnt []float64) {
	const op = "ClassifierBackward"
	if len(wLogp) != len(targets) || wEnt != nil && len(wEnt) != len(targets) {
		panic(fmt.Sprintf("cuda: %s: %d and %d weights for %d rows", op, len(wLogp), len(wEnt), len(targets)))
	}
	d.lock()
	defer d.unlock()
	x := d.newClass(op, h, w, targets, vocab, dim, invTemp, fwd)
	if x.packed != nil {
		panic("cuda: ClassifierBackward: w is read-only Weights")
	}
	gradH := dense(d.out(op, "dh", dh, x.rows*dim, d.dt), dim)
	var gradW matrix
	if dw != nil {
		gradW = dense(d.out(op, "dw", dw, vocab*dim, dtF32), dim)
	}
	if x.rows == 0 {
		return
	}
	x.targets = d.keep("class targets", bytesOf(targets))
	terms := make([]float32, 4*x.rows)
	for i := range x.rows {
		t := terms[4*i : 4*i+4]
		t[0], t[1], t[2] = float32(fwd.LSE[i]), float32(fwd.Entropy[i]), float32(wLogp[i]*invTemp)
		if wEnt != nil {
			t[3] = float32(wEnt[i] * invTemp)
		}
	}
	kept := d.keep("class terms", bytesOf(terms))
	// dlogits takes as much again, or half of it.
	most, cols := min(x.rows, d.gemm.limits.logits/2/backChunk), roundUp(min(vocab, backChunk), 8)
	room := x.room(most, cols)
	grad, sums := room, gradH
	if d.dt != dtF32 || x.kept != nil {
		grad = matrix{at: d.workspace("dlogits", most*cols*d.dt.size()), ld: cols, dt: d.dt}
	}
	if d.dt != dtF32 {
		sums = matrix{at: d.workspace("dh", most*dim*4), ld: dim, dt: dtF32}
	}
	for r := 0; r < x.rows; r += most {
		m := min(most, x.rows-r)
		if d.dt == dtF32 {
			sums = gradH.from(r, 0)
		}
		for j := 0; j < vocab; j += backChunk {
			n := min(backChunk, vocab-j)
			logits := x.place(room, r, j)
			if x.kept == nil {
				x.logits(logits, r, m, j, n)
			}
			d.launch(gradKernel[d.dt], grid(m, ceilDiv(n, 8*classThreads)), classThreads, 0,
				at(grad.at), i32(cols), at(logits.at), i32(logits.ld), i32(j), i32(n), f32(x.scale), at(x.targets+devptr(4*r)), at(kept+devptr(16*r)))
			d.product(product{c: sums, a: grad, b: x.w.from(j, 0), m: m, n: dim, k: n, accumulate: j > 0})
			if dw != nil {
				d.product(product{c: gradW.from(j, 0), a: grad, b: x.h.from(r, 0), m: n, n: dim, k: m, transA: true, accumulate: true})
			}
		}
		if d.dt != dtF32 {
			d.copy(gradH.from(r, 0).at, d.dt, sums.at, dtF32, m*dim)
		}
	}
}

var gradKernel = [2]string{dtF32: "class_grad_f32", dtBF16: "class_grad_bf16"}
