//go:build cuda

package cublas

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// fake builds the library of testdata as file, and skips the test without g++.
func fake(t *testing.T, file string, flags ...string) string {
	t.Helper()
	if _, err := exec.LookPath("g++"); err != nil {
		if os.Getenv("NRT_NEED_EMULATOR") != "" {
			t.Fatal("the fake cuBLAS needs g++")
		}
		t.Skip("the fake cuBLAS needs g++")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	args := slices.Concat([]string{"-std=c++17", "-O1", "-Wall", "-Werror", "-Wno-unused-function", "-shared", "-fPIC"}, flags, []string{"testdata/fake.cc", "-ldl", "-o", file})
	if out, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

func TestGemm(t *testing.T) {
	t.Setenv("NRT_CUDA_LIBRARY", "")
	os.Unsetenv("NRT_CUDA_LIBRARY")
	t.Setenv(Env, fake(t, filepath.Join(t.TempDir(), "libcublas.so.13")))
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.NewHandle(0, 256)
	if err != nil {
		t.Fatal(err)
	}
	if h.Version() != 130400 {
		t.Errorf("version %d", h.Version())
	}
	const m, n, k = 3, 5, 4
	value := func(i int) float32 { return float32(i*7%11) - 5 }
	for mode := range 8 {
		ta, tb, acc := mode&1 != 0, mode&2 != 0, mode&4 != 0
		lda, ldb, ldc := k+1, n+2, n+3
		if ta {
			lda = m + 1
		}
		if tb {
			ldb = k + 2
		}
		a, b, c := make([]float32, 8*lda), make([]float32, 8*ldb), make([]float32, m*ldc)
		for _, x := range [][]float32{a, b, c} {
			for i := range x {
				x[i] = value(i + len(x))
			}
		}
		was := slices.Clone(c)
		g := NewGemm(ta, tb, m, n, k, address(a), lda, address(b), ldb, address(c), ldc, false, false, acc)
		if err := h.Do(&g); err != nil {
			t.Fatal(err)
		}
		for i := range m {
			for j := range n {
				want := float32(0)
				if acc {
					want = was[i*ldc+j]
				}
				for p := range k {
					x, y := a[i*lda+p], b[p*ldb+j]
					if ta {
						x = a[p*lda+i]
					}
					if tb {
						y = b[j*ldb+p]
					}
					if ta && tb {
						x, y = a[p*lda+i], b[j*ldb+p]
					}
					want += x * y
				}
				if c[i*ldc+j] != want {
					t.Fatalf("%v %v %v: [%d, %d] is %g, want %g", ta, tb, acc, i, j, c[i*ldc+j], want)
				}
			}
			for j := n; j < ldc; j++ {
				if c[i*ldc+j] != was[i*ldc+j] {
					t.Fatalf("%v %v %v: wrote past row %d", ta, tb, acc, i)
				}
			}
		}
	}
	// bfloat16 in, both types out: 1.5·2 + 0.5·4.
	a, b := []uint16{bf(1.5), bf(0.5)}, []uint16{bf(2), bf(4)}
	wide, narrow := []float32{0}, []uint16{0}
	for _, g := range []Gemm{
		NewGemm(false, false, 1, 1, 2, address(a), 2, address(b), 1, address(wide), 1, true, false, false),
		NewGemm(false, false, 1, 1, 2, address(a), 2, address(b), 1, address(narrow), 1, true, true, false),
	} {
		if err := h.Do(&g); err != nil {
			t.Fatal(err)
		}
	}
	if wide[0] != 5 || narrow[0] != bf(5) {
		t.Errorf("have %g and %x, want 5", wide[0], narrow[0])
	}
	// Two products of one A at once: B and C of the second lie behind the first's.
	both, sums := []float32{1, 2, 3, 4, 5, 6, 7, 8}, make([]float32, 12)
	two := NewGemm(false, true, 1, 2, 2, address(both), 2, address(both), 2, address(sums), 2, false, false, false)
	if !two.And(address(both)+16, address(sums)+32) {
		t.Error("And refuses what cuBLAS takes")
	}
	if err := h.Do(&two); err != nil {
		t.Fatal(err)
	}
	if want := []float32{5, 11, 0, 0, 0, 0, 0, 0, 17, 23, 0, 0}; !slices.Equal(sums, want) {
		t.Errorf("two at once: have %g, want %g", sums, want)
	}
	for _, at := range [][2]uint64{{address(both), address(sums) + 16}, {address(both) + 16, address(sums)}, {address(both) + 8, address(sums) + 16}} {
		one := NewGemm(false, true, 1, 2, 2, address(both), 2, address(both), 2, address(sums), 2, false, false, false)
		if one.And(at[0], at[1]) || one[14] != 0 {
			t.Errorf("And takes addresses %#x", at)
		}
	}
	// What the library refuses is an error with its name.
	g := NewGemm(false, false, 2, 2, 2, address(a), 1, address(b), 2, address(wide), 2, false, false, false)
	if err := h.Do(&g); err == nil || err.Error() != "cublasGemmEx: CUBLAS_STATUS_INVALID_VALUE" {
		t.Errorf("rows that overlap: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// pinned is what C was told the address of, until the tests end.
var pinned runtime.Pinner

// address returns where x lies, and keeps it there: a number does not, and a slice
// on a stack moves with it.
func address[T any](x []T) uint64 {
	pinned.Pin(&x[0])
	return uint64(uintptr(unsafe.Pointer(&x[0])))
}

func bf(x float32) uint16 { return uint16(math.Float32bits(x) >> 16) }

func TestNotFound(t *testing.T) {
	t.Setenv(Env, "/nowhere/libcublas.so.13")
	if _, err := Open(); err == nil || !strings.Contains(err.Error(), "/nowhere/libcublas.so.13") || !strings.Contains(err.Error(), Env) {
		t.Errorf("missing file: %v", err)
	}
	t.Setenv(Env, "off")
	if _, err := Open(); !errors.Is(err, ErrOff) {
		t.Errorf("switched off: %v", err)
	}
	file := fake(t, filepath.Join(t.TempDir(), "libcublas.so.13"), "-DWITHOUT_GEMM")
	t.Setenv(Env, file)
	if _, err := Open(); err == nil || !strings.Contains(err.Error(), file+" has no function cublasGemmEx") {
		t.Errorf("missing function: %v", err)
	}
	// The next candidate is tried after one that does not do.
	good := fake(t, filepath.Join(t.TempDir(), "libcublas.so.12"))
	if l, err := open([]string{file, good}); err != nil || l.File != good {
		t.Errorf("second candidate: %v", err)
	}
}

func TestFailures(t *testing.T) {
	t.Setenv(Env, fake(t, filepath.Join(t.TempDir(), "libcublas.so.13")))
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]string{"cublasCreate": "NOT_INITIALIZED", "cublasSetStream": "INTERNAL_ERROR"} {
		t.Setenv("NRT_FAKE_CUBLAS_FAIL", f)
		if _, err := l.NewHandle(0, 256); err == nil || err.Error() != f+": CUBLAS_STATUS_"+want {
			t.Errorf("%s fails: %v", f, err)
		}
	}
	t.Setenv("NRT_FAKE_CUBLAS_FAIL", "")
	if _, err := l.NewHandle(0, 3); err == nil || err.Error() != "cublasSetWorkspace: CUBLAS_STATUS_INVALID_VALUE" {
		t.Errorf("workspace at an odd address: %v", err)
	}
	if have := fail("f", 99); have == nil || have.Error() != "f: cublasStatus_t 99" {
		t.Errorf("unknown status: %v", have)
	}
}

func TestCandidates(t *testing.T) {
	root := t.TempDir()
	venv := filepath.Join(root, "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublas.so.13")
	home := filepath.Join(root, "home/.local/lib/python3.11/site-packages/nvidia/cublas/lib/libcublas.so.12")
	cuda := filepath.Join(root, "cuda/lib64/libcublas.so.12")
	for _, f := range []string{venv, home, cuda} {
		if err := os.MkdirAll(filepath.Dir(f), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{"VIRTUAL_ENV": filepath.Join(root, "venv"), "HOME": filepath.Join(root, "home"), "CUDA_HOME": filepath.Join(root, "cuda")}
	have := candidates(func(k string) string { return env[k] })
	var ours []string
	for _, f := range have {
		if strings.HasPrefix(f, root) {
			ours = append(ours, f)
		}
	}
	if want := []string{venv, cuda, home}; !slices.Equal(ours, want) {
		t.Errorf("candidates %q, want %q", ours, want)
	}
	if !slices.Equal(have[:3], []string{"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"}) {
		t.Errorf("what the loader finds comes first: %q", have)
	}
	for file, want := range map[string]string{
		venv: filepath.Dir(venv) + "/libcublasLt.so.13", "libcublas.so.13": "", "/a/other.so": "", "/a/libcublas.so": "/a/libcublasLt.so",
	} {
		if have := companion(file); have != want {
			t.Errorf("beside %s: %q, want %q", file, have, want)
		}
	}
}

// TestCompanion: a cuBLAS that needs its cublasLt, which lies beside it where the
// loader does not look, is loaded.
func TestCompanion(t *testing.T) {
	dir := t.TempDir()
	lt := filepath.Join(dir, "libcublasLt.so.13")
	source := filepath.Join(dir, "lt.cc")
	if err := os.WriteFile(source, []byte("extern \"C\" int cublasLtFake() { return 1; }\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("g++"); err == nil {
		if out, err := exec.Command("g++", "-shared", "-fPIC", "-Wl,-soname,libcublasLt.so.13", source, "-o", lt).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	file := fake(t, filepath.Join(dir, "libcublas.so.13"), "-Wl,--no-as-needed", lt)
	if _, err := open([]string{file}); err != nil {
		t.Error(err)
	}
}
