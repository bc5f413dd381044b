//go:build cuda

package cuda

// Products of few rows of A with a transposed B, which decoding waits for:
// kernels/gemm_few.cu and gemm_few_f32.cu.

const (
	few       = 16  // rows that their kernels take
	together  = 4   // outputs of a kernel of gemm_few.cu
	fewStep   = 128 // STEP: numbers of k that a warp has in a stage
	maxStages = 8
)

// fewRows enqueues up to four products of the same few rows of bfloat16, whose
// weights have one format.
func (d *dev) fewRows(xs []product) {
	first, dt := xs[0], xs[0].format()
	// The widest tiles that leave no tenth of the card idle. Q8 has as much to
	// compute as bfloat16 for half the bytes and wants two blocks where that has one.
	want := d.card.sms * pick(dt == dtQ8, 2, 1)
	warps, across, blocks := 4, 8, 0
	for across > 1 && 10*blocks < 9*want {
		across /= 2
		blocks = 0
		for _, x := range xs {
			blocks += ceilDiv(x.n, 16*across)
		}
	}
	// The ring takes a multiprocessor's memory, or half of it where blocks share it;
	// the card keeps 1 KiB of each block's. A block on its own has more warps where
	// there are slices for them and a ring of two stages fits.
	room := d.card.shared
	if blocks > d.card.sms {
		room = (room+1<<10)/2 - 1<<10
	}
	stages := func() int { return (room - fewSums(warps)) / fewStage(warps, across, first.m, dt) }
	way := across / 2
	if across == 1 && blocks <= d.card.sms && first.k > 4*sliceLen {
		if warps = 8; stages() >= 2 {
			way = 3
		} else {
			warps = 4
		}
	}
	depth := min(max(stages(), 2), maxStages)

	var ps [5 + 7*together]param
	all := append(ps[:0], at(first.a.at), i32(first.m), i32(first.k), i32(first.a.ld), i32(depth))
	for i := range together {
		if i >= len(xs) {
			all = append(all, at(0), at(0), at(0), i32(0), i32(0), i32(0), i32(0))
			continue
		}
		x, scales := xs[i].unpacked()
		all = append(all, at(x.b.at), at(scales), at(x.c.at), i32(x.n), i32(x.b.ld), i32(x.c.ld), i32(flagsOf(x, x.k, x.k)))
	}
	d.launch(fewKernel[bit(dt == dtQ8)][way], grid(blocks), 32*warps, fewSums(warps)+depth*fewStage(warps, across, first.m, dt), all...)
}

// fewSums is SIZE_SUMS of gemm_few.cu, fewStage the bytes of a stage: of A for each
// slice at work, of B for each warp.
func fewSums(warps int) int { return warps * 16 * 16 * 4 }

func fewStage(warps, across, m int, dt dtype) int {
	return warps/across*m*fewStep*2 + warps*16*(fewStep*dt.size()+16*bit(dt == dtQ8))
}

// fewRowsF32 enqueues a product of few rows of float32, or is false.
func (d *dev) fewRowsF32(x product) bool {
	const wide, threads = 32, 128
	x, scales := x.unpacked()
	slices, count := ceilDiv(x.k, sliceLen), ceilDiv(x.n, wide)
	parts, ok := d.parts(count, slices, few*wide)
	if !ok {
		return false
	}
	shared := roundUp(x.m, 4)*(sliceLen*4+16) + wide*(sliceLen*x.b.dt.size()+16)
	if x.b.dt == dtQ8 {
		shared += wide * 48
	}
	shared = max(shared, few*(wide+4)*4)
	d.launch(fewF32Kernel[x.b.dt], grid(count*slices), threads, shared,
		at(x.a.at), at(x.b.at), at(x.c.at), at(parts), at(d.gemm.tickets),
		i32(x.m), i32(x.n), i32(x.k), i32(x.a.ld), i32(x.b.ld), i32(x.c.ld), i32(flagsOf(x, x.k, x.k)), at(scales))
	return true
}

// format is how B lies.
func (x *product) format() dtype {
	if x.packed != nil {
		return x.packed.dt
	}
	return x.b.dt
}

// unpacked is x with B as it lies, of whatever format, and the scales of Q8.
func (x product) unpacked() (product, devptr) {
	if x.packed == nil {
		return x, 0
	}
	x.b = x.packed.matrix()
	return x, x.packed.scales
}

// Names of kernels: by Q8 and the way that warps stand, and by type of B.
var (
	fewKernel = [2][4]string{
		{"few_bf16_bf16_16", "few_bf16_bf16_32", "few_bf16_bf16_64", "few_bf16_bf16_16_long"},
		{"few_bf16_q8_16", "few_bf16_q8_32", "few_bf16_q8_64", "few_bf16_q8_16_long"},
	}
	fewF32Kernel = [dtQ8 + 1]string{dtF32: "few_f32_f32", dtBF16: "few_f32_bf16", dtQ8: "few_f32_q8"}
)
