package cpu

import (
	"math"
	"math/rand/v2"
	"testing"

	"nrt/backend/device"
)

func mustNew(t testing.TB, o Options) device.Device {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func upload(d device.Device, x []float64) device.Buffer {
	b := d.Alloc(len(x))
	d.Write64(b, x)
	return b
}

func download(d device.Device, b device.Buffer) []float64 {
	x := make([]float64, b.Len())
	d.Read64(x, b)
	return x
}

func normal(r *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = r.NormFloat64()
	}
	return x
}

func TestMatMulSmoke(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	d := mustNew(t, Options{Threads: 2})
	for _, s := range [][3]int{{1, 1, 1}, {3, 5, 7}, {100, 70, 33}, {65, 64, 500}} {
		m, n, k := s[0], s[1], s[2]
		for mode := range 8 {
			ta, tb, acc := mode&1 != 0, mode&2 != 0, mode&4 != 0
			a, b, c := normal(r, m*k), normal(r, k*n), normal(r, m*n)
			cb := upload(d, c)
			d.MatMul(cb, upload(d, a), upload(d, b), m, n, k, ta, tb, acc)
			got := download(d, cb)
			for i := range m {
				for j := range n {
					var want float64
					if acc {
						want = c[i*n+j]
					}
					for p := range k {
						x, y := a[i*k+p], b[p*n+j]
						if ta {
							x = a[p*m+i]
						}
						if tb {
							y = b[j*k+p]
						}
						want += x * y
					}
					if math.Abs(got[i*n+j]-want) > 1e-4*math.Sqrt(float64(k)) {
						t.Fatalf("%v mode %d: (%d,%d) is %g, want %g", s, mode, i, j, got[i*n+j], want)
					}
				}
			}
		}
	}
}

func TestAttentionSmoke(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	d := mustNew(t, Options{Type: Float64, Threads: 2})
	h := device.Heads{Query: 4, KV: 2, Dim: 6}
	n := 70
	seqs := []device.Seq{{Q: device.Span{Start: 0, Len: n}, Own: 0}}
	q, k, v := upload(d, normal(r, n*24)), upload(d, normal(r, n*12)), upload(d, normal(r, n*12))
	out, lse := d.Alloc(n*24), d.Alloc(n*4)
	d.Attention(out, lse, q, k, v, seqs, h)
	dout := upload(d, normal(r, n*24))
	dq, dk, dv := d.Alloc(n*24), d.Alloc(n*12), d.Alloc(n*12)
	d.AttentionBackward(dq, dk, dv, dout, q, k, v, out, lse, seqs, h)
	loss := func() float64 {
		d.Attention(out, lse, q, k, v, seqs, h)
		var s float64
		a, b := download(d, out), download(d, dout)
		for i := range a {
			s += a[i] * b[i]
		}
		return s
	}
	for name, p := range map[string][2]device.Buffer{"q": {q, dq}, "k": {k, dk}, "v": {v, dv}} {
		x, g := download(d, p[0]), download(d, p[1])
		for i := 0; i < len(x); i += 37 {
			const e = 1e-5
			keep := x[i]
			x[i] = keep + e
			d.Write64(p[0], x)
			up := loss()
			x[i] = keep - e
			d.Write64(p[0], x)
			down := loss()
			x[i] = keep
			d.Write64(p[0], x)
			if want := (up - down) / (2 * e); math.Abs(want-g[i]) > 1e-6*(1+math.Abs(want)) {
				t.Fatalf("d%s[%d] is %g, want %g", name, i, g[i], want)
			}
		}
	}
}

func TestClassifierSmoke(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	d := mustNew(t, Options{Type: Float64, Threads: 2})
	rows, vocab, dim := 5, 2100, 3
	hx, wx := normal(r, rows*dim), normal(r, vocab*dim)
	h, w := upload(d, hx), upload(d, wx)
	targets := []int32{0, 2099, 5, 2048, 2047}
	c := device.Classified{LogProb: make([]float64, rows), Entropy: make([]float64, rows), LSE: make([]float64, rows)}
	wl, we := normal(r, rows), normal(r, rows)
	loss := func() float64 {
		d.Classifier(c, h, w, targets, vocab, dim, 0.7)
		var s float64
		for i := range rows {
			s -= wl[i]*c.LogProb[i] + we[i]*c.Entropy[i]
		}
		return s
	}
	loss()
	for i := range rows {
		var s, e float64
		x := make([]float64, vocab)
		for v := range x {
			for j := range dim {
				x[v] += 0.7 * hx[i*dim+j] * wx[v*dim+j]
			}
			s += math.Exp(x[v])
		}
		for v := range x {
			p := math.Exp(x[v]) / s
			e -= p * math.Log(p)
		}
		lp := x[targets[i]] - math.Log(s)
		if math.Abs(lp-c.LogProb[i]) > 1e-9 || math.Abs(e-c.Entropy[i]) > 1e-9 {
			t.Fatalf("row %d: %g %g, want %g %g", i, c.LogProb[i], c.Entropy[i], lp, e)
		}
	}
	dh, dw := d.Alloc(rows*dim), d.Alloc(vocab*dim)
	d.ClassifierBackward(dh, dw, h, w, targets, vocab, dim, 0.7, c, wl, we)
	for name, p := range map[string][2]device.Buffer{"h": {h, dh}, "w": {w, dw}} {
		x, g := download(d, p[0]), download(d, p[1])
		for i := 0; i < len(x); i += 1 + len(x)/40 {
			const e = 1e-5
			keep := x[i]
			x[i] = keep + e
			d.Write64(p[0], x)
			up := loss()
			x[i] = keep - e
			d.Write64(p[0], x)
			down := loss()
			x[i] = keep
			d.Write64(p[0], x)
			if want := (up - down) / (2 * e); math.Abs(want-g[i]) > 1e-6*(1+math.Abs(want)) {
				t.Fatalf("d%s[%d] is %g, want %g", name, i, g[i], want)
			}
		}
	}
}
