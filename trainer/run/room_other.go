//go:build !linux && !darwin

package run

// freeDisk is 0: how much can still be written into a folder is not known.
func freeDisk(string) int64 { return 0 }
