//go:build cuda

// Package cublas loads NVIDIA's cuBLAS at run time, where it is installed, for
// matrix products: nothing of it is needed to build or to start a program.
//
// Of cuBLAS there is GemmEx, for one product and for two at once. cublasLt, which cuBLAS itself calls, would add
// epilogues that Llama's layers have no use for (they have no bias and no GELU;
// the residual is C += ), so it is only loaded where cuBLAS needs it.
package cublas

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unsafe"
)

// Env is the environment variable that names the library's file; "off" is none.
const Env = "NRT_CUBLAS"

// ErrOff is why nothing was loaded when Env is "off".
var ErrOff = errors.New("cuBLAS is switched off by " + Env + "=off")

// Library is cuBLAS, loaded; it stays so until the process ends.
type Library struct {
	File string
	f    C.nrt_cublas
}

// Open loads cuBLAS from the file that Env names, else from where it is usually
// installed. The error says what was tried.
func Open() (*Library, error) {
	switch name := os.Getenv(Env); name {
	case "":
		return open(candidates(os.Getenv))
	case "off":
		return nil, ErrOff
	default:
		return open([]string{name})
	}
}

func open(files []string) (*Library, error) {
	var tried []string
	for _, file := range files {
		l := &Library{File: file}
		why := make([]byte, 512)
		name, lt := C.CString(file), C.CString(companion(file))
		ok := C.nrt_cublas_open(&l.f, name, lt, (*C.char)(unsafe.Pointer(&why[0])), C.size_t(len(why)))
		C.free(unsafe.Pointer(name))
		C.free(unsafe.Pointer(lt))
		if ok != 0 {
			return l, nil
		}
		tried = append(tried, C.GoString((*C.char)(unsafe.Pointer(&why[0]))))
	}
	return nil, fmt.Errorf("cuBLAS was not found (tried: %s): install it (pip install nvidia-cublas, or NVIDIA's CUDA packages) or name its file in %s",
		strings.Join(tried, "; "), Env)
}

// versions are those whose functions are as declared here, the newest first.
var versions = []string{"13", "12", "11"}

// candidates are the files to try: what the loader finds (ld.so.cache,
// LD_LIBRARY_PATH), then CUDA's own folder, then the folders into which pip puts
// NVIDIA's packages. Of the latter only files that exist are listed.
func candidates(env func(string) string) []string {
	var files []string
	for _, v := range versions {
		files = append(files, "libcublas.so."+v)
	}
	var dirs []string
	for _, root := range []string{env("CUDA_HOME"), env("CUDA_PATH"), "/usr/local/cuda"} {
		if root != "" {
			dirs = append(dirs, filepath.Join(root, "lib64"))
		}
	}
	var sites []string
	for _, root := range []string{env("VIRTUAL_ENV"), env("CONDA_PREFIX"), filepath.Join(env("HOME"), ".local"), "/usr/local", "/usr"} {
		if filepath.IsAbs(root) {
			sites = append(sites, filepath.Join(root, "lib/python3*/site-packages"), filepath.Join(root, "lib/python3*/dist-packages"))
		}
	}
	for _, p := range filepath.SplitList(env("PYTHONPATH")) {
		if filepath.IsAbs(p) {
			sites = append(sites, p)
		}
	}
	for _, site := range sites {
		dirs = append(dirs, filepath.Join(site, "nvidia/cu13/lib"), filepath.Join(site, "nvidia/cublas/lib"))
	}
	for _, v := range versions {
		for _, dir := range dirs {
			found, _ := filepath.Glob(filepath.Join(dir, "libcublas.so."+v)) // the patterns are well-formed
			files = append(files, found...)
		}
	}
	return files
}

// companion is the libcublasLt beside a libcublas that is given with its folder,
// "" without.
func companion(file string) string {
	dir, name := filepath.Split(file)
	rest, ok := strings.CutPrefix(name, "libcublas.so")
	if dir == "" || !ok {
		return ""
	}
	return dir + "libcublasLt.so" + rest
}

