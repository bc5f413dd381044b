//go:build cuda

package cuda

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nrt/backend/cuda/internal/driver"
	"nrt/backend/cuda/internal/emu"
)

// The program starts with any library in the place of the driver, says what is
// wrong, and ends well.
func TestDriversThatAreNone(t *testing.T) {
	fake := func(name, source string) string {
		dir := t.TempDir()
		c, so := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so")
		if err := os.WriteFile(c, []byte(source), 0o666); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return so
	}
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o666); err != nil {
		t.Fatal(err)
	}
	const start = "int cuInit(unsigned flags) { return 0; }\n"
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"no file", "/nonexistent/libcuda.so", []string{"devices [], error cuda: the CUDA driver was not found",
			"/nonexistent/libcuda.so: cannot open", driver.Env, "open: cuda: the CUDA driver was not found"}},
		{"no library", text, []string{"was not found", "text.so"}},
		{"another library", "libm.so.6", []string{"libm.so.6 is not the CUDA driver: it has no function cuInit"}},
		{"cuInit fails", fake("fails", "int cuInit(unsigned flags) { return 100; }"), []string{
			"fails.so: cuInit: ", "no NVIDIA card is visible"}},
		{"an old driver", fake("old", start+"int cuDeviceGetCount(int *n) { *n = 1; return 0; }"), []string{
			"devices [{Ordinal:0 ", "Unusable:cuDeviceGet: this driver has no function cuDeviceGet: CUDA 11.4 or newer",
			"open: cuda: device 0: cuDeviceGet: this driver has no function cuDeviceGet"}},
		{"no functions", fake("empty", start), []string{"error cuda: ", "cuDeviceGetCount: this driver has no function cuDeviceGetCount"}},
		{"no cards", fake("none", start+"int cuDeviceGetCount(int *n) { *n = 0; return 0; }"), []string{
			"devices [], error <nil>", "open: cuda: no device 0: the driver sees 0"}},
		{"no pools", emu.Build(t, emu.Options{Hide: []string{"cuMemPoolCreate"}}), []string{
			"Unusable:}], error <nil>", "this driver has no function cuMemPoolCreate"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), child+"=1", driver.Env+"="+c.file)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("want %q in:\n%s", want, out)
				}
			}
		})
	}
}

// A program with the tag cuda needs no CUDA library to start.
func TestProgramNeedsNoCUDALibrary(t *testing.T) {
	f, err := elf.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries {
		if strings.Contains(l, "cuda") || strings.Contains(l, "cublas") {
			t.Errorf("the program is linked with %s", l)
		}
	}
}
