//go:build cuda

package cuda

import (
	"fmt"
	"runtime"

	"gorgonia.org/cu"
	"nrt/backend/cuda/internal/cublas"
	"nrt/backend/cuda/internal/driver"
)

// Built tells whether this program can use CUDA.
const Built = true

// The oldest cards that do: they are the first with tensor cores for bfloat16
// and with copies to shared memory that need no registers.
const leastMajor, leastMinor = 8, 0

// card is what is known of a card before it is opened.
type card struct {
	Info
	dev    cu.Device
	shared int // bytes of shared memory a block may have
	sms    int // multiprocessors
}

// Devices lists the cards that there are, usable or not. An error says why the
// driver cannot be used at all.
func Devices() ([]Info, error) {
	file, err := driver.Load()
	if err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Errorf("cuda: %s: %w", file, driver.Wrap("cuDeviceGetCount", err))
	}
	var blasFile, noBLAS string
	if lib, err := cublas.Open(); err == nil {
		blasFile = lib.File
	} else {
		noBLAS = err.Error()
	}
	infos := make([]Info, n)
	for i := range infos {
		c, err := find(i, file)
		if err == nil && c.Unusable == "" {
			c.Free, err = c.free()
		}
		infos[i] = c.Info
		infos[i].CuBLAS, infos[i].NoCuBLAS = blasFile, noBLAS
		if err != nil {
			infos[i].Unusable = err.Error()
		}
	}
	return infos, nil
}

// find asks the driver about card i. What makes the card unusable stands in
// Unusable; an error is the driver's.
func find(i int, file string) (*card, error) {
	c := &card{Info: Info{Ordinal: i, Library: file, Driver: cu.Version()}}
	var err error
	if c.dev, err = cu.GetDevice(i); err != nil {
		return c, driver.Wrap("cuDeviceGet", err)
	}
	if c.Name, err = c.dev.Name(); err != nil {
		return c, driver.Wrap("cuDeviceGetName", err)
	}
	if c.Total, err = c.dev.TotalMem(); err != nil {
		return c, driver.Wrap("cuDeviceTotalMem", err)
	}
	pools := 0
	for _, a := range []struct {
		attr cu.DeviceAttribute
		to   *int
	}{
		{cu.ComputeCapabilityMajor, &c.Major},
		{cu.ComputeCapabilityMinor, &c.Minor},
		{cu.MultiprocessorCount, &c.sms},
		{driver.SharedOptIn, &c.shared},
		{driver.MemoryPools, &pools},
	} {
		if *a.to, err = c.dev.Attribute(a.attr); err != nil {
			return c, driver.Wrap("cuDeviceGetAttribute", err)
		}
	}
	switch {
	case c.Major < leastMajor || c.Major == leastMajor && c.Minor < leastMinor:
		c.Unusable = fmt.Sprintf("compute capability %d.%d, want %d.%d (Ampere) or newer", c.Major, c.Minor, leastMajor, leastMinor)
	case pools == 0:
		c.Unusable = "it has no memory pools: a driver of CUDA 11.4 or newer is needed"
	}
	return c, nil
}

// free is the memory that nobody uses. The driver tells in a context alone, so
// one is made for the question.
func (c *card) free() (bytes int64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, err := c.dev.RetainPrimaryCtx()
	if err != nil {
		return 0, driver.Wrap("cuDevicePrimaryCtxRetain", err)
	}
	defer func() {
		if e := c.dev.ReleasePrimaryCtx(); err == nil {
			err = driver.Wrap("cuDevicePrimaryCtxRelease", e)
		}
	}()
	if err := cu.SetCurrentContext(ctx); err != nil {
		return 0, driver.Wrap("cuCtxSetCurrent", err)
	}
	bytes, _, err = cu.MemInfo()
	if err != nil {
		err = driver.Wrap("cuMemGetInfo", err)
	}
	if e := cu.SetCurrentContext(cu.CUContext{}); err == nil && e != nil {
		err = driver.Wrap("cuCtxSetCurrent", e)
	}
	return bytes, err
}
