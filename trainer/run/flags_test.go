package run

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nrt/trainer/objective"
)

func parse(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	fs := flag.NewFlagSet("train", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	f := AddFlags(fs)
	if err := fs.Parse(Args(args)); err != nil {
		return Config{}, err
	}
	return f.Config()
}

func TestFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.yaml")
	text := "optim: {lr: 1e-3, warmup: 5}\ndata: {train: [file.jsonl]}\nobjective: {method: sft}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// Flags win over the file wherever --config stands, and the method of the
	// flags decides the defaults.
	c, err := parse(t, "--lr", "0.5", "--config", file, "--method=rlpr", "--data", "a", "--data=b", "--clip-low", "0.11", "--tie_embeddings=false", "--num-generations", "4")
	if err != nil {
		t.Fatal(err)
	}
	want := Default(objective.RLPR)
	want.Optim.LR, want.Optim.Warmup = 0.5, 5
	want.Data.Train = []string{"a", "b"}
	want.Objective.ClipLow = 0.11
	want.Model.Tie, want.Rollout.K = false, 4
	if !reflect.DeepEqual(c, want) {
		t.Errorf("changed %v", c.Changed(want))
	}
	if c, err := parse(t, "--config", file); err != nil || c.Objective.Method != objective.SFT || c.Objective.LengthNorm != "token" || c.Data.Train[0] != "file.jsonl" {
		t.Errorf("have %+v, %v", c, err)
	}
	if c, err := parse(t); err != nil || !reflect.DeepEqual(c, Default(objective.NRT)) {
		t.Errorf("no flags: %v, changed %v", err, c.Changed(Default(objective.NRT)))
	}
	for want, args := range map[string][]string{
		"latest": {"--resume"},
		"dir":    {"--resume", "dir", "--k", "3"},
		"d=e":    {"--resume_from_checkpoint=d=e"},
	} {
		if c, err := parse(t, args...); err != nil || c.Output.Resume != want {
			t.Errorf("%v: resume %q, %v", args, c.Output.Resume, err)
		}
	}
}

func TestFlagErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--lr", "fast"}, `want a number, have "fast"`},
		{[]string{"--k", "1"}, "rollout.k (--k): want >= 2 for nrt"},
		{[]string{"--momentum", "1"}, "flag provided but not defined: -momentum"},
		{[]string{"--no-lr"}, "flag provided but not defined: -no-lr"},
		{[]string{"data.jsonl"}, `unexpected argument "data.jsonl": options begin with --`},
		{[]string{"--", "--k"}, `unexpected argument "--k"`},
		{[]string{"--config", "none.yaml"}, "read configuration: open none.yaml"},
		{[]string{"--filter-beta", "5"}, "objective.filter_beta (--filter-beta): has no effect with --method nrt, only with rlpr: leave it out, have 5"},
		{[]string{"--format-reward", "0.9"}, "objective.format_reward (--format-reward): has no effect with --method nrt"},
		{[]string{"--method", "sft", "--kl", "0.5"}, "objective.kl (--kl): has no effect with --method sft"},
		{[]string{"--method", "sft", "--entropy", "3"}, "objective.entropy (--entropy): has no effect"},
		{[]string{"--method", "sft", "--eval-k", "3"}, "eval.k (--eval-k): has no effect"},
		{[]string{"--method", "lm", "--k", "3"}, "rollout.k (--k): has no effect with --method lm"},
		{[]string{"--method", "lm", "--no-eval-answers"}, "eval.answers (--eval-answers): has no effect with --method lm"},
		{[]string{"--method", "star", "--fixed-baseline"}, "objective.fixed_baseline (--fixed-baseline): has no effect with --method star"},
		{[]string{"--method", "star", "--sigma-floor"}, "objective.sigma_floor (--sigma-floor): has no effect with --method star"},
		{[]string{"--method", "star", "--token-cap", "1"}, "objective.token_cap (--token-cap): has no effect with --method star"},
		{[]string{"--method", "rlvr", "--mode", "p"}, "objective.reward_mode (--reward-mode): has no effect with --method rlvr"},
		{[]string{"--method", "rlvr", "--normalize-weights"}, "objective.normalize_weights (--normalize-weights): has no effect"},
		{[]string{"--mode", "gm", "--normalize-weights"}, "objective.normalize_weights (--normalize-weights): has no effect without --reward-mode ws-1/p or ws-logp"},
		{[]string{"--no-std", "--ema-decay", "0.5"}, "objective.ema_decay (--ema-decay): has no effect without --sigma-floor"},
		{[]string{"--no-std", "--sigma-floor"}, "objective.sigma_floor (--sigma-floor): has no effect without --no-std=false"},
		{[]string{"--method", "verifree", "--sigma-floor"}, "objective.sigma_floor (--sigma-floor): has no effect without --no-std=false"},
		{[]string{"--no-ratio", "--clip-low", "0.1"}, "objective.clip_low (--clip-low): has no effect without --ratio"},
		{[]string{"--length-norm", "token", "--length-constant", "7"}, "objective.length_constant (--length-constant): has no effect without --length-norm constant"},
		{[]string{"--eval-every", "5"}, "eval.every (--eval-every): has no effect without questions to evaluate on (--held-out or --eval-data)"},
		{[]string{"--eval-n", "5"}, "eval.n (--eval-n): has no effect without questions"},
		{[]string{"--eval-k", "5"}, "eval.k (--eval-k): has no effect without questions"},
		{[]string{"--no-eval-answers"}, "eval.answers (--eval-answers): has no effect without questions"},
		{[]string{"--answer-regex", "(.*)"}, "data.answer_regex (--answer-regex): has no effect without answers to compare"},
		{[]string{"--answer-regex", "(.*)", "--held-out", "0.1", "--no-eval-answers"}, "data.answer_regex (--answer-regex): has no effect without answers to compare"},
		{[]string{"--method", "sft", "--top-k", "5"}, "rollout.top_k (--top-k): has no effect without questions"},
		{[]string{"--method", "sft", "--completions", "5"}, "output.completions (--completions): has no effect with --method sft"},
		{[]string{"--model", "dir", "--positions", "99"}, "model.positions (--positions): has no effect without a new model"},
		{[]string{"--model", "dir", "--tie-embeddings"}, "model.tie_embeddings (--tie-embeddings): has no effect without a new model"},
		{[]string{"--tokenizer", "dir", "--vocab", "999"}, "model.vocab (--vocab): has no effect without a new tokenizer"},
		{[]string{"--decay", "0.1"}, "optim.decay (--decay): has no effect without --schedule wsd"},
		{[]string{"--schedule", "constant", "--min-lr-ratio", "0.1"}, "optim.min_lr_ratio (--min-lr-ratio): has no effect without --schedule linear, cosine or wsd"},
		{[]string{"--steps", "9", "--epochs", "2"}, "train.epochs (--epochs): has no effect without --steps 0"},
		{[]string{"--method", "magic"}, "objective.method (--method): want one of nrt"},
	} {
		if _, err := parse(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v:\nhave %v\nwant %s", c.args, err, c.want)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("a: ["), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := parse(t, "--config", bad); err == nil || !strings.HasPrefix(err.Error(), bad+": yaml: ") {
		t.Errorf("have %v", err)
	}
	if err := os.WriteFile(bad, []byte("a: 1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := parse(t, "--config", bad); err == nil || !strings.HasPrefix(err.Error(), bad+":1: unknown key a") {
		t.Errorf("have %v", err)
	}
}

func TestFlagHelp(t *testing.T) {
	text := FlagHelp()
	for _, o := range new(Config).options() {
		if !strings.Contains(text, "--"+o.flag) {
			t.Errorf("no --%s", o.flag)
		}
	}
	for i, line := range strings.Split(text, "\n") {
		if len(line) > 80 {
			t.Errorf("line %d has %d characters: %s", i+1, len(line), line)
		}
	}
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	AddFlags(fs)
	var usage bytes.Buffer
	fs.SetOutput(&usage)
	fs.PrintDefaults()
	if !strings.Contains(usage.String(), "highest learning rate (default 2e-06)") {
		t.Errorf("package flag's own help: %s", usage.String())
	}
}
