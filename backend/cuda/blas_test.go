//go:build cuda

package cuda

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gorgonia.org/cu"
	"nrt/backend/cuda/internal/cublas"
	"nrt/backend/device"
)

// fakeBLAS makes the fake of package cublas the cuBLAS of this test.
func fakeBLAS(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "libcublas.so.13")
	if out, err := exec.Command("g++", "-std=c++17", "-O1", "-shared", "-fPIC", "internal/cublas/testdata/fake.cc", "-ldl", "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv(cublas.Env, file)
}

func TestBLAS(t *testing.T) {
	emulator(t)
	fakeBLAS(t)
	file := os.Getenv(cublas.Env)
	t.Run("Products", testBLASProducts)
	t.Run("Failure", testBLASFailure)
	t.Run("Choice", func(t *testing.T) { testBLASChoice(t, file) })
}

// Products of more than few rows are cuBLAS's, in order with the kernels around
// them, recorded or not; the others stay ours.
func testBLASProducts(t *testing.T) {
	for _, typ := range []Type{BF16, F32} {
		own := testDevice(t, typ)
		d, err := open(Options{Type: typ, GEMM: GEMMCuBLAS})
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		run := d.gemm.blas.gemm.run
		d.gemm.blas.gemm.run = func(s cu.Stream, args []uint64) error {
			calls++
			return run(s, args)
		}
		const n, k = 24, 40
		for _, m := range []int{few, few + 1, 40} {
			for mode := range 8 {
				ta, tb, acc := mode&1 != 0, mode&2 != 0, mode&4 != 0
				kind := []device.Kind{device.Compute, device.Wide}[m%2]
				var results [2][]float64
				before := calls
				for i, d := range []*dev{own, d} {
					a, _ := numbers(d, 1, device.Compute, m*k, 0)
					b, _ := numbers(d, 2, device.Compute, k*n, 0)
					c, _ := numbers(d, 3, kind, m*n, 0)
					d.MatMul(c, a, b, m, n, k, ta, tb, acc)
					results[i] = read(d, c)
				}
				tol := 1e-5
				if typ == BF16 && kind == device.Compute {
					tol = 1.0 / 256
				}
				near(t, "cuBLAS", results[1], results[0], tol)
				// A row of A stored by columns is aligned only if their number is.
				want := 0
				if m > few && !(ta && m%8 != 0) {
					want = 1
				}
				if calls-before != want {
					t.Errorf("%v, %d rows, mode %d: cuBLAS was called %d times, want %d", typ, m, mode, calls-before, want)
				}
			}
		}
		// Neighbours of one shape are one call, wherever their operands lie.
		for i, want := range []int{2, 3} {
			all, _ := numbers(d, 1, device.Compute, 3*n*k, 0)
			sums := d.Alloc(3 * 32 * n)
			place := func(i int) (device.Buffer, device.Buffer) {
				return all.View(i*n*k, n*k), sums.View(i*32*n, 32*n)
			}
			order := [][]int{{0, 1, 2}, {2, 1, 0}}[i] // a second one that lies before the first cannot join it
			x, _ := numbers(d, 2, device.Compute, 32*k, 0)
			var list []device.Projection
			for _, at := range order {
				b, c := place(at)
				list = append(list, device.Projection{C: c, B: b, N: n})
			}
			before := calls
			d.Project(list, x, 32, k)
			have := read(d, sums)
			if calls-before != want {
				t.Errorf("%v: three products were %d calls, want %d", typ, calls-before, want)
			}
			for _, at := range order {
				b, c := place(at)
				d.MatMul(c, x, b, 32, n, k, false, true, false)
			}
			same(t, "together", have, read(d, sums))
		}
		// The same list again and again: recorded the second time, replayed then.
		a, _ := numbers(d, 1, device.Compute, 32*k, 0)
		b, _ := numbers(d, 2, device.Compute, k*n, 0)
		c, first := d.Alloc(32*n), []float64(nil)
		for range 4 {
			d.Zero(c)
			for range 3 {
				d.MatMul(c, a, b, 32, n, k, false, false, true)
			}
			if have := read(d, c); first == nil {
				first = have
			} else {
				same(t, "replayed", have, first)
			}
		}
		if d.ex.graphs.replayed == 0 {
			t.Error("nothing was replayed")
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What cuBLAS refuses sticks and comes back from Sync and Close.
func testBLASFailure(t *testing.T) {
	d, err := open(Options{Type: F32, GEMM: GEMMCuBLAS})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NRT_FAKE_CUBLAS_FAIL", "cublasGemmEx")
	x := d.Alloc(32 * 32)
	d.MatMul(d.Alloc(32*32), x, x, 32, 32, 32, false, false, false)
	for _, f := range []func() error{d.Sync, d.Close} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "cublasGemmEx: CUBLAS_STATUS_INTERNAL_ERROR") {
			t.Errorf("have %v", err)
		}
	}
}

// Who asks for cuBLAS learns why there is none, who does not goes on without.
func testBLASChoice(t *testing.T, fake string) {
	for _, test := range []struct{ env, fail, choice, want string }{
		{"/nowhere/libcublas.so.13", "", GEMMCuBLAS, "/nowhere/libcublas.so.13"},
		{"off", "", GEMMCuBLAS, cublas.ErrOff.Error()},
		{fake, "cublasCreate", GEMMCuBLAS, "cublasCreate: CUBLAS_STATUS_NOT_INITIALIZED"},
		{"off", "", "fastest", `GEMM: want auto, own or cublas, have "fastest"`},
		{"/nowhere/libcublas.so.13", "", GEMMAuto, ""},
		{fake, "cublasCreate", "", ""},
	} {
		t.Setenv(cublas.Env, test.env)
		t.Setenv("NRT_FAKE_CUBLAS_FAIL", test.fail)
		d, err := open(Options{Type: F32, GEMM: test.choice})
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		if err != nil || d.gemm.blas != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
