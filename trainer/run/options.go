package run

import (
	"encoding"
	"fmt"
	"math"
	"slices"
	"strings"

	"nrt/backend/device"
	"nrt/backend/llama"
	"nrt/trainer/data"
	"nrt/trainer/objective"
	"nrt/trainer/optim"
)

// option is one line of the table: a field with its names, its meaning and what
// it may be.
type option struct {
	section string
	key     string // in YAML
	flag    string // on the command line
	also    string // another name of the flag, "" for none
	value   any    // pointer to the field
	rule    rule   // what a number may be
	choices []string
	free    bool // may change when a run is resumed
	meaning string
}

// path is the option's name in YAML.
func (o option) path() string { return o.section + "." + o.key }

// where names the option in errors.
func (o option) where() string { return fmt.Sprintf("%s (--%s)", o.path(), o.flag) }

// rule says which numbers are allowed, in words and in code.
type rule struct {
	want string
	ok   func(float64) bool
}

// MaxThreads is the most threads that a device is asked for: with many more than
// there are processors, handing out the work takes longer than the work.
const MaxThreads = 1024

// The rules of the table.
var (
	positive    = rule{"> 0", func(x float64) bool { return x > 0 }}
	notNegative = rule{">= 0", func(x float64) bool { return x >= 0 }}
	share       = rule{"0 to 1", func(x float64) bool { return x >= 0 && x <= 1 }}
	shareAbove0 = rule{"above 0 and at most 1", func(x float64) bool { return x > 0 && x <= 1 }}
	// Below it a draw is greedy and has log-probabilities at temperature 1 (device.Sampled):
	// not those that the chain is trained at.
	warm     = rule{fmt.Sprintf("at least %g", device.Coldest), func(x float64) bool { return x >= device.Coldest }}
	bits     = rule{"32 or 8", func(x float64) bool { return x == 32 || x == 8 }}
	belowOne = rule{"0 up to but not 1", func(x float64) bool { return x >= 0 && x < 1 }}
	// More chains or questions than these are a slip of the hand.
	chains  = rule{"1 to 1024", func(x float64) bool { return x >= 1 && x <= 1024 }}
	ranks   = rule{"0 to 4096", func(x float64) bool { return x >= 0 && x <= 4096 }}
	atOnce  = rule{"1 to 1000000", func(x float64) bool { return x >= 1 && x <= 1e6 }}
	threads = rule{fmt.Sprintf("0 to %d", MaxThreads), func(x float64) bool { return x >= 0 && x <= MaxThreads }}
)

// check says what is wrong with the option's value.
func (o option) check() error {
	switch v := o.value.(type) {
	case *string:
		return o.checkChoice(*v)
	case *objective.Method:
		return o.checkChoice(string(*v))
	case *[]string:
		for i, s := range *v {
			if s == "" {
				return fmt.Errorf("%s: entry %d is empty", o.where(), i+1)
			}
			if err := o.checkChoice(s); err != nil {
				return err
			}
		}
	case *int:
		return o.checkNumber(float64(*v), o.text())
	case *float64:
		return o.checkNumber(*v, o.text())
	case *bool, *uint64:
	case encoding.TextMarshaler:
		if _, err := v.MarshalText(); err != nil {
			return fmt.Errorf("%s: %w", o.where(), err)
		}
	default:
		panic(fmt.Sprintf("run: option %s has type %T", o.path(), o.value))
	}
	return nil
}

func (o option) checkChoice(v string) error {
	if o.choices == nil || slices.Contains(o.choices, v) {
		return nil
	}
	return fmt.Errorf("%s: want one of %s, have %q", o.where(), strings.Join(o.choices, ", "), v)
}

func (o option) checkNumber(v float64, text string) error {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Errorf("%s: want a finite number, have %s", o.where(), text)
	}
	if o.rule.ok != nil && !o.rule.ok(v) {
		return fmt.Errorf("%s: want %s, have %s", o.where(), o.rule.want, text)
	}
	return nil
}

// options is the table of all that can be chosen, with pointers into c. YAML,
// flags, help, checks and what a resume compares are made from it.
func (c *Config) options() []option {
	var all []option
	add := func(section string, list []option) {
		for _, o := range list {
			o.section = section
			all = append(all, o)
		}
	}
	add("model", c.Model.options())
	add("lora", c.LoRA.options())
	add("data", c.Data.options())
	add("rollout", c.Rollout.options())
	add("objective", objectiveOptions(&c.Objective))
	add("optim", c.Optim.options())
	add("train", c.Train.options())
	add("eval", c.Eval.options())
	add("output", c.Output.options())
	return all
}

