// Package optim updates parameters: AdamW with global-norm clipping over a
// device's buffers, and learning-rate schedules.
//
// # Invariants
//
//   - A step either updates every parameter or none: a gradient that is not
//     finite is an error, and neither parameters nor moments move.
//   - Saved state restores bit for bit, in whatever precision the device keeps.
//
// Gradients accumulate (+=) at the caller, who also clears them. Read AdamW
// first, then Schedule, then state.go.
package optim

import (
	"fmt"
	"math"

	"nrt/backend/device"
)

// Param is one tensor to train.
type Param struct {
	Name  string
	Value device.Buffer
	Grad  device.Buffer // as long as Value
	Decay bool          // whether weight decay applies (matrices: yes; norms: no)
}

// Options holds what stays the same over a run.
type Options struct {
	Beta1, Beta2, Eps, WeightDecay float64
	// MaxGradNorm > 0 scales the gradient down to this global L2 norm; 0 is off.
	MaxGradNorm float64
	// FlatGrad, when not nil, holds all gradients (with zeros between them, if
	// anything), so that the norm takes one reduction instead of one a tensor.
	FlatGrad device.Buffer
	// Moments8 keeps both moments in 8 bits each instead of 32 (device.Moment8 and
	// device.Variance8): 2 bytes a parameter instead of 8.
	Moments8 bool
}

// Validate names the field that is wrong.
func (o Options) Validate() error {
	for _, f := range []struct {
		name string
		v    float64
		ok   bool
		want string
	}{
		{"beta1", o.Beta1, o.Beta1 >= 0 && o.Beta1 < 1, "0 up to but not 1"},
		{"beta2", o.Beta2, o.Beta2 >= 0 && o.Beta2 < 1, "0 up to but not 1"},
		{"eps", o.Eps, o.Eps > 0 && !math.IsInf(o.Eps, 0), "> 0"},
		{"weight decay", o.WeightDecay, o.WeightDecay >= 0 && !math.IsInf(o.WeightDecay, 0), ">= 0"},
		{"max grad norm", o.MaxGradNorm, o.MaxGradNorm >= 0, ">= 0 (0 is off)"},
	} {
		if !f.ok {
			return fmt.Errorf("optimizer: %s: want %s, have %v", f.name, f.want, f.v)
		}
	}
	return nil
}

// AdamW is the optimizer of Loshchilov and Hutter (2019): with g the clipped
// gradient of update u,
//
//	m ← β1·m + (1−β1)·g          v ← β2·v + (1−β2)·g²
//	p ← p − lr·( m̂/(√v̂ + ε) + λ·p )      m̂ = m/(1−β1ᵘ), v̂ = v/(1−β2ᵘ)
//
// where λ is 0 for parameters without Decay. The moments are kept on the
// device, in one buffer each, or in 8 bits in one a part.
type AdamW struct {
	dev     device.Device
	params  []Param
	parts   []part
	owned   []device.Buffer // what Free gives back
	o       Options
	updates int
	broken  error // set when a load failed half-way
}

// part is a parameter, or a run of a long one, and its moments. Moments in 8 bits
// have no views, so their buffers are short enough to be read as a whole.
type part struct {
	param             int
	value, grad, m, v device.Buffer
}

// partLen is the longest part with moments in 8 bits: whole chunks of the file.
const partLen = 8 * chunkLen

// New allocates zero moments. Wrong options are an error; a gradient whose
// length is not its parameter's panics.
func New(dev device.Device, params []Param, o Options) (*AdamW, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	total := 0
	for _, p := range params {
		if p.Value.Len() != p.Grad.Len() {
			panic(fmt.Sprintf("optim: %s has %d values and %d gradients", p.Name, p.Value.Len(), p.Grad.Len()))
		}
		total += p.Value.Len()
	}
	a := &AdamW{dev: dev, params: params, o: o}
	alloc := func(k device.Kind, n int) device.Buffer {
		b := dev.AllocAs(k, n)
		a.owned = append(a.owned, b)
		return b
	}
	if o.Moments8 {
		for i, p := range params {
			for at := 0; at < p.Value.Len(); at += partLen {
				n := min(partLen, p.Value.Len()-at)
				a.parts = append(a.parts, part{i, p.Value.View(at, n), p.Grad.View(at, n), alloc(device.Moment8, n), alloc(device.Variance8, n)})
			}
		}
		return a, nil
	}
	m, v := alloc(device.Wide, total), alloc(device.Wide, total)
	at := 0
	for i, p := range params {
		n := p.Value.Len()
		a.parts = append(a.parts, part{i, p.Value, p.Grad, m.View(at, n), v.View(at, n)})
		at += n
	}
	return a, nil
}

// Free gives the moments back to the device.
func (a *AdamW) Free() {
	for _, b := range a.owned {
		a.dev.Free(b)
	}
}

// Updates is the number of updates made so far.
func (a *AdamW) Updates() int { return a.updates }

// NonFiniteError says that a gradient was not finite and the update not made.
type NonFiniteError struct {
	Update int    // the update that was not made, from 1
	Param  string // the first parameter whose gradient is not finite
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("update %d: the gradient of %s is not finite; the update was not made", e.Update, e.Param)
}

// Step makes one update with learning rate lr from the gradients times scale
// (1, or 1/n to average n accumulated passes). It returns the global L2 norm of
// the scaled gradient before clipping. When that is not finite the error is a
// *NonFiniteError and nothing has changed.
func (a *AdamW) Step(lr, scale float64) (norm float64, err error) {
	if a.broken != nil {
		return 0, a.broken
	}
	if math.IsNaN(lr) || math.IsInf(lr, 0) {
		return 0, fmt.Errorf("update %d: learning rate: want a finite number, have %v; the update was not made", a.updates+1, lr)
	}
	norm = math.Abs(scale) * math.Sqrt(a.sumSquares())
	if err := a.dev.Sync(); err != nil {
		return norm, fmt.Errorf("update %d: %w", a.updates+1, err)
	}
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, &NonFiniteError{Update: a.updates + 1, Param: a.firstNonFinite()}
	}
	if a.o.MaxGradNorm > 0 && norm > a.o.MaxGradNorm {
		scale *= a.o.MaxGradNorm / norm
	}
	a.updates++
	for _, p := range a.parts {
		o := device.AdamW{
			LR: lr, Beta1: a.o.Beta1, Beta2: a.o.Beta2, Eps: a.o.Eps,
			Step: a.updates, Scale: scale,
		}
		if a.params[p.param].Decay {
			o.WeightDecay = a.o.WeightDecay
		}
		a.dev.AdamW(p.value, p.grad, p.m, p.v, o)
	}
	if err := a.dev.Sync(); err != nil {
		return norm, fmt.Errorf("update %d: %w", a.updates, err)
	}
	return norm, nil
}

// sumSquares is over all gradients, in a fixed order.
func (a *AdamW) sumSquares() float64 {
	if a.o.FlatGrad != nil {
		return a.dev.SumSquares(a.o.FlatGrad)
	}
	sum := 0.0
	for _, p := range a.params {
		sum += a.dev.SumSquares(p.Grad)
	}
	return sum
}

// firstNonFinite finds whose gradient it is.
func (a *AdamW) firstNonFinite() string {
	for _, p := range a.params {
		if s := a.dev.SumSquares(p.Grad); math.IsNaN(s) || math.IsInf(s, 0) {
			return p.Name
		}
	}
	return "the sum of all parameters"
}
