package run

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/trainer/eval"
	"nrt/trainer/objective"
)

// extent is what the memory of a run depends on beside its configuration.
// Lengths are 0 while the questions are not known.
type extent struct {
	model          llama.Config
	reference      bool  // the policy before training is kept too
	prompt, answer int   // tokens of the longest
	close          int   // tokens of the boundary
	exam           int   // evaluation questions
	cache          int64 // engine.Options.CacheBytes
	logits         bool  // kept for the backward pass
}

// memoryPart is one use of memory.
type memoryPart struct {
	name  string
	bytes int64
	note  string
}

// memoryPlan is what a run will hold at once.
type memoryPlan []memoryPart

func (p memoryPlan) total() (n int64) {
	for _, m := range p {
		n += m.bytes
	}
	return n
}

// widths are the bytes of a number by the kind of its buffer (device.Kind).
type widths struct{ compute, master, wide int64 }

// widths are those of the device that the configuration names. The CPU's buffers are
// float32 whatever it computes in.
func (t TrainConfig) widths() widths {
	if t.DType == "bf16" && t.onCard() {
		return widths{compute: 2, master: 2 + 4, wide: 4}
	}
	return widths{4, 4, 4}
}

// onCard tells whether a CUDA device computes.
func (t TrainConfig) onCard() bool { return t.kind() == "cuda" }

func (w widths) of(f llama.Floats) int64 {
	return w.compute*int64(f.Compute) + w.wide*int64(f.Wide)
}

// branch is how many tokens a question has at most after its prompt, k of it times.
func (x extent) branch(c Config) (k, tokens int) {
	switch c.Objective.Method {
	case objective.SFT:
		return 1, x.close + x.answer
	case objective.LM:
		return 1, x.answer
	}
	return c.Rollout.K, c.Rollout.MaxChain + x.close + x.answer
}

// rows is how many tokens a pass has at most: micro_tokens, or a prompt and one
// chain.
func (x extent) rows(c Config) int {
	k, branch := x.branch(c)
	mini := c.Optim.MiniBatch
	if mini == 0 || mini > c.Rollout.Questions {
		mini = c.Rollout.Questions
	}
	return max(x.prompt+branch, min(c.Optim.MicroTokens, mini*(x.prompt+k*branch)))
}

// request is the cache's rows of a question with k chains of so many tokens, each
// followed by an answer of so many, and the empty chain.
func (x extent) request(k, chain, answer int) int {
	return x.prompt + k*(chain+x.close+answer) + x.close + x.answer
}

// asked is the engine's cache, in tokens, how many of them a step reads, and the chains
// that grow at once: those of a rollout or those of an evaluation, which draws none for
// sft and lm.
func (x extent) asked(c Config) (cached, read, drawn int) {
	// A step reads most where all chains of a question end together, each with the token
	// that was drawn last.
	add := func(questions, request, most, grow int) {
		o := engine.Options{CacheBytes: x.cache}
		cached = max(cached, engine.CacheRows(x.model, o, questions*request, request))
		read, drawn = max(read, questions*most), max(drawn, questions*grow)
	}
	r, m := c.Rollout, c.Objective.Method
	if m.Rollouts() {
		answer := x.answer
		if m.Verifies() {
			answer = sampledRoom(answer)
		}
		add(r.Questions, x.request(r.K, r.MaxChain, answer), x.request(r.K, 1, x.answer), r.K)
	}
	exam := min(x.exam, eval.Batch)
	answer, grow := x.answer, 0
	if c.Eval.Answers && m != objective.LM {
		answer, grow = sampledRoom(answer), 1
	}
	switch {
	case exam == 0:
	case m == objective.LM:
		add(exam, x.prompt+answer, x.prompt+answer, 0)
	case m == objective.SFT: // the one chain is the empty one
		add(exam, x.prompt+x.close+answer, x.prompt+x.close+answer, grow)
	default:
		add(exam, x.request(c.Eval.K, r.MaxChain, answer), x.request(c.Eval.K, 1, x.answer), c.Eval.K)
	}
	return cached, min(cached, read, engine.DefaultBatchRows), drawn
}

