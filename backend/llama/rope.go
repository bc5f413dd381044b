package llama

import (
	"math"

	"nrt/backend/device"
)

// RopeScaling stretches the rotary frequencies so that a model trained on
// OriginalMax positions reads Factor times as many (Llama 3.1).
type RopeScaling struct {
	Type        string  // always "llama3"
	Factor      float64 // ≥ 1, how much slower the slow frequencies turn
	LowFreq     float64 // wavelengths above OriginalMax/LowFreq are fully stretched
	HighFreq    float64 // wavelengths below OriginalMax/HighFreq stay as they are
	OriginalMax int     // positions of the original training
}

// invFreq returns the HeadDim/2 inverse frequencies of the rotary embedding in
// radians per position: pair i of a head at position p turns by p·invFreq[i].
//
// Unscaled it is θ^(−2i/HeadDim) (Su et al. 2021). With Llama-3 scaling a
// frequency f of wavelength λ = 2π/f becomes
//
//	f                        λ < OriginalMax/HighFreq
//	f/Factor                 λ > OriginalMax/LowFreq
//	(1−s)·f/Factor + s·f     between, s = (OriginalMax/λ − LowFreq)/(HighFreq − LowFreq)
//
// which is continuous at both ends.
func invFreq(c Config) []float64 {
	inv := make([]float64, c.HeadDim/2)
	for i := range inv {
		f := math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim))
		if s := c.RopeScaling; s != nil {
			f = s.scale(f)
		}
		inv[i] = f
	}
	return inv
}

// scale applies Llama-3 scaling to one inverse frequency.
func (s *RopeScaling) scale(f float64) float64 {
	turns := float64(s.OriginalMax) * f / (2 * math.Pi) // OriginalMax/λ
	switch {
	case turns > s.HighFreq:
		return f
	case turns < s.LowFreq:
		return f / s.Factor
	}
	smooth := (turns - s.LowFreq) / (s.HighFreq - s.LowFreq)
	return (1-smooth)*f/s.Factor + smooth*f
}

// ropeTable holds cosine and sine of position times inverse frequency for as
// many positions as were asked for yet.
type ropeTable struct {
	inv       []float64 // (dim/2)
	positions int
	cos, sin  device.Buffer // (positions, dim/2)
}

// cover makes the table reach n positions.
func (r *ropeTable) cover(dev device.Device, n int) {
	if n <= r.positions {
		return
	}
	size := max(64, r.positions)
	for size < n {
		size *= 2
	}
	half := len(r.inv)
	cos, sin := make([]float64, size*half), make([]float64, size*half)
	for p := range size {
		for i, f := range r.inv {
			sin[p*half+i], cos[p*half+i] = math.Sincos(float64(p) * f)
		}
	}
	r.free(dev)
	r.positions, r.cos, r.sin = size, dev.AllocAs(device.Wide, size*half), dev.AllocAs(device.Wide, size*half)
	dev.Write64(r.cos, cos)
	dev.Write64(r.sin, sin)
}

func (r *ropeTable) free(dev device.Device) {
	if r.positions > 0 {
		dev.Free(r.cos)
		dev.Free(r.sin)
		r.positions = 0
	}
}
