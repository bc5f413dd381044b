//go:build cuda

package cuda

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"nrt/backend/device"
)

// sampleRequest is what a row asks of the kernel, and drawn what it finds;
// request, result and alternative in kernels/sample.h are the same.
type sampleRequest struct {
	topP, minP, u float64
	scale         float32
	greedy, topK  int32
	top, at       int32 // alternatives, and where in the list of all rows' they go
	_             int32
}

type drawn struct {
	id            int32
	x, top        float32 // the logit, and the largest one
	sum, weighted float32 // of the softmax; see spread in package cpu
	_             int32
}

type alternative struct {
	id int32
	x  float32
}

// samplePart is how many logits a block of sample_top and sample_sum has, and
// partBytes what they leave: PART and part in kernels/sample.h.
const (
	samplePart = 8192
	partBytes  = 8 + 4*4 + 16*(8+4)
)

const (
	requestBytes     = int(unsafe.Sizeof(sampleRequest{}))
	drawnBytes       = int(unsafe.Sizeof(drawn{}))
	alternativeBytes = int(unsafe.Sizeof(alternative{}))
)

// Sample draws on the card; the host takes the logarithms, in float64.
func (d *dev) Sample(out []device.Sampled, logits device.Buffer, rows []device.SampleRow, vocab int) {
	const op = "Sample"
	positive(op, vocab)
	if len(out) != len(rows) {
		panic(fmt.Sprintf("cuda: %s: out has %d rows, want %d", op, len(out), len(rows)))
	}
	for i, r := range rows {
		if !(r.U >= 0 && r.U < 1) || r.Temperature < 0 || r.TopK < 0 || r.Top < 0 {
			panic(fmt.Sprintf("cuda: %s: rows[%d]: %+v", op, i, r))
		}
	}
	d.lock()
	defer d.unlock()
	x := d.in(op, "logits", logits, len(rows)*vocab, dtF32, dtBF16)
	if len(rows) == 0 {
		return
	}
	requests := make([]sampleRequest, len(rows))
	tops := 0
	for i, r := range rows {
		q := sampleRequest{topK: int32(min(r.TopK, vocab)), minP: r.MinP, u: r.U, scale: 1, top: int32(min(r.Top, vocab)), at: int32(tops)}
		if r.Greedy() {
			q.greedy = 1
		} else {
			q.scale = float32(1 / r.Temperature)
		}
		if r.TopP < 1 {
			q.topP = r.TopP
		}
		requests[i] = q
		tops += int(q.top)
	}
	found := make([]byte, len(rows)*drawnBytes+tops*alternativeBytes)
	to := d.workspace("sample", len(found))
	parts := (vocab + samplePart - 1) / samplePart
	sums := at(d.workspace("sample parts", len(rows)*parts*partBytes))
	asked := at(d.upload(unsafe.Slice((*byte)(unsafe.Pointer(&requests[0])), len(requests)*requestBytes)))
	// A thread takes 16 logits at once; two warps are the fewest that can look for
	// one of many equal tokens.
	threads := func(logits, most int) int { return min(max((logits/16+31)/32*32, 64), most) }
	inPart, inRow := threads(min(vocab, samplePart), 256), threads(vocab, 512)
	const columns = 16 * 8 // bytes a thread
	suffix := x.dt().suffix()
	d.launch("sample_top_"+suffix, grid(len(rows), parts), inPart, 0, sums, p(x), asked, i32(vocab))
	d.launch("sample_sum_"+suffix, grid(len(rows), parts), inPart, columns*inPart, sums, p(x), asked, i32(vocab))
	d.launch("sample_draw_"+suffix, grid(len(rows)), inRow, columns*inRow, at(to), sums, p(x), asked, i32(len(rows)), i32(vocab))
	d.download(found, to)
	results := unsafe.Slice((*drawn)(unsafe.Pointer(&found[0])), len(rows))
	var all []alternative
	if tops > 0 {
		all = unsafe.Slice((*alternative)(unsafe.Pointer(&found[len(rows)*drawnBytes])), tops)
	}
	for i, r := range results {
		if d.failed() {
			r.id = -1
		}
		q := requests[i]
		out[i] = r.sampled(q, all[q.at:q.at+q.top])
	}
}

// sampled puts logarithms to what the kernel found.
func (r drawn) sampled(q sampleRequest, tops []alternative) device.Sampled {
	sum, scale := math.Log(float64(r.sum)), float64(q.scale)
	logp := func(x float32) float64 { return scale*(float64(x)-float64(r.top)) - sum }
	s := device.Sampled{ID: r.id, LogProb: math.Inf(-1), Entropy: sum - float64(r.weighted)/float64(r.sum)}
	if r.id >= 0 {
		s.LogProb = logp(r.x)
	}
	if len(tops) > 0 {
		slices.SortFunc(tops, func(a, b alternative) int {
			return cmp.Or(cmp.Compare(b.x, a.x), cmp.Compare(a.id, b.id))
		})
		s.Top = make([]device.Alternative, len(tops))
		for i, a := range tops {
			s.Top[i] = device.Alternative{ID: a.id, LogProb: logp(a.x)}
		}
	}
	return s
}
