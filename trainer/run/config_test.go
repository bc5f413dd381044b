package run

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nrt/trainer/objective"
	"nrt/trainer/reward"
)

var update = flag.Bool("update", false, "rewrite golden files")

// The table has every field of Config once, so that none can be forgotten in
// YAML, flags, checks or what a resume compares.
func TestTableIsComplete(t *testing.T) {
	c := Default(objective.NRT)
	in := map[uintptr]string{}
	for _, o := range c.options() {
		at := reflect.ValueOf(o.value).Pointer()
		if other, ok := in[at]; ok {
			t.Errorf("%s and %s are the same field", o.path(), other)
		}
		in[at] = o.path()
	}
	exempt := map[string]bool{"Config.Objective.Reward.SigmaFloor": true} // set by training
	n := 0
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(name+"."+v.Type().Field(i).Name, v.Field(i))
			}
			return
		}
		if _, ok := in[v.Addr().Pointer()]; !ok && !exempt[name] {
			t.Errorf("%s is not in the table", name)
		}
		n++
	}
	walk("Config", reflect.ValueOf(&c).Elem())
	if n != len(in)+len(exempt) {
		t.Errorf("%d fields, %d options", n, len(in))
	}

	names := map[string]string{"config": "the file", "help": "help"}
	paths := map[string]bool{}
	for _, o := range c.options() {
		if paths[o.path()] {
			t.Errorf("%s twice", o.path())
		}
		paths[o.path()] = true
		if o.meaning == "" || strings.HasSuffix(o.meaning, ".") || o.key != strings.ToLower(o.key) || strings.Contains(o.key, "-") || strings.Contains(o.flag, "_") {
			t.Errorf("%s: key %q, flag %q, meaning %q", o.path(), o.key, o.flag, o.meaning)
		}
		for _, name := range []string{o.flag, o.also} {
			if other, ok := names[name]; ok && name != "" {
				t.Errorf("--%s is %s and %s", name, o.path(), other)
			}
			names[name] = o.path()
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	for _, m := range objective.Methods() {
		c := Default(m)
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		if c.Objective.Method != m {
			t.Errorf("%s: method %s", m, c.Objective.Method)
		}
	}
	if c := Default(objective.RLPR); c.Optim.LR != 1e-6 || c.Objective.ClipHigh != 0.27 {
		t.Errorf("rlpr: %+v", c)
	}
	if c := Default("magic"); c.Validate() == nil || !strings.Contains(c.Validate().Error(), `objective.method (--method): want one of nrt, sft, lm, rlpr, verifree, jepo, star, rlvr, have "magic"`) {
		t.Errorf("have %v", c.Validate())
	}
}

// scramble gives every option a random value that need not be valid.
func scramble(rng *rand.Rand) Config {
	c := Default(objective.NRT)
	words := []string{"", "a", "true", "null", "~", "0x1f", "1e3", "a: b", "- x", "#", "\"", "'", "\\", "é\t\n", " pad ", "{}", "[]", "*a", "&a", "!!int 3", "\u2028", "<think>", "2026-01-01", "%", "@", "`", "\x00\x7f\u0085\ufeff\U0001F600"}
	word := func() string { return words[rng.IntN(len(words))] }
	for _, o := range c.options() {
		switch v := o.value.(type) {
		case *string:
			*v = word()
		case *objective.Method:
			*v = objective.Methods()[rng.IntN(len(objective.Methods()))]
		case *[]string:
			*v = nil
			for range rng.IntN(3) {
				*v = append(*v, word())
			}
		case *bool:
			*v = rng.IntN(2) == 0
		case *int:
			*v = int(rng.Uint64() >> rng.IntN(64))
		case *uint64:
			*v = rng.Uint64()
		case *float64:
			for *v = math.NaN(); math.IsNaN(*v) || math.IsInf(*v, 0); {
				*v = math.Float64frombits(rng.Uint64())
			}
		case *reward.Mode:
			*v = reward.Modes()[rng.IntN(len(reward.Modes()))]
		default:
			panic(o.path())
		}
	}
	return c
}

func TestConfigRoundTrip(t *testing.T) {
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 0))
	list := []Config{}
	for _, m := range objective.Methods() {
		list = append(list, Default(m))
	}
	for range 300 {
		list = append(list, scramble(rng))
	}
	for i, c := range list {
		var text bytes.Buffer
		if err := PrintConfig(&text, c); err != nil {
			t.Fatal(err)
		}
		got := Default(objective.NRT)
		if err := ParseConfig("printed", text.Bytes(), &got); err != nil {
			t.Fatalf("seed %d, configuration %d: %v\n%s", seed, i, err, text.Bytes())
		}
		if !reflect.DeepEqual(got, c) {
			t.Fatalf("seed %d, configuration %d through YAML: changed %v", seed, i, got.Changed(c))
		}
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		got = Config{}
		if err := json.Unmarshal(raw, &got); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("seed %d, configuration %d through JSON: %v, changed %v", seed, i, err, got.Changed(c))
		}
		if changed := got.Changed(c); len(changed) > 0 {
			t.Fatalf("seed %d, configuration %d: changed %v", seed, i, changed)
		}
	}
}