func (m *ModelConfig) options() []option {
	return []option{
		{key: "path", flag: "model", value: &m.Path,
			meaning: "folder of a Hugging Face model, or the name of an embedded one such as world:base; empty makes a new model of the shape below"},
		{key: "tokenizer", flag: "tokenizer", value: &m.Tokenizer,
			meaning: "folder of the tokenizer; empty takes the model's, or, for a new model, trains one on the training data"},
		{key: "template", flag: "template", value: &m.Template,
			meaning: "layout of question, chain and answer: llama3, chatml, deepseek, zephyr, llama2, mistral, mistral-v7, tulu, tulu-thinker, plain, world; empty takes the tokenizer's. The trained model keeps it"},
		{key: "hidden", flag: "hidden", value: &m.Hidden, rule: positive, meaning: "new model: width of the residual stream"},
		{key: "layers", flag: "layers", value: &m.Layers, rule: positive, meaning: "new model: layers"},
		{key: "heads", flag: "heads", value: &m.Heads, rule: positive, meaning: "new model: query heads"},
		{key: "kv_heads", flag: "kv-heads", value: &m.KVHeads, rule: notNegative, meaning: "new model: key-value heads; 0 is as many as heads"},
		{key: "intermediate", flag: "intermediate", value: &m.Intermediate, rule: notNegative,
			meaning: "new model: width of the feed-forward layer; 0 is 8/3 of hidden, rounded up to a multiple of 16"},
		{key: "positions", flag: "positions", value: &m.Positions, rule: positive, meaning: "new model: longest sequence in tokens"},
		{key: "vocab", flag: "vocab", value: &m.Vocab, rule: positive, meaning: "new tokenizer: tokens"},
		{key: "tie_embeddings", flag: "tie-embeddings", value: &m.Tie, meaning: "new model: one table for input and output embeddings"},
		{key: "save_dtype", flag: "save-dtype", value: &m.SaveDType, choices: []string{"float32", "bfloat16", "float16"}, free: true,
			meaning: "type of the weights in the final model: float32, bfloat16 or float16; checkpoints always keep every bit"},
	}
}

func (l *LoRAConfig) options() []option {
	return []option{
		{key: "rank", flag: "lora-rank", value: &l.Rank, rule: ranks, also: "lora-r",
			meaning: "train LoRA factors of this rank beside the model's matrices, which stay as they are: 2 bytes a parameter on a card instead of 18; 0 trains all parameters. It wants about ten times the learning rate"},
		{key: "alpha", flag: "lora-alpha", value: &l.Alpha, rule: notNegative, meaning: "what the factors add is multiplied by alpha/rank; 0 is twice the rank"},
		{key: "modules", flag: "lora-modules", value: &l.Modules, choices: llama.LoRAModules(), also: "lora-target-modules",
			meaning: "matrices that get factors, by PEFT's names; none is all seven of a layer; as a flag, give it once a matrix"},
	}
}

func (d *DataConfig) options() []option {
	return []option{
		{key: "train", flag: "data", value: &d.Train, also: "train-data", free: true, // a resume compares the examples themselves
			meaning: "JSONL or Parquet files to train on; - is standard input; as a flag, give it once a file"},
		{key: "eval", flag: "eval-data", value: &d.Eval, free: true, meaning: "JSONL or Parquet files to evaluate on"},
		{key: "form", flag: "form", value: &d.Form, choices: data.Forms(),
			meaning: "fields of a line: question (and answer), prompt (and completion), prompt-answer, messages, text; auto takes what the first line has"},
		{key: "question_field", flag: "question-field", value: &d.QuestionField, meaning: "form question: field of the question, a string or a list of messages; empty is question. a.b is field b of an object a"},
		{key: "answer_field", flag: "answer-field", value: &d.AnswerField, meaning: "form question: field of the reference answer, such as reward_model.ground_truth; empty is answer"},
		{key: "bad_lines", flag: "bad-lines", value: &d.BadLines, choices: []string{"stop", "skip"},
			meaning: "at a line that cannot be used: stop, or skip it and report how many"},
		{key: "limit", flag: "limit", value: &d.Limit, rule: notNegative, meaning: "use only so many training examples; 0 is all"},
		{key: "held_out", flag: "held-out", value: &d.HeldOut, rule: belowOne,
			meaning: "share of the training data to evaluate on instead; which examples depends on the seed and their questions"},
		{key: "max_prompt", flag: "max-prompt", value: &d.MaxPrompt, rule: positive, also: "max-prompt-length",
			meaning: "leave out examples whose prompt has more tokens"},
		{key: "max_answer", flag: "max-answer", value: &d.MaxAnswer, rule: positive,
			meaning: "leave out examples whose reference has more tokens; an answer sampled to be compared with one may have half as many again; lm cuts documents into windows of so many tokens, or of the model's positions, and trains on every token once"},
		{key: "answer_regex", flag: "answer-regex", value: &d.AnswerRegex,
			meaning: "regular expression (Go's) with one group, such as '#### (.*)': rlvr, star and evaluations compare what its last match holds in the sampled answer and in the reference; empty compares all of both"},
	}
}

