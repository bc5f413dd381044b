// Package spell puts instructions into generated assembly that avo and Go's assembler
// do not know, those of AVX512_BF16.
//
// Others with operands of the same kinds stand in their place until registers are
// chosen: VFMADD231PD for VDPBF16PS and VPACKUSDW for VCVTNE2PS2BF16. File then writes
// their bytes.
package spell

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// stands are instructions by what stands for them, in 512-bit registers alone.
//
//	VDPBF16PS b, x, acc          acc_i += b_2i+1·x_2i+1 + b_2i·x_2i
//	VCVTNE2PS2BF16 lo, hi, v     v = lo, then hi, each rounded
var stands = map[string]struct {
	name           string
	prefix, opcode byte // of EVEX.512.prefix.0F38.W0
}{
	"VFMADD231PD": {"VDPBF16PS", 2, 0x52},
	"VPACKUSDW":   {"VCVTNE2PS2BF16", 3, 0x72},
}

var standing = regexp.MustCompile(`^\t(\w+)\s+Z(\d+), Z(\d+), Z(\d+)$`)

// File replaces, in a file that avo wrote, what stands for instructions by their bytes.
func File(file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		m := standing.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		x, ok := stands[m[1]]
		if !ok {
			continue
		}
		var r [3]byte // Go's order: the last source first, the destination last
		for j := range r {
			n, err := strconv.ParseUint(m[2+j], 10, 5)
			if err != nil {
				panic(err)
			}
			r[j] = byte(n)
		}
		lines[i] = fmt.Sprintf("\t%s // %s Z%d, Z%d, Z%d", evex(x.prefix, x.opcode, r[0], r[1], r[2]), x.name, r[0], r[1], r[2])
	}
	text = []byte(strings.Join(lines, "\n"))
	for name := range stands {
		if strings.Contains(string(text), name) {
			panic("spell: an operand of " + name + " is not a register")
		}
	}
	if err := os.WriteFile(file, text, 0o666); err != nil {
		panic(err)
	}
}

// evex is an instruction of three registers of 512 bits: rm is the last source, v the
// first, reg the destination. Bits of their numbers stand inverted in the prefix.
func evex(prefix, opcode, rm, v, reg byte) string {
	not := func(n byte, bit uint) byte { return n>>bit&1 ^ 1 }
	p0 := not(reg, 3)<<7 | not(rm, 4)<<6 | not(rm, 3)<<5 | not(reg, 4)<<4 | 2
	p1 := (^v&15)<<3 | 1<<2 | prefix
	p2 := byte(2)<<5 | not(v, 4)<<3
	return fmt.Sprintf("LONG $0x%02x%02x%02x62; WORD $0x%02x%02x", p2, p1, p0, 0xc0|reg&7<<3|rm&7, opcode)
}