// planMemory adds up what a run takes at most.
func planMemory(c Config, x extent) memoryPlan {
	w := c.Train.widths()
	params, learned, moments := int64(0), int64(0), int64(0)
	all := x.model.Tensors()
	for _, t := range all {
		params += int64(t.Len())
	}
	if c.LoRA.On() {
		all = c.LoRA.factors().Tensors(x.model)
	}
	for _, t := range all { // that learn
		n := int64(t.Len())
		learned += n
		if c.Optim.Moments == 8 {
			moments += 2 * (n + w.wide*((n+device.Block8-1)/device.Block8))
		} else {
			moments += 2 * w.wide * n
		}
	}
	rows := x.rows(c)
	cached, read, drawn := x.asked(c)
	kept := ""
	if w.master > w.compute {
		kept = "in bfloat16, with a copy in float32"
	}
	plan := memoryPlan{{"weights", w.master * params, kept}}
	if c.LoRA.On() {
		f := c.LoRA.factors()
		plan = memoryPlan{{"weights", w.compute * params, "frozen"},
			{"adapters", w.master*learned + w.of(f.Floats(max(rows, read))), fmt.Sprintf("%d parameters of rank %d, which learn", learned, f.Rank)}}
	} else if x.reference {
		plan = append(plan, memoryPart{"reference", w.compute * params, "the policy before training"})
	}
	plan = append(plan,
		memoryPart{"gradients", w.wide * learned, ""}, memoryPart{"optimizer", moments, "AdamW's moments"},
		memoryPart{"activations", w.of(x.model.PassFloats(rows, rows, c.Optim.Recompute)), fmt.Sprintf("%d tokens in a pass", rows)})
	if x.logits {
		plan = append(plan, memoryPart{"logits", w.of(x.model.LogitsFloats(rows)), "kept for the backward pass"})
	}
	if cached > 0 {
		plan = append(plan, memoryPart{"cache", w.of(x.model.CacheFloats(cached, read, min(drawn, read))), fmt.Sprintf("keys and values of %d tokens", cached)})
	}
	if x.reference { // it reads each question, with kl the chains too, in an engine of its own
		k := 0
		if c.Objective.KL != 0 {
			k = c.Rollout.K
		}
		request := x.request(k, c.Rollout.MaxChain, x.answer)
		rows := engine.CacheRows(x.model, engine.Options{}, c.Rollout.Questions*request, request)
		plan = append(plan, memoryPart{"reference's cache", w.of(x.model.CacheFloats(rows, min(rows, engine.DefaultBatchRows), 0)), fmt.Sprintf("of %d tokens", rows)})
	}
	if c.Train.onCard() {
		return append(plan, memoryPart{"workspace", CardWorkspace, "of products, logits and attention"})
	}
	// The CPU keeps the weights once more, as its matrix products read them, and in
	// bfloat16 two operands of a product.
	packed, operands := params, int64(0)
	if c.LoRA.On() {
		packed += learned
	}
	if c.Train.DType == "bf16" {
		m := x.model
		operands = 5 * int64(max(rows*max(m.Intermediate, m.Hidden, m.Heads*m.HeadDim), m.Vocab*m.Hidden))
	}
	return append(plan, memoryPart{"workspace", min(w.compute*packed, 1<<30) + operands + 32<<20, "of the matrix products"})
}

// CardWorkspace is how many bytes are set aside on a card for what its operations
// work in, and the libraries. Measured: 0.6 GB.
const CardWorkspace = 1 << 30

// KeepsLogits says whether to keep a training pass's logits, of so many bytes, where
// the rest of a run leaves so many free: they save a run time and are not what it
// needs memory for, so a quarter may go to them.
func KeepsLogits(bytes, left int64) bool { return bytes <= left/4 }

// keepsLogits tells whether a run keeps logits: not where it is not known how much
// is free, nor where memory is so short that layers are computed again.
func keepsLogits(free int64, c Config, x extent) bool {
	x.logits = false
	left := free - planMemory(c, x).total()
	return !c.Optim.Recompute && KeepsLogits(c.Train.widths().of(x.model.LogitsFloats(x.rows(c))), left)
}

// cacheFor is engine.Options.CacheBytes: on a card, whose speed is in the width
// of a batch, most of what the rest leaves free; 0, the engine's own choice, on
// the CPU. What is sampled does not depend on it.
func cacheFor(free int64, c Config, x extent) int64 {
	const least = 1 << 30 // the engine's choice
	x.cache = least
	rest := free - planMemory(c, x).total()
	if !c.Train.onCard() || rest <= 0 {
		return 0
	}
	// The engine counts four bytes a number.
	return least + rest/10*9/c.Train.widths().compute*4
}

// ErrMemory is that a run would need more memory than is free.
var ErrMemory = errors.New("memory")

