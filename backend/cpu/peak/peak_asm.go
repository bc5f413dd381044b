//go:build amd64

package peak

import "golang.org/x/sys/cpu"

//go:generate go run -C ../internal/asmgen ./peak -pkg peak -out ../../peak/peak_amd64.s -stubs ../../peak/peak_amd64.go

var (
	hasAVX2   = cpu.X86.HasAVX2 && cpu.X86.HasFMA
	hasAVX512 = hasAVX2 && cpu.X86.HasAVX512F
	hasBF16   = hasAVX512 && cpu.X86.HasAVX512BF16
)

// pairs are the kernels that multiply pairs of bfloat16.
const pairs = "avx512_bf16"

// fmaLanes is how many numbers a register of these kernels holds, 0 if this
// machine cannot run them.
func fmaLanes(kernels string) int {
	switch {
	case kernels == pairs && hasBF16:
		return 32
	case kernels == "avx512" && hasAVX512:
		return 16
	case kernels == "avx2" && hasAVX2:
		return 8
	}
	return 0
}

// slice is how many rounds assembly may run before the scheduler gets a turn.
const slice = 1 << 18

// fma runs n > 0 rounds and returns what stands in the first lanes, summed over
// the registers and slices.
func fma(kernels string, n int) (sum float32) {
	for ; n > 0; n -= slice {
		switch kernels {
		case pairs:
			sum += fmaBF16(min(n, slice))
		case "avx512":
			sum += fmaAVX512(min(n, slice))
		default:
			sum += fmaAVX2(min(n, slice))
		}
	}
	return sum
}

func read(kernels string, words []uint64) uint64 {
	if kernels == pairs {
		kernels = "avx512"
	}
	lanes := fmaLanes(kernels)
	if lanes == 0 {
		return readGo(words)
	}
	block := 4 * lanes // words in eight vectors
	n := len(words) / block
	sum := readGo(words[n*block:])
	const slice = 1 << 15 // blocks
	for ; n > 0; n -= slice {
		if kernels == "avx512" {
			sum ^= readAVX512(&words[0], min(n, slice))
		} else {
			sum ^= readAVX2(&words[0], min(n, slice))
		}
		words = words[min(n, slice)*block:]
	}
	return sum
}
