package main

import "fmt"

// vec is one of the registers V0 to V31.
type vec uint32

func (v vec) String() string { return fmt.Sprintf("V%d", uint32(v)) }

// float names the same register to the instructions of Go's assembler that
// move 4, 8 or 16 bytes of it.
func (v vec) float() string { return fmt.Sprintf("F%d", uint32(v)) }

// s4 and d2 name it as four float32 or two float64.
func (v vec) s4() string { return v.String() + ".S4" }
func (v vec) d2() string { return v.String() + ".D2" }

// Go's assembler knows none of the instructions below, so they are written as
// words. The names and the order of operands are those of Arm's manual (ARM
// DDI 0487, C7.2): the destination comes first.

// three are the instructions of two inputs: Rm stands at bit 16, Rn at bit 5,
// Rd at bit 0.
var three = map[string]uint32{
	"fadd.4s":  0x4e20d400,
	"fadd.2d":  0x4e60d400,
	"faddp.4s": 0x6e20d400,
	"faddp.2d": 0x6e60d400,
	"fsub.4s":  0x4ea0d400,
	"fmul.4s":  0x6e20dc00,
	"fdiv.4s":  0x6e20fc00,
	"fmax.4s":  0x4e20f400,
	"fmin.4s":  0x4ea0f400,
	"fmaxp.4s": 0x6e20f400,
}

// two are the instructions of one input: Rn at bit 5, Rd at bit 0. fcvtl and
// fcvtl2 widen the lower and the upper two float32 to two float64.
var two = map[string]uint32{
	"fneg.4s":   0x6ea0f800,
	"fsqrt.4s":  0x6ea1f800,
	"frintn.4s": 0x4e218800,
	"fcvtns.4s": 0x4e21a800,
	"fcvtl.2d":  0x0e617800,
	"fcvtl2.2d": 0x4e617800,
}

func encode3(op string, d, n, m vec) uint32 {
	return base(three, op) | register(m)<<16 | register(n)<<5 | register(d)
}

func encode2(op string, d, n vec) uint32 {
	return base(two, op) | register(n)<<5 | register(d)
}

// encodeElement is fmla d.4s, n.4s, m.s[lane]. The lane's bits are H (11) and
// L (21); m's fifth bit is M (20), next to its other four.
func encodeElement(d, n, m vec, lane uint32) uint32 {
	if lane > 3 {
		panic(fmt.Sprintf("neongen: lane %d", lane))
	}
	return 0x4f801000 | lane&1<<21 | lane>>1<<11 | register(m)<<16 | register(n)<<5 | register(d)
}

// encodeShift is sshr d.4s, n.4s, #bits; the field holds 64 − bits.
func encodeShift(d, n vec, bits uint32) uint32 {
	if bits < 1 || bits > 32 {
		panic(fmt.Sprintf("neongen: shift by %d", bits))
	}
	return 0x4f000400 | (64-bits)<<16 | register(n)<<5 | register(d)
}

// encodeLoad is ldr q‹d›, [x‹ptr›, x‹offset›]: Go's assembler has it for 4 and 8
// bytes only.
func encodeLoad(d vec, ptr, offset uint32) uint32 {
	if ptr > 31 || offset > 31 {
		panic(fmt.Sprintf("neongen: load from R%d, R%d", ptr, offset))
	}
	return 0x3ce06800 | offset<<16 | ptr<<5 | register(d)
}

func base(table map[string]uint32, op string) uint32 {
	w, ok := table[op]
	if !ok {
		panic("neongen: no instruction " + op)
	}
	return w
}

func register(v vec) uint32 {
	if v > 31 {
		panic(fmt.Sprintf("neongen: register %d", uint32(v)))
	}
	return uint32(v)
}