func (r *RolloutConfig) options() []option {
	return []option{
		{key: "k", flag: "k", value: &r.K, rule: chains, also: "num-generations", meaning: "chains sampled for each question"},
		{key: "questions", flag: "questions", value: &r.Questions, rule: atOnce, meaning: "questions of one step (documents or their windows, for plain language modelling)"},
		{key: "max_chain", flag: "max-chain", value: &r.MaxChain, rule: notNegative, also: "max-completion-length",
			meaning: "longest chain in tokens; a longer one is cut, its answer is scored all the same; 0 is half of the model's positions, up to 2048"},
		{key: "temperature", flag: "temperature", value: &r.Temperature, rule: warm, meaning: "sampling temperature; evaluations sample with it too, and with top-p, top-k and min-p"},
		{key: "top_p", flag: "top-p", value: &r.TopP, rule: shareAbove0, meaning: "sample from the likeliest tokens that together have this probability; 1 is off"},
		{key: "top_k", flag: "top-k", value: &r.TopK, rule: notNegative, meaning: "sample from so many likeliest tokens; 0 is off"},
		{key: "min_p", flag: "min-p", value: &r.MinP, rule: belowOne, meaning: "leave out tokens less probable than this share of the likeliest; 0 is off"},
	}
}

// objectiveOptions is a function since the objective knows nothing of options.
// Its own Validate checks ranges.
func objectiveOptions(o *objective.Config) []option {
	methods := make([]string, 0, len(objective.Methods()))
	for _, m := range objective.Methods() {
		methods = append(methods, string(m))
	}
	return []option{
		{key: "method", flag: "method", value: &o.Method, also: "objective", choices: methods,
			meaning: "what is trained: nrt, or one it is compared with: sft, lm (plain text), rlpr, verifree, jepo, star, rlvr (GRPO, an exact match is right); it sets the defaults of this section and of lr"},
		{key: "reward_mode", flag: "reward-mode", value: &o.Reward.Mode, also: "mode",
			meaning: "how the reference's token probabilities become the reward: logp, p, gm, am, ws-1/p, ws-logp"},
		{key: "normalize_weights", flag: "normalize-weights", value: &o.Reward.NormalizeWeights, meaning: "ws-*: let the weights of a reference's tokens sum to 1"},
		{key: "reward_clip", flag: "reward-clip", value: &o.Reward.Clip, meaning: "no reward below that of the empty chain: R' = max(0, R - R_base)"},
		{key: "base_floor", flag: "base-floor", value: &o.Reward.BaseFloor, meaning: "ws-1/p: least baseline probability in the weights; 0 is 0.0001"},
		{key: "no_std", flag: "no-std", value: &o.Reward.NoStd, meaning: "take a reward less the mean of the others' in its group, and do not divide by their deviation"},
		{key: "sigma_floor", flag: "sigma-floor", value: &o.SigmaFloor, meaning: "divide by at least the moving average of the deviation, so that groups of almost equal rewards do not explode"},
		{key: "ema_decay", flag: "ema-decay", value: &o.EMADecay, rule: belowOne, meaning: "decay a step of that average, and of rlpr's"},
		{key: "token_loss", flag: "token-loss", value: &o.TokenLoss, choices: []string{objective.Derived, objective.NLL, objective.Off},
			meaning: "weight of the reference's tokens: derived (the method's own), nll (1), off"},
		{key: "token_cap", flag: "token-cap", value: &o.TokenCap, rule: notNegative, meaning: "largest derived token weight; 0 is none"},
		{key: "lambda_trace", flag: "lambda-trace", value: &o.LambdaTrace, rule: notNegative, meaning: "weight of the chain's policy gradient"},
		{key: "lambda_token", flag: "lambda-token", value: &o.LambdaToken, rule: notNegative, meaning: "weight of the reference's token gradient"},
		{key: "ratio", flag: "ratio", value: &o.Ratio, meaning: "correct chain tokens for the policy having moved since they were sampled (PPO's clipped ratio)"},
		{key: "clip_low", flag: "clip-low", value: &o.ClipLow, rule: share, also: "epsilon", meaning: "the ratio is clipped at 1 minus this"},
		{key: "clip_high", flag: "clip-high", value: &o.ClipHigh, rule: notNegative, also: "epsilon-high", meaning: "and at 1 plus this"},
		{key: "length_norm", flag: "length-norm", value: &o.LengthNorm, choices: []string{objective.NormConstant, objective.NormToken, objective.NormSequence},
			meaning: "what a chain's loss is divided by: constant, token (mean over all tokens), sequence (mean within each)"},
		{key: "length_constant", flag: "length-constant", value: &o.LengthConstant, rule: positive, meaning: "length-norm constant: the tokens to divide by"},
		{key: "format_weight", flag: "format-weight", value: &o.Format, rule: notNegative, meaning: "weight of the loss on the boundary that ends a chain, where a chain had to be ended"},
		{key: "format_per_length", flag: "format-per-length", value: &o.FormatPerLength, meaning: "divide that loss as length-norm says"},
		{key: "kl", flag: "kl", value: &o.KL, rule: notNegative, also: "beta", meaning: "weight of the divergence from the policy before training; 0 is off and keeps no second model"},
		{key: "entropy", flag: "entropy", value: &o.Entropy, meaning: "weight of an entropy bonus on chain tokens; 0 is off"},
		{key: "fixed_baseline", flag: "fixed-baseline", value: &o.FixedBaseline, meaning: "take the empty chain's probabilities from before training instead of from this step"},
		{key: "format_reward", flag: "format-reward", value: &o.FormatReward, rule: share, meaning: "rlpr: share of the format in the reward"},
		{key: "filter_beta", flag: "filter-beta", value: &o.FilterBeta, rule: notNegative, meaning: "rlpr: leave out groups whose deviation is below this share of the moving average; 0 is none"},
		{key: "filter_from", flag: "filter-from", value: &o.FilterFrom, rule: notNegative, meaning: "rlpr: first step of that filter"},
	}
}

