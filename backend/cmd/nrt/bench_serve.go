package main

import (
	"errors"
	"fmt"
	"time"

	"nrt/backend/cpu/peak"
	"nrt/backend/device"
	"nrt/backend/engine"
)

// engineFor makes an engine, if a step of rows tokens, a cache of so many tokens
// and the logits of n of them fit beside the model.
func (b *bench) engineFor(what string, rows, cache, n int) (*engine.Engine, error) {
	m, err := b.weightsFor(what, b.serveBytes(rows, cache, n), false)
	if err != nil {
		return nil, err
	}
	return engine.New(m, nil, b.engineOptions()), nil
}

func (b *bench) engineOptions() engine.Options {
	return b.dev.engineOptions(b.unused - b.servingBytes())
}

// prefill measures how long the first token after a prompt takes.
func (b *bench) prefill() error {
	n := b.lengths.prefill
	eng, err := b.engineFor("prefill", n, n+1, 1)
	if err != nil {
		return err
	}
	defer eng.Close()
	flops, err := b.peak()
	if err != nil {
		return err
	}
	b.progress("prefill of %d tokens", n)
	ask := []engine.Request{{Prompt: arbitraries(0, n, b.config.Vocab), N: 1, MaxChain: 1, Sampling: engine.Sampling{Temperature: 1}}}
	times, err := b.repeat(b.o.seconds, b.marked(clock(func() error {
		_, err := eng.Generate(b.e.ctx, ask, nil)
		return err
	})))
	if err != nil {
		return err
	}
	s := rates(float64(n), times)
	row := b.add("prefill", fmt.Sprintf("prompt of %d", n), "tokens/s", s)
	row.GFLOPs = forwardFLOPs(b.config, n, 1, n*(n+1)/2) * s.median / float64(n) * 1e-9
	row.PeakShare = row.GFLOPs * 1e9 / flops.fastest
	return nil
}

// decode measures sampling at temperature 1 from a token's cache row to the next
// token, the prompt not counted: one sequence, and sixteen in one batch.
func (b *bench) decode() error {
	l := b.lengths
	for _, k := range l.at {
		generate := l.generate
		if !b.onCard() && layerFloats(b.config)+headFloats(b.config) > 5e8 {
			generate = min(generate, 24) // a token takes a good part of a second
		}
		if b.o.profile {
			generate = min(generate, profiledTokens)
		}
		eng, err := b.engineFor("decode", l.context, l.context+k*generate, k)
		if err != nil {
			return err
		}
		b.progress("decode, %d at once, %d tokens each", k, generate)
		ask := []engine.Request{{Prompt: arbitraries(0, l.context, b.config.Vocab), N: k, MaxChain: generate, Sampling: engine.Sampling{Temperature: 1}}}
		runs := 0
		times, err := b.repeat(b.o.seconds, func() (float64, error) {
			var first, last time.Duration
			var marks error
			runs++
			_, err := eng.Generate(b.e.ctx, ask, func(v engine.Event) {
				if v.Part != engine.PartChain {
					return
				}
				last = peak.Now()
				if v.Index == 0 {
					first = last
				}
				if b.o.profile && runs == profiledRuns && v.Chain == 0 && (v.Index == profiledFrom || v.Index == profiledFrom+2) {
					marks = errors.Join(marks, b.mark(v.Index == profiledFrom))
				}
			})
			return (last - first).Seconds(), errors.Join(err, marks)
		})
		eng.Close()
		if err != nil {
			return err
		}
		steps := float64(generate - 1)
		s := rates(float64(k)*steps, times)
		name := "1 sequence"
		if k > 1 {
			name = fmt.Sprintf("%d sequences", k)
		}
		row := b.add("decode", name, "tokens/s", s)
		if err := b.bandwidth(row, s.median/float64(k), b.servedBytes()); err != nil {
			return err
		}
	}
	return nil
}

