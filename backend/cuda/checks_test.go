//go:build cuda

package cuda

import (
	"strings"
	"testing"

	"nrt/backend/cuda/internal/emu"
)

// The conformance suite again, with every access to memory looked at: for races
// between threads and for addresses, and by AddressSanitizer. That is slower and
// sees no more of shapes, so it leaves out those that run the same kernels on many.
func TestConformanceUnderChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("the suite runs twice")
	}
	emulator(t) // skips the test without it
	for check, tests := range map[emu.Check]string{
		emu.Races:   "^TestConformance$",
		emu.Address: "^TestConformance$/.*/^(Transfer|Kinds|Rows|MatMul|Embed|RMSNorm|RoPE|SwiGLU|Attention|AttentionDecode|Sample|AdamW|AdamW8|Moments8|SumSquares|NaN)$",
	} {
		t.Run(check.String(), func(t *testing.T) {
			t.Parallel()
			out, err := emu.Again(t, check, tests)
			if err != nil || !strings.Contains(string(out), "--- PASS: TestConformance ") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
