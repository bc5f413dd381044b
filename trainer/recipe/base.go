// Package recipe is how the embedded models are made: a base model pretrained
// on the small world's text behind a gate, and one policy per method trained
// from it on questions and answers alone. Everything follows from a seed.
//
// Read base.go (pretraining and the gate), then policy.go (the methods and
// their budget).
package recipe

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
	"nrt/trainer/run"
	"nrt/trainer/world"
)

// Base says how a base model is pretrained.
type Base struct {
	Config llama.Config
	Docs   int     // documents in all
	Batch  int     // documents per update
	LR     float64 // peak
	Seed   uint64  // of weights and text; the world's is World
	World  uint64
}

// DefaultBase is the base that the embedded models start from.
func DefaultBase() Base {
	return Base{
		Config: llama.Config{
			ModelType: "llama", Hidden: 96, Intermediate: 256, Layers: 3, Heads: 3, KVHeads: 3, HeadDim: 32,
			MaxPositions: 128, RMSEps: 1e-5, RopeTheta: 1000, TieEmbeddings: true,
		},
		Docs: 300_000, Batch: 64, LR: 3e-3, Seed: 1, World: 1,
	}
}

// Pretrain trains a base on the world's text: next-token prediction, every token
// of a document weighted alike.
func (b Base) Pretrain(ctx context.Context, dev device.Device, w *world.World, report func(update, total int, loss float64, tokens int)) (*llama.Model, error) {
	tok := w.Tokenizer()
	c := b.Config
	c.Vocab, c.BOS, c.EOS = tok.Size(), []int32{tok.BOS()}, []int32{tok.EOS()}
	m, err := llama.New(dev, c, b.Seed)
	if err != nil {
		return nil, err
	}
	obj, err := objective.New(objective.DefaultConfig("lm"))
	if err != nil {
		return nil, err
	}
	updates := b.Docs / b.Batch
	l, err := run.NewLearner(m, obj,
		optim.Options{Beta1: .9, Beta2: .95, Eps: 1e-8, WeightDecay: .01, MaxGradNorm: 1},
		optim.Schedule{Kind: "constant", LR: b.LR, Warmup: 100, Total: updates})
	if err != nil {
		return nil, err
	}
	defer l.Free()
	read := run.NewSupervised(nil)
	var batch []run.Question
	update := 0
	for doc := range w.Pretrain(updates*b.Batch, b.Seed) {
		batch = append(batch, run.Question{Prompt: []int32{tok.BOS()}, Answer: append(tok.Encode(doc), tok.EOS())})
		if len(batch) < b.Batch {
			continue
		}
		rolls, err := read.Rollout(ctx, batch, update)
		if err != nil {
			return nil, err
		}
		metrics, _, err := l.Learn(ctx, rolls)
		if err != nil {
			return nil, err
		}
		update++
		if report != nil {
			report(update, updates, metrics["loss"], int(metrics["num_tokens"]))
		}
		batch = batch[:0]
	}
	return m, nil
}

// ErrGate says that a base is not fit to start from.
var ErrGate = errors.New("the base model does not pass its gate")

// Gate asks a base for the right chains' words, teacher-forced and greedy.
func Gate(ctx context.Context, m *llama.Model, w *world.World, n int, seed uint64) (*world.GateReport, error) {
	tok := w.Tokenizer()
	f, err := tok.Format("world")
	if err != nil {
		return nil, err
	}
	e := engine.New(m, nil, engine.Options{})
	defer e.Close()
	report := &world.GateReport{}
	for _, item := range w.Gate(n, seed) {
		prompt := f.Prompt(item.Question)
		tokens, err := e.LogProbs(ctx, append(prompt, tok.Encode(strings.Join(item.Chain, " "))...), 1)
		if err != nil {
			return nil, fmt.Errorf("gate: %q: %w", item.Question, err)
		}
		predicted := make([]string, len(item.Chain))
		for i := range predicted {
			predicted[i] = tok.Token(tokens[len(prompt)+i].Top[0].ID)
		}
		if err := report.Add(item, predicted); err != nil {
			return nil, err
		}
	}
	return report, nil
}
