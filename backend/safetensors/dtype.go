package safetensors

import "fmt"

// DType is the element type of a stored tensor, spelled as in the file header.
type DType string

// The element types of the format. Only F64, F32, F16 and BF16 can be read and
// written as numbers; the others are known so that a header which holds them
// can still be checked to the byte.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"

	Bool       DType = "BOOL"
	U8         DType = "U8"
	I8         DType = "I8"
	F8E5M2     DType = "F8_E5M2"
	F8E4M3     DType = "F8_E4M3"
	F8E8M0     DType = "F8_E8M0"
	F8E4M3FNUZ DType = "F8_E4M3FNUZ"
	F8E5M2FNUZ DType = "F8_E5M2FNUZ"
	I16        DType = "I16"
	U16        DType = "U16"
	I32        DType = "I32"
	U32        DType = "U32"
	C64        DType = "C64"
	I64        DType = "I64"
	U64        DType = "U64"
)

// order lists the types as the reference serializer ranks them, lowest first;
// it writes tensors of higher rank first.
var order = []DType{Bool, U8, I8, F8E5M2, F8E4M3, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ, I16, U16, F16, BF16, I32, U32, F32, C64, F64, I64, U64}

// rank is the type's place in order, or -1 for a type that the format lacks.
func (d DType) rank() int {
	for i, o := range order {
		if o == d {
			return i
		}
	}
	return -1
}

// Size is the number of bytes of one element, or 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case Bool, U8, I8, F8E5M2, F8E4M3, F8E8M0, F8E4M3FNUZ, F8E5M2FNUZ:
		return 1
	case I16, U16, F16, BF16:
		return 2
	case I32, U32, F32:
		return 4
	case C64, F64, I64, U64:
		return 8
	}
	return 0
}

// Float reports whether tensors of this type can be read and written as
// numbers by this package.
func (d DType) Float() bool { return d == F64 || d == F32 || d == F16 || d == BF16 }

// Torch is the type's name in config.json ("float32", "bfloat16", …).
func (d DType) Torch() string {
	switch d {
	case F64:
		return "float64"
	case F32:
		return "float32"
	case F16:
		return "float16"
	case BF16:
		return "bfloat16"
	}
	return ""
}

// ParseDType reads a floating type as a person or a config.json writes it:
// "F32", "f32", "float32" and so on.
func ParseDType(s string) (DType, error) {
	switch s {
	case "F64", "f64", "float64", "double":
		return F64, nil
	case "F32", "f32", "float32", "float":
		return F32, nil
	case "F16", "f16", "float16", "half":
		return F16, nil
	case "BF16", "bf16", "bfloat16":
		return BF16, nil
	}
	return "", fmt.Errorf("dtype %q: want f64, f32, f16 or bf16", s)
}
