package main

import (
	"fmt"
	"testing"
)

// TestEncodings holds the encoder against words that GNU as 2.40 assembled from
// these texts. Every instruction of the tables must be among them.
func TestEncodings(t *testing.T) {
	met := map[string]bool{}
	of3 := func(op string, d, n, m vec) uint32 { met[op] = true; return encode3(op, d, n, m) }
	of2 := func(op string, d, n vec) uint32 { met[op] = true; return encode2(op, d, n) }
	for _, c := range []struct {
		want uint32
		text string
		have uint32
	}{
		{0x4e22d420, "fadd v0.4s, v1.4s, v2.4s", of3("fadd.4s", 0, 1, 2)},
		{0x4e28d61f, "fadd v31.4s, v16.4s, v8.4s", of3("fadd.4s", 31, 16, 8)},
		{0x4e7ed623, "fadd v3.2d, v17.2d, v30.2d", of3("fadd.2d", 3, 17, 30)},
		{0x6e3dd4a4, "faddp v4.4s, v5.4s, v29.4s", of3("faddp.4s", 4, 5, 29)},
		{0x6e67d4dc, "faddp v28.2d, v6.2d, v7.2d", of3("faddp.2d", 28, 6, 7)},
		{0x4eaad769, "fsub v9.4s, v27.4s, v10.4s", of3("fsub.4s", 9, 27, 10)},
		{0x6e2cdd7a, "fmul v26.4s, v11.4s, v12.4s", of3("fmul.4s", 26, 11, 12)},
		{0x6e3fff2d, "fdiv v13.4s, v25.4s, v31.4s", of3("fdiv.4s", 13, 25, 31)},
		{0x4e2ff5d8, "fmax v24.4s, v14.4s, v15.4s", of3("fmax.4s", 24, 14, 15)},
		{0x4eb1f6f0, "fmin v16.4s, v23.4s, v17.4s", of3("fmin.4s", 16, 23, 17)},
		{0x6e33f656, "fmaxp v22.4s, v18.4s, v19.4s", of3("fmaxp.4s", 22, 18, 19)},
		{0x6ea0fbc1, "fneg v1.4s, v30.4s", of2("fneg.4s", 1, 30)},
		{0x6ea1f81f, "fsqrt v31.4s, v0.4s", of2("fsqrt.4s", 31, 0)},
		{0x4e218aaa, "frintn v10.4s, v21.4s", of2("frintn.4s", 10, 21)},
		{0x4e21a934, "fcvtns v20.4s, v9.4s", of2("fcvtns.4s", 20, 9)},
		{0x0e617ba2, "fcvtl v2.2d, v29.2s", of2("fcvtl.2d", 2, 29)},
		{0x4e61787c, "fcvtl2 v28.2d, v3.4s", of2("fcvtl2.2d", 28, 3)},
		{0x4f9b1300, "fmla v0.4s, v24.4s, v27.s[0]", encodeElement(0, 24, 27, 0)},
		{0x4fbf1357, "fmla v23.4s, v26.4s, v31.s[1]", encodeElement(23, 26, 31, 1)},
		{0x4f8f1b2b, "fmla v11.4s, v25.4s, v15.s[2]", encodeElement(11, 25, 15, 2)},
		{0x4fb0181f, "fmla v31.4s, v0.4s, v16.s[3]", encodeElement(31, 0, 16, 3)},
		{0x4f3f041f, "sshr v31.4s, v0.4s, #1", encodeShift(31, 0, 1)},
		{0x4f2007e0, "sshr v0.4s, v31.4s, #32", encodeShift(0, 31, 32)},
		{0x4f330545, "sshr v5.4s, v10.4s, #13", encodeShift(5, 10, 13)},
		{0x3cf36900, "ldr q0, [x8, x19]", encodeLoad(0, 8, 19)},
		{0x3cf869ff, "ldr q31, [x15, x24]", encodeLoad(31, 15, 24)},
		{0x3cfe680c, "ldr q12, [x0, x30]", encodeLoad(12, 0, 30)},
	} {
		if c.have != c.want {
			t.Errorf("%s: %08x, want %08x", c.text, c.have, c.want)
		}
	}
	for _, table := range []map[string]uint32{three, two} {
		for op := range table {
			if !met[op] {
				t.Errorf("%s: no known encoding", op)
			}
		}
	}
}

// TestOperandsOutOfRange: an operand that has no bits is an error of the
// generator, not another instruction.
func TestOperandsOutOfRange(t *testing.T) {
	for name, f := range map[string]func(){
		"register 32":  func() { encode3("fadd.4s", 32, 0, 0) },
		"lane 4":       func() { encodeElement(0, 0, 0, 4) },
		"shift by 0":   func() { encodeShift(0, 0, 0) },
		"shift by 33":  func() { encodeShift(0, 0, 33) },
		"pointer 32":   func() { encodeLoad(0, 32, 0) },
		"unknown name": func() { encode2("fadd.4s", 0, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// TestParams: parameters that share a type.
func TestParams(t *testing.T) {
	const want = "[{dst []float32} {src []float32} {ldb int} {m int} {s float32}]"
	if have := fmt.Sprint(params("dst, src []float32, ldb, m int, s float32")); have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}