func (o *OptimConfig) options() []option {
	return []option{
		{key: "lr", flag: "lr", value: &o.LR, rule: notNegative, also: "learning-rate", meaning: "highest learning rate"},
		{key: "schedule", flag: "schedule", value: &o.Schedule, choices: optim.Kinds(), also: "lr-scheduler-type",
			meaning: "course of the learning rate after the warm-up: constant, linear or cosine to the end, or wsd (constant, then linear)"},
		{key: "warmup", flag: "warmup", value: &o.Warmup, rule: notNegative, meaning: "warm-up: below 1 a share of all updates, from 1 on a number of updates"},
		{key: "decay", flag: "decay", value: &o.Decay, rule: shareAbove0, meaning: "schedule wsd: share of the run over which the rate falls"},
		{key: "min_lr_ratio", flag: "min-lr-ratio", value: &o.MinLRRatio, rule: share, meaning: "learning rate at the end, as a share of lr"},
		{key: "weight_decay", flag: "weight-decay", value: &o.WeightDecay, rule: notNegative, meaning: "AdamW's decoupled weight decay, on matrices only"},
		{key: "beta1", flag: "beta1", value: &o.Beta1, rule: belowOne, also: "adam-beta1", meaning: "AdamW: decay of the first moment"},
		{key: "beta2", flag: "beta2", value: &o.Beta2, rule: belowOne, also: "adam-beta2", meaning: "AdamW: decay of the second moment"},
		{key: "adam_eps", flag: "adam-eps", value: &o.Eps, rule: positive, also: "adam-epsilon", meaning: "AdamW: added to the root of the second moment"},
		{key: "moments", flag: "moments", value: &o.Moments, rule: bits,
			meaning: "AdamW: bits of each of a parameter's two moments; 8 take 2 bytes a parameter instead of 8, and lose a little accuracy"},
		{key: "max_grad_norm", flag: "max-grad-norm", value: &o.MaxGradNorm, rule: notNegative, meaning: "clip the gradient's global norm; 0 is off"},
		{key: "mini_batch", flag: "mini-batch", value: &o.MiniBatch, rule: notNegative, meaning: "questions of one update; 0 is all of the step's"},
		{key: "iterations", flag: "iterations", value: &o.Iterations, rule: positive, also: "num-iterations", meaning: "passes over the chains of one step"},
		{key: "micro_tokens", flag: "micro-tokens", value: &o.MicroTokens, rule: notNegative,
			meaning: "tokens in one forward and backward pass, more only where one chain has more: bounds the memory; gradients of the passes add up to the same update; 0 is 1024 on the CPU, 8192 on a card"},
		{key: "recompute", flag: "recompute", value: &o.Recompute, free: true,
			meaning: "keep only each layer's input for the backward pass and compute the rest again: less memory, a third more time, the same result"},
	}
}

