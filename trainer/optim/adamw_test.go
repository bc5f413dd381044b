package optim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
)

func newDevice(t testing.TB, typ cpu.Type) device.Device {
	t.Helper()
	d, err := cpu.New(cpu.Options{Type: typ, Threads: 2})
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

// toy is a few parameters over flat buffers, as a model has them.
type toy struct {
	dev         device.Device
	value, grad device.Buffer
	params      []Param
}

func newToy(d device.Device, lens ...int) *toy {
	n := 0
	for _, l := range lens {
		n += l
	}
	m := &toy{dev: d, value: d.Alloc(n), grad: d.Alloc(n)}
	at := 0
	for i, l := range lens {
		m.params = append(m.params, Param{
			Name: fmt.Sprintf("p%d", i), Value: m.value.View(at, l), Grad: m.grad.View(at, l), Decay: i%2 == 0,
		})
		at += l
	}
	return m
}

func (m *toy) get(b device.Buffer) []float64 {
	out := make([]float64, b.Len())
	m.dev.Read64(out, b)
	return out
}

var usual = Options{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1}

func newAdamW(t testing.TB, m *toy, o Options) *AdamW {
	t.Helper()
	a, err := New(m.dev, m.params, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Two updates by hand, p = (1, −2), g = (0.5, −1) then (0.1, 0), lr 0.1,
// β = (0.5, 0.5), ε = 0, λ = 0.1 on the first parameter only.
//
// Update 1: m̂ = g, v̂ = g²: the direction is the sign.
//
//	p0 = 1 − 0.1·(1 + 0.1·1) = 0.89        p1 = −2 − 0.1·(−1) = −1.9
//
// Update 2: m0 = (0.25 + 0.1)/2 = 0.175, v0 = (0.125 + 0.01)/2 = 0.0675,
// m̂0 = 0.175/0.75, v̂0 = 0.0675/0.75 = 0.09, so m̂0/√v̂0 = 0.2333…/0.3 = 7/9;
// m1 = −0.25, v1 = 0.25, m̂1 = −1/3, v̂1 = 1/3, so −1/√3.
//
//	p0 = 0.89 − 0.1·(7/9 + 0.089)          p1 = −1.9 + 0.1/√3
func TestGolden(t *testing.T) {
	m := newToy(newDevice(t, cpu.Float64), 1, 1)
	m.dev.Write64(m.value, []float64{1, -2})
	// ε must be above 0; this one is lost in rounding.
	a := newAdamW(t, m, Options{Beta1: 0.5, Beta2: 0.5, Eps: 1e-300, WeightDecay: 0.1})
	for i, c := range []struct{ g, want []float64 }{
		{[]float64{0.5, -1}, []float64{0.89, -1.9}},
		{[]float64{0.1, 0}, []float64{0.89 - 0.1*(7.0/9+0.089), -1.9 + 0.1/math.Sqrt(3)}},
	} {
		m.dev.Write64(m.grad, c.g)
		norm, err := a.Step(0.1, 1)
		if err != nil {
			t.Fatal(err)
		}
		if want := math.Hypot(c.g[0], c.g[1]); math.Abs(norm-want) > 1e-15 {
			t.Errorf("update %d: norm %v, want %v", i+1, norm, want)
		}
		for j, got := range m.get(m.value) {
			if math.Abs(got-c.want[j]) > 1e-14 {
				t.Errorf("update %d: p%d = %v, want %v", i+1, j, got, c.want[j])
			}
		}
	}
	if a.Updates() != 2 {
		t.Errorf("%d updates", a.Updates())
	}
}

// reference is AdamW again, written from the definition with nothing shared: it
// keeps no running bias correction but sums the whole history.
type reference struct {
	o     Options
	grads [][]float64
}

func (r *reference) step(p []float64, decay []bool, g []float64, lr float64) (norm float64) {
	for _, x := range g {
		norm += x * x
	}
	norm = math.Sqrt(norm)
	g = slices.Clone(g)
	if r.o.MaxGradNorm > 0 && norm > r.o.MaxGradNorm {
		for i := range g {
			g[i] = g[i] / norm * r.o.MaxGradNorm
		}
	}
	r.grads = append(r.grads, g)
	for i := range p {
		// The bias-corrected moments are means weighted βᵃᵍᵉ.
		var m, wm, v, wv float64
		for u := range r.grads {
			age := float64(len(r.grads) - 1 - u)
			a, b := math.Pow(r.o.Beta1, age), math.Pow(r.o.Beta2, age)
			m, wm = m+a*r.grads[u][i], wm+a
			v, wv = v+b*r.grads[u][i]*r.grads[u][i], wv+b
		}
		step := (m / wm) / (math.Sqrt(v/wv) + r.o.Eps)
		if decay[i] {
			step += r.o.WeightDecay * p[i]
		}
		p[i] -= lr * step
	}
	return norm
}

func TestAgainstReference(t *testing.T) {
	for _, c := range []struct {
		name string
		typ  cpu.Type
		tol  float64
		flat bool
	}{{"float64", cpu.Float64, 1e-12, false}, {"float64 flat", cpu.Float64, 1e-12, true}, {"float32", cpu.Float32, 2e-5, true}} {
		t.Run(c.name, func(t *testing.T) {
			const seed = 11
			rng := rand.New(rand.NewPCG(seed, 0))
			lens := []int{7, 3, 64, 1, 33}
			m := newToy(newDevice(t, c.typ), lens...)
			o := usual
			o.MaxGradNorm = 15
			ref := &reference{o: o}
			if c.flat {
				o.FlatGrad = m.grad
			}
			a := newAdamW(t, m, o)
			n := m.value.Len()
			p, decay := make([]float64, n), make([]bool, 0, n)
			for i, l := range lens {
				for range l {
					decay = append(decay, i%2 == 0)
				}
			}
			for i := range p {
				p[i] = float64(float32(rng.NormFloat64()))
			}
			m.dev.Write64(m.value, p)
			sched := Schedule{Kind: "cosine", LR: 1e-2, Warmup: 10, Total: 120}
			clipped := 0
			for u := 1; u <= 120; u++ {
				g := make([]float64, n)
				for i := range g {
					g[i] = float64(float32(rng.NormFloat64() * math.Exp(rng.NormFloat64()-0.5)))
				}
				m.dev.Write64(m.grad, g)
				// The device's gradients are a sum of 4 passes to be averaged.
				m.dev.Scale(m.grad, 4)
				want := ref.step(p, decay, g, sched.At(u))
				if want > o.MaxGradNorm {
					clipped++
				}
				norm, err := a.Step(sched.At(u), 0.25)
				if err != nil {
					t.Fatal(err)
				}
				if math.Abs(norm-want) > c.tol*want {
					t.Fatalf("seed %d, update %d: norm %v, want %v", seed, u, norm, want)
				}
				for i, x := range m.get(m.value) {
					if math.Abs(x-p[i]) > c.tol {
						t.Fatalf("seed %d, update %d: value %d is %v, want %v", seed, u, i, x, p[i])
					}
				}
			}
			if clipped < 10 || clipped > 110 {
				t.Errorf("%d of 120 updates clipped: the test does not test clipping", clipped)
			}
		})
	}
}

func TestNonFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, flat := range []bool{false, true} {
			m := newToy(newDevice(t, cpu.Float32), 4, 4, 4)
			o := usual
			if flat {
				o.FlatGrad = m.grad
			}
			a := newAdamW(t, m, o)
			m.dev.Write64(m.grad, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
			if _, err := a.Step(0.1, 1); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, m, a)
			if _, err := a.Step(bad, 1); err == nil || !strings.HasPrefix(err.Error(), "update 2: learning rate: want a finite number, have ") {
				t.Errorf("a learning rate of %v: have %v", bad, err)
			}
			m.dev.Write64(m.grad.View(6, 1), []float64{bad})
			_, err := a.Step(0.1, 1)
			var nf *NonFiniteError
			if !errors.As(err, &nf) || nf.Update != 2 || nf.Param != "p1" || !strings.HasPrefix(err.Error(), "update 2: the gradient of p1 is not finite") {
				t.Fatalf("have %v", err)
			}
			if after := snapshot(t, m, a); !bytes.Equal(before, after) {
				t.Error("the refused update changed something")
			}
			// And training can go on.
			m.dev.Write64(m.grad.View(6, 1), []float64{1})
			if _, err := a.Step(0.1, 1); err != nil || a.Updates() != 2 {
				t.Error(err)
			}
		}
	}
	// Every gradient is finite, but not the sum of their squares or the scale.
	m := newToy(newDevice(t, cpu.Float64), 1, 1)
	a := newAdamW(t, m, usual)
	m.dev.Write64(m.grad, []float64{1e154, 1e154})
	if _, err := a.Step(0.1, math.Inf(1)); err == nil {
		t.Error("no error for an infinite scale")
	}
}

// snapshot is values and state as bytes.
func snapshot(t *testing.T, m *toy, a *AdamW) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := a.Save(&b); err != nil {
		t.Fatal(err)
	}
	for _, x := range m.get(m.value) {
		fmt.Fprintf(&b, "%x ", math.Float64bits(x))
	}
	return b.Bytes()
}

