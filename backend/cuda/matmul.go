//go:build cuda

package cuda

import (
	"fmt"

	"nrt/backend/device"
)

// Products are computed by kernels of ours or, for more than few rows and where
// it is found and wanted, by cuBLAS. Ours sum in one order whatever the shape
// (kernels/gemm.h), so that a row has the same bits in every batch; cuBLAS picks
// its order by the shape, and then rows of different batches agree only as far as
// float32 sums do.

const (
	sliceLen  = 512 // SLICE of kernels/gemm.h
	smallTile = 64
	largeTile = 128
	// partsMax bounds the sums of slices that blocks share, in bytes.
	partsMax = 256 << 20
	// ticketCount is how many tiles may be shared between blocks.
	ticketCount = 1 << 16
)

// The flags of kernels/gemm.h.
const (
	plainA = 1 << iota
	plainB
	plainC
	floatC
	accumulateC
)

// matrix is a run of rows in the card's memory.
type matrix struct {
	at     devptr
	ld     int // numbers from row to row
	dt     dtype
	padded bool // rows are followed by zeros up to a multiple of 16 bytes
}

// dense is b as a matrix with rows of ld numbers.
func dense(b *buffer, ld int) matrix { return matrix{at: b.ptr(), ld: ld, dt: b.dt()} }

// from is the matrix from row i, column j on.
func (x matrix) from(i, j int) matrix {
	x.at += devptr((i*x.ld + j) * x.dt.size())
	return x
}

// plain tells whether kernels may read rows of so many numbers 16 bytes at a time.
func (x matrix) plain(numbers int) bool {
	size := x.dt.size()
	return x.at%16 == 0 && x.ld*size%16 == 0 && (x.padded || numbers*size%16 == 0)
}

// product is C = op(A)·op(B), or C += ; see device.Device.MatMul.
type product struct {
	c, a, b        matrix
	packed         *weights // instead of b, which is then transposed
	m, n, k        int
	transA, transB bool
	accumulate     bool
}

// gemmState is what products keep from call to call.
type gemmState struct {
	limits  gemmLimits
	tickets devptr // zeros between the kernels that use them
	blas    *blas  // nil where own kernels do everything
}

// gemmLimits bound what exists at a time, in numbers. None changes a result.
type gemmLimits struct {
	packed   int // weights on their way to or from the host
	unpacked int // weights expanded for a product
	logits   int // of Classifier and ClassifierBackward
}

var usualLimits = gemmLimits{packed: 1 << 20, unpacked: 16 << 20, logits: 64 << 20}

func (d *dev) Project(out []device.Projection, a device.Buffer, m, k int) {
	d.lock()
	defer d.unlock()
	var wait [together]product
	n := 0
	for _, p := range out {
		x, ok := d.checked("Project", p.C, a, p.B, m, p.N, k, false, true, false)
		if !ok {
			continue
		}
		if n == together {
			d.products(wait[:n])
			n = 0
		}
		wait[n] = x
		n++
	}
	d.products(wait[:n])
}

// products enqueues products of one A with transposed Bs, as many at a time as one
// kernel takes.
func (d *dev) products(xs []product) {
	for len(xs) > 0 {
		n := 1
		switch {
		case d.dt == dtBF16 && xs[0].m <= few:
			for n < len(xs) && xs[n].format() == xs[0].format() {
				n++
			}
			d.fewRows(xs[:n])
		case len(xs) > 1 && d.gemm.blas.pair(d, xs[0], xs[1]):
			n = 2
		default:
			d.product(xs[0])
		}
		xs = xs[n:]
	}
}

func (d *dev) MatMul(c, a, b device.Buffer, m, n, k int, transA, transB, accumulate bool) {
	d.lock()
	defer d.unlock()
	if x, ok := d.checked("MatMul", c, a, b, m, n, k, transA, transB, accumulate); ok {
		d.product(x)
	}
}

// checked is a product whose operands are what they must be. It is false where
// nothing is left to do.
func (d *dev) checked(op string, c, a, b device.Buffer, m, n, k int, transA, transB, accumulate bool) (x product, ok bool) {
	if m < 0 || n < 0 || k < 0 {
		panic(fmt.Sprintf("cuda: %s: negative dimension in (%d, %d, %d)", op, m, n, k))
	}
	x = product{m: m, n: n, k: k, transA: transA, transB: transB, accumulate: accumulate}
	if transB {
		x.packed = d.weights(op, "b", b, n, k)
	}
	if x.packed == nil {
		x.b = dense(d.in(op, "b", b, k*n, d.dt), pick(transB, k, n))
	}
	x.a = dense(d.in(op, "a", a, m*k, d.dt), pick(transA, m, k))
	out := d.out(op, "c", c, m*n, d.dt, dtF32)
	if out.master() != 0 {
		panic(fmt.Sprintf("cuda: %s: c holds parameters that learn", op))
	}
	x.c = dense(out, n)
	if m == 0 || n == 0 {
		return x, false
	}
	if k == 0 {
		if !accumulate {
			d.zero(x.c.at, x.c.dt, m*n)
		}
		return x, false
	}
	return x, true
}

