package cpu

import (
	"fmt"
	"os"
)

// kernels32 picks the float32 kernels.
func kernels32(generic bool) (*kernels[float32], error) {
	switch want := os.Getenv("NRT_CPU"); {
	case want == "" || want == "generic" || generic:
		return genericKernels[float32]("float32"), nil
	default:
		return nil, fmt.Errorf("cpu: NRT_CPU=%s: this machine cannot run it", want)
	}
}
