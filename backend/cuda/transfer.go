//go:build cuda

package cuda

import (
	"fmt"

	"nrt/backend/device"
)

// Transfers between the host and the card, and what moves numbers within it. The
// host sends and receives float32 alone, and a kernel converts: it takes less
// time for that than the host for anything.

// smallWrite is how many floats travel with a list's arguments, so that a Write
// need not wait for the card.
const smallWrite = 16 << 10

func (d *dev) Write(dst device.Buffer, src []float32) {
	d.write("Write", dst, len(src), func(to []float32, at int) { copy(to, src[at:]) })
}

func (d *dev) Write64(dst device.Buffer, src []float64) {
	d.write("Write64", dst, len(src), func(to []float32, at int) {
		for i := range to {
			to[i] = float32(src[at+i])
		}
	})
}

// write sets dst to n floats, which fill hands over in parts, from number at on.
func (d *dev) write(op string, dst device.Buffer, n int, fill func(to []float32, at int)) {
	d.lock()
	defer d.unlock()
	b := d.out(op, "dst", dst, n)
	switch {
	case b.dt() == dtM8 || b.dt() == dtV8:
		d.writeMoments(b, fill)
	case n <= smallWrite:
		if cap(d.floats) < n {
			d.floats = make([]float32, smallWrite)
		}
		x := d.floats[:n]
		fill(x, 0)
		src := d.upload(bytesOf(x))
		d.eachCopy(b, func(to devptr, t dtype) { d.copy(to, t, src, dtF32, n) })
	case b.master() != 0:
		d.send(b.master(), n, fill)
		d.copy(b.ptr(), b.dt(), b.master(), dtF32, n)
	case b.dt() == dtF32:
		d.send(b.ptr(), n, fill)
	default:
		const part = stageBytes / 4
		scratch := d.workspace("transfer", stageBytes)
		for at := 0; at < n; at += part {
			m := min(part, n-at)
			d.send(scratch, m, func(to []float32, i int) { fill(to, at+i) })
			d.copy(b.ptr()+devptr(at*b.dt().size()), b.dt(), scratch, dtF32, m)
		}
	}
}

// send copies n floats to the card.
func (d *dev) send(to devptr, n int, fill func(to []float32, at int)) {
	d.flush()
	d.do(func() error {
		return d.ex.copyIn(to, 4*n, func(pinned []byte, at int) { fill(floatsOf(pinned), at/4) })
	})
}

func (d *dev) Read(dst []float32, src device.Buffer) {
	d.read("Read", len(dst), src, func(from []float32, at int) { copy(dst[at:], from) }, func() { clear(dst) })
}

func (d *dev) Read64(dst []float64, src device.Buffer) {
	d.read("Read64", len(dst), src, func(from []float32, at int) {
		for i, x := range from {
			dst[at+i] = float64(x)
		}
	}, func() { clear(dst) })
}

// read hands the n floats of src to take in parts, in order. A device that has
// failed leaves zeros.
func (d *dev) read(op string, n int, src device.Buffer, take func(from []float32, at int), none func()) {
	d.lock()
	defer d.unlock()
	if w, ok := src.(*weights); ok {
		d.weights(op, "src", w, w.rows, w.cols)
		if w.Len() != n {
			panic(fmt.Sprintf("cuda: %s: src has %d floats, want %d", op, w.Len(), n))
		}
		x := make([]float32, n)
		w.read(x)
		take(x, 0)
		return
	}
	b := d.in(op, "src", src, n)
	switch {
	case b.dt() == dtM8 || b.dt() == dtV8:
		d.readMoments(b, take)
	case b.dt() == dtF32:
		d.receive(b.ptr(), n, take)
	case b.master() != 0:
		d.receive(b.master(), n, take)
	default:
		const part = stageBytes / 4
		scratch := d.workspace("transfer", min(4*n, stageBytes))
		for at := 0; at < n; at += part {
			m := min(part, n-at)
			d.copy(scratch, dtF32, b.ptr()+devptr(at*b.dt().size()), b.dt(), m)
			d.receive(scratch, m, func(from []float32, i int) { take(from, at+i) })
		}
	}
	if d.failed() {
		none()
	}
}

// receive copies n floats from the card and waits for them.
func (d *dev) receive(from devptr, n int, take func(from []float32, at int)) {
	d.flush()
	d.do(func() error {
		return d.ex.copyOut(from, 4*n, func(pinned []byte, at int) { take(floatsOf(pinned), at/4) })
	})
}

// download copies memory of the card to dst, once all work before is done. A
// device that has failed leaves zeros.
func (d *dev) download(dst []byte, src devptr) {
	d.flush()
	err := d.do(func() error {
		return d.ex.copyOut(src, len(dst), func(pinned []byte, at int) { copy(dst[at:], pinned) })
	})
	if err != nil {
		clear(dst)
	}
}

