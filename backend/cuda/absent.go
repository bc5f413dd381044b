//go:build !cuda

package cuda

import (
	"errors"

	"nrt/backend/device"
)

// Built tells whether this program can use CUDA.
const Built = false

var errAbsent = errors.New("this program was built without CUDA")

// Devices lists the cards that there are, usable or not. An error says why the
// driver cannot be used at all.
func Devices() ([]Info, error) { return nil, errAbsent }

// Open opens a card.
func Open(Options) (device.Device, error) { return nil, errAbsent }

// Kept is the memory that a device holds for what it makes next.
func Kept(device.Device) int64 { return 0 }

// Profile marks for a profiler what a card does.
func Profile(device.Device, bool) error { return errAbsent }
