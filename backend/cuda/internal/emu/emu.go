//go:build cuda

// Package emu builds a libcuda that runs the kernels of package cuda on the CPU,
// so that a machine without a GPU can test them. The sources in kernels/ are
// compiled a second time, by g++, against emulator.h; lib/block.cc runs their threads
// as fibers, and the rest of lib is the CUDA driver API around it.
//
// Three libraries can be built of the same sources. The plain one finds a missing
// barrier by running threads in orders that a seed chooses, writes beside memory,
// and threads that wait for others in vain. Address adds AddressSanitizer: reads
// and writes outside of memory, as they happen. Races adds a look at every access
// to memory: two threads at the same place with nothing between them that orders
// them, shared memory read before it is written, and addresses outside of memory.
package emu

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Check is what a library looks for while kernels run.
type Check int

const (
	Plain Check = iota
	Address
	Races
)

func (c Check) String() string { return [...]string{"plain", "address", "races"}[c] }

// flags are beside those of every build. Instrumented kernels are compiled so that
// each access of the source is one in the program.
func (c Check) flags() []string {
	switch c {
	case Address:
		return []string{"-fsanitize=address", "-fno-omit-frame-pointer"}
	case Races:
		return []string{"-DNRT_EMU_RACES"}
	}
	return nil
}

// Options are of one library.
type Options struct {
	Check   Check
	Kernels []string // .cu files; nil for all of kernels/
	Hide    []string // functions that the library does not have
}

// Library returns the file of a libcuda for NRT_CUDA_LIBRARY with all kernels in
// it, built when it is not in the user's cache. With asan it has AddressSanitizer,
// which must be loaded before the program starts: see UnderAddressSanitizer. A
// test is skipped where g++ is missing; NRT_NEED_EMULATOR=1 makes it fail there.
func Library(t testing.TB, asan bool) string {
	t.Helper()
	if asan {
		return Build(t, Options{Check: Address})
	}
	return Build(t, Options{})
}

// Build is Library for other libraries than that.
func Build(t testing.TB, o Options) string {
	t.Helper()
	if _, err := exec.LookPath("g++"); err != nil {
		if os.Getenv("NRT_NEED_EMULATOR") != "" {
			t.Fatal("the emulator needs g++")
		}
		t.Skip("the emulator needs g++")
	}
	file, err := build(o)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// common are the flags of all builds. Products and sums are not fused, as some
// processors could not; the GPU fuses them, so its last bits differ.
var common = []string{
	"-std=c++17", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique",
	"-fno-strict-aliasing", "-ffp-contract=off", "-Wall", "-Werror", "-Wno-array-bounds", "-Wno-stringop-overflow",
	"-Wno-unused-function", "-Wno-unknown-pragmas", "-Wno-unused-but-set-variable",
}

var built struct {
	sync.Mutex
	files map[string]string
}

func build(o Options) (string, error) {
	built.Lock()
	defer built.Unlock()
	key := fmt.Sprint(o)
	if f := built.files[key]; f != "" {
		return f, nil
	}
	root, err := backend()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	b := &builder{root: root, cache: filepath.Join(cache, "nrt-emu"), check: o.Check, texts: map[string][]byte{}}
	file, err := b.library(o)
	if err != nil {
		return "", err
	}
	if built.files == nil {
		built.files = map[string]string{}
	}
	built.files[key] = file
	return file, nil
}

// backend finds the folder backend/cuda from a test's working directory.
func backend() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "backend", "cuda"), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("the emulator is built from its sources: no go.mod above the working directory")
		}
		dir = up
	}
}

type builder struct {
	root, cache string
	check       Check
	compiler    string
	mu          sync.Mutex
	texts       map[string][]byte
}

// object is one file to compile.
type object struct {
	source string
	flags  []string
}

// library compiles what is not in the cache and links it.
func (b *builder) library(o Options) (string, error) {
	for _, d := range []string{b.cache, filepath.Join(b.cache, "tmp")} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			return "", err
		}
	}
	version, err := exec.Command("g++", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("g++ --version: %w", err)
	}
	b.compiler = string(version)
	b.prune()

	kernels := o.Kernels
	if kernels == nil {
		if kernels, err = filepath.Glob(filepath.Join(b.root, "kernels", "*.cu")); err != nil {
			return "", err
		}
	}
	parts, err := filepath.Glob(filepath.Join(b.root, "internal", "emu", "lib", "*.cc"))
	if err != nil {
		return "", err
	}
	var objects []object
	for _, k := range kernels {
		flags := []string{"-x", "c++", "-DNRT_EMULATOR", "-iquote", filepath.Join(b.root, "kernels")}
		if o.Check == Races {
			flags = append(flags, "-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0")
		}
		objects = append(objects, object{k, flags})
	}
	for _, p := range parts {
		if filepath.Base(p) != "races.cc" || o.Check == Races {
			objects = append(objects, object{p, nil})
		}
	}
	files, err := b.compile(objects)
	if err != nil {
		return "", err
	}
	return b.link(files, o.Hide)
}

func (b *builder) compile(objects []object) ([]string, error) {
	files := make([]string, len(objects))
	errs := make([]error, len(objects))
	slots := make(chan struct{}, 2)
	var all sync.WaitGroup
	for i, o := range objects {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			flags := slices.Concat(common, b.check.flags(), processor(), o.flags)
			sum, err := b.hash(o.source, flags)
			if err != nil {
				errs[i] = err
				return
			}
			files[i] = filepath.Join(b.cache, sum+".o")
			errs[i] = b.make(files[i], func(tmp string) *exec.Cmd {
				return exec.Command("g++", slices.Concat(flags, []string{"-c", o.source, "-o", tmp})...)
			})
		})
	}
	all.Wait()
	return files, errors.Join(errs...)
}

