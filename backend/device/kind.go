package device

import "fmt"

// Kind is what a buffer holds, and so in how many bits a device keeps it. On a
// device that computes in float32 or float64 the first three are one and the
// same; one that computes in bfloat16 keeps Compute in 16 bits and needs Wide
// wherever Device says so.
type Kind uint8

const (
	// Compute is the compute type: activations and their gradients.
	Compute Kind = iota
	// Master is parameters that learn. Operations read them in the compute type;
	// AdamW updates a copy of at least float32 behind them, and that copy is what
	// Write, Read and Copy see.
	Master
	// Wide is at least float32: sums over many terms, such as the gradients of
	// parameters, and numbers of which few are kept.
	Wide
	// Moment8 and Variance8 are AdamW's two moments in 8 bits a number. Only
	// AdamW, Write, Read, Zero and Free take them, and they have no views.
	Moment8
	Variance8
)

// Block8 is how many neighbours share a scale s, the largest magnitude among
// them, in Moment8 and Variance8. A code c of −127 … 127 of Moment8 stands for
// sign(c)·(c/127)²·s, one of 0 … 255 of Variance8 for (c/255)⁴·s; what is
// greater than 0 never gets the code 0 in Variance8, since AdamW divides by it.
// Writing back what was read keeps every bit.
const Block8 = 256

var kindNames = [...]string{"compute", "master", "wide", "moment8", "variance8"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}
