//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"nrt/backend/cuda/internal/driver"
	"nrt/backend/cuda/internal/emu"
	"nrt/backend/device"
)

// attentionCase is Seqs and numbers for them. devicetest covers small shapes of
// all kinds; here are wide heads, many keys, shared chunks and unaligned views.
type attentionCase struct {
	name       string
	h          device.Heads
	rows, keys int
	seqs       []device.Seq
	views      bool // buffers that begin at odd elements
}

func attentionCases() []attentionCase {
	span := func(start, n int) device.Span { return device.Span{Start: start, Len: n} }
	// chains are decoding chains of one prompt, each with its own keys.
	chains := func(n, prompt, own, queries int) (seqs []device.Seq, rows, keys int) {
		for i := range n {
			at := prompt + i*(own+i+queries)
			seqs = append(seqs, device.Seq{Q: span(i*queries, queries), Past: []device.Span{span(0, prompt), span(at, own+i)}, Own: at + own + i})
			keys = at + own + i + queries
		}
		return seqs, n * queries, keys
	}
	packed := func(prompt int, lens ...int) (seqs []device.Seq, rows int) {
		seqs, rows = append(seqs, device.Seq{Q: span(0, prompt)}), prompt
		for _, n := range lens {
			seqs = append(seqs, device.Seq{Q: span(rows, n), Past: []device.Span{span(0, prompt)}, Own: rows})
			rows += n
		}
		return seqs, rows
	}
	var cases []attentionCase
	seqs, rows := packed(70, 40, 90, 9)
	cases = append(cases,
		attentionCase{"training", device.Heads{Query: 4, KV: 2, Dim: 64}, rows, rows, seqs, false},
		attentionCase{"training, odd views", device.Heads{Query: 3, KV: 1, Dim: 64}, rows, rows, seqs, true},
		attentionCase{"training, window, groups of five", device.Heads{Query: 10, KV: 2, Dim: 48, Window: 37}, rows, rows, seqs, false},
		attentionCase{"training, window", device.Heads{Query: 2, KV: 1, Dim: 128, Window: 50}, rows, rows, seqs, false},
		attentionCase{"training, one head of 80", device.Heads{Query: 1, KV: 1, Dim: 80}, rows, rows, seqs, false},
		attentionCase{"training, a window beyond any position", device.Heads{Query: 4, KV: 1, Dim: 16, Window: 1 << 29}, rows, rows, seqs, false})
	seqs, rows = packed(35, 20, 5)
	cases = append(cases,
		attentionCase{"training, heads of 256", device.Heads{Query: 2, KV: 1, Dim: 256}, rows, rows, seqs, false},
		attentionCase{"training, heads of 200", device.Heads{Query: 2, KV: 2, Dim: 200}, rows, rows, seqs, true})
	// Every way to cut keys: overlapping spans, the same rows twice.
	cases = append(cases, attentionCase{"overlaps", device.Heads{Query: 8, KV: 1, Dim: 33}, 60, 130, []device.Seq{
		{Q: span(0, 20), Past: []device.Span{span(10, 70), span(0, 0), span(15, 30)}, Own: 90},
		{Q: span(20, 11), Past: []device.Span{span(0, 64), span(100, 30)}, Own: 90},
		{Q: span(31, 2), Past: []device.Span{span(10, 70)}, Own: 80},
		{Q: span(40, 20), Past: []device.Span{span(64, 6)}, Own: 66}}, false})
	seqs, rows, keys := chains(6, 300, 3, 1)
	cases = append(cases, attentionCase{"decoding", device.Heads{Query: 8, KV: 2, Dim: 64}, rows, keys, seqs, false},
		attentionCase{"decoding, window", device.Heads{Query: 4, KV: 1, Dim: 40, Window: 100}, rows, keys, seqs, false})
	seqs, rows, keys = chains(9, 70, 250, 4)
	cases = append(cases, attentionCase{"decoding, some queries each", device.Heads{Query: 3, KV: 1, Dim: 20}, rows, keys, seqs, true})
	seqs, rows, keys = chains(2, 130, 2, 1)
	cases = append(cases, attentionCase{"decoding, more heads than a tile", device.Heads{Query: 71, KV: 1, Dim: 24}, rows, keys, seqs, false})
	return cases
}

