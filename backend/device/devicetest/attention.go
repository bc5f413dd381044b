package devicetest

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

// attention is the naive form: every query, every key it sees.
func attention(q, k, v []float64, seqs []device.Seq, h device.Heads) (out, lse []float64) {
	out, lse = make([]float64, len(q)), make([]float64, len(q)/h.Dim)
	for _, s := range seqs {
		var past []int
		for _, p := range s.Past {
			for i := range p.Len {
				past = append(past, p.Start+i)
			}
		}
		for i := range s.Q.Len {
			rows := append([]int(nil), past...)
			for j := 0; j <= i; j++ {
				rows = append(rows, s.Own+j)
			}
			if h.Window > 0 && len(rows) > h.Window {
				rows = rows[len(rows)-h.Window:]
			}
			for head := range h.Query {
				at := ((s.Q.Start+i)*h.Query + head) * h.Dim
				kv := head * h.KV / h.Query
				key := func(x []float64, row int) []float64 {
					a := (row*h.KV + kv) * h.Dim
					return x[a : a+h.Dim]
				}
				scores, top, total := make([]float64, len(rows)), math.Inf(-1), 0.0
				for j, r := range rows {
					scores[j] = dot(q[at:at+h.Dim], key(k, r)) / math.Sqrt(float64(h.Dim))
					top = max(top, scores[j])
				}
				for j := range scores {
					scores[j] = math.Exp(scores[j] - top)
					total += scores[j]
				}
				for j, r := range rows {
					for c, x := range key(v, r) {
						out[at+c] += scores[j] / total * x
					}
				}
				lse[(s.Q.Start+i)*h.Query+head] = top + math.Log(total)
			}
		}
	}
	return out, lse
}

// layout is a set of Seqs with the rows they need.
type layout struct {
	name       string
	rows, keys int
	seqs       []device.Seq
}

func span(start, n int) device.Span { return device.Span{Start: start, Len: n} }

// layouts are the ways Seqs stand to each other.
func (s *suite) layouts() []layout {
	n := func() int { return s.size() }
	var all []layout
	a := n()
	all = append(all, layout{"one", a, a, []device.Seq{{Q: span(0, a)}}})
	packed := layout{name: "packed"}
	for range 4 {
		a := 1 + n()/2
		packed.seqs = append(packed.seqs, device.Seq{Q: span(packed.rows, a), Own: packed.rows})
		packed.rows += a
	}
	packed.keys = packed.rows
	all = append(all, packed)
	// Two prompts with several chains each; each chain has an answer that
	// continues it, and an answer that continues the prompt alone.
	tree := layout{name: "tree"}
	add := func(n int, past ...device.Span) device.Span {
		own := span(tree.rows, n)
		tree.seqs = append(tree.seqs, device.Seq{Q: own, Past: past, Own: own.Start})
		tree.rows += n
		return own
	}
	for range 2 {
		prompt := add(n())
		for range 3 {
			chain := add(1+n()/3, prompt)
			add(1+s.r.IntN(5), prompt, chain)
		}
		add(1+s.r.IntN(5), prompt)
	}
	tree.keys = tree.rows
	all = append(all, tree)
	// Decoding: one query each, keys in blocks all over a cache, an empty
	// block among them, blocks shared.
	decode := layout{name: "decode", keys: 300}
	for i := range 7 {
		decode.seqs = append(decode.seqs, device.Seq{Q: span(i, 1), Own: 290 + i,
			Past: []device.Span{span(40, 16), span(100+20*i, 1+s.r.IntN(20)), span(0, 0), span(7, 5)}})
	}
	decode.rows = 7
	all = append(all, decode)
	// Queries with no rows, and rows of q that no Seq names.
	all = append(all, layout{"gaps", 12, 20, []device.Seq{
		{Q: span(0, 0), Own: 3}, {Q: span(2, 3), Past: []device.Span{span(10, 4)}, Own: 0}, {Q: span(8, 4), Own: 14}}})
	return all
}

func (s *suite) heads() []device.Heads {
	return []device.Heads{
		{Query: 1, KV: 1, Dim: 5},
		{Query: 3, KV: 3, Dim: 32},
		{Query: 4, KV: 2, Dim: 17, Window: 9},
		{Query: 6, KV: 2, Dim: 8, Window: 1},
		{Query: 5, KV: 1, Dim: 40, Window: 50},
	}
}

func testAttention(s *suite) {
	for _, h := range s.heads() {
		for _, l := range s.layouts() {
			s.attention(h, l)
		}
	}
}

func (s *suite) attention(h device.Heads, l layout) {
	s.Helper()
	what := fmt.Sprintf("%s %+v", l.name, h)
	qn, kn := l.rows*h.Query*h.Dim, l.keys*h.KV*h.Dim
	q, k, v, dout := s.random(qn), s.random(kn), s.random(kn), s.random(qn)
	out, lse := s.d.Alloc(qn), s.wide(qn/h.Dim)
	s.d.Attention(out, lse, q.Buffer, k.Buffer, v.Buffer, l.seqs, h)
	wantOut, wantLSE := attention(q.x, k.x, v.x, l.seqs, h)
	s.near("Attention "+what, s.get(out), wantOut, s.tol.Value)
	s.near("lse "+what, s.get(lse), wantLSE, s.tol.Value)

	dq, dk, dv := s.d.Alloc(qn), s.random(kn), s.random(kn)
	s.d.AttentionBackward(dq, dk.Buffer, dv.Buffer, dout.Buffer, q.Buffer, k.Buffer, v.Buffer, out, lse, l.seqs, h)
	loss := func() float64 {
		o, _ := attention(q.x, k.x, v.x, l.seqs, h)
		return dot(o, dout.x)
	}
	s.gradient("dq "+what, q.x, s.get(dq), loss)
	s.gradient("dk "+what, k.x, minus(s.get(dk.Buffer), dk.x), loss)
	s.gradient("dv "+what, v.x, minus(s.get(dv.Buffer), dv.x), loss)
}

// testDecode says that decoding row by row from a cache gives what one pass
// over the whole sequence gives.
func testDecode(s *suite) {
	for _, h := range s.heads() {
		const n, prompt = 41, 13
		qw, kw := h.Query*h.Dim, h.KV*h.Dim
		q, k, v := s.random(n*qw), s.random(n*kw), s.random(n*kw)
		out, lse := s.d.Alloc(n*qw), s.wide(n*h.Query)
		s.d.Attention(out, lse, q.Buffer, k.Buffer, v.Buffer, []device.Seq{{Q: span(0, n)}}, h)
		step, stepLSE := s.d.Alloc(n*qw), s.wide(n*h.Query)
		s.d.Attention(step.View(0, prompt*qw), stepLSE.View(0, prompt*h.Query), q.View(0, prompt*qw),
			k.Buffer, v.Buffer, []device.Seq{{Q: span(0, prompt)}}, h)
		for i := prompt; i < n; i++ {
			past := []device.Span{span(0, prompt), span(prompt, i-prompt)}
			s.d.Attention(step.View(i*qw, qw), stepLSE.View(i*h.Query, h.Query), q.View(i*qw, qw),
				k.Buffer, v.Buffer, []device.Seq{{Q: span(0, 1), Past: past, Own: i}}, h)
		}
		s.near(fmt.Sprintf("decode %+v", h), s.get(step), s.get(out), s.tol.Value)
		s.near(fmt.Sprintf("decode lse %+v", h), s.get(stepLSE), s.get(lse), s.tol.Value)
	}
}
