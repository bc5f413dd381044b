package safetensors

import (
	"bytes"
	"io"
	"testing"
)

func BenchmarkWriteRead(b *testing.B) {
	src := ramp(1 << 20)
	specs := func(dt DType) []Spec { return []Spec{{"x", dt, []int{len(src)}}} }
	get := func(int) ([]float32, error) { return src, nil }
	for _, dt := range []DType{F32, F16, BF16} {
		b.Run("write/"+string(dt), func(b *testing.B) {
			b.SetBytes(int64(len(src) * dt.Size()))
			for b.Loop() {
				if err := Write(io.Discard, specs(dt), get); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("read/"+string(dt), func(b *testing.B) {
			var w bytes.Buffer
			if err := Write(&w, specs(dt), get); err != nil {
				b.Fatal(err)
			}
			f, err := open(w.Bytes())
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]float32, len(src))
			b.SetBytes(int64(len(src) * dt.Size()))
			for b.Loop() {
				if err := f.Read("x", 0, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