func (b *builder) link(objects, hide []string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q", objects, hide)
	name := filepath.Join(b.cache, hex.EncodeToString(h.Sum(nil)[:16]))
	script := name + ".map"
	text := "{ global: cu*; emu_*; local: *; };\n"
	if len(hide) > 0 {
		text = "{ global: cu*; emu_*; local: " + strings.Join(hide, "; ") + "; *; };\n"
	}
	if err := os.WriteFile(script, []byte(text), 0o666); err != nil {
		return "", err
	}
	args := []string{"-shared", "-Wl,-Bsymbolic", "-Wl,-z,noexecstack", "-Wl,--version-script=" + script}
	if b.check == Address {
		args = append(args, "-fsanitize=address")
	}
	file := name + ".so"
	return file, b.make(file, func(tmp string) *exec.Cmd {
		return exec.Command("g++", slices.Concat(args, objects, []string{"-ldl", "-o", tmp})...)
	})
}

// make has a command write a file, unless it is there. Other processes may want
// the same file now: one of them works and the others wait. The name appears when
// the file is whole.
func (b *builder) make(file string, command func(tmp string) *exec.Cmd) error {
	now := time.Now()
	if os.Chtimes(file, now, now) == nil {
		return nil
	}
	lock, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	tmp := filepath.Join(b.cache, "tmp", fmt.Sprintf("%d-%s", os.Getpid(), filepath.Base(file)))
	cmd := command(tmp)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return os.Rename(tmp, file)
}

// prune removes what no build has used for a week.
func (b *builder) prune() {
	files, err := filepath.Glob(filepath.Join(b.cache, "*.*"))
	if err != nil {
		return
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && time.Since(info.ModTime()) > 7*24*time.Hour {
			os.Remove(f)
		}
	}
}

// processor lets g++ use fused multiply-add instructions for f_fma where there are
// any: the C library's function takes ten times as long.
var processor = sync.OnceValue(func() []string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil && regexp.MustCompile(`(?m)^flags\s.*\bavx2\b`).Match(text) && regexp.MustCompile(`(?m)^flags\s.*\bfma\b`).Match(text) {
		return []string{"-mavx2", "-mfma"}
	}
	return nil
})

// hash names an object: by its source, all headers that it includes, the flags
// and the compiler.
func (b *builder) hash(source string, flags []string) (string, error) {
	sources := map[string]bool{}
	if err := b.read(source, sources); err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %q", b.compiler, flags)
	for _, f := range slices.Sorted(maps.Keys(sources)) {
		fmt.Fprintf(h, "%s %x\n", f, sha256.Sum256(b.texts[f]))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

var include = regexp.MustCompile(`(?m)^\s*#\s*include\s+"([^"]+)"`)

func (b *builder) read(file string, into map[string]bool) error {
	if into[file] {
		return nil
	}
	into[file] = true
	b.mu.Lock()
	text, ok := b.texts[file]
	b.mu.Unlock()
	if !ok {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return err
		}
		b.mu.Lock()
		b.texts[file] = text
		b.mu.Unlock()
	}
	for _, m := range include.FindAllSubmatch(text, -1) {
		name := filepath.Join(filepath.Dir(file), string(m[1]))
		if _, err := os.Stat(name); err != nil {
			name = filepath.Join(b.root, "kernels", string(m[1])) // where g++ is told to look
		}
		if strings.HasPrefix(string(m[1]), "sanitizer/") {
			continue
		}
		if err := b.read(name, into); err != nil {
			return err
		}
	}
	return nil
}

// UnderAddressSanitizer runs the test that calls it a second time, in a process
// that has AddressSanitizer loaded, where it reports true; the first call returns
// false after the second has passed, or fails the test with its output.
//
//	if !emu.UnderAddressSanitizer(t) {
//		return
//	}
func UnderAddressSanitizer(t *testing.T) bool {
	t.Helper()
	if os.Getenv("NRT_EMU_ASAN") != "" {
		return true
	}
	out, err := Sanitized(t, t.Name())
	if err != nil {
		t.Fatalf("under AddressSanitizer: %v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("PASS")) {
		t.Fatalf("under AddressSanitizer no test ran:\n%s", out)
	}
	return false
}

// Sanitized runs one test of this program in a process that has AddressSanitizer
// loaded, and NRT_EMU_ASAN=1 in its environment, and returns what it printed.
func Sanitized(t *testing.T, name string, environment ...string) ([]byte, error) {
	t.Helper()
	library := Build(t, Options{Check: Address})
	runtime, err := exec.Command("g++", "-print-file-name=libasan.so").Output()
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(parts, "/"), "-test.count=1", "-test.v=true")
	cmd.Env = append(os.Environ(), "NRT_EMU_ASAN=1", "NRT_CUDA_LIBRARY="+library,
		"LD_PRELOAD="+strings.TrimSpace(string(runtime)),
		// Go's runtime handles faults of its own, and frees nothing at exit.
		"ASAN_OPTIONS=detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:allow_user_segv_handler=1:use_sigaltstack=0:detect_stack_use_after_return=0:alloc_dealloc_mismatch=0")
	cmd.Env = append(cmd.Env, environment...)
	return cmd.CombinedOutput()
}