// attentionNumbers are buffers with numbers, and what they should become.
type attentionNumbers struct {
	q, k, v, dout                       testNumbers
	gotOut, gotLSE, gotDQ, gotDK, gotDV device.Buffer
	out, lse, dq, dk, dv                []float64
}

// testNumbers is a buffer and what it holds.
type testNumbers struct {
	b device.Buffer
	x []float64
}

func (c attentionCase) numbers(d *dev) *attentionNumbers {
	offset := 0
	if c.views {
		offset = 1
	}
	qn, kn := c.rows*c.h.Query*c.h.Dim, c.keys*c.h.KV*c.h.Dim
	var seed uint64
	make := func(k device.Kind, n int) (x testNumbers) {
		seed++
		x.b, x.x = numbers(d, seed, k, n, offset)
		return x
	}
	a := &attentionNumbers{q: make(device.Compute, qn), k: make(device.Compute, kn), v: make(device.Compute, kn), dout: make(device.Compute, qn)}
	dk, dv := make(device.Compute, kn), make(device.Compute, kn)
	a.gotDK, a.dk, a.gotDV, a.dv = dk.b, dk.x, dv.b, dv.x
	a.gotOut, a.gotLSE, a.gotDQ = make(device.Compute, qn).b, make(device.Wide, qn/c.h.Dim).b, make(device.Compute, qn).b
	return a
}

// run computes.
func (c attentionCase) run(d *dev, a *attentionNumbers) {
	d.Attention(a.gotOut, a.gotLSE, a.q.b, a.k.b, a.v.b, c.seqs, c.h)
	d.AttentionBackward(a.gotDQ, a.gotDK, a.gotDV, a.dout.b, a.q.b, a.k.b, a.v.b, a.gotOut, a.gotLSE, c.seqs, c.h)
}

// rows are those of the queries of seqs in x, which has width numbers for each.
func (c attentionCase) of(seqs []device.Seq, x []float64, width int) (rows []float64) {
	for _, s := range seqs {
		rows = append(rows, x[s.Q.Start*width:(s.Q.Start+s.Q.Len)*width]...)
	}
	return rows
}

// want fills in what is wanted, pair by pair.
func (c attentionCase) want(a *attentionNumbers) {
	h := c.h
	n := len(a.q.x)
	a.out, a.lse, a.dq = make([]float64, n), make([]float64, n/h.Dim), make([]float64, n)
	dot := func(x, y []float64) (s float64) {
		for i := range x {
			s += x[i] * y[i]
		}
		return s
	}
	add := func(x, y []float64, by float64) {
		for i := range x {
			x[i] += by * y[i]
		}
	}
	scale := 1 / math.Sqrt(float64(h.Dim))
	for _, s := range c.seqs {
		var past []int
		for _, p := range s.Past {
			for i := range p.Len {
				past = append(past, p.Start+i)
			}
		}
		for i := range s.Q.Len {
			rows := append([]int(nil), past...)
			for j := range i + 1 {
				rows = append(rows, s.Own+j)
			}
			if h.Window > 0 && len(rows) > h.Window {
				rows = rows[len(rows)-h.Window:]
			}
			for head := range h.Query {
				at := (s.Q.Start+i)*h.Query + head
				cut := func(x []float64) []float64 { return x[at*h.Dim : (at+1)*h.Dim] }
				key := func(x []float64, row int) []float64 {
					k := row*h.KV + head*h.KV/h.Query
					return x[k*h.Dim : (k+1)*h.Dim]
				}
				p := make([]float64, len(rows))
				top, total := math.Inf(-1), 0.0
				for j, r := range rows {
					p[j] = scale * dot(cut(a.q.x), key(a.k.x, r))
					top = max(top, p[j])
				}
				for j := range p {
					p[j] = math.Exp(p[j] - top)
					total += p[j]
				}
				a.lse[at] = top + math.Log(total)
				for j, r := range rows {
					p[j] /= total
					add(cut(a.out), key(a.v.x, r), p[j])
				}
				delta := dot(cut(a.dout.x), cut(a.out))
				for j, r := range rows {
					ds := scale * p[j] * (dot(cut(a.dout.x), key(a.v.x, r)) - delta)
					add(cut(a.dq), key(a.k.x, r), ds)
					add(key(a.dk, r), cut(a.q.x), ds)
					add(key(a.dv, r), cut(a.dout.x), p[j])
				}
			}
		}
	}
}