func TestPrintGolden(t *testing.T) {
	c := Default(objective.RLPR)
	c.Data.Train = []string{"train.jsonl"}
	c.Optim.LR = 5e-7
	var have bytes.Buffer
	if err := PrintConfig(&have, c); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "rlpr.yaml")
	if *update {
		if err := os.WriteFile(path, have.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have.Bytes(), want) {
		t.Errorf("differs from %s; run with -update and look at the difference:\n%s", path, have.Bytes())
	}
}

func TestYAML(t *testing.T) {
	c := Default(objective.NRT)
	err := ParseConfig("run.yaml", []byte(`
# The method's defaults come first, wherever it stands.
optim: {lr: 3e-4, schedule: wsd, recompute: True}
data:
  train: [a.jsonl, "b c.jsonl"]
  eval: &files
    - d.jsonl
rollout: # all as it was
objective:
  clip_low: 0.1
  method: rlpr
  reward_mode: am
  ratio: off
model: {path: 123, tokenizer: null}
output:
  dir: *files
`), &c)
	if err == nil || err.Error() != "run.yaml:16: output.dir: want a name, have a list" {
		t.Fatalf("have %v", err)
	}
	if c.Optim.LR != 3e-4 || c.Optim.Schedule != "wsd" || fmt.Sprint(c.Data.Train) != "[a.jsonl b c.jsonl]" || fmt.Sprint(c.Data.Eval) != "[d.jsonl]" ||
		c.Objective.ClipLow != 0.1 || c.Objective.ClipHigh != 0.27 || c.Objective.Ratio || !c.Optim.Recompute || c.Model.Path != "123" {
		t.Errorf("have %+v", c)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "~\n", "data:\n"} {
		c := Default(objective.NRT)
		if err := ParseConfig("f", []byte(empty), &c); err != nil || !reflect.DeepEqual(c, Default(objective.NRT)) {
			t.Errorf("%q: %v", empty, err)
		}
	}
	one := Default(objective.NRT)
	if err := ParseConfig("f", []byte("data: {train: a.jsonl}"), &one); err != nil || fmt.Sprint(one.Data.Train) != "[a.jsonl]" {
		t.Errorf("one name for a list: %v, %v", one.Data.Train, err)
	}
}

func TestYAMLErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"optim:\n  lr: fast\n", `f:2: optim.lr: want a number, have "fast"`},
		{"optim:\n  lr:\n", "f:2: optim.lr: want a number, have nothing"},
		{"optim:\n  lr: [1]\n", "f:2: optim.lr: want a number, have a list"},
		{"optim:\n  lr: {}\n", "f:2: optim.lr: want a number, have a mapping"},
		{"optim: {lr: 1e999}", `f:1: optim.lr: want a number nearer to 0, have "1e999"`},
		{"rollout:\n\n  k: 2.5\n", `f:3: rollout.k: want a whole number, have "2.5"`},
		{"train: {seed: -1}", `f:1: train.seed: want a whole number >= 0, have "-1"`},
		{"objective: {sigma_floor: maybe}", `f:1: objective.sigma_floor: want true or false, have "maybe"`},
		{"objective: {reward_mode: best}", "f:1: objective.reward_mode: reward mode: want one of"},
		{"data: {train: [a, [b]]}", "f:1: data.train: want a list of names, have a list in it"},
		{"data: {train: [a, ~]}", "f:1: data.train: want a list of names, have nothing in it"},
		{"optim:\n  learning_rate: 1\n", "f:2: unknown key optim.learning_rate: it is called optim.lr"},
		{"lr: 1\n", "f:1: unknown key lr: it is called optim.lr"},
		{"train:\n  max-chain: 9\n", "f:2: unknown key train.max-chain: it is called rollout.max_chain"},
		{"optim:\n  momentum: 1\n", "f:2: unknown key optim.momentum: want one of lr, schedule, warmup,"},
		{"optimizer: {}\n", "f:1: unknown key optimizer: want one of model, lora, data, rollout, objective, optim, train, eval, output"},
		{"optim: {lr: 1}\nmodel: {}\noptim: {lr: 2}\n", "f:3: optim: stands in line 1 already"},
		{"optim:\n  lr: 1\n  lr: 2\n", "f:3: optim.lr: stands in line 2 already"},
		{"- optim\n", `f:1: want sections such as "model:" with keys below them`},
		{"optim: 3\n", `f:1: optim: want keys below it, have "3"`},
		{"? [a]\n: b\n", "f:1: want a name as key, have a list"},
		{"optim:\n  ? {a: b}\n  : c\n", "f:2: want a name as key, have a mapping"},
		{"optim: {lr: 1\n", "f: yaml: line"},
		{"a: b\n---\nc: d\n", "f: want one YAML document, have more"},
		{"optim: \xff\n", "f: yaml: "},
	} {
		cfg := Default(objective.NRT)
		if err := ParseConfig("f", []byte(c.text), &cfg); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q:\nhave %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*Config)
	}{
		{"rollout.k (--k): want 1 to 1024, have 0", func(c *Config) { c.Rollout.K = 0 }},
		{"rollout.k (--k): want >= 2 for nrt, which compares the chains of a question, have 1", func(c *Config) { c.Rollout.K = 1 }},
		{"rollout.temperature (--temperature): want at least 1e-06, have 0", func(c *Config) { c.Rollout.Temperature = 0 }},
		{"rollout.temperature (--temperature): want at least 1e-06, have 1e-07", func(c *Config) { c.Rollout.Temperature = 1e-7 }},
		{"rollout.top_p (--top-p): want above 0 and at most 1, have 1.5", func(c *Config) { c.Rollout.TopP = 1.5 }},
		{"optim.lr (--lr): want a finite number, have NaN", func(c *Config) { c.Optim.LR = math.NaN() }},
		{"optim.lr (--lr): want a finite number, have +Inf", func(c *Config) { c.Optim.LR = math.Inf(1) }},
		{"lora.rank (--lora-rank): want 0 to 4096, have -1", func(c *Config) { c.LoRA.Rank = -1 }},
		{"lora.rank (--lora-rank): want model.path (--model)", func(c *Config) { c.LoRA.Rank = 4 }},
		{"lora.alpha (--lora-alpha): want >= 0, have -1", func(c *Config) { c.LoRA.Alpha = -1 }},
		{"lora.modules (--lora-modules): want one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, have \"lm_head\"", func(c *Config) { c.LoRA.Modules = []string{"q_proj", "lm_head"} }},
		{"optim.moments (--moments): want 32 or 8, have 16", func(c *Config) { c.Optim.Moments = 16 }},
		{"optim.beta1 (--beta1): want 0 up to but not 1, have 1", func(c *Config) { c.Optim.Beta1 = 1 }},
		{`optim.schedule (--schedule): want one of constant, linear, cosine, wsd, have "step"`, func(c *Config) { c.Optim.Schedule = "step" }},
		{`data.form (--form): want one of auto, question, prompt, prompt-answer, messages, text, have "qa"`, func(c *Config) { c.Data.Form = "qa" }},
		{`data.form (--form): want auto or question where data.question_field (--question-field)`, func(c *Config) { c.Data.Form, c.Data.AnswerField = "messages", "gold" }},
		{"data.train (--data): entry 2 is empty", func(c *Config) { c.Data.Train = []string{"a", ""} }},
		{"data.held_out (--held-out): want 0 when data.eval (--eval-data) names files, have 0.1", func(c *Config) { c.Data.HeldOut, c.Data.Eval = 0.1, []string{"a"} }},
		{"model.hidden (--hidden): want an even multiple of model.heads 4, have 130", func(c *Config) { c.Model.Hidden = 130 }},
		{"model.hidden (--hidden): want an even multiple of model.heads 4, have 12", func(c *Config) { c.Model.Hidden = 12 }},
		{"model.kv_heads (--kv-heads): want a divisor of model.heads 4, have 3", func(c *Config) { c.Model.KVHeads = 3 }},
		{"model.hidden / model.heads (--hidden, --heads): want 1 to 4096, have 25000", func(c *Config) { c.Model.Hidden = 100000 }},
		{"model.hidden (--hidden): want 1 to ", func(c *Config) { c.Model.Hidden = 1 << 40 }},
		{"model.intermediate (--intermediate): want 1 to ", func(c *Config) { c.Model.Intermediate = 1 << 40 }},
		{"model.layers (--layers): want 1 to ", func(c *Config) { c.Model.Layers = 1 << 40 }},
		{"model.positions (--positions): want 1 to ", func(c *Config) { c.Model.Positions = 1 << 40 }},
		{"model.vocab (--vocab): want 1 to ", func(c *Config) { c.Model.Vocab = 1 << 40 }},
		{"objective.reward_mode (--reward-mode): reward mode: ", func(c *Config) { c.Objective.Reward.Mode = 99 }},
		{"objective.clip_low (--clip-low): want 0 to 1, have 2", func(c *Config) { c.Objective.ClipLow = 2 }},
		{`model.template (--template): want one of llama3, chatml, deepseek, zephyr, llama2, mistral, mistral-v7, tulu, tulu-thinker, plain, world, or none for the tokenizer's, have "foo"`, func(c *Config) { c.Model.Template = "foo" }},
		{"objective.kl (--kl): want rollout.temperature 1, which the reference policy is read at, have 0.9", func(c *Config) { c.Objective.KL, c.Rollout.Temperature = 0.1, 0.9 }},
		{"objective.reward_mode (--reward-mode): want am, have gm, for rlpr", func(c *Config) { *c = Default(objective.RLPR); c.Objective.Reward.Mode = reward.GM }},
		{"objective.base_floor (--base-floor): want 0 or 1e-30 to 1, have 2", func(c *Config) { c.Objective.Reward.BaseFloor = 2 }},
		{"objective.format_weight (--format-weight): want 0 to 1e+06, have 1e+07", func(c *Config) { c.Objective.Format = 1e7 }},
		{"objective.entropy (--entropy): want -1e+06 to 1e+06, have 1e+07", func(c *Config) { c.Objective.Entropy = 1e7 }},
		{"objective.token_loss (--token-loss): want nll, have off, for sft", func(c *Config) { *c = Default(objective.SFT); c.Objective.TokenLoss = "off" }},
	} {
		cfg := Default(objective.NRT)
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("have %v\nwant %s", err, c.want)
		}
	}
	c := Default(objective.STaR)
	c.Rollout.K, c.Model.Path, c.Model.Hidden = 1, "dir", 13 // the shape of a loaded model is its own
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestChanged(t *testing.T) {
	a, b := Default(objective.NRT), Default(objective.NRT)
	a.Train.Device, b.Train.Device = "cuda", "cuda:1"
	b.Output.Dir, b.Output.SaveEvery, b.Train.Threads, b.Eval.Every, b.Output.Resume = "elsewhere", 1, 7, 5, "latest"
	if len(a.Changed(b)) > 0 {
		t.Errorf("what may change at a resume counts: %v", a.Changed(b))
	}
	b.Optim.LR, b.Data.MaxPrompt = 1e-3, 9
	if got := fmt.Sprint(b.Changed(a)); got != "[data.max_prompt (--max-prompt): 9, was 4096 optim.lr (--lr): 0.001, was 2e-06]" {
		t.Errorf("have %s", got)
	}
	// A run from before there were types goes on in f32, and in nothing else.
	a, b = Default(objective.NRT), Default(objective.NRT)
	a.Train.Device, a.Train.DType, b.Train.Device, b.Train.DType = "cpu", "", "cpu", "f32"
	a.Optim.Moments = 0
	if list := b.Changed(a); len(list) > 0 {
		t.Errorf("f32 after nothing: %v", list)
	}
	if b.Train.DType = "bf16"; len(b.Changed(a)) != 1 {
		t.Errorf("bf16 after nothing: %v", b.Changed(a))
	}
}

