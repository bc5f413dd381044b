package safetensors

import "fmt"

// DType is the element type of a stored tensor, spelled as in the file header.
type DType string

// The element types that can be read and written as numbers.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// types are all of the format, so that a header which holds others than numbers can
// still be checked to the byte. They stand as the reference serializer ranks them,
// lowest first; it writes tensors of higher rank first.
var types = []struct {
	name DType
	size int // bytes of one element
}{
	{"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1}, {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1},
	{"I16", 2}, {"U16", 2}, {F16, 2}, {BF16, 2}, {"I32", 4}, {"U32", 4}, {F32, 4}, {"C64", 8}, {F64, 8}, {"I64", 8}, {"U64", 8},
}

// rank is the type's place in types, or -1 for one that the format lacks.
func (d DType) rank() int {
	for i, t := range types {
		if t.name == d {
			return i
		}
	}
	return -1
}

// Size is the number of bytes of one element, or 0 for an unknown type.
func (d DType) Size() int {
	if i := d.rank(); i >= 0 {
		return types[i].size
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