// writeMoments and readMoments have the host encode and decode: it is rare, at
// checkpoints, and so has one definition.
func (d *dev) writeMoments(b *buffer, fill func(to []float32, at int)) {
	codes, scales := make([]byte, blocks8(b.n)*device.Block8), make([]float32, blocks8(b.n))
	var x [device.Block8]float32
	for i := range scales {
		at := i * device.Block8
		n := min(device.Block8, b.n-at)
		fill(x[:n], at)
		scales[i] = device.EncodeMoments(b.kind(), codes[at:at+n], x[:n])
	}
	d.flush()
	d.do(func() error {
		if err := d.ex.copyIn(b.codes(), len(codes), func(to []byte, at int) { copy(to, codes[at:]) }); err != nil {
			return err
		}
		return d.ex.copyIn(b.scales(), 4*len(scales), func(to []byte, at int) { copy(to, bytesOf(scales)[at:]) })
	})
}

func (d *dev) readMoments(b *buffer, take func(from []float32, at int)) {
	codes, scales := make([]byte, blocks8(b.n)*device.Block8), make([]float32, blocks8(b.n))
	d.download(codes, b.codes())
	d.download(bytesOf(scales), b.scales())
	var x [device.Block8]float32
	for i, s := range scales {
		at := i * device.Block8
		n := min(device.Block8, b.n-at)
		device.DecodeMoments(b.kind(), x[:n], codes[at:at+n], s)
		take(x[:n], at)
	}
}

// eachCopy calls f for the numbers of b in the compute type and for the float32
// copy behind them, if there is one.
func (d *dev) eachCopy(b *buffer, f func(at devptr, t dtype)) {
	f(b.ptr(), b.dt())
	if m := b.master(); m != 0 {
		f(m, dtF32)
	}
}

// best is where the numbers of b are kept most precisely.
func best(b *buffer) (devptr, dtype) {
	if m := b.master(); m != 0 {
		return m, dtF32
	}
	return b.ptr(), b.dt()
}

func (d *dev) Zero(b device.Buffer) {
	d.lock()
	defer d.unlock()
	d.clear(d.own("Zero", "b", b))
}

// clear enqueues b = 0.
func (d *dev) clear(b *buffer) {
	if b.dt() == dtM8 || b.dt() == dtV8 {
		d.zero(b.ptr(), dtF32, b.mem.bytes()/4)
		return
	}
	d.eachCopy(b, func(at devptr, t dtype) { d.zero(at, t, b.n) })
}

func (d *dev) Copy(dst, src device.Buffer) {
	d.lock()
	defer d.unlock()
	to := d.out("Copy", "dst", dst, src.Len(), dtF32, dtBF16)
	from := d.in("Copy", "src", src, to.n, dtF32, dtBF16)
	at, t := best(from)
	d.eachCopy(to, func(p devptr, dt dtype) { d.copy(p, dt, at, t, to.n) })
}

func (d *dev) Add(dst, src device.Buffer) {
	d.lock()
	defer d.unlock()
	to := d.out("Add", "dst", dst, src.Len(), dtF32, dtBF16)
	from := d.in("Add", "src", src, to.n, dtF32, dtBF16)
	sum, st := best(to)
	term, t := best(from)
	d.launch(addKernel[st][t], flat(to.n, st, t), flatThreads, 0, at(sum), at(term), i64(to.n))
	d.refresh(to)
}

func (d *dev) Scale(b device.Buffer, s float64) {
	d.lock()
	defer d.unlock()
	buf := d.out("Scale", "b", b, b.Len(), dtF32, dtBF16)
	x, t := best(buf)
	d.launch(scaleKernel[t], flat(buf.n, t), flatThreads, 0, at(x), i64(buf.n), f32(s))
	d.refresh(buf)
}

// refresh rounds what stands in the float32 copy of b to the compute type.
func (d *dev) refresh(b *buffer) {
	if m := b.master(); m != 0 {
		d.copy(b.ptr(), b.dt(), m, dtF32, b.n)
	}
}

// flat is a grid for kernels whose threads take runs of n numbers (each_run in
// kernels/kernel.h) and go on a grid's width further: enough blocks to fill a large
// card, no more. Of numbers of two types the larger makes the run.
func flat(n int, types ...dtype) dim3 {
	run := 8
	for _, t := range types {
		run = min(run, runOf(t))
	}
	return grid(min(ceilDiv(n, run*flatThreads), 1024))
}

const flatThreads = 256

// The kernels by type, dst's first.
var (
	zeroKernel  = [...]string{"zero_f32", "zero_bf16"}
	scaleKernel = [...]string{"scale_f32", "scale_bf16"}
	copyKernel  = [2][2]string{{"copy_f32_f32", "copy_f32_bf16"}, {"copy_bf16_f32", "copy_bf16_bf16"}}
	addKernel   = [2][2]string{{"add_f32_f32", "add_f32_bf16"}, {"add_bf16_f32", "add_bf16_bf16"}}
)

// copy enqueues dst = src, of n numbers each.
func (d *dev) copy(dst devptr, to dtype, src devptr, from dtype, n int) {
	d.launch(copyKernel[to][from], flat(n, to, from), flatThreads, 0, at(dst), at(src), i64(n))
}

// zero enqueues b = 0 for n numbers.
func (d *dev) zero(b devptr, t dtype, n int) {
	d.launch(zeroKernel[t], flat(n, t), flatThreads, 0, at(b), i64(n))
}