func TestDerived(t *testing.T) {
	c := Default(objective.NRT)
	if got := c.Optim.UpdatesPerStep(256); got != 4 {
		t.Errorf("recipe: %d updates a step, want 4", got)
	}
	c.Optim.MiniBatch, c.Optim.Iterations = 100, 2
	if got := c.Optim.UpdatesPerStep(256); got != 6 {
		t.Errorf("%d updates a step, want 2·⌈256/100⌉", got)
	}
	c.Optim.MiniBatch = 0
	if got := c.Optim.UpdatesPerStep(256); got != 2 {
		t.Errorf("%d updates a step, want 2", got)
	}
	if got := c.Train.Total(1000, 256); got != 4 {
		t.Errorf("%d steps for an epoch, want 4", got)
	}
	c.Train.Epochs = 0.001
	if got := c.Train.Total(1000, 256); got != 1 {
		t.Errorf("%d steps, want at least 1", got)
	}
	c.Train.Steps = 7
	if got := c.Train.Total(1000, 256); got != 7 {
		t.Errorf("%d steps, want 7", got)
	}
	s := c.Optim.For(200)
	if s.Warmup != 20 || s.Total != 200 || s.Validate() != nil {
		t.Errorf("schedule %+v: %v", s, s.Validate())
	}
	if err := c.Optim.Options().Validate(); err != nil {
		t.Error(err)
	}
	c.Data.BadLines, c.Data.Limit, c.Data.AnswerField = "skip", 3, "gold"
	if o := c.Data.Options(); !o.Skip || o.Limit != 3 || o.Answer != "gold" {
		t.Errorf("data options %+v", o)
	}
}

