package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"nrt/backend/cpu"
	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/backend/token"
	"nrt/trainer/data"
)

// newModel is what new was asked.
type newModel struct {
	data                           []string
	out, tokenizer, pattern, dtype string
	vocab, hidden, layers          int
	heads, kvHeads, ffn, context   int
	theta                          float64
	tie, json                      bool
	seed                           uint64
}

func newCommand() *command {
	n := newModel{
		vocab: 1024, hidden: 128, layers: 4, heads: 4, context: 1024, theta: 10000, tie: true,
		pattern: "llama3", dtype: "float32",
	}
	return &command{
		name: "new", group: groupTrain, short: "make an untrained model, with a tokenizer trained on your text",
		args: "(--data F.jsonl | --tokenizer DIR) --out DIR [shape]",
		long: `
Trains a byte-level BPE tokenizer on the text of all questions and answers (or
takes a ready one), draws random weights, and writes a Hugging Face folder that
nrt train --model, transformers and every other command here can read. The same
data, shape and seed give the same folder, byte for byte.

Data files hold one JSON object a line: question and answer, prompt and
completion, messages, or text.`,
		examples: []string{
			"nrt new --data train.jsonl --out models/tiny",
			"nrt new --data train.jsonl --vocab 1024 --hidden 128 --layers 4 --heads 4 --ffn 352 --out models/tiny",
			"nrt new --tokenizer ./llama --hidden 256 --layers 8 --heads 8 --kv-heads 2 --out models/small",
		},
		bind: func(f *flags) func(*env) error {
			f.texts(&n.data, "data", "F", "text to train the tokenizer on; may be given several times")
			f.text(&n.tokenizer, "tokenizer", "DIR", "take this folder's tokenizer instead")
			f.text(&n.out, "out", "DIR", "folder to write; must not hold anything yet")
			f.integer(&n.vocab, "vocab", "N", "tokens in the vocabulary, at most")
			f.text(&n.pattern, "pattern", "NAME", "how text is cut into words: gpt2, llama3, qwen2 or digits")
			f.integer(&n.hidden, "hidden", "N", "width of the residual stream")
			f.integer(&n.layers, "layers", "N", "number of layers")
			f.integer(&n.heads, "heads", "N", "attention heads")
			f.integer(&n.kvHeads, "kv-heads", "N", "heads for keys and values; 0 is as many as --heads")
			f.integer(&n.ffn, "ffn", "N", "width inside the feed-forward network; 0 is 8/3 of --hidden")
			f.integer(&n.context, "context", "N", "longest sequence in tokens")
			f.number(&n.theta, "rope-theta", "X", "base of the rotary embedding")
			f.toggle(&n.tie, "tie", "one table embeds and predicts")
			f.text(&n.dtype, "dtype", "T", "type of the stored weights: float32, bfloat16 or float16")
			f.seed(&n.seed, "seed", "S", "draws the weights")
			f.json(&n.json)
			return func(e *env) error {
				if (len(n.data) > 0) == (n.tokenizer != "") {
					return usagef("want either --data or --tokenizer")
				}
				if n.out == "" {
					return usagef("want --out")
				}
				return n.run(e)
			}
		},
	}
}

func (n *newModel) run(e *env) (err error) {
	dtype, err := safetensors.ParseDType(n.dtype)
	if err != nil {
		return usagef("--dtype: %w", err)
	}
	if err := vacant(n.out); err != nil {
		return err
	}
	// A shape that cannot be is refused before the tokenizer is trained.
	if err := n.config(n.vocab, nil, nil).Validate(); err != nil {
		return usagef("%w", err)
	}
	tok, err := n.makeTokenizer(e)
	if err != nil {
		return err
	}
	dev, err := cpu.New(cpu.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	m, err := llama.New(dev, n.config(tok.Size(), known(tok.BOS()), known(tok.EOS())), n.seed)
	if err != nil {
		return err
	}
	defer m.Free()
	if err := m.Save(n.out, dtype); err != nil {
		return err
	}
	if err := tok.Save(n.out); err != nil {
		return err
	}
	if n.json {
		d, err := describe(n.out, os.DirFS(n.out))
		if err != nil {
			return err
		}
		return e.printJSON(d, true)
	}
	fmt.Fprintf(e.out, "%s: untrained model of %s parameters, %d tokens\n", n.out, count(m.NumParams()), tok.Size())
	fmt.Fprintf(e.out, "train it with: nrt train --model %s --data F.jsonl --output runs/first\n", n.out)
	return nil
}

// config is the model's shape.
func (n *newModel) config(vocab int, bos, eos []int32) llama.Config {
	c := llama.Config{
		ModelType: "llama", Vocab: vocab, Hidden: n.hidden, Intermediate: n.ffn, Layers: n.layers,
		Heads: n.heads, KVHeads: n.kvHeads, MaxPositions: n.context,
		RMSEps: 1e-5, RopeTheta: n.theta, TieEmbeddings: n.tie, BOS: bos, EOS: eos,
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.Intermediate == 0 {
		c.Intermediate = (c.Hidden*8/3 + 15) / 16 * 16
	}
	if c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	return c
}

// makeTokenizer loads the tokenizer or trains one.
func (n *newModel) makeTokenizer(e *env) (*token.Tokenizer, error) {
	if n.tokenizer != "" {
		return e.tokenizer(n.tokenizer)
	}
	examples, _, err := data.Read(n.data, data.Options{Stdin: e.in})
	if err != nil {
		return nil, err
	}
	if !n.json {
		fmt.Fprintf(e.err, "training the tokenizer on %d examples\n", len(examples))
	}
	return token.TrainBPE(func(yield func(string) bool) {
		for _, x := range examples {
			for _, s := range []string{x.Question, x.Answer, x.Text} {
				if s != "" && !yield(s) {
					return
				}
			}
		}
	}, token.TrainOptions{Vocab: n.vocab, Pattern: n.pattern, Special: []string{"<bos>", "<eos>", token.OpenText, token.CloseText}})
}

// vacant refuses a folder that holds something.
func vacant(dir string) error {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--out: %w", err)
	case len(list) > 0:
		return fmt.Errorf("--out: %s is not empty: name a new folder", dir)
	}
	return nil
}

// known is an id as a list; -1, for none, is the empty list.
func known(id int32) []int32 {
	if id < 0 {
		return nil
	}
	return []int32{id}
}
