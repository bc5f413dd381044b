//go:build cuda

package cuda

import (
	"debug/elf"
	"errors"
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

// What Devices and Name tell of a card that can be used.
func TestDevices(t *testing.T) {
	c := emulator(t)
	left := c.Live("")
	infos, err := Devices()
	if err != nil || len(infos) != 1 {
		t.Fatalf("%+v, %v", infos, err)
	}
	i := infos[0]
	if i.Name == "" || i.Major < leastMajor || i.Free <= 0 || i.Free > i.Total || i.Driver < 11000 || i.Library == "" || i.Unusable != "" ||
		(i.CuBLAS == "") == (i.NoCuBLAS == "") {
		t.Errorf("%+v", i)
	}
	d, err := Open(Options{Type: F32})
	if err != nil {
		t.Fatal(err)
	}
	if want := "cuda:0 " + i.Name + " f32"; d.Name() != want {
		t.Errorf("Name %q, want %q", d.Name(), want)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for _, o := range []Options{{Ordinal: 1}, {Ordinal: -1}, {Type: 9}} {
		if d, err := Open(o); err == nil || d != nil {
			t.Errorf("Open(%+v): %v, %v", o, d, err)
		}
	}
	// The driver fails when asked for one property after the other.
	for _, f := range []string{"cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDeviceGetAttribute",
		"cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemGetInfo_v2"} {
		c.Fail(f, 1, 999)
		infos, err := Devices()
		if len(infos) == 1 && err == nil && infos[0].Unusable != "" {
			err = errors.New(infos[0].Unusable)
		}
		if base, _, _ := strings.Cut(f, "_v"); err == nil || !strings.Contains(err.Error(), base) {
			t.Errorf("%s fails: %+v, %v", f, infos, err)
		}
		c.Reset()
	}
	if n := c.Live("") - left; n != 0 {
		t.Errorf("%d objects of the driver are left", n)
	}
}
