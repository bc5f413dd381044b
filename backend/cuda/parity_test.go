//go:build cuda

package cuda

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/backend/safetensors"
)

// TestParityOfGradients compares with gradients that somebody else computed. The
// folder NRT_PARITY is one of Hugging Face's models with
//
//	parity.json              {"ids": […]}, one sequence
//	gradients.safetensors    of −Σ log π(id_i | those before it), by tensor
//
// as gpucheck/parity.py makes it with transformers. Of each tensor the difference
// is taken as a whole: ‖ours − theirs‖ / ‖theirs‖.
func TestParityOfGradients(t *testing.T) {
	dir := os.Getenv("NRT_PARITY")
	if dir == "" {
		t.Skip("NRT_PARITY names no folder to compare with")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "parity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var asked struct{ IDs []int32 }
	if err := json.Unmarshal(raw, &asked); err != nil || len(asked.IDs) < 2 {
		t.Fatalf("parity.json: %d ids, %v", len(asked.IDs), err)
	}
	theirs, err := safetensors.Open(os.DirFS(dir), "gradients.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for dt, most := range map[dtype]float64{dtF32: 1e-3, dtBF16: 0.1} {
		t.Run(dt.String(), func(t *testing.T) {
			d := openTest(t, dt)
			m, err := llama.Load(d, os.DirFS(dir))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Free()
			n := len(asked.IDs)
			b := llama.Batch{IDs: asked.IDs, Seqs: []device.Seq{{Q: device.Span{Len: n}}}}
			to := llama.Targets{IDs: asked.IDs[1:]}
			weights := make([]float64, n-1)
			for i := range n {
				b.Pos = append(b.Pos, int32(i))
				if i < n-1 {
					to.Rows, weights[i] = append(to.Rows, int32(i)), 1
				}
			}
			pass, g := m.NewPass(), m.NewGrad()
			defer pass.Free()
			defer g.Free()
			pass.Forward(b)
			pass.Backward(g, llama.Loss{Targets: to, Fwd: pass.Classify(to), LogProb: weights})
			worst, at, off := 0.0, "", 0
			for _, p := range m.Params() {
				ours, want := make([]float32, p.Value.Len()), make([]float32, p.Value.Len())
				d.Read(ours, g.Flat.View(off, len(ours)))
				off += len(ours)
				if err := theirs.Read(p.Name, 0, want); err != nil {
					t.Fatal(err)
				}
				var diff, all float64
				for i := range want {
					by, of := float64(ours[i])-float64(want[i]), float64(want[i])
					diff += by * by
					all += of * of
				}
				if e := math.Sqrt(diff / all); e > worst || math.IsNaN(e) {
					worst, at = e, p.Name
				}
			}
			t.Logf("parity: %v gradients differ by at most %.2g (%s)", dt, worst, at)
			if !(worst <= most) {
				t.Errorf("want at most %g", most)
			}
		})
	}
}
