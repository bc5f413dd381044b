package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"time"

	"nrt/backend/cpu/peak"
	"nrt/backend/device"
)

// machine measures what nothing can surpass.
func (b *bench) machine() error {
	flops, err := b.peak()
	if err != nil {
		return err
	}
	b.add("machine", b.PeakBy, "GFLOP/s", flops.scaled(1e-9))
	if b.onCard() {
		read, err := b.read(b.o.large)
		if err == nil {
			b.add("machine", fmt.Sprintf("copying %s, bytes read and written", size(b.largest()/2)), "GB/s", read.scaled(1e-9))
		}
		return err
	}
	sizes := []int{b.o.large}
	if w := b.servedBytes(); w < b.o.large {
		sizes = append(sizes, w)
	}
	for _, bytes := range sizes {
		read, err := b.read(bytes)
		if err != nil {
			return err
		}
		b.add("machine", fmt.Sprintf("reading %s again and again", size(bytes)), "GB/s", read.scaled(1e-9))
	}
	return nil
}

// servedBytes are the weights that a decoded token reads: all matrices of the
// layers and the output projection.
func (b *bench) servedBytes() int {
	n, head := int64(0), b.config.Vocab*b.config.Hidden
	for _, t := range b.config.Tensors() {
		if len(t.Shape) == 2 && t.Len() != head {
			n += b.format().Bytes(t.Shape[0], t.Shape[1])
		}
	}
	return int(n + b.format().Bytes(b.config.Vocab, b.config.Hidden))
}

