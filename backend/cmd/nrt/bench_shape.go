package main

import (
	"nrt/backend/llama"
	"nrt/trainer/run"
)

// benchShapes are the models that nrt bench knows by name.
var benchShapes = []struct {
	name, about string
	config      llama.Config
}{
	{"world", "the embedded models' shape, 0.35 million parameters", shapeOf(200, 96, 256, 3, 3, 3, 32, 128)},
	{"tiny", "3.48 million", shapeOf(1024, 256, 704, 4, 8, 8, 32, 512)},
	{"15m", "15 million", shapeOf(32000, 288, 768, 6, 6, 6, 48, 512)},
	{"135m", "135 million, SmolLM's", shapeOf(49152, 576, 1536, 30, 9, 3, 64, 2048)},
	{"1b", "1.24 billion, Llama 3.2's", shapeOf(128256, 2048, 8192, 16, 32, 8, 64, 2048)},
	{"3b", "3.21 billion, Llama 3.2's", shapeOf(128256, 3072, 8192, 28, 24, 8, 128, 2048)},
	{"8b", "8.03 billion, Llama 3.1's", untied(shapeOf(128256, 4096, 14336, 32, 32, 8, 128, 2048))},
}

func untied(c llama.Config) llama.Config {
	c.TieEmbeddings = false
	return c
}

func shapeOf(vocab, hidden, ffn, layers, heads, kv, dim, positions int) llama.Config {
	return llama.Config{
		ModelType: "llama", Vocab: vocab, Hidden: hidden, Intermediate: ffn, Layers: layers, Heads: heads, KVHeads: kv,
		HeadDim: dim, MaxPositions: positions, RMSEps: 1e-5, RopeTheta: 10000, TieEmbeddings: true,
	}
}

// benchLengths are numbers of tokens; a model with few positions gets fewer.
type benchLengths struct {
	sequences, train      int // of the training step, and tokens of each
	micro                 int // rows of one pass of it
	prefill               int
	context, generate     int   // decode
	at                    []int // how many sequences at once
	prompt, chain, answer int   // score and prefix
	questions, rollout    int   // rollout, and tokens of its chains
}

// lengths are those of docs/performance.md, or for a card those of docs/gpu.md,
// cut to what the model can read. A card has more to do at once.
func lengths(c llama.Config, card bool) benchLengths {
	n := c.MaxPositions
	l := benchLengths{
		sequences: 16, train: 128, micro: run.MicroRows, prefill: 256, context: 16, generate: 112, at: []int{1, 16},
		prompt: 128, chain: 64, answer: 16, questions: 2, rollout: 32,
	}
	if card {
		l = benchLengths{
			sequences: 8, train: 1024, micro: 8 * 1024, prefill: 1024, context: 128, generate: 128, at: []int{1, 16, 64, 256},
			prompt: 256, chain: 512, answer: 64, questions: 32, rollout: 512,
		}
	}
	l.train = min(l.train, n)
	l.prefill = min(l.prefill, n-1)
	l.context = min(l.context, n/2)
	l.generate = min(l.generate, n-l.context)
	for l.prompt+l.chain+l.answer > n && l.prompt > 1 {
		l.prompt, l.chain, l.answer = l.prompt/2, max(1, l.chain/2), max(1, l.answer/2)
	}
	l.rollout = max(1, min(l.rollout, n-l.context-l.answer))
	return l
}

// layerFloats are the weights in the matrices of all layers.
func layerFloats(c llama.Config) float64 {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	return float64(c.Layers) * float64(c.Hidden) * float64(2*q+2*kv+3*c.Intermediate)
}

// headFloats are the weights of the output projection.
func headFloats(c llama.Config) float64 { return float64(c.Vocab) * float64(c.Hidden) }

// forwardFLOPs counts a forward pass over rows tokens of which some are
// classified and which see pairs keys in all: two operations for each weight,
// and four for each number of a query and key that meet.
func forwardFLOPs(c llama.Config, rows, classified, pairs int) float64 {
	return 2*layerFloats(c)*float64(rows) + 2*headFloats(c)*float64(classified) +
		4*float64(c.Layers*c.Heads*c.HeadDim)*float64(pairs)
}