func TestAttention(t *testing.T) {
	for _, typ := range []Type{F32, BF16} {
		for _, c := range attentionCases() {
			t.Run(fmt.Sprintf("%v/%s", typ, c.name), func(t *testing.T) {
				d := testDevice(t, typ)
				d.attention.backward.plan.shared = 100                     // cut the work of shared keys in small examples too
				d.attention.forward.most, d.attention.backward.most = 3, 3 // and their launches
				a := c.numbers(d)
				c.want(a)
				c.run(d, a)
				value, gradient := 2e-5, 1e-4
				if typ == BF16 {
					value, gradient = 2e-2, 3e-2
				}
				qw := c.h.Query * c.h.Dim
				near(t, "out", c.of(c.seqs, read(d, a.gotOut), qw), c.of(c.seqs, a.out, qw), value)
				near(t, "lse", c.of(c.seqs, read(d, a.gotLSE), c.h.Query), c.of(c.seqs, a.lse, c.h.Query), value)
				near(t, "dq", c.of(c.seqs, read(d, a.gotDQ), qw), c.of(c.seqs, a.dq, qw), gradient)
				near(t, "dk", read(d, a.gotDK), a.dk, gradient)
				near(t, "dv", read(d, a.gotDV), a.dv, gradient)
			})
		}
	}
}

// TestAttentionAlone: a Seq's bits do not depend on which Seqs are in the call,
// though they share work. The gradient of keys that no other Seq sees is as exact.
// Rows of no Seq are left as they are.
func TestAttentionAlone(t *testing.T) {
	for _, typ := range []Type{F32, BF16} {
		for _, c := range attentionCases() {
			t.Run(fmt.Sprintf("%v/%s", typ, c.name), func(t *testing.T) {
				d := testDevice(t, typ)
				together := c.numbers(d)
				c.run(d, together)
				names, widths := []string{"out", "lse", "dq"}, []int{c.h.Query * c.h.Dim, c.h.Query, c.h.Query * c.h.Dim}
				rows := func(a *attentionNumbers) [][]float64 {
					return [][]float64{read(d, a.gotOut), read(d, a.gotLSE), read(d, a.gotDQ)}
				}
				want, wantDK, wantDV := rows(together), read(d, together.gotDK), read(d, together.gotDV)
				seen := make([]int, c.keys)
				for _, s := range c.seqs {
					for _, p := range append([]device.Span{{Start: s.Own, Len: s.Q.Len}}, s.Past...) {
						for i := range p.Len {
							seen[p.Start+i]++
						}
					}
				}
				for i, s := range c.seqs {
					one := c
					one.seqs = c.seqs[i : i+1]
					alone := one.numbers(d)
					before := rows(alone)
					one.run(d, alone)
					for j, x := range rows(alone) {
						w := widths[j]
						from, to := s.Q.Start*w, (s.Q.Start+s.Q.Len)*w
						same(t, fmt.Sprintf("%s of seq %d", names[j], i), x[from:to], want[j][from:to])
						same(t, fmt.Sprintf("%s before seq %d", names[j], i), x[:from], before[j][:from])
						same(t, fmt.Sprintf("%s after seq %d", names[j], i), x[to:], before[j][to:])
					}
					dk, dv, w := read(d, alone.gotDK), read(d, alone.gotDV), c.h.KV*c.h.Dim
					for r := s.Own; r < s.Own+s.Q.Len; r++ {
						if seen[r] == 1 {
							same(t, fmt.Sprintf("dk of row %d", r), dk[r*w:(r+1)*w], wantDK[r*w:(r+1)*w])
							same(t, fmt.Sprintf("dv of row %d", r), dv[r*w:(r+1)*w], wantDV[r*w:(r+1)*w])
						}
					}
				}
			})
		}
	}
}