// No YAML makes the reader panic, and what it takes it prints and takes again.
func FuzzParseConfig(f *testing.F) {
	var text bytes.Buffer
	if err := PrintConfig(&text, Default(objective.NRT)); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Add([]byte("optim: &a {lr: 1}\nmodel: *a\n"))
	f.Add([]byte("data: {train: [a, &b c, *b]}\nobjective: {method: star}\n"))
	f.Add([]byte("<<: {optim: 1}\n? a\n"))
	f.Add([]byte("model: {path: !!binary aGk=, tokenizer: |\n a\n}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := Default(objective.NRT)
		if ParseConfig("f", raw, &c) != nil {
			return
		}
		for _, o := range c.options() {
			if v, ok := o.value.(*float64); ok && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
				return // Validate refuses it, and JSON has no text for it
			}
		}
		var again bytes.Buffer
		if err := PrintConfig(&again, c); err != nil {
			t.Fatal(err)
		}
		d := Default(objective.NRT)
		if err := ParseConfig("printed", again.Bytes(), &d); err != nil || !reflect.DeepEqual(c, d) {
			t.Fatalf("%v: changed %v\n%s", err, d.Changed(c), again.Bytes())
		}
	})
}

// The table of what has an effect knows options by their names, says of every
// option of the objective whom it concerns, and lets presets pass, and what is
// printed of them.
func TestMeans(t *testing.T) {
	c := Default(objective.NRT)
	for _, o := range c.options() {
		if _, ok := means[o.path()]; !ok && o.section == "objective" && !slices.Contains([]string{"method", "token_loss", "length_norm"}, o.key) {
			t.Errorf("%s is not in the table", o.path())
		}
	}
	options := c.options()
	for path := range means {
		section, key, _ := strings.Cut(path, ".")
		if find(options, section, key) == nil {
			t.Errorf("%s is no option", path)
		}
	}
	for _, m := range objective.Methods() {
		if err := Default(m).Idle(Default(m)); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		var text bytes.Buffer
		if err := PrintConfig(&text, Default(m)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "run.yaml")
		if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := parse(t, "--config", file); err != nil {
			t.Errorf("%s, printed: %v", m, err)
		}
		if c, err := parse(t, "--config", file, "--method", string(m), "--steps", "3"); err != nil || c.Train.Steps != 3 {
			t.Errorf("%s, printed, with its own method: %v", m, err)
		}
		if m == objective.NRT {
			continue
		}
		if _, err := parse(t, "--config", file, "--method", "nrt"); err == nil || !strings.Contains(err.Error(), "run.yaml: objective: its reward_mode and what else it sets are for "+string(m)+", which it names, and --method says nrt") {
			t.Errorf("%s, printed, with another method: %v", m, err)
		}
	}
}

// TestPassesByDevice: a pass has what suits the device, unless it is said.
func TestPassesByDevice(t *testing.T) {
	for _, x := range []struct {
		device     string
		said, want int
	}{{"cpu", 0, MicroRows}, {"cuda", 0, CardRows}, {"cuda:1", 0, CardRows}, {"cpu", 70, 70}, {"cuda", 70, 70}} {
		c := Default(objective.NRT)
		c.Train.Device = x.device
		if x.said > 0 {
			c.Optim.MicroTokens = x.said
		}
		if c.settle(); c.Optim.MicroTokens != x.want {
			t.Errorf("%s, %d said: %d, want %d", x.device, x.said, c.Optim.MicroTokens, x.want)
		}
	}
}
