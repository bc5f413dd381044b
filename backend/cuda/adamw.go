//go:build cuda

package cuda

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

func (d *dev) AdamW(p, g, m, v device.Buffer, o device.AdamW) {
	const op = "AdamW"
	if o.Step < 1 {
		panic(fmt.Sprintf("cuda: AdamW: step %d, want >= 1", o.Step))
	}
	d.lock()
	defer d.unlock()
	n := p.Len()
	params, grad := d.out(op, "p", p, n, dtF32, dtBF16), d.in(op, "g", g, n, dtF32, dtBF16)
	first := d.out(op, "m", m, n, dtF32, dtM8)
	want := dtF32
	if first.dt() == dtM8 {
		want = dtV8
	}
	second := d.out(op, "v", v, n, want)

	// A parameter is in float32, or in bfloat16, or in both.
	var whole, low devptr
	switch {
	case params.dt() == dtF32:
		whole = params.ptr()
	case params.master() != 0:
		whole, low = params.master(), params.ptr()
	default:
		low = params.ptr()
	}
	constants := [...]param{f32(o.Scale), f32(o.Beta1), f32(1 - o.Beta1), f32(o.Beta2), f32(1 - o.Beta2),
		f32(1 - o.LR*o.WeightDecay), f32(o.LR / (1 - math.Pow(o.Beta1, float64(o.Step)))),
		f32(1 / math.Sqrt(1-math.Pow(o.Beta2, float64(o.Step)))), f32(o.Eps)}
	c := constants[:]
	if want == dtF32 {
		d.launch("adamw_"+grad.dt().suffix(), flat(n, dtF32), flatThreads, 0, append([]param{
			at(whole), at(low), at(grad.ptr()), at(first.ptr()), at(second.ptr()), i64(n)}, c...)...)
		return
	}
	const warps = flatThreads / 32
	d.launch("adamw8_"+grad.dt().suffix(), grid((blocks8(n)+warps-1)/warps), flatThreads, 0, append([]param{
		at(whole), at(low), at(grad.ptr()), at(first.codes()), at(first.scales()), at(second.codes()), at(second.scales()), i64(n)}, c...)...)
}

// squarePiece is how many numbers add up to one part of SumSquares; sum_squares
// in kernels/reduce.cu has the same.
const squarePiece = 1 << 14

func (d *dev) SumSquares(b device.Buffer) float64 {
	d.lock()
	defer d.unlock()
	buf := d.in("SumSquares", "b", b, b.Len(), dtF32, dtBF16)
	if buf.n == 0 {
		return 0
	}
	x, t := best(buf)
	pieces := (buf.n + squarePiece - 1) / squarePiece
	parts := d.workspace("squares", 8*(pieces+1))
	total := parts + devptr(8*pieces)
	d.launch("sum_squares_"+t.suffix(), grid(pieces), 256, 0, at(parts), at(x), i64(buf.n))
	d.launch("sum_parts", grid(1), 256, 0, at(total), at(parts), i32(pieces))
	var sum [1]float64
	d.download(bytesOf(sum[:]), total)
	return sum[0]
}