// check is nil if the plan fits into so many free bytes (0: not known);
// otherwise it says by how much it does not, and what would.
func (p memoryPlan) check(free int64, c Config, x extent) error {
	if free == 0 || p.total() <= free {
		return nil
	}
	var parts []string
	for _, m := range p {
		parts = append(parts, m.name+" "+size(m.bytes))
	}
	err := fmt.Errorf("%w: the run would hold %s, and %s are free: %s", ErrMemory, size(p.total()), size(free), strings.Join(parts, ", "))
	fits := remedies(free, c, x)
	if with := c; !c.LoRA.On() && !c.Model.New() {
		with.LoRA.Rank = 16
		if t := planMemory(with, x).total(); t <= free {
			fits = append(fits, fmt.Sprintf("--lora-rank %d (%s)", with.LoRA.Rank, size(t)))
		} else if len(fits) == 0 {
			for _, more := range remedies(free, with, x) {
				fits = append(fits, fmt.Sprintf("--lora-rank %d %s", with.LoRA.Rank, more))
			}
		}
	}
	if len(fits) > 0 {
		return fmt.Errorf("%w; what would fit: %s", err, strings.Join(fits, ", or "))
	}
	return fmt.Errorf("%w; no smaller batch makes it fit: take a smaller model or a larger machine", err)
}

// remedies are changes of the configuration that make it fit, the mildest first:
// one flag if one is enough; else recomputation, moments in 8 bits or both, and if
// need be one more.
func remedies(free int64, c Config, x extent) (list []string) {
	tried := map[OptimConfig]bool{}
	for _, more := range []struct {
		recompute bool
		moments   int
	}{{c.Optim.Recompute, c.Optim.Moments}, {true, c.Optim.Moments}, {c.Optim.Recompute, 8}, {true, 8}} {
		base, prefix := c, ""
		base.Optim.Recompute, base.Optim.Moments = more.recompute, more.moments
		if tried[base.Optim] {
			continue
		}
		tried[base.Optim] = true
		if more.recompute != c.Optim.Recompute {
			prefix = "--recompute "
		}
		if more.moments != c.Optim.Moments {
			prefix += "--moments 8 "
		}
		if t := planMemory(base, x).total(); prefix != "" && t <= free {
			return append([]string{fmt.Sprintf("%s(%s)", prefix, size(t))}, list...)
		}
		if len(list) > 0 {
			return list
		}
		for _, f := range []struct {
			flag  string
			field func(*Config) *int
			least int
		}{
			{"micro-tokens", func(c *Config) *int { return &c.Optim.MicroTokens }, 256},
			{"mini-batch", func(c *Config) *int { return &c.Optim.MiniBatch }, 1},
			{"max-chain", func(c *Config) *int { return &c.Rollout.MaxChain }, 16},
			{"k", func(c *Config) *int { return &c.Rollout.K }, 2},
		} {
			for change := base; *f.field(&change)/2 >= f.least; {
				*f.field(&change) /= 2
				if t := planMemory(change, x).total(); t <= free {
					list = append(list, fmt.Sprintf("%s--%s %d (%s)", prefix, f.flag, *f.field(&change), size(t)))
					break
				}
			}
		}
	}
	return list
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// checkModel refuses a model that would not fit, before it is loaded.
func (t *trainer) checkModel(m llama.Config) error {
	x := extent{model: m, reference: t.needsRef()}
	return planMemory(t.c, x).check(t.free, t.c, x)
}

// extent is what the run has to do, as far as memory goes.
func (t *trainer) extent() extent {
	x := extent{model: t.model.Config, reference: t.needsRef(), close: len(t.format.Close), exam: len(t.exam)}
	for _, list := range [][]Question{t.questions, t.exam} {
		for _, q := range list {
			x.prompt, x.answer = max(x.prompt, len(q.Prompt)), max(x.answer, len(q.Answer))
		}
	}
	return x
}

// planRun prints what the run will hold, and refuses one that would not fit.
func (t *trainer) planRun(context.Context) error {
	x := t.extent()
	if x.logits = keepsLogits(t.free, t.c, x); x.logits {
		t.kept = x.rows(t.c)
	}
	x.cache = cacheFor(t.free, t.c, x)
	t.cache = x.cache
	plan := planMemory(t.c, x)
	for _, m := range plan {
		t.note("memory  %-12s %11s  %s", m.name, size(m.bytes), m.note)
	}
	of := "how much is free is not known"
	if t.free > 0 {
		of = "of " + size(t.free) + " free"
	}
	t.note("memory  %-12s %11s  %s", "in all", size(plan.total()), of)
	return plan.check(t.free, t.c, x)
}
