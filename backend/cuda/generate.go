package cuda

// ptx holds what clang-16 makes of kernels; both are committed.

//go:generate go run ./internal/ptxgen -in kernels -out ptx
