//go:build !amd64 && !arm64

package cpu

import (
	"fmt"
	"os"
)

// kernels32 picks the float32 kernels: there are only those in plain Go here.
func kernels32() (*kernels[float32], error) {
	if want := os.Getenv("NRT_CPU"); want != "" && want != "generic" {
		return nil, fmt.Errorf("cpu: NRT_CPU=%s: this machine cannot run it", want)
	}
	return genericKernels[float32]("generic"), nil
}
