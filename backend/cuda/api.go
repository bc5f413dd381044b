package cuda

import "fmt"

// Type is what a device computes in.
type Type uint8

// BF16 keeps activations and weights in bfloat16 and sums in float32; F32 is
// float32 throughout.
const (
	BF16 Type = iota
	F32
)

func (t Type) String() string {
	switch t {
	case BF16:
		return "bf16"
	case F32:
		return "f32"
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// Options say which card to open and how. The zero value is the first card in
// bfloat16.
type Options struct {
	Ordinal int
	Type    Type
	GEMM    string // GEMMAuto, GEMMOwn or GEMMCuBLAS; "" is GEMMAuto
}

// What computes matrix products. With kernels of ours a row has the same bits in
// every batch; cuBLAS orders its sums by the shape.
const (
	GEMMAuto   = "auto"   // cuBLAS where it is found
	GEMMOwn    = "own"    // our kernels
	GEMMCuBLAS = "cublas" // cuBLAS; Open fails without it
)

// Info is what is known of a card and of the libraries that drive it.
type Info struct {
	Ordinal      int
	Name         string
	Major, Minor int    // compute capability
	Total        int64  // bytes
	Free         int64  // bytes
	Driver       int    // as cuDriverGetVersion has it: 13000 is 13.0
	Library      string // the file of the driver
	CuBLAS       string // the file of cuBLAS, "" where there is none
	NoCuBLAS     string // then what was tried
	Unusable     string // why the card cannot be used; "" if it can
}