func size(bytes int) string {
	if bytes < 1e9 {
		return fmt.Sprintf("%.0f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
}

// peak measures FLOP/s: multiply-adds on registers, or where package peak has
// none the best product there is.
func (b *bench) peak() (spread, error) {
	if b.peakRate.runs > 0 {
		return b.peakRate, nil
	}
	b.progress("the peak of multiply-adds")
	const rounds = 1 << 22
	b.PeakBy = "multiply-adds on registers"
	flops := peak.FMA(b.kernels, b.Threads, 1) * rounds
	run := clock(func() error { peak.FMA(b.kernels, b.Threads, rounds); return nil })
	if flops == 0 {
		n := 512
		if b.onCard() { // which takes a large product to fill; a small model, to try one, less
			for n = 128; n < 8192 && n < 4*b.config.Hidden; n *= 2 {
			}
		}
		b.PeakBy = fmt.Sprintf("the product %d×%d×%d", n, n, n)
		x, y, z := b.dev.Alloc(n*n), b.dev.Alloc(n*n), b.dev.Alloc(n*n)
		defer b.dev.Free(x)
		defer b.dev.Free(y)
		defer b.dev.Free(z)
		flops = 2 * float64(n) * float64(n) * float64(n)
		run = burst(func() { b.dev.MatMul(z, x, y, n, n, n, false, true, false) }, b.dev.Sync)
	}
	times, err := b.repeat(b.o.seconds/2, run)
	if err == nil {
		b.peakRate = rates(flops, times)
	}
	return b.peakRate, err
}

// packedBytes is what so many numbers of a weight matrix take as products read them.
func (b *bench) packedBytes(n int) int {
	if b.dev.dtype == "bf16" {
		return 2 * n
	}
	return 4 * n
}

// largest is how many bytes a card is asked to move.
func (b *bench) largest() int { return int(min(int64(b.o.large), 64*parameters(b.config))) }

// read measures B/s of reading so many bytes of memory again and again, at most
// large: as many weights cannot be read faster, whichever cache they fit. A card
// copies instead, half of them to the other half, large as they are.
func (b *bench) read(bytes int) (spread, error) {
	bytes = min(bytes, b.o.large)
	if b.onCard() {
		bytes = b.largest()
	}
	if s, ok := b.reading[bytes]; ok {
		return s, nil
	}
	if err := b.fits("reading "+size(bytes), int64(bytes), true); err != nil {
		return spread{}, err
	}
	if b.onCard() {
		b.progress("copying %s", size(bytes/2))
		n := bytes / 2 / 4
		x, y := b.dev.AllocAs(device.Wide, n), b.dev.AllocAs(device.Wide, n)
		defer b.dev.Free(x)
		defer b.dev.Free(y)
		times, err := b.repeat(b.o.seconds/2, burst(func() { b.dev.Copy(x, y) }, b.dev.Sync))
		if err == nil {
			b.reading[bytes] = rates(float64(8*n), times)
		}
		return b.reading[bytes], err
	}
	b.progress("reading %s again and again", size(bytes))
	words := peak.Words(bytes / 8)
	rounds := max(1, 1<<26/bytes)
	times, err := b.repeat(b.o.seconds/2, clock(func() error {
		peak.Read(b.kernels, b.Threads, rounds, words)
		return nil
	}))
	if err == nil {
		b.reading[bytes] = rates(float64(rounds*8*len(words)), times)
	}
	return b.reading[bytes], err
}

// trip measures once more what it takes from one thread to another and back. The
// fastest of a few tries counts: more was the system's doing.
func (b *bench) trip() {
	if b.onCard() || b.Threads < 2 || runtime.GOMAXPROCS(0) < 2 {
		return
	}
	fastest := math.Inf(1)
	for start := time.Now(); time.Since(start) < 50*time.Millisecond; {
		fastest = min(fastest, float64(peak.Trip(200).Nanoseconds()))
	}
	if b.Trip == nil {
		b.Trip = &benchTrip{fastest, fastest}
	}
	b.Trip.Shortest, b.Trip.Longest = min(b.Trip.Shortest, fastest), max(b.Trip.Longest, fastest)
}

// product is one line of the part matmul.
type product struct {
	m, n, k        int
	transA, transB bool
}

// name is the product's size, and which operand is stored transposed.
func (p product) name() string {
	t := func(x string, transposed bool) string {
		if transposed {
			return x + "ᵀ"
		}
		return x
	}
	return fmt.Sprintf("%s·%s %d×%d×%d", t("A", p.transA), t("B", p.transB), p.m, p.n, p.k)
}

// products are those of a training step (forward, gradient of the input, gradient
// of the weights), of prefill and of decoding with the shape's largest matrices,
// and square ones.
func (b *bench) products() []product {
	d, f, l := b.config.Hidden, b.config.Intermediate, b.lengths
	rows := l.sequences * l.train
	list := []product{
		{rows, d, d, false, true}, {rows, f, d, false, true}, {rows, d, f, false, true},
		{rows, d, f, false, false}, {f, d, rows, true, false},
		{l.prefill, f, d, false, true},
	}
	for _, m := range []int{1, 4, 16, 32} {
		list = append(list, product{m, f, d, false, true})
	}
	for _, m := range []int{1, 16} {
		list = append(list, product{m, b.config.Vocab, d, false, true})
	}
	for n := 512; n <= min(2048, max(512, 8*d)); n *= 2 {
		list = append(list, product{n, n, n, false, true})
	}
	return list
}

// matmul measures products. B, when transposed, is a weight matrix: it does not
// change between calls, as in decoding.
func (b *bench) matmul() error {
	flops, err := b.peak()
	if err != nil {
		return err
	}
	for _, p := range b.products() {
		m, n, k := p.m, p.n, p.k
		need := b.dev.Bytes(device.Compute, int64(m*k+2*k*n+m*n))
		if err := b.fits(p.name(), need, true); err != nil {
			return err
		}
		b.progress("%s", p.name())
		x, y, z := b.dev.Alloc(m*k), b.dev.Alloc(k*n), b.dev.Alloc(m*n)
		b.dev.Write(x, noise(m*k))
		b.dev.Write(y, noise(k*n))
		times, err := b.repeat(b.o.seconds/4, burst(func() { b.dev.MatMul(z, x, y, m, n, k, p.transA, p.transB, false) }, b.dev.Sync))
		if err = errors.Join(err, b.dev.Sync()); err == nil {
			work := 2 * float64(m) * float64(n) * float64(k)
			s := rates(work, times)
			row := b.add("matmul", p.name(), "GFLOP/s", s.scaled(1e-9))
			row.GFLOPs, row.PeakShare = s.median*1e-9, s.median/flops.fastest
			if m <= 4 { // few rows: the weights come from memory, or wait for it
				err = b.bandwidth(row, s.median/work, b.packedBytes(k*n))
			}
		}
		for _, buf := range []device.Buffer{x, y, z} {
			b.dev.Free(buf)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bandwidth notes on a row that bytes of weights are read so often a second.
func (b *bench) bandwidth(row *benchRow, often float64, bytes int) error {
	read, err := b.read(bytes)
	if err == nil {
		rate := often * float64(bytes)
		row.GBps, row.BandwidthShare = rate*1e-9, rate/read.fastest
	}
	return err
}

// noise is n numbers between −1 and 1 that look random and are always the same.
func noise(n int) []float32 {
	x := make([]float32, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range x {
		x[i] = 2*r.Float32() - 1
	}
	return x
}
