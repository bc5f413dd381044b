package device

import (
	"fmt"
	"strconv"
	"strings"
)

// Choice is which device shall compute, as a person names it.
type Choice struct {
	Name    string // "auto", "cpu" or "cuda"
	Ordinal int    // of a CUDA device
}

// Auto is the choice of whoever does not choose: a CUDA device where the program
// can use one, else the CPU.
var Auto = Choice{Name: "auto"}

// ParseChoice reads auto, cpu, cuda or cuda:N, which is the N-th CUDA device from
// 0 on.
func ParseChoice(text string) (Choice, error) {
	name, number, numbered := strings.Cut(text, ":")
	switch {
	case name == "cuda" && numbered:
		n, err := strconv.Atoi(number)
		if err == nil && n >= 0 {
			return Choice{name, n}, nil
		}
	case numbered:
	case name == "auto", name == "cpu", name == "cuda":
		return Choice{Name: name}, nil
	}
	return Choice{}, fmt.Errorf("want auto, cpu, cuda or cuda:N, have %q", text)
}

// String is the inverse of ParseChoice; the first CUDA device is "cuda".
func (c Choice) String() string {
	if c.Ordinal > 0 {
		return fmt.Sprintf("%s:%d", c.Name, c.Ordinal)
	}
	return c.Name
}

// Types are the names of compute types that a person may choose: auto is f32 on
// the CPU and bf16 on CUDA.
func Types() []string { return []string{"auto", "f32", "bf16"} }
