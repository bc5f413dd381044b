package device

import "fmt"

// Format is how Weights store their numbers.
type Format uint8

// The formats. Arithmetic is the device's compute type in all of them; what a
// format costs is the rounding of the weights, once.
const (
	F32  Format = iota // as they are
	BF16               // the upper half of a float32, rounded to nearest even
	Q8                 // whole numbers of −127 … 127 and a scale per block of 32 along the row

	// AsStored is no format of Weights but a loader's choice: BF16 where a folder's
	// weights are in bfloat16, which loses nothing, else F32.
	AsStored
)

// Q8Block is how many neighbours in a row share a scale in format Q8. The scale
// is max|w|/127 rounded to a bfloat16, so that scale times number is exact in
// float32. A block that holds NaN or infinity becomes NaN as a whole.
const Q8Block = 32

var formatNames = [...]string{F32: "f32", BF16: "bf16", Q8: "q8", AsStored: "auto"}

func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// ParseFormat is the inverse of String.
func ParseFormat(name string) (Format, error) {
	for f, n := range formatNames {
		if n == name {
			return Format(f), nil
		}
	}
	return 0, fmt.Errorf("want auto, f32, bf16 or q8, have %q", name)
}

// Bytes is what a (rows, cols) matrix takes, padding aside.
func (f Format) Bytes(rows, cols int) int64 {
	n := int64(rows) * int64(cols)
	switch f {
	case BF16:
		return 2 * n
	case Q8:
		return n + 2*int64(rows)*int64((cols+Q8Block-1)/Q8Block)
	}
	return 4 * n
}

// Weights are a read-only matrix (Rows, Cols) in a Format, for a model that
// answers and does not learn. They stand for the Buffer of their Rows·Cols
// numbers, as the format rounds them, in MatMul's transposed b, Embed's table,
// Classifier's w, Read, Read64 and Free, and the results there are the same
// bits as with that Buffer, but for Q8 on a CPU that rounds what it multiplies
// (cpu.BFloat16), which leaves Q8 as it is. Everything else panics, View included.
type Weights interface {
	Buffer
	Rows() int
	Cols() int
	Format() Format
}