// Handle is cuBLAS at work in one stream. It is used from one thread, in which the
// stream's context is current.
type Handle struct {
	l       *Library
	h       unsafe.Pointer
	version int
}

// WorkspaceBytes is what cuBLAS wants as scratch; with it, its work can be
// recorded in graphs. (32 MiB is NVIDIA's advice for sm_90, 4 for older cards.)
const WorkspaceBytes = 32 << 20

// NewHandle makes a handle for a stream; workspace is WorkspaceBytes of the card's
// memory.
func (l *Library) NewHandle(stream uintptr, workspace uint64) (*Handle, error) {
	h := &Handle{l: l}
	var version C.int
	var op *C.char
	r := C.nrt_cublas_create(&l.f, &h.h, C.uintptr_t(stream), C.uint64_t(workspace), WorkspaceBytes, &version, &op)
	if r != 0 {
		return nil, fail(C.GoString(op), int(r))
	}
	h.version = int(version)
	return h, nil
}

// Version is that of the library, such as 130400 for 13.4.
func (h *Handle) Version() int { return h.version }

// Close frees what the handle holds.
func (h *Handle) Close() error {
	return fail("cublasDestroy", int(C.nrt_cublas_destroy(&h.l.f, h.h)))
}

// Gemm is one product of row-major matrices, C = op(A)·op(B) or C += : C is (M, N)
// with rows LDC numbers apart, and so on. A and B are of one type; sums are
// float32. It may stand for two products of one A. It is an array so that lists of
// work can keep and compare it.
type Gemm [16]uint64

// NewGemm describes a product. The addresses are the card's.
func NewGemm(transA, transB bool, m, n, k int, a uint64, lda int, b uint64, ldb int, c uint64, ldc int, bf16, bf16C, accumulate bool) Gemm {
	op := func(trans bool) uint64 {
		if trans {
			return C.NRT_OP_T
		}
		return C.NRT_OP_N
	}
	kind := func(bf16 bool) uint64 {
		if bf16 {
			return C.NRT_R_16BF
		}
		return C.NRT_R_32F
	}
	beta := uint64(0)
	if accumulate {
		beta = 1
	}
	// cuBLAS counts by columns: to it our C is Cᵀ = op(B)ᵀ·op(A)ᵀ, and a row-major
	// matrix is its transpose already.
	return Gemm{op(transB), op(transA), uint64(n), uint64(m), uint64(k), b, uint64(ldb), a, uint64(lda), c, uint64(ldc), kind(bf16), kind(bf16C), beta}
}

// And makes g the product with another B as well, of the same shape, into another
// C: one launch fills more of a card than two. The addresses are the first of
// each, the distances from there to the second are what cuBLAS takes. And is false
// for those that are not positive, of whole 16 bytes and less than 2³¹ numbers.
func (g *Gemm) And(b, c uint64) bool {
	size := func(kind uint64) uint64 {
		if kind == C.NRT_R_16BF {
			return 2
		}
		return 4
	}
	db, dc := b-g[5], c-g[9]
	if b <= g[5] || c <= g[9] || db%16 != 0 || dc%16 != 0 {
		return false
	}
	db, dc = db/size(g[11]), dc/size(g[12])
	if db > math.MaxInt32 || dc > math.MaxInt32 {
		return false
	}
	g[14], g[15] = db, dc
	return true
}

// Do enqueues x.
func (h *Handle) Do(x *Gemm) error {
	op := "cublasGemmEx"
	if x[14] != 0 {
		op = "cublasGemmStridedBatchedEx"
	}
	return fail(op, int(C.nrt_cublas_gemm(&h.l.f, h.h, (*C.uint64_t)(unsafe.Pointer(x)))))
}

var statusNames = map[int]string{
	1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH",
	11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED", 16: "LICENSE_ERROR",
}

// fail makes an error of a cublasStatus_t.
func fail(op string, status int) error {
	if status == 0 {
		return nil
	}
	if name, ok := statusNames[status]; ok {
		return fmt.Errorf("%s: CUBLAS_STATUS_%s", op, name)
	}
	return fmt.Errorf("%s: cublasStatus_t %d", op, status)
}