// TestAttentionOrder: the order of threads and blocks changes nothing.
func TestAttentionOrder(t *testing.T) {
	for _, typ := range []Type{F32, BF16} {
		d := testDevice(t, typ)
		d.attention.backward.plan.shared = 100
		order := func(seed uint64) {} // a card has its own
		if !onCard() {
			control, err := emu.Open(os.Getenv(driver.Env))
			if err != nil {
				t.Fatal(err)
			}
			order = control.Seed
			defer order(0)
		}
		for _, c := range attentionCases() {
			if c.name != "overlaps" && c.name != "decoding, window" {
				continue
			}
			var first [][]float64
			for seed := range uint64(4) {
				order(seed)
				a := c.numbers(d)
				c.run(d, a)
				for i, b := range []device.Buffer{a.gotOut, a.gotLSE, a.gotDQ, a.gotDK, a.gotDV} {
					if seed == 0 {
						first = append(first, read(d, b))
					}
					same(t, fmt.Sprintf("%v %s, seed %d, result %d", typ, c.name, seed, i), read(d, b), first[i])
				}
			}
		}
	}
}

// TestAttentionUnderChecks looks for races between threads and for reads and
// writes outside of memory.
func TestAttentionUnderChecks(t *testing.T) {
	if testing.Short() || onCard() {
		t.Skip("runs cases twice more, on the emulator")
	}
	for _, check := range []emu.Check{emu.Races, emu.Address} {
		t.Run(check.String(), func(t *testing.T) {
			t.Parallel()
			out, err := emu.Again(t, check, "^TestAttention$/./(overlaps|.*of_256|decoding.*)$", driver.Env+"=")
			if err != nil || !strings.Contains(string(out), "--- PASS: TestAttention/bf16/decoding,_window ") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestAttentionSteps: the launches of decoding repeat from step to step while the
// chains grow, so that they are replayed as a graph, and lists cost no memory.
func TestAttentionSteps(t *testing.T) {
	d := testDevice(t, BF16)
	h := device.Heads{Query: 4, KV: 2, Dim: 16}
	const chains, prompt, most, steps, layers = 5, 40, 30, 8, 3
	q, out, lse := d.Alloc(chains*h.Query*h.Dim), d.Alloc(chains*h.Query*h.Dim), d.AllocAs(device.Wide, chains*h.Query)
	n := (prompt + chains*most) * h.KV * h.Dim
	k, v := d.Alloc(n), d.Alloc(n)
	seqs, past := make([]device.Seq, chains), make([]device.Span, 2*chains)
	step := func(i int) {
		for c := range seqs {
			at := prompt + c*most
			p := past[2*c : 2*c+2]
			p[0], p[1] = device.Span{Len: prompt}, device.Span{Start: at, Len: i}
			seqs[c] = device.Seq{Q: device.Span{Start: c, Len: 1}, Past: p, Own: at + i}
		}
		for range layers {
			d.Attention(out, lse, q, k, v, seqs, h)
		}
		if err := d.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range steps {
		step(i)
	}
	// The first step takes memory, the next is new, the third is recorded.
	if g := &d.ex.graphs; g.captured != 1 || g.replayed != steps-3 {
		t.Errorf("of %d steps %d were recorded and %d replayed, want 1 and %d", steps, g.captured, g.replayed, steps-3)
	}
	i := steps
	sync := testing.AllocsPerRun(5, func() { _ = d.Sync() })
	if n := testing.AllocsPerRun(5, func() { step(i); i++ }); n > sync+1 { // which has work to hand over
		t.Errorf("a step allocates %g times, Sync alone %g", n, sync)
	}
}
