package llama

import (
	"slices"

	"nrt/backend/device"
)

// linear is one matrix (out, in) of the model, as Hugging Face stores it, its bias b
// (1, out) where it has one, and with LoRA the two factors that learn in their place,
// A (rank, in) and B (out, rank). For x (N, in), 1 a column (N, 1) of ones and
// s = Alpha/Rank
//
//	y = x·Wᵀ + 1·b + u·Bᵀ    u = s·x·Aᵀ (N, rank)
//
// and, from dy = ∂L/∂y (N, out),
//
//	dx = dy·W + du·A         du = s·dy·B (N, rank)
//	dW += dyᵀ·x   db += 1ᵀ·dy    unless they are frozen
//	dB += dyᵀ·u   dA += duᵀ·x
//
// since L sees A and B through u·Bᵀ alone, and ∂L/∂(x·Aᵀ) = s·∂L/∂u = s·dy·B. In a
// Grad the buffers are those of the gradients.
type linear struct {
	out, in int
	w       device.Buffer // nil in the Grad of a frozen matrix
	bias    device.Buffer // as w, and nil where there is none
	a, b    device.Buffer // nil without LoRA
}

// output is one of several products of the same x.
type output struct {
	y device.Buffer // (N, out)
	linear
}

// project sets y for each of outs, which the device may do together; x is (n, in).
func (m *Model) project(x device.Buffer, n int, outs ...output) {
	m.list = m.list[:0]
	for _, o := range outs {
		m.list = append(m.list, device.Projection{C: o.y, B: o.w, N: o.out})
	}
	for i, o := range outs {
		if o.a != nil {
			m.list = append(m.list, device.Projection{C: m.lora.u(i, n), B: o.a, N: m.lora.Rank})
		}
	}
	m.dev.Project(m.list, x, n, outs[0].in)
	for i, o := range outs {
		m.addBias(o.y, n, o.linear)
		if o.a != nil {
			m.addLoRA(o.y, m.lora.u(i, n), n, o.linear)
		}
	}
}

// projectAdd adds to y what project sets it to.
func (m *Model) projectAdd(y, x device.Buffer, n int, w linear) {
	m.dev.MatMul(y, x, w.w, n, w.out, w.in, false, true, true)
	m.addBias(y, n, w)
	if w.a != nil {
		u := m.lora.u(0, n)
		m.dev.MatMul(u, x, w.a, n, m.lora.Rank, w.in, false, true, false)
		m.addLoRA(y, u, n, w)
	}
}

// addBias adds the bias to each row of y.
func (m *Model) addBias(y device.Buffer, n int, w linear) {
	if w.bias != nil {
		m.dev.MatMul(y, m.column(n), w.bias, n, w.out, 1, false, false, true)
	}
}

// column is n ones.
func (m *Model) column(n int) device.Buffer {
	had := m.ones.held()
	c := m.ones.take(n)
	if m.ones.held() > had {
		m.dev.Write(c, slices.Repeat([]float32{1}, n))
	}
	return c
}

// addLoRA adds s·u·Bᵀ to y; u is x·Aᵀ and then s times that.
func (m *Model) addLoRA(y, u device.Buffer, n int, w linear) {
	m.dev.Scale(u, m.lora.scale())
	m.dev.MatMul(y, u, w.b, n, w.out, m.lora.Rank, false, true, true)
}

// projectBackward sets dx (n, in), or with accumulate adds to it, from dy (n, out), and
// adds to the gradients g of w. It computes u again instead of keeping it: a product by
// rank numbers is little beside one by out.
func (m *Model) projectBackward(dx, dy, x device.Buffer, n int, w, g linear, accumulate bool) {
	dev := m.dev
	dev.MatMul(dx, dy, w.w, n, w.in, w.out, false, false, accumulate)
	if g.w != nil {
		dev.MatMul(g.w, dy, x, w.out, w.in, n, true, false, true)
	}
	if g.bias != nil {
		dev.MatMul(g.bias, m.column(n), dy, 1, w.out, n, true, false, true)
	}
	if w.a == nil {
		return
	}
	u, du, rank := m.lora.u(0, n), m.lora.du.take(n*m.lora.Rank), m.lora.Rank
	dev.MatMul(u, x, w.a, n, rank, w.in, false, true, false)
	dev.Scale(u, m.lora.scale())
	dev.MatMul(g.b, dy, u, w.out, rank, n, true, false, true)
	dev.MatMul(du, dy, w.b, n, rank, w.out, false, false, false)
	dev.Scale(du, m.lora.scale())
	dev.MatMul(g.a, du, x, rank, w.in, n, true, false, true)
	dev.MatMul(dx, du, w.a, n, w.in, rank, false, false, true)
}
