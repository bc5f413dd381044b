//go:build !windows

package peak

import "time"

var began = time.Now()

// Now is the time since some moment.
func Now() time.Duration { return time.Since(began) }