// rollout measures what a training step samples: groupChains chains for each of
// some questions, at temperature 1 and to their full length, and the reference
// scored after each. On a card one run is enough, and there is time for no more.
func (b *bench) rollout() error {
	l, vocab := b.lengths, b.config.Vocab
	branch := l.rollout + l.answer
	n, all := l.questions*groupChains, l.questions*(l.context+groupChains*branch)
	rows := engine.CacheRows(b.config, b.engineOptions(), all, l.context+groupChains*branch)
	eng, err := b.engineFor("rollout", min(rows, engine.DefaultBatchRows), rows, n)
	if err != nil {
		return err
	}
	defer eng.Close()
	ask := func(chain int) func() error {
		var list []engine.Request
		for i := range l.questions {
			list = append(list, engine.Request{
				Prompt: arbitraries(1000*i, l.context, vocab), N: groupChains, MaxChain: chain, Seed: uint64(i),
				Sampling: engine.Sampling{Temperature: 1}, Reference: arbitraries(7, l.answer, vocab),
			})
		}
		return func() error {
			_, err := eng.Generate(b.e.ctx, list, nil)
			return err
		}
	}
	b.progress("rollout of %d questions × %d chains × %d tokens", l.questions, groupChains, l.rollout)
	var times []float64
	if b.onCard() {
		if err := ask(min(l.rollout, 16))(); err != nil { // to warm up
			return err
		}
		once, err := clock(ask(l.rollout))()
		if err != nil {
			return err
		}
		times = []float64{once}
	} else if times, err = b.repeat(b.o.seconds, clock(ask(l.rollout))); err != nil {
		return err
	}
	b.add("rollout", fmt.Sprintf("%d questions × %d chains × %d", l.questions, groupChains, l.rollout), "tokens/s", rates(float64(n*l.rollout), times))
	b.memory("rollout")
	return nil
}

// score measures the log-probabilities of a reference after each of the chains of
// one question: read on from the caches that sampling left; with the chains given
// and only the prompt shared, where the chains' own tokens get log-probabilities
// too; and by a full forward for each chain.
func (b *bench) score() error {
	l, vocab := b.lengths, b.config.Vocab
	prompt, reference := arbitraries(0, l.prompt, vocab), arbitraries(7, l.answer, vocab)
	rows := groupChains * (l.prompt + l.chain + l.answer)
	eng, err := b.engineFor("scoring", rows, 2*rows, groupChains)
	if err != nil {
		return err
	}
	defer eng.Close()

	b.progress("scoring by full forwards")
	batch := newBatch(vocab)
	for range groupChains {
		batch.sequence(l.prompt+l.chain+l.answer, device.Span{}, 0)
		end := batch.Rows() - 1
		for i := range l.answer {
			batch.targets.Rows = append(batch.targets.Rows, int32(end-l.answer+i))
			batch.targets.IDs = append(batch.targets.IDs, reference[i])
		}
	}
	cache, err := b.model.NewCache(rows)
	if err != nil {
		return err
	}
	full, err := b.repeat(b.o.seconds, clock(func() error {
		cache.Extend(batch.Batch)
		cache.Classify(batch.targets)
		return b.dev.Sync()
	}))
	cache.Free()
	if err != nil {
		return err
	}

	b.progress("scoring given chains")
	given := engine.Request{Prompt: prompt, Reference: reference}
	for i := range groupChains {
		given.Forced = append(given.Forced, arbitraries(100*i, l.chain, vocab))
	}
	shared, err := b.repeat(b.o.seconds, clock(func() error {
		_, err := eng.Generate(b.e.ctx, []engine.Request{given}, nil)
		return err
	}))
	if err != nil {
		return err
	}

	b.progress("scoring sampled chains")
	sampled := engine.Request{Prompt: prompt, N: groupChains, MaxChain: l.chain, Sampling: engine.Sampling{Temperature: 1}, Reference: reference}
	after, err := b.repeat(b.o.seconds, func() (float64, error) {
		var last time.Duration
		_, err := eng.Generate(b.e.ctx, []engine.Request{sampled}, func(v engine.Event) {
			if v.Part == engine.PartChain {
				last = peak.Now()
			}
		})
		return (peak.Now() - last).Seconds(), err
	})
	if err != nil {
		return err
	}

	base := rates(groupChains, full)
	b.add("score", fmt.Sprintf("%d chains, full forwards of %d + %d + %d", groupChains, l.prompt, l.chain, l.answer), "chains/s", base)
	for _, way := range []struct {
		name  string
		times []float64
	}{{"given chains, scored too, the prompt read once", shared}, {"sampled chains, from their caches", after}} {
		s := rates(groupChains, way.times)
		row := b.add("score", fmt.Sprintf("%d %s", groupChains, way.name), "chains/s", s)
		row.Ratio, row.Than = s.median/base.median, "full forwards"
	}
	return nil
}
