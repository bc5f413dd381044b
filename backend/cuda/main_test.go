//go:build cuda

package cuda

import (
	"fmt"
	"os"
	"testing"

	"nrt/backend/cuda/internal/driver"
	"nrt/backend/cuda/internal/emu"
)

// child is the environment variable that makes the test binary a program of its
// own: a process loads one driver in its life, so tests of other drivers need
// other processes.
const child = "NRT_CUDA_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		infos, err := Devices()
		fmt.Printf("devices %+v, error %v\n", infos, err)
		_, err = open(Options{})
		fmt.Printf("open: %v\n", err)
		return
	}
	os.Exit(m.Run())
}

// onCard tells that a real card is to be tested: `make gpu-check` makes a folder
// that does.
func onCard() bool { return os.Getenv("NRT_CUDA_REAL") == "1" }

// emulator makes the emulator this process's driver and returns its controls.
func emulator(t testing.TB) *emu.Control {
	t.Helper()
	if onCard() {
		t.Skip("needs the emulator")
	}
	file := emu.Library(t, false)
	os.Setenv(driver.Env, file)
	have, err := driver.Load()
	if err != nil {
		t.Fatal(err)
	}
	if have != file {
		t.Fatalf("this process has loaded %s, want %s", have, file)
	}
	c, err := emu.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// witness sees what the driver holds and what went wrong; of a real card's it sees
// nothing.
type witness struct{ c *emu.Control }

// driverOfTests is the real driver or the emulator.
func driverOfTests(t testing.TB) witness {
	t.Helper()
	if onCard() {
		return witness{}
	}
	return witness{emulator(t)}
}

func (w witness) live() int {
	if w.c == nil {
		return 0
	}
	return w.c.Live("")
}

func (w witness) fault() string {
	if w.c == nil {
		return ""
	}
	return w.c.Fault()
}

// opened counts the devices of openTest that are open, and what was left in the
// driver before them where a test had a call fail.
var opened struct{ devices, left int }

// openTest opens a device and closes it at the end of the test,
// when nothing has failed and, after the last one, nothing is left in the driver.
func openTest(t testing.TB, dt dtype) *dev {
	t.Helper()
	w := driverOfTests(t)
	if opened.devices == 0 {
		opened.left = w.live()
	}
	d, err := open(Options{Type: map[dtype]Type{dtF32: F32, dtBF16: BF16}[dt], GEMM: GEMMOwn})
	if err != nil {
		t.Fatal(err)
	}
	opened.devices++
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("%v\n%s", err, w.fault())
		}
		opened.devices--
		if n := w.live() - opened.left; opened.devices == 0 && n != 0 {
			t.Errorf("%d objects of the driver are left after Close", n)
		}
	})
	return d
}
