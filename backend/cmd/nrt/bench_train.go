package main

import (
	"errors"
	"fmt"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/trainer/optim"
)

// trainSequences is how many sequences a training step reads.
const trainSequences = 16

// train measures a training step of independent sequences.
func (b *bench) train() error {
	n := lengths(b.config).train
	batch := newBatch(b.config.Vocab)
	for range trainSequences {
		batch.sequence(n, device.Span{}, n)
	}
	step, free, err := b.step(batch, "a training step")
	if err != nil {
		return err
	}
	defer free()
	flops, err := b.peak()
	if err != nil {
		return err
	}
	b.progress("training step of %d × %d tokens", trainSequences, n)
	times, err := b.repeat(b.o.seconds, clock(step))
	if err != nil {
		return err
	}
	tokens := trainSequences * n
	s := rates(float64(tokens), times)
	row := b.add("train", fmt.Sprintf("step of %d × %d", trainSequences, n), "tokens/s", s)
	// A backward pass costs two forward passes.
	work := 3 * forwardFLOPs(b.config, tokens, tokens, trainSequences*n*(n+1)/2)
	row.GFLOPs = work * s.median / float64(tokens) * 1e-9
	row.PeakShare = row.GFLOPs * 1e9 / flops.fastest
	return nil
}

// groupChains is how many chains share a prompt.
const groupChains = 8

// prefix measures a training step of chains and answers after one prompt: the
// prompt read once for all, and once for each.
func (b *bench) prefix() error {
	l := lengths(b.config)
	after := l.chain + l.answer
	var own, shared spread
	for _, once := range []bool{false, true} {
		batch := newBatch(b.config.Vocab)
		if once {
			prompt := batch.sequence(l.prompt, device.Span{}, 0)
			for range groupChains {
				batch.sequence(after, prompt, after)
			}
		} else {
			for range groupChains {
				batch.sequence(l.prompt+after, device.Span{}, after)
			}
		}
		step, free, err := b.step(batch, "a training step of chains")
		if err != nil {
			return err
		}
		b.progress("training step of %d chains, %d rows", groupChains, batch.Rows())
		times, err := b.repeat(b.o.seconds, clock(step))
		free()
		if err != nil {
			return err
		}
		s := rates(groupChains, times)
		if once {
			shared = s
		} else {
			own = s
		}
	}
	shape := fmt.Sprintf("%d × (%d + %d)", groupChains, l.chain, l.answer)
	b.add("prefix", fmt.Sprintf("%s, each after its own prompt of %d", shape, l.prompt), "chains/s", own)
	row := b.add("prefix", fmt.Sprintf("%s after one prompt of %d", shape, l.prompt), "chains/s", shared)
	row.Ratio, row.Than = shared.median/own.median, "unshared"
	return nil
}

// step is a function that trains on the batch once: forward, backward, norm and
// AdamW at learning rate 0, so that the model stays what it is. free gives its
// memory back.
func (b *bench) step(batch *benchBatch, what string) (step func() error, free func(), err error) {
	m, err := b.weightsFor(what, trainBytes(b.config, batch.Rows()))
	if err != nil {
		return nil, nil, err
	}
	pass, grad := m.NewPass(), m.NewGrad()
	var params []optim.Param
	off := 0
	for _, p := range m.Params() {
		n := p.Value.Len()
		params = append(params, optim.Param{Name: p.Name, Value: p.Value, Grad: grad.Flat.View(off, n), Decay: p.Decay})
		off += n
	}
	adam, err := optim.New(b.dev, params, optim.Options{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, MaxGradNorm: 1, FlatGrad: grad.Flat})
	if err != nil {
		return nil, nil, err
	}
	weights := make([]float64, len(batch.targets.IDs))
	for i := range weights {
		weights[i] = 1 / float64(len(weights))
	}
	step = func() error {
		grad.Zero()
		pass.Forward(batch.Batch)
		fwd := pass.Classify(batch.targets)
		pass.Backward(grad, llama.Loss{Targets: batch.targets, Fwd: fwd, LogProb: weights})
		_, err := adam.Step(0, 1)
		return errors.Join(err, b.dev.Sync())
	}
	return step, func() { pass.Free(); grad.Free(); adam.Free() }, nil
}

// benchBatch is packed sequences of arbitrary tokens, and what they predict.
type benchBatch struct {
	llama.Batch
	targets llama.Targets
	vocab   int
}

func newBatch(vocab int) *benchBatch { return &benchBatch{vocab: vocab} }

// sequence appends n rows that continue past (rows before them, or none); the
// last `predict` of them predict a token. It returns the rows.
func (b *benchBatch) sequence(n int, past device.Span, predict int) device.Span {
	first := len(b.IDs)
	seq := device.Seq{Q: device.Span{Start: first, Len: n}, Own: first}
	if past.Len > 0 {
		seq.Past = []device.Span{past}
	}
	b.Seqs = append(b.Seqs, seq)
	for i := range n {
		b.IDs = append(b.IDs, arbitrary(first+i, b.vocab))
		b.Pos = append(b.Pos, int32(past.Len+i))
		if i >= n-predict {
			b.targets.Rows = append(b.targets.Rows, int32(first+i))
			b.targets.IDs = append(b.targets.IDs, arbitrary(first+i+1, b.vocab))
		}
	}
	return seq.Q
}

// arbitrary is the i-th of tokens that repeat late and hit all of the vocabulary.
func arbitrary(i, vocab int) int32 { return int32(uint64(i) * 2654435761 % uint64(vocab)) }

func arbitraries(from, n, vocab int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = arbitrary(from+i, vocab)
	}
	return ids
}
