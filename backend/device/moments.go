package device

import "math"

// The codes of Moment8 and Variance8 (kind.go), for the host's side of all
// devices. Every operation is one of float32, so that all devices store the same
// codes for the same numbers, and encoding what was decoded gives the same codes
// and scale. Subnormals would spoil that, so scales under 2⁻¹⁰⁰ become 0; and a
// block with a number that is not finite becomes NaN as a whole.
//
// The powers put codes close together near zero, where moments are: one of
// Moment8 spans four decades, the root of one of Variance8 nearly five.
const leastScale = 0x1p-100

// EncodeMoments sets codes to those of x, one block or less, and returns their
// scale. k is Moment8 or Variance8; negative second moments become 0.
func EncodeMoments(k Kind, codes []byte, x []float32) (scale float32) {
	for _, v := range x {
		a := float32(math.Abs(float64(v)))
		if !(a <= math.MaxFloat32) {
			clear(codes)
			return float32(math.NaN())
		}
		if k == Moment8 || v > 0 {
			scale = max(scale, a)
		}
	}
	if scale < leastScale {
		clear(codes)
		return 0
	}
	if k == Moment8 {
		for i, v := range x {
			c := int8(roundEven(127 * sqrt32(float32(math.Abs(float64(v)))/scale)))
			if v < 0 {
				c = -c
			}
			codes[i] = byte(c)
		}
		return scale
	}
	for i, v := range x {
		codes[i] = 0
		if v > 0 {
			codes[i] = byte(max(1, roundEven(255*sqrt32(sqrt32(v/scale)))))
		}
	}
	return scale
}

// DecodeMoments sets x to the numbers of a block's codes and scale.
func DecodeMoments(k Kind, x []float32, codes []byte, scale float32) {
	table := &secondMoments
	if k == Moment8 {
		table = &firstMoments
	}
	for i, c := range codes {
		x[i] = table[c] * scale
	}
}

// What the codes stand for at scale 1.
var firstMoments, secondMoments = func() (first, second [256]float32) {
	for c := range 256 {
		t := float32(int8(c)) / 127
		first[c] = t * float32(math.Abs(float64(t)))
		t = float32(c) / 255
		t *= t
		second[c] = t * t
	}
	return first, second
}()

func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

func roundEven(x float32) int { return int(math.RoundToEven(float64(x))) }
