package cpu

// On any machine, unlike what stands in a file of one processor:
//go:generate go run ./internal/neongen -out kernels_neon_arm64.s -stubs kernels_neon_arm64.go
