package device

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// Every code at every size of scale comes back from what it stands for.
func TestMomentsKeepTheirBits(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 0))
	first, second := make([]byte, 255), make([]byte, 256)
	for i := range first {
		first[i] = byte(int8(i - 127))
	}
	for i := range second {
		second[i] = byte(i)
	}
	x := make([]float32, Block8)
	have := make([]byte, Block8)
	for exp := -100; exp < 128; exp++ {
		for range 20 {
			scale := float32(math.Ldexp(1+r.Float64(), exp))
			if math.IsInf(float64(scale), 0) {
				continue
			}
			for kind, codes := range map[Kind][]byte{Moment8: first, Variance8: second} {
				n := len(codes)
				DecodeMoments(kind, x[:n], codes, scale)
				if s := EncodeMoments(kind, have[:n], x[:n]); s != scale || !bytes.Equal(have[:n], codes) {
					t.Fatalf("%v, scale %g (seed %d): scale %g, codes\n%v, want\n%v", kind, scale, seed, s, have[:n], codes)
				}
			}
		}
	}
}
