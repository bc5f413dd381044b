// Package cuda is the device.Device that computes on an NVIDIA card, in bfloat16
// with sums in float32, or in float32 throughout. It is built with the tag cuda;
// without it Built is false, Devices finds none and Open refuses. A program with
// the tag needs no CUDA library to start: the driver is looked for when Devices
// or Open is called.
//
// # How it is built
//
// Operations check their arguments and append launches of kernels to a list. One
// goroutine, locked to its thread, owns the card: it copies what the list needs
// of the host's arrays, enqueues the launches in one stream, or the whole list as
// one graph when it came before, and gives memory back that was freed meanwhile.
// Only what returns numbers to the host waits.
//
// The kernels (kernels/*.cu, in the language of kernels/kernel.h) are compiled to
// PTX (ptx/, committed) and by the driver for the card. The tests run the same
// sources on the processor (internal/emu).
//
// Read launch.go (what an operation writes), exec.go (who does it), graph.go,
// buffer.go and transfer.go; then any operation: swiglu.go is the shortest,
// matmul.go and attention_plan.go have the ideas.
//
// # What holds throughout
//
//   - Bits do not depend on which rows share a call, nor on the order in which
//     threads run: no sum is made with atomic additions. The exception is cuBLAS,
//     which does the products of more than 16 rows where it is found and
//     Options.GEMM does not say GEMMOwn: it orders its sums by the shape, so with
//     it rows of different batches agree only up to the rounding of float32 sums.
//   - All work of a device is in one stream, so memory that is freed may be used
//     again by whatever comes later, without waiting.
//   - The first failure of the driver sticks: later operations do nothing, reads
//     give zeros, Sync tells. That Weights find no memory is none.
//   - Lists that shall be replayed must not differ: what changes from step to step
//     is uploaded, grids are rounded up.
package cuda
