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

// emulator makes the emulator this process's driver and returns its controls.
func emulator(t testing.TB) *emu.Control {
	t.Helper()
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

// opened counts the devices of openTest that are open, and what was left in the
// driver before them where a test had a call fail.
var opened struct{ devices, left int }

// openTest opens a device on the emulator and closes it at the end of the test,
// when nothing has failed and, after the last one, nothing is left in the driver.
func openTest(t testing.TB, dt dtype) *dev {
	t.Helper()
	c := emulator(t)
	if opened.devices == 0 {
		opened.left = c.Live("")
	}
	d, err := open(Options{Type: map[dtype]Type{dtF32: F32, dtBF16: BF16}[dt]})
	if err != nil {
		t.Fatal(err)
	}
	opened.devices++
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("%v\n%s", err, c.Fault())
		}
		opened.devices--
		if n := c.Live("") - opened.left; opened.devices == 0 && n != 0 {
			t.Errorf("%d objects of the driver are left after Close", n)
		}
	})
	return d
}
