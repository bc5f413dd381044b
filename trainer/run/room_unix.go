//go:build linux || darwin

package run

import "golang.org/x/sys/unix"

// freeDisk is how many bytes can still be written into a folder, 0 if that is not known.
func freeDisk(dir string) int64 {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return 0
	}
	return int64(s.Bavail) * int64(s.Bsize)
}
