//go:build cuda

package cuda

import (
	"testing"

	"nrt/backend/cuda/internal/cublas"
	"nrt/backend/device"
	"nrt/backend/device/devicetest"
)

// emulated opens a device on the emulator for a suite that closes it.
func emulated(t testing.TB, o Options) device.Device {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The suite that every device passes. Float32 holds to the tolerances of all
// float32 devices. In bfloat16 a number keeps 8 bits, so that it is off by up to
// 2⁻⁸ of itself, and a result by a few of these: devicetest.BFloat16.
func TestConformance(t *testing.T) {
	w := driverOfTests(t)
	products := []string{GEMMOwn} // a cuBLAS that is found here knows nothing of the emulator's memory
	if onCard() {
		products = []string{GEMMOwn, GEMMCuBLAS}
	}
	for name, tol := range map[Type]devicetest.Tolerance{F32: devicetest.Float32, BF16: devicetest.BFloat16} {
		for _, by := range products {
			t.Run(name.String()+" "+by, func(t *testing.T) {
				if _, err := cublas.Open(); err != nil && by == GEMMCuBLAS {
					t.Skip(err)
				}
				left := w.live()
				tol := tol
				if by == GEMMCuBLAS {
					tol.Batch = tol.Value
				}
				devicetest.Run(t, func() device.Device { return emulated(t, Options{Type: name, GEMM: by}) }, tol)
				if n := w.live() - left; n != 0 {
					t.Errorf("%d objects of the driver are left", n)
				}
			})
		}
	}
}
