//go:build cuda

// Package driver loads NVIDIA's driver library, libcuda.so.1, at run time, and
// adds the functions that gorgonia.org/cu lacks: pinned host memory, pools,
// stream capture and graphs, kernel attributes, a launcher of packed parameters.
//
// # How a program links and starts without a driver
//
// cu refers to the functions of libcuda; shim.c defines them, as jumps to what
// Load finds. The link flags give the linker an empty libcuda.a for cu's -lcuda,
// and --as-needed keeps a real libcuda, where there is one, from becoming a
// requirement of the program. include/cuda.h is what cu compiles against:
//
//	CGO_CFLAGS=-I$PWD/backend/cuda/internal/driver/include go build -tags cuda ./...
//
// Call Load before anything of cu. A function that the driver lacks then returns
// an error that names it.
package driver

// #cgo CFLAGS: -I${SRCDIR}/include
// #cgo LDFLAGS: -Wl,--as-needed -L${SRCDIR}/link -ldl
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"

	"gorgonia.org/cu"
)

// Env is the environment variable that names the driver library to load.
const Env = "NRT_CUDA_LIBRARY"

// files are tried in order where Env is empty. The second is where the driver
// is in Windows' Linux (WSL 2).
var files = []string{"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"}

// loaded is the driver library of the process: the functions of cu are global,
// so there can be one only.
var loaded struct {
	once sync.Once
	file string
	err  error
}

// Load loads and initialises the driver, once in the life of the process, and
// returns the library's name. The error says what was tried.
func Load() (file string, err error) {
	loaded.once.Do(func() { loaded.file, loaded.err = load(os.Getenv(Env)) })
	return loaded.file, loaded.err
}

func load(file string) (string, error) {
	names := files
	if file != "" {
		names = []string{file}
	}
	var tried []string
	for _, name := range names {
		lib, why := open(name)
		if lib == nil {
			tried = append(tried, why)
			continue
		}
		var status C.CUresult
		if C.nrt_cuda_load(lib, &status) == 0 {
			return "", fmt.Errorf("%s is not the CUDA driver: it has no function cuInit", name)
		}
		if status != C.CUDA_SUCCESS {
			return "", fmt.Errorf("%s: %w%s", name, fail("cuInit", status), hint(status))
		}
		return name, nil
	}
	return "", fmt.Errorf("the CUDA driver was not found (tried: %s): install NVIDIA's driver, or name its library in %s",
		strings.Join(tried, "; "), Env)
}

// hint says what to do about a failure of cuInit.
func hint(status C.CUresult) string {
	switch status {
	case C.CUDA_ERROR_NO_DEVICE:
		return ": no NVIDIA card is visible here (in a container: start it with --gpus all; see also CUDA_VISIBLE_DEVICES)"
	case C.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
		return ": the driver was updated: restart the machine"
	case C.CUDA_ERROR_STUB_LIBRARY:
		return ": this library only serves to link programs: remove it from LD_LIBRARY_PATH"
	}
	return ""
}

func open(name string) (unsafe.Pointer, string) {
	file := C.CString(name)
	defer C.free(unsafe.Pointer(file))
	why := make([]byte, 512)
	lib := C.nrt_cuda_open(file, (*C.char)(unsafe.Pointer(&why[0])), C.size_t(len(why)))
	if lib != nil {
		return lib, ""
	}
	return nil, C.GoString((*C.char)(unsafe.Pointer(&why[0])))
}

// Error is a failure that the driver reported.
type Error struct {
	Op   string // the function
	Code int    // a CUresult
	Text string
}

func (e *Error) Error() string { return e.Op + ": " + e.Text }

// OutOfMemory tells whether err is the driver's lack of memory.
func OutOfMemory(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == C.CUDA_ERROR_OUT_OF_MEMORY
}

// fail makes an error of a result.
func fail(op string, r C.CUresult) error {
	if r == C.CUDA_SUCCESS {
		return nil
	}
	e := &Error{Op: op, Code: int(r)}
	var name, text *C.char
	switch {
	case r == C.CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND && C.nrt_cuda_missing_name() != nil:
		e.Text = fmt.Sprintf("this driver has no function %s: CUDA 11.4 or newer is needed", C.GoString(C.nrt_cuda_missing_name()))
	case C.cuGetErrorName(r, &name) == C.CUDA_SUCCESS && C.cuGetErrorString(r, &text) == C.CUDA_SUCCESS:
		e.Text = C.GoString(text) + " (" + C.GoString(name) + ")"
	default:
		e.Text = fmt.Sprintf("error %d", r)
	}
	return e
}

// Wrap makes an Error of one that a function of cu returned, and nil of nil.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	if code, ok := codeOf(err); ok {
		return fail(op, C.CUresult(code))
	}
	return fmt.Errorf("%s: %w", op, err)
}

// codeOf is the number in an error of cu, whose type cu does not export: its
// constants are the only way to make one.
func codeOf(err error) (int, bool) {
	r := cu.InvalidValue
	if !errors.As(err, &r) {
		return 0, false
	}
	return int(r), true
}
