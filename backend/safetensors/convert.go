package safetensors

import (
	"encoding/binary"
	"math"
)

// bf16ToF32 widens a bfloat16, which is the upper half of a float32.
func bf16ToF32(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// f32ToBF16 rounds to the nearest bfloat16, ties to even. NaN stays NaN.
func f32ToBF16(f float32) uint16 {
	u := math.Float32bits(f)
	if f != f {
		return uint16(u>>16) | 0x40 // quiet, so that dropping low bits cannot make it ∞
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// f16ToF32 widens an IEEE 754 half.
func f16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h >> 10 & 0x1f)
	man := uint32(h & 0x3ff)
	switch exp {
	case 0: // zero and subnormals: man·2⁻²⁴, exact in float32
		f := float32(man) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f: // ∞ and NaN
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | man<<13)
}

// f32ToF16 rounds to the nearest half, ties to even; what lies beyond ±65504 by
// half a step or more becomes ±∞. NaN stays NaN.
func f32ToF16(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u >> 16 & 0x8000)
	u &= 0x7fffffff
	switch {
	case u > 0x7f800000: // NaN: keep the payload's upper bits, quiet
		return sign | 0x7e00 | uint16(u>>13&0x3ff)
	case u >= 0x477ff000: // 65520 and more
		return sign | 0x7c00
	case u >= 0x38800000: // normal halves, from 2⁻¹⁴
		u -= (127 - 15) << 23
		return sign | uint16((u+0xfff+u>>13&1)>>13)
	}
	// Subnormal halves are multiples of 2⁻²⁴. Adding 0.5, whose last bit is worth
	// 2⁻²⁴ in float32, makes the adder round to nearest even for us.
	sum := math.Float32frombits(u) + 0.5
	return sign | uint16(math.Float32bits(sum)-math.Float32bits(0.5))
}

// decode converts len(dst) stored elements of type dt to numbers.
func decode(dst []float32, src []byte, dt DType) {
	le := binary.LittleEndian
	switch dt {
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = f16ToF32(le.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = bf16ToF32(le.Uint16(src[2*i:]))
		}
	default:
		panic("safetensors: decode " + string(dt))
	}
}

// encode is the inverse of decode.
func encode(dst []byte, src []float32, dt DType) {
	le := binary.LittleEndian
	switch dt {
	case F64:
		for i, x := range src {
			le.PutUint64(dst[8*i:], math.Float64bits(float64(x)))
		}
	case F32:
		for i, x := range src {
			le.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	case F16:
		for i, x := range src {
			le.PutUint16(dst[2*i:], f32ToF16(x))
		}
	case BF16:
		for i, x := range src {
			le.PutUint16(dst[2*i:], f32ToBF16(x))
		}
	default:
		panic("safetensors: encode " + string(dt))
	}
}
