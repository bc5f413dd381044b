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

var checks = [...]string{"plain", "address", "races"}

func (c Check) String() string { return checks[c] }

// flags are beside those of every build. Instrumented kernels are slow in any
// case, and compile faster this way.
func (c Check) flags() []string {
	switch c {
	case Address:
		return []string{"-O1", "-fsanitize=address", "-fno-omit-frame-pointer"}
	case Races:
		return []string{"-O1", "-DNRT_EMU_RACES"}
	}
	return []string{"-O2"}
}

// Options are of one library.
type Options struct {
	Check   Check
	Kernels []string // .cu files; nil for all of kernels/
	Hide    []string // functions that the library does not have
}

// The environment variables of a test process that is run again for another
// check: which (a name of Check), and the folder of other kernels than kernels/.
const (
	EnvCheck   = "NRT_EMU_CHECK"
	EnvKernels = "NRT_EMU_KERNELS"
)

// Library returns the file of a libcuda for NRT_CUDA_LIBRARY with all kernels in
// it, built when it is not in the user's cache. With asan it has AddressSanitizer,
// which must be loaded before the program starts: see Again. EnvCheck, where it is
// set, has the choice. A test is skipped where g++ is missing; NRT_NEED_EMULATOR=1
// makes it fail there.
func Library(t testing.TB, asan bool) string {
	t.Helper()
	var o Options
	if asan {
		o.Check = Address
	}
	if name := os.Getenv(EnvCheck); name != "" {
		o.Check = Check(slices.Index(checks[:], name))
		if o.Check < 0 {
			t.Fatalf("%s=%s: want one of %v", EnvCheck, name, checks)
		}
	}
	if dir := os.Getenv(EnvKernels); dir != "" {
		var err error
		if o.Kernels, err = filepath.Glob(filepath.Join(dir, "*.cu")); err != nil || o.Kernels == nil {
			t.Fatalf("%s=%s: no kernels there: %v", EnvKernels, dir, err)
		}
	}
	return Build(t, o)
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
	"-std=c++17", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique",
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
	file, err := b.assemble(o)
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

// assemble compiles what is not in the cache and makes a library of it.
func (b *builder) assemble(o Options) (string, error) {
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
		flags := []string{"-x", "c++", "-DNRT_EMULATOR"}
		if o.Check == Races {
			flags = append(flags, "-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0")
		}
		objects = append(objects, object{k, flags})
	}
	for _, p := range parts {
		if filepath.Base(p) != "races.cc" || o.Check == Races {
			objects = append(objects, object{p, []string{"-O2"}})
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
				return exec.Command("g++", slices.Concat(flags, []string{"-iquote", filepath.Join(b.root, "kernels"), "-c", o.source, "-o", tmp})...)
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
// and the compiler, not by where they lie.
func (b *builder) hash(source string, flags []string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sources := map[string]bool{}
	if err := b.read(source, sources); err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %q", b.compiler, flags)
	for _, f := range slices.Sorted(maps.Keys(sources)) {
		fmt.Fprintf(h, "%s %x\n", filepath.Base(f), sha256.Sum256(b.texts[f]))
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

var include = regexp.MustCompile(`(?m)^\s*#\s*include\s+"([^"]+)"`)

func (b *builder) read(file string, into map[string]bool) error {
	if into[file] {
		return nil
	}
	into[file] = true
	text, ok := b.texts[file]
	if !ok {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return err
		}
		b.texts[file] = text
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

// UnderAddressSanitizer runs the test that calls it again, in a process that has
// AddressSanitizer loaded, where it reports true; here it returns false after that
// has passed, or fails the test with what it printed.
//
//	if !emu.UnderAddressSanitizer(t) {
//		return
//	}
func UnderAddressSanitizer(t *testing.T) bool {
	t.Helper()
	if os.Getenv(EnvCheck) == Address.String() {
		return true
	}
	var parts []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	out, err := Again(t, Address, strings.Join(parts, "/"))
	if err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("under AddressSanitizer: %v\n%s", err, out)
	}
	return false
}

// Again runs tests of this program a second time, in a process of its own whose
// emulator has a check, and returns what it printed. pattern is for -test.run.
// Library there builds what the check needs. AddressSanitizer, which has to be
// loaded before everything else, is.
func Again(t *testing.T, check Check, pattern string, environment ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run="+pattern, "-test.count=1", "-test.v=true", "-test.failfast=true", "-test.timeout=10m")
	if testing.Short() {
		cmd.Args = append(cmd.Args, "-test.short=true")
	}
	cmd.Env = append(os.Environ(), EnvCheck+"="+check.String())
	if check == Address {
		if _, err := exec.LookPath("g++"); err != nil {
			Build(t, Options{Check: check}) // skips or fails the test
		}
		runtime, err := exec.Command("g++", "-print-file-name=libasan.so").Output()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+strings.TrimSpace(string(runtime)),
			// Go's runtime handles faults of its own, and frees nothing at exit.
			"ASAN_OPTIONS=detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:allow_user_segv_handler=1:use_sigaltstack=0:detect_stack_use_after_return=0")
	}
	cmd.Env = append(cmd.Env, environment...)
	return cmd.CombinedOutput()
}