func (t *TrainConfig) options() []option {
	return []option{
		{key: "steps", flag: "steps", value: &t.Steps, rule: notNegative, also: "max-steps", meaning: "steps of the run; 0 takes as many as epochs needs. With --schedule constant a resume may have more: it goes on as if it had been so long from the start"},
		{key: "epochs", flag: "epochs", value: &t.Epochs, rule: positive, also: "num-train-epochs", meaning: "passes over the training data, when steps is 0"},
		{key: "seed", flag: "seed", value: &t.Seed, meaning: "decides everything random: same seed, same run"},
		{key: "device", flag: "device", value: &t.Device, meaning: "what computes: auto, cpu, cuda or cuda:N; auto takes a CUDA card where there is one"},
		{key: "dtype", flag: "dtype", value: &t.DType, choices: device.Types(),
			meaning: "what it computes in: f32, or bf16 with the parameters kept in float32 beside; auto is f32 on the CPU and bf16 on CUDA. On the CPU bf16 rounds what matrix products multiply, and is 1.4 to 1.8 times as fast on AMD's Zen 4 and later, and no faster elsewhere"},
		{key: "threads", flag: "threads", value: &t.Threads, rule: threads, free: true, meaning: "threads; 0 is one a core; the result does not depend on it"},
	}
}

func (e *EvalConfig) options() []option {
	return []option{
		{key: "every", flag: "eval-every", value: &e.Every, rule: notNegative, also: "eval-steps", free: true,
			meaning: "evaluate at step 0, every so many steps, and at the end; 0 only at step 0 and at the end"},
		{key: "n", flag: "eval-n", value: &e.N, rule: notNegative, free: true, meaning: "examples of an evaluation, drawn by the seed from those that fit; 0 is all"},
		{key: "k", flag: "eval-k", value: &e.K, rule: chains, free: true, meaning: "chains sampled for each example of an evaluation"},
		{key: "answers", flag: "eval-answers", value: &e.Answers, free: true,
			meaning: "evaluations also sample an answer after each chain, drawn as the run's chains are (nrt eval takes the likeliest tokens instead), and report the share that equals the reference as eval/accuracy"},
	}
}

func (o *OutputConfig) options() []option {
	return []option{
		{key: "dir", flag: "output", value: &o.Dir, also: "output-dir", free: true,
			meaning: "folder for checkpoints, metrics.jsonl and completions.jsonl; one run a folder"},
		{key: "save_every", flag: "save-every", value: &o.SaveEvery, rule: notNegative, also: "save-steps", free: true,
			meaning: "save a checkpoint every so many steps, after an evaluation that is the best so far, and at the end; 0 only at the end"},
		{key: "keep", flag: "keep", value: &o.Keep, rule: notNegative, also: "save-total-limit", free: true,
			meaning: "keep so many latest checkpoints, and that of the best evaluation (most log-probability of the reference); 0 keeps all"},
		{key: "resume", flag: "resume", value: &o.Resume, also: "resume-from-checkpoint", free: true,
			meaning: "go on from a checkpoint: latest, its folder, or auto, which begins, or begins again, where there is none yet; --resume alone is latest. Without --config the run's own configuration holds, and need not be repeated. A checkpoint of another folder begins a new run in output"},
		{key: "log_every", flag: "log-every", value: &o.LogEvery, rule: positive, also: "logging-steps", free: true,
			meaning: "write metrics every so many steps: their means since the last line"},
		{key: "completions", flag: "completions", value: &o.Completions, rule: notNegative, free: true,
			meaning: "chains of each step to write into completions.jsonl; 0 is none"},
		{key: "tensorboard", flag: "tensorboard", value: &o.TensorBoard, free: true,
			meaning: "write the metrics for TensorBoard too, into the output folder's tensorboard/, under the names that transformers' trainer gives them there"},
	}
}