// product enqueues x, which is not empty.
func (d *dev) product(x product) {
	if x.m <= few && !x.transA && x.transB {
		if d.dt == dtBF16 {
			d.fewRows([]product{x})
			return
		}
		if d.fewRowsF32(x) {
			return
		}
	}
	w := x.packed
	if w == nil {
		d.general(x)
		return
	}
	x.packed = nil
	if w.dt == d.dt {
		x.b = w.matrix()
		d.general(x)
		return
	}
	// Unpack some rows at a time; they are columns of C.
	ld := roundUp(x.k, groupLen)
	rows := min(x.n, max(largeTile, d.gemm.limits.unpacked/ld/largeTile*largeTile))
	x.b = matrix{at: d.workspace("weights", rows*ld*d.dt.size()), ld: ld, dt: d.dt, padded: true}
	c, n := x.c, x.n
	for j := 0; j < n; j += rows {
		x.n, x.c = min(rows, n-j), c.from(0, j)
		d.unpackWeights(x.b.at, d.dt, w, j, x.n, ld)
		d.general(x)
	}
}

// general enqueues a product of dense matrices.
func (d *dev) general(x product) {
	if d.gemm.blas.takes(x) {
		d.gemm.blas.product(d, x)
		return
	}
	tile, threads := largeTile, 256
	slices := 1
	if tiles(x, largeTile) < d.card.sms {
		tile, threads = smallTile, 128
		if tiles(x, smallTile) < 2*d.card.sms {
			slices = ceilDiv(x.k, sliceLen)
		}
	}
	count := tiles(x, tile)
	parts, ok := d.parts(count, slices, tile*tile)
	if !ok {
		slices = 1
	}
	flags := flagsOf(x, pick(x.transA, x.m, x.k), pick(x.transB, x.k, x.n))
	// A stage of the ring is rows of 64 bytes or 64/size rows, each 16 bytes longer
	// than what it holds.
	size := d.dt.size()
	depth := 64 / size
	operand := func(across bool) int { return pick(across, depth*(tile*size+16), tile*(depth*size+16)) }
	shared := 4 * (operand(x.transA) + operand(!x.transB))
	d.launch(generalKernel[d.dt][tile/largeTile][bit(x.transA)][bit(x.transB)], grid(count*slices), threads, shared,
		at(x.a.at), at(x.b.at), at(x.c.at), at(parts), at(d.gemm.tickets),
		i32(x.m), i32(x.n), i32(x.k), i32(x.a.ld), i32(x.b.ld), i32(x.c.ld), i32(flags))
}

// parts is memory for the sums of slices of count tiles, 0 for one slice. It is
// false where that would be too much.
func (d *dev) parts(count, slices, tile int) (at devptr, ok bool) {
	if slices == 1 {
		return 0, true
	}
	bytes := count * slices * tile * 4
	if count > ticketCount || bytes > partsMax {
		return 0, false
	}
	if d.gemm.tickets == 0 {
		d.gemm.tickets = d.workspace("gemm tickets", 4*ticketCount)
		d.zero(d.gemm.tickets, dtF32, ticketCount)
	}
	return d.workspace("gemm parts", bytes), true
}

// flagsOf says how a kernel may access the operands of x, whose stored rows have
// so many numbers.
func flagsOf(x product, rowA, rowB int) int {
	size := x.c.dt.size()
	return plainA*bit(x.a.plain(rowA)) | plainB*bit(x.b.plain(rowB)) |
		plainC*bit(x.c.at%16 == 0 && x.c.ld*size%16 == 0) | floatC*bit(x.c.dt == dtF32) | accumulateC*bit(x.accumulate)
}

func tiles(x product, size int) int { return ceilDiv(x.m, size) * ceilDiv(x.n, size) }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
func roundUp(a, b int) int { return ceilDiv(a, b) * b }

func bit(b bool) int { return pick(b, 1, 0) }

func pick(b bool, yes, no int) int {
	if b {
		return yes
	}
	return no
}

// Names of kernels: by type, tile, transA, transB.
var generalKernel = [2][2][2][2]string{
	dtF32: {
		{{"gemm_f32_nn_64", "gemm_f32_nt_64"}, {"gemm_f32_tn_64", "gemm_f32_tt_64"}},
		{{"gemm_f32_nn_128", "gemm_f32_nt_128"}, {"gemm_f32_tn_128", "gemm_f32_tt_128"}},
	},
	dtBF16: {
		{{"gemm_bf16_nn_64", "gemm_bf16_nt_64"}, {"gemm_bf16_tn_64", "gemm_bf16_tt_64"}},
		{{"gemm_bf16_nn_128", "gemm_bf16_nt_128"}, {"gemm_bf16_tn_128", "gemm_bf16_tt_128"}},
	},
}
