package engine

import (
	"context"
	"fmt"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/device"
	"nrt/backend/llama"
)

// benchModel is a Llama of 3.48M parameters with random weights.
func benchModel(b *testing.B) *llama.Model {
	b.Helper()
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		b.Fatal(err)
	}
	m, err := llama.New(dev, llama.Config{
		ModelType: "llama", Vocab: 1024, Hidden: 256, Intermediate: 704, Layers: 4, Heads: 8, KVHeads: 8, HeadDim: 32,
		MaxPositions: 512, RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true,
	}, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		m.Free()
		if err := dev.Close(); err != nil {
			b.Error(err)
		}
	})
	return m
}

// arbitrary is n token ids below 1024.
func arbitrary(n, salt int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32((salt*31 + i*i*7 + i*131) % 1024)
	}
	return out
}

// BenchmarkSample draws 96 tokens after a prompt of 16, so many chains at once.
func BenchmarkSample(b *testing.B) {
	m := benchModel(b)
	for _, c := range []struct {
		n    int
		topP float64
	}{{1, 0}, {16, 0}, {16, 0.95}, {128, 0}} {
		b.Run(fmt.Sprintf("%d/topp%g", c.n, c.topP), func(b *testing.B) {
			e := New(m, nil, Options{})
			defer e.Close()
			r := Request{Prompt: arbitrary(16, 0), N: c.n, MaxChain: 96, Sampling: Sampling{Temperature: 1, TopP: c.topP}}
			for b.Loop() {
				if _, err := e.Generate(context.Background(), []Request{r}, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(c.n*96)*float64(b.N)/b.Elapsed().Seconds(), "tok/s")
		})
	}
}

// BenchmarkScore finds the log-probabilities of a reference of 16 tokens after
// each of 8 chains of 64 tokens, prompt 128. "forwards" reads prompt, chain and
// reference anew for every chain; "cached" reads the prompt once and the chain
// and reference after it; "answers" has the chains in the cache already, as
// after sampling, and reads the references alone.
func BenchmarkScore(b *testing.B) {
	const k = 8
	m := benchModel(b)
	prompt, answer := arbitrary(128, 0), arbitrary(16, 99)
	chains := make([][]int32, k)
	for i := range chains {
		chains[i] = arbitrary(64, i+1)
	}
	rate := func(b *testing.B) { b.ReportMetric(k*float64(b.N)/b.Elapsed().Seconds(), "chains/s") }

	b.Run("forwards", func(b *testing.B) {
		pass := m.NewPass()
		defer pass.Free()
		var in llama.Batch
		var t llama.Targets
		for _, c := range chains {
			first := len(in.IDs)
			in.IDs = append(append(append(in.IDs, prompt...), c...), answer[:len(answer)-1]...)
			n := len(in.IDs) - first
			in.Seqs = append(in.Seqs, device.Seq{Q: device.Span{Start: first, Len: n}, Own: first})
			for i := range n {
				in.Pos = append(in.Pos, int32(i))
			}
			for i, id := range answer {
				t.Rows, t.IDs = append(t.Rows, int32(first+len(prompt)+len(c)-1+i)), append(t.IDs, id)
			}
		}
		for b.Loop() {
			pass.Forward(in)
			pass.Classify(t)
		}
		rate(b)
	})

	cache, err := m.NewCache(len(prompt) + k*(64+16))
	if err != nil {
		b.Fatal(err)
	}
	defer cache.Free()
	row := func(i int) int { return len(prompt) + i*(64+16) }
	read := func(in *llama.Batch, ids []int32, pos int, own int, past ...device.Span) {
		in.Seqs = append(in.Seqs, device.Seq{Q: device.Span{Start: len(in.IDs), Len: len(ids)}, Past: past, Own: own})
		for i := range ids {
			in.Pos = append(in.Pos, int32(pos+i))
		}
		in.IDs = append(in.IDs, ids...)
	}
	before := device.Span{Len: len(prompt)}
	var first, all, last llama.Batch
	var tAll, tLast llama.Targets
	read(&first, prompt, 0, 0)
	read(&all, prompt, 0, 0)
	for i, c := range chains {
		read(&first, c, len(prompt), row(i), before)
		read(&all, append(append([]int32{}, c...), answer[:len(answer)-1]...), len(prompt), row(i), before)
		// The chain's last token predicts the reference's first: read it again.
		at := len(last.IDs)
		read(&last, append([]int32{c[63]}, answer[:len(answer)-1]...), len(prompt)+63, row(i)+63, before, device.Span{Start: row(i), Len: 63})
		for j, id := range answer {
			tAll.Rows, tAll.IDs = append(tAll.Rows, int32(len(all.IDs)-len(answer)+j)), append(tAll.IDs, id)
			tLast.Rows, tLast.IDs = append(tLast.Rows, int32(at+j)), append(tLast.IDs, id)
		}
	}
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			cache.Extend(all)
			cache.Classify(tAll)
		}
		rate(b)
	})
	b.Run("answers", func(b *testing.B) {
		cache.Extend(first)
		b.ResetTimer()
		for b.Loop() {
			cache.Extend(last)
			cache.Classify(tLast)
		}
		rate(b)
	})
}
