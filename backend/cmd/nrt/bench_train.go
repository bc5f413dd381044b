package main

import (
	"errors"
	"fmt"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/trainer/optim"
	"nrt/trainer/run"
)

// train measures a training step of independent sequences.
func (b *bench) train() error {
	k, n := b.lengths.sequences, b.lengths.train
	layers := ""
	if b.o.profile {
		defer b.shallow()()
		layers = fmt.Sprintf(", %d layers", b.config.Layers)
	}
	step, how, free, err := b.step(b.passes(k, n, n), "a training step")
	if err != nil {
		return err
	}
	defer free()
	flops, err := b.peak()
	if err != nil {
		return err
	}
	b.progress("training step of %d × %d tokens%s", k, n, how)
	times, err := b.repeat(b.o.seconds, b.marked(clock(step)))
	if err != nil {
		return err
	}
	tokens := k * n
	s := rates(float64(tokens), times)
	row := b.add("train", fmt.Sprintf("step of %d × %d%s%s", k, n, layers, how), "tokens/s", s)
	// A backward pass costs two forward passes.
	work := 3 * forwardFLOPs(b.config, tokens, tokens, k*n*(n+1)/2)
	row.GFLOPs = work * s.median / float64(tokens) * 1e-9
	row.PeakShare = row.GFLOPs * 1e9 / flops.fastest
	b.memory("train")
	return nil
}

// groupChains is how many chains share a prompt.
const groupChains = 8

// prefix measures a training step of chains and answers after one prompt: the
// prompt read once for all, and once for each.
func (b *bench) prefix() error {
	l := b.lengths
	after := l.chain + l.answer
	var own, shared spread
	var thrifty [2]thrift
	for _, once := range []bool{false, true} {
		passes := b.passes(groupChains, l.prompt+after, after)
		if once {
			batch := newBatch(b.config.Vocab)
			prompt := batch.sequence(l.prompt, device.Span{}, 0)
			for range groupChains {
				batch.sequence(after, prompt, after)
			}
			passes = []*benchBatch{batch}
		}
		step, how, free, err := b.step(passes, "a training step of chains")
		if err != nil {
			return err
		}
		rows := 0
		for _, p := range passes {
			rows += p.Rows()
		}
		b.progress("training step of %d chains, %d rows%s", groupChains, rows, how)
		times, err := b.repeat(b.o.seconds, clock(step))
		free()
		if err != nil {
			return err
		}
		s := rates(groupChains, times)
		if once {
			shared, thrifty[1] = s, how
		} else {
			own, thrifty[0] = s, how
		}
	}
	shape := fmt.Sprintf("%d × (%d + %d)", groupChains, l.chain, l.answer)
	b.add("prefix", fmt.Sprintf("%s, each after its own prompt of %d%s", shape, l.prompt, thrifty[0]), "chains/s", own)
	row := b.add("prefix", fmt.Sprintf("%s after one prompt of %d%s", shape, l.prompt, thrifty[1]), "chains/s", shared)
	row.Ratio, row.Than = shared.median/own.median, "unshared"
	return nil
}

// passes is n sequences of so many rows, of which the last `predict` predict a
// token, in passes as large as a trainer's.
func (b *bench) passes(n, rows, predict int) []*benchBatch {
	var list []*benchBatch
	for i := range n {
		if i == 0 || list[len(list)-1].Rows()+rows > b.lengths.micro {
			list = append(list, newBatch(b.config.Vocab))
		}
		list[len(list)-1].sequence(rows, device.Span{}, predict)
	}
	return list
}

// step is a function that trains on the passes once: forward and backward of
// each, then norm and AdamW at learning rate 0, so that the model stays what it
// is. On a card it does so in the fastest way that there is memory for, and it keeps
// logits where a run would. free gives its memory back.
func (b *bench) step(passes []*benchBatch, what string) (step func() error, how thrift, free func(), err error) {
	rows, targets, most := 0, 0, 0
	for _, p := range passes {
		n := len(p.targets.IDs)
		rows, targets, most = max(rows, p.Rows()), targets+n, max(most, n)
	}
	var m *llama.Model
	for _, how = range thrifts {
		m, err = b.weightsFor(what+how.String(), b.trainBytes(rows, how), true)
		var memory *memoryError
		if !errors.As(err, &memory) || !b.onCard() {
			break
		}
	}
	if err != nil {
		return nil, how, nil, err
	}
	pass, grad := m.NewPass(), m.NewGrad()
	pass.Recompute = how.recompute
	if left := b.room() - b.trainBytes(rows, how); !how.recompute && run.KeepsLogits(b.config.LogitsFloats(most).Bytes(b.dev), left) {
		pass.KeepLogits = most
	}
	var params []optim.Param
	for i, p := range m.Learned() {
		params = append(params, optim.Param{Name: p.Name, Value: p.Value, Grad: grad.Params[i].Value, Decay: p.Decay})
	}
	adam, err := optim.New(b.dev, params, optim.Options{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, MaxGradNorm: 1, FlatGrad: grad.Flat, Moments8: how.moments8})
	if err != nil {
		return nil, how, nil, err
	}
	weights := make([]float64, targets)
	for i := range weights {
		weights[i] = 1 / float64(targets)
	}
	step = func() error {
		grad.Zero()
		for _, p := range passes {
			pass.Forward(p.Batch)
			fwd := pass.Classify(p.targets)
			pass.Backward(grad, llama.Loss{Targets: p.targets, Fwd: fwd, LogProb: weights[:len(p.targets.IDs)]})
		}
		_, err := adam.Step(0, 1)
		return errors.Join(err, b.dev.Sync())
	}
	return step, how, func() { pass.Free(); grad.Free(); adam.Free() }, nil
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