func TestClipOff(t *testing.T) {
	m := newToy(newDevice(t, cpu.Float64), 2)
	a := newAdamW(t, m, usual)
	m.dev.Write64(m.grad, []float64{3e6, 4e6})
	norm, err := a.Step(0, 1)
	if err != nil || norm != 5e6 {
		t.Errorf("norm %v, error %v", norm, err)
	}
	if got := m.get(a.parts[0].m); math.Abs(got[0]-3e5) > 1e-6 {
		t.Errorf("first moment %v: was clipped", got)
	}
}

func TestNewErrors(t *testing.T) {
	d := newDevice(t, cpu.Float32)
	for _, c := range []struct {
		want   string
		change func(*Options)
	}{
		{"beta1", func(o *Options) { o.Beta1 = 1 }},
		{"beta2", func(o *Options) { o.Beta2 = -0.1 }},
		{"eps", func(o *Options) { o.Eps = 0 }},
		{"weight decay", func(o *Options) { o.WeightDecay = math.NaN() }},
		{"max grad norm", func(o *Options) { o.MaxGradNorm = -1 }},
	} {
		o := usual
		c.change(&o)
		if _, err := New(d, nil, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("have %v, want %s", err, c.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a gradient of another length does not panic")
		}
	}()
	_, err := New(d, []Param{{Name: "p", Value: d.Alloc(2), Grad: d.Alloc(3)}}, usual)
	t.Error(err)
}

// trained makes n updates with gradients that depend on seed and update alone.
func trained(t testing.TB, m *toy, a *AdamW, from, to int) {
	t.Helper()
	for u := from; u < to; u++ {
		rng := rand.New(rand.NewPCG(5, uint64(u)))
		g := make([]float64, m.grad.Len())
		for i := range g {
			g[i] = rng.NormFloat64() * 1e-3
		}
		m.dev.Write64(m.grad, g)
		if _, err := a.Step(1e-3, 1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResume(t *testing.T) {
	for _, test := range []struct {
		name  string
		typ   cpu.Type
		eight bool
		long  int     // one parameter is longer than a chunk, or a part
		width float64 // bytes a moment in the file
	}{
		{"float32", cpu.Float32, false, chunkLen + 17, 4}, {"float64", cpu.Float64, false, chunkLen + 17, 8},
		{"8 bits", cpu.Float32, true, partLen + 300, 1 + 4.0/device.Block8}, {"8 bits of float64", cpu.Float64, true, chunkLen + 17, 1 + 4.0/device.Block8},
	} {
		t.Run(test.name, func(t *testing.T) {
			lens, typ, usual := []int{5, test.long, 1}, test.typ, usual
			usual.Moments8 = test.eight
			whole := newToy(newDevice(t, typ), lens...)
			a := newAdamW(t, whole, usual)
			trained(t, whole, a, 0, 6)

			first := newToy(newDevice(t, typ), lens...)
			b := newAdamW(t, first, usual)
			trained(t, first, b, 0, 3)
			var saved bytes.Buffer
			if err := b.Save(&saved); err != nil {
				t.Fatal(err)
			}
			if most := int(2*test.width*float64(first.value.Len())) + 500; saved.Len() > most {
				t.Errorf("the state has %d bytes, want at most %d", saved.Len(), most)
			}
			second := newToy(newDevice(t, typ), lens...)
			second.dev.Write64(second.value, first.get(first.value))
			c := newAdamW(t, second, usual)
			trained(t, second, c, 100, 101) // Load replaces what was there
			second.dev.Write64(second.value, first.get(first.value))
			if err := c.Load(iotest(bytes.NewReader(saved.Bytes()))); err != nil {
				t.Fatal(err)
			}
			trained(t, second, c, 3, 6)
			if !bytes.Equal(snapshot(t, whole, a), snapshot(t, second, c)) {
				t.Error("the resumed run is not the unbroken one bit for bit")
			}
		})
	}
}

// iotest hands out a few bytes at a time, as a pipe may.
func iotest(r io.Reader) io.Reader { return &dribble{r: r} }

type dribble struct {
	r io.Reader
	n int
}

func (d *dribble) Read(p []byte) (int, error) {
	d.n = d.n%4093 + 1
	return d.r.Read(p[:min(len(p), d.n*31)])
}

func TestLoadErrors(t *testing.T) {
	for name, eight := range map[string]bool{"32 bits": false, "8 bits": true} {
		t.Run(name, func(t *testing.T) { testLoadErrors(t, eight) })
	}
}

func testLoadErrors(t *testing.T, eight bool) {
	usual := usual
	usual.Moments8 = eight
	d := newDevice(t, cpu.Float32)
	m := newToy(d, 3, 2)
	a := newAdamW(t, m, usual)
	trained(t, m, a, 0, 2)
	var saved bytes.Buffer
	if err := a.Save(&saved); err != nil {
		t.Fatal(err)
	}
	good := saved.Bytes()

	// Every truncation and every flipped bit is found.
	for n := range good {
		if err := newAdamW(t, m, usual).Load(bytes.NewReader(good[:n])); err == nil || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("first %d of %d bytes: %v", n, len(good), err)
		}
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[n] ^= 1 << bit
			if err := newAdamW(t, m, usual).Load(bytes.NewReader(bad)); err == nil {
				t.Fatalf("bit %d of byte %d flipped: no error", bit, n)
			}
		}
	}

	for _, c := range []struct {
		name string
		m    *toy
		want string
	}{
		{"fewer", newToy(d, 3), "the state has 2 parameters, the model 1"},
		{"longer", newToy(d, 3, 4), "parameter 1: the state has p1 with 2 values, the model p1 with 4"},
	} {
		b := newAdamW(t, c.m, usual)
		err := b.Load(bytes.NewReader(good))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: have %v, want %s", c.name, err, c.want)
		}
		// Half loaded, it must not be used.
		if _, stepErr := b.Step(0.1, 1); stepErr != err {
			t.Errorf("%s: a step after the failed load: %v", c.name, stepErr)
		}
		if saveErr := b.Save(io.Discard); saveErr != err {
			t.Errorf("%s: a save after the failed load: %v", c.name, saveErr)
		}
	}
	other := usual
	other.Moments8 = !eight
	if err := newAdamW(t, m, other).Load(bytes.NewReader(good)); err == nil || !strings.Contains(err.Error(), "the state has moments in") {
		t.Errorf("moments of another kind: %v", err)
	}
	b := newAdamW(t, m, usual)
	if b.Load(strings.NewReader("x")) == nil || b.Load(bytes.NewReader(good)) != nil {
		t.Error("a good load does not repair a failed one")
	}
	if _, err := b.Step(0.1, 1); err != nil {
		t.Error(err)
	}
}

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestSaveErrors(t *testing.T) {
	m := newToy(newDevice(t, cpu.Float32), 3)
	a := newAdamW(t, m, usual)
	var b bytes.Buffer
	if err := a.Save(&b); err != nil {
		t.Fatal(err)
	}
	for _, room := range []int{0, b.Len() - 1} {
		if err := a.Save(&full{room}); err == nil || !strings.Contains(err.Error(), "save optimizer: disk full") {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
	a.Free()
}

// No input makes Load panic or claim memory it has no data for.
func FuzzLoad(f *testing.F) {
	d := newDevice(f, cpu.Float64)
	m := newToy(d, 3, 2)
	a := newAdamW(f, m, usual)
	trained(f, m, a, 0, 2)
	var saved bytes.Buffer
	if err := a.Save(&saved); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(saved.Bytes()))
	eight := usual
	eight.Moments8 = true
	c := newAdamW(f, m, eight)
	saved.Reset()
	if err := c.Save(&saved); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(saved.Bytes()))
	f.Add([]byte(stateMagic + "\xff\xff\xff\x03{}"))
	f.Add([]byte(stateMagic + "\x02\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, a := range []*AdamW{a, c} {
			if err := a.Load(bytes.NewReader(raw)); err != nil {
				continue
			}
			var again bytes.Buffer
			if err := a.Save(&again); err != nil {
				t.Fatal(err)
			}
			if err := a.Load(&again); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkStep(b *testing.B) {
	m := newToy(newDevice(b, cpu.Float32), 1<<20, 1024)
	a := newAdamW(b, m, Options{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, MaxGradNorm: 1, FlatGrad: m.grad})
	b.SetBytes(int64(4 * m.value.Len()))
	for b.Loop() {
		if _, err := a.Step(1e-3, 1); err != nil {
			b.Fatal(err)
		}
	}
}

// TestStepAllocatesNothing: an update works in the memory that New took.
func TestStepAllocatesNothing(t *testing.T) {
	for _, flat := range []bool{false, true} {
		m := newToy(newDevice(t, cpu.Float32), 3, 70000, 5)
		o := usual
		o.MaxGradNorm = 0.5
		if flat {
			o.FlatGrad, o.Moments8 = m.grad, true
		}
		a := newAdamW(t, m, o)
		step := func() {
			if _, err := a.Step(1e-3, 1); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(20, step); n > 0 {
			t.Errorf("flat gradient %v: %v allocations", flat, n)
		}
	}
}
