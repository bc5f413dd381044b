package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/llama"
	"nrt/backend/safetensors"
	"nrt/backend/token"
	"nrt/trainer/recipe"
	"nrt/trainer/world"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with testdata/name, or writes it with -update.
func golden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(have), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if have != string(want) {
		t.Errorf("%s differs; go test -update writes it again. have:\n%s", path, have)
	}
}

// setting is the world that a command is called in.
type setting struct {
	stdin    string
	vars     map[string]string
	terminal bool
	builtins []builtin
	ctx      context.Context
	free     int64
	cards    cards
}

// nrt calls the program and returns exit status and output.
func (s setting) nrt(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if s.ctx == nil {
		s.ctx = t.Context()
	}
	e := &env{
		ctx: s.ctx, in: strings.NewReader(s.stdin), out: bufio.NewWriter(&out), err: &errs,
		getenv: func(k string) string { return s.vars[k] }, terminal: s.terminal, builtins: s.builtins,
		free: func() int64 { return s.free }, cards: s.cards,
	}
	code = execute(e, commands(), args)
	return code, out.String(), errs.String()
}

// ok is nrt for a call that must succeed.
func (s setting) ok(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := s.nrt(t, args...)
	if code != exitOK {
		t.Fatalf("nrt %s: exit %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// wordModel writes a tiny random model of words and returns its folder.
func wordModel(t *testing.T) string {
	t.Helper()
	tok, err := token.NewWordLevel(strings.Fields("who is the father of ann bob cid it was no yes . ?"), "<unk>",
		[]string{"<bos>", "<eos>", token.OpenText, token.CloseText})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	saveModel(t, dir, tok, llama.Config{
		ModelType: "llama", Vocab: tok.Size(), Hidden: 16, Intermediate: 32, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8,
		MaxPositions: 64, RMSEps: 1e-5, RopeTheta: 1000, TieEmbeddings: true,
		BOS: []int32{tok.BOS()}, EOS: []int32{tok.EOS()},
	})
	return dir
}

// saveModel writes random weights, sharper than an initialisation, so that
// chains and rewards differ.
func saveModel(t *testing.T, dir string, tok *token.Tokenizer, c llama.Config) {
	t.Helper()
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	m, err := llama.New(dev, c, 3)
	if err != nil {
		t.Fatal(err)
	}
	w := make([]float32, m.NumParams())
	dev.Read(w, m.Flat())
	for i := range w {
		if w[i] != 1 {
			w[i] *= 12
		}
	}
	dev.Write(m.Flat(), w)
	if err := errors.Join(m.Save(dir, safetensors.F32), tok.Save(dir), dev.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		errs string // a part of standard error
	}{
		{"", exitOK, ""},
		{"--help", exitOK, ""},
		{"help", exitOK, ""},
		{"help explain", exitOK, ""},
		{"explain -h", exitOK, ""},
		{"version", exitOK, ""},
		{"train --stepz 3", exitUsage, "there is no flag --stepz; did you mean --steps?"},
		{"explain --no-such-thing", exitUsage, "there is no flag --no-such-thing\n"},
		{"explian", exitUsage, `unknown command "explian"; did you mean explain?`},
		{"fly", exitUsage, `unknown command "fly"`},
		{"help fly", exitUsage, `unknown command "fly"`},
		{"version --fast", exitUsage, "-fast"},
		{"version now", exitUsage, `unexpected argument "now"`},
		{"train --data a.jsonl b.jsonl", exitUsage, `unexpected argument "b.jsonl": a flag takes one value, and for another it is given again`},
		{"train --data x --output=", exitUsage, "output.dir (--output): want the name of a folder, have none"},
		{"generate", exitUsage, "want either --prompt or --question"},
		{"generate --prompt a --question b", exitUsage, "want either --prompt or --question"},
		{"generate --prompt a --max-chain 5", exitUsage, "--max-chain: is for --question"},
		{"generate --prompt a --format plain", exitUsage, "--format: is for --question"},
		{"explain --question a --answer b --sample 2", exitUsage, "--sample: names a sample question"},
		{"generate --prompt a --n 0", exitUsage, "--n: want 1 to 1024, have 0"},
		{"generate --prompt a --n x", exitUsage, `nrt generate: --n: want a whole number, have "x"`},
		{"generate --prompt a --n 99999999999999999999", exitUsage, `--n: want a whole number nearer to 0, have "99999999999999999999"`},
		{"generate --prompt a --top-k 1.5", exitUsage, `--top-k: want a whole number from 0 on, have "1.5"`},
		{"explain --seed -1", exitUsage, `--seed: want a whole number from 0 to 18446744073709551615, have "-1"`},
		{"explain -seed=18446744073709551616", exitUsage, `--seed: want a whole number from 0 to 18446744073709551615, have "18446744073709551616"`},
		{"explain --temperature=warm", exitUsage, `--temperature: want a number, have "warm"`},
		{"explain --temperature 1e999", exitUsage, `--temperature: want a number nearer to 0, have "1e999"`},
		{"models --json=maybe", exitUsage, `--json: want true or false, have "maybe"`},
		{"models --json --model", exitUsage, "--model: want a value after it"},
		{"train --reward-clip=maybe", exitUsage, `--reward-clip: want true or false, have "maybe"`},
		{"train --seed=-1", exitUsage, `--seed: want a whole number >= 0, have "-1"`},
		{"train --weights q8", exitUsage, `nrt train: --weights: training keeps weights in f32, have "q8"`},
		{"explain --question a", exitUsage, "--question and --answer go together"},
		{"explain --k 0 --question a --answer b", exitUsage, "--k: want 1 to 1024, have 0"},
		{"explain --k 1000000", exitUsage, "--k: want 1 to 1024, have 1000000"},
		{"generate --prompt a --n 1000000", exitUsage, "--n: want 1 to 1024, have 1000000"},
		{"eval --k 1000000", exitUsage, "--k: want 1 to 1024, have 1000000"},
		{"train --data x --k 100000000", exitUsage, "rollout.k (--k): want 1 to 1024, have 100000000"},
		{"train --data x --eval-k 100000000", exitUsage, "eval.k (--eval-k): want 1 to 1024, have 100000000"},
		{"train --data x --questions 100000000", exitUsage, "rollout.questions (--questions): want 1 to 1000000, have 100000000"},
		{"explain --temperature -1", exitUsage, "--temperature: want 0 or more, have -1"},
		{"explain --temperature nan", exitUsage, "--temperature: want 0 or more, have NaN"},
		{"explain --top-p 2", exitUsage, "--top-p: want 0 to 1, have 2"},
		{"generate --prompt a --top-k -1", exitUsage, "--top-k: want 0 or more, have -1"},
		{"generate --prompt a --min-p nan", exitUsage, "--min-p: want 0 to 1, have NaN"},
		{"eval --temperature inf", exitUsage, "--temperature: want 0 or more, have +Inf"},
		{"explain --mode best", exitUsage, "--mode: reward mode: want one of"},
		{"explain --model nowhere", exitFailure, `model "nowhere": no such folder`},
		{"explain --model testdata", exitFailure, "holds no config.json"},
		{"explain --color red --question a --answer b", exitUsage, "--color: want auto"},
		{"tokenize --text a --ids 1", exitUsage, "want either --text or --ids"},
		{"logprobs --ids 1,x", exitUsage, `--ids: item 2: want a whole number, have "x"`},
		{"logprobs --ids 1 --top -1", exitUsage, "--top: want 0 or more"},
		{"score", exitUsage, "want --in"},
		{"score --in nowhere.jsonl", exitFailure, "nowhere.jsonl"},
		{"train --output x", exitUsage, "name at least one JSONL or Parquet file"},
		{"train --lr quick --data x", exitUsage, `nrt train: --lr: want a number, have "quick"`},
		{"train --data x --kl 0.1 --temperature 0.9", exitUsage, "objective.kl (--kl): want rollout.temperature 1"},
		{"train --data x --template foo", exitUsage, "model.template (--template): want one of llama3"},
		{"world --families foo", exitUsage, "--families: is for --study"},
		{"world --families foo --study x", exitUsage, `--families: want some of`},
		{"world --methods fly --study x", exitUsage, "--methods: "},
		{"world --keep-base", exitUsage, "--keep-base: is for --models"},
		{"world --docs 5", exitUsage, "--docs: is for --out or --models"},
		{"world --docs 0 --out x", exitUsage, "--docs: want 1 to 1000000000, have 0"},
		{"world --train 9999999999999 --out x", exitUsage, "--train: want 1 to 1000000, have 9999999999999"},
		{"world --steps 9999999999999 --study x", exitUsage, "--steps: want 1 to 100000, have 9999999999999"},
		{"eval --k 0", exitUsage, "--k: want 1 to 1024"},
		{"bench --shape huge", exitUsage, "--shape: want world, tiny, 15m, 135m, 1b, 3b, 8b"},
		{"bench --only train,fly", exitUsage, "--only: want parts of machine,matmul,"},
		{"bench --shape tiny --model world:nrt", exitUsage, "want one of them"},
		{"bench --seconds 0", exitUsage, "--seconds: want more than 0"},
		{"bench --seconds inf", exitUsage, "--seconds: want more than 0 and an end, have +Inf"},
		{"bench --only train,matmul --at 3", exitUsage, "--at: is for the part decode"},
		{"bench --only decode --text main.go", exitUsage, "--text: is for the part tokenizer"},
		{"bench --threads -1", exitUsage, "--threads: want 0 to 1024"},
		{"explain --device gpu", exitUsage, `want auto, cpu, cuda or cuda:N, have "gpu"`},
		{"explain --device cpu --dtype f16", exitUsage, `want auto, f32, bf16, have "f16"`},
		{"train --data x --device gpu", exitUsage, `train.device (--device): want auto, cpu, cuda or cuda:N, have "gpu"`},
		{"train --data x --dtype f16", exitUsage, "train.dtype (--dtype): want one of auto, f32, bf16"},
		{"train --data x --device cuda", exitUsage, "built without CUDA"},
		{"bench --model /nowhere", exitFailure, "no such folder"},
		{"generate --prompt a --model nowhere", exitFailure, `model "nowhere": no such folder, and no built-in model of that name (there are none)`},
		{"generate --prompt a --model org/llama", exitFailure, "(there are none); one of the Hugging Face hub must be fetched first"},
		{"generate --prompt a --model main.go", exitFailure, `model "main.go" is a file`},
		{"generate --prompt a --model testdata", exitFailure, `model "testdata": holds no config.json`},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, out, errs := setting{}.nrt(t, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(errs, c.errs) {
				t.Errorf("exit %d, %q; want %d, %q", code, errs, c.code, c.errs)
			}
			if (code == exitOK) != (errs == "") || (code == exitOK) != (out != "") {
				t.Errorf("exit %d with output %q and errors %q", code, out, errs)
			}
			if code == exitUsage && !strings.Contains(errs, "--help") {
				t.Errorf("a usage error does not name --help: %q", errs)
			}
		})
	}
}

// A flag that does not take every text says what it wants, under its own name, in
// every command.
func TestEveryFlagSaysWhatItWants(t *testing.T) {
	const nonsense = `a " for flag -x: b`
	for _, c := range commands() {
		f := newFlags(c.name)
		c.bind(f)
		f.set.VisitAll(func(g *flag.Flag) {
			if g.Value.Set(nonsense) == nil {
				return
			}
			code, out, errs := setting{}.nrt(t, c.name, "--"+g.Name+"="+nonsense)
			problem, ok := strings.CutPrefix(errs, "nrt "+c.name+": --"+g.Name+": ")
			if code != exitUsage || out != "" || !ok || !strings.Contains(problem, "want ") && g.Name != "weights" || !strings.Contains(problem, strconv.Quote(nonsense)) || strings.Contains(problem, "invalid") {
				t.Errorf("%s --%s: exit %d, %s", c.name, g.Name, code, errs)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	golden(t, "help/nrt.txt", setting{}.ok(t))
	for _, name := range []string{"explain", "generate", "score", "logprobs", "tokenize", "eval", "train", "world", "export", "words", "models", "devices", "bench", "version"} {
		have := setting{}.ok(t, name, "--help")
		golden(t, "help/"+name+".txt", have)
		if again := (setting{}).ok(t, "help", name); again != have {
			t.Errorf("nrt help %s differs from nrt %s --help", name, name)
		}
		if !strings.Contains(have, "--json") {
			continue
		}
		if late := (setting{}).ok(t, name, "--json", "--help"); late != have {
			t.Errorf("nrt %s --json --help differs: flags given before it change the defaults shown", name)
		}
	}
}

// Every command explains itself, and its examples use flags that exist.
func TestEveryCommandTeaches(t *testing.T) {
	names := regexp.MustCompile(`--([a-z0-9-]+)`)
	seen := map[string]bool{}
	for _, c := range commands() {
		if seen[c.name] {
			t.Errorf("%s: listed twice", c.name)
		}
		seen[c.name] = true
		f := newFlags(c.name)
		c.bind(f)
		usage := map[string]string{}
		for _, i := range f.list {
			usage[i.name] = i.usage
		}
		known := map[string]bool{"help": true}
		f.set.VisitAll(func(g *flag.Flag) { // those that another package declared, too
			known[g.Name] = true
			if usage[g.Name]+g.Usage == "" {
				t.Errorf("%s: --%s has no explanation", c.name, g.Name)
			}
		})
		if c.group == "" || c.short == "" || c.args == "" && c.name != "version" || len(c.examples) == 0 {
			t.Errorf("%s: group, short, args or examples is empty", c.name)
		}
		if strings.HasSuffix(c.short, ".") || len(c.short) > 66 {
			t.Errorf("%s: short: want no full stop and at most 66 characters: %q", c.name, c.short)
		}
		for _, x := range c.examples {
			if !strings.Contains(x, "nrt "+c.name) {
				t.Errorf("%s: example %q does not call it", c.name, x)
			}
			own, _, _ := strings.Cut(x, "| jq")
			for _, m := range names.FindAllStringSubmatch(own, -1) {
				if !known[m[1]] {
					t.Errorf("%s: example %q uses --%s, which does not exist", c.name, x, m[1])
				}
			}
		}
		for line := range strings.Lines(c.long) {
			if columns(line) > 83 {
				t.Errorf("%s: line of the explanation is wider than 82: %q", c.name, line)
			}
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	code, _, errs := setting{ctx: ctx}.nrt(t, "generate", "--model", wordModel(t), "--prompt", "who")
	if code != exitFailure || !strings.Contains(errs, "interrupted") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

// stopping ends a context once a file has been read from so many times.
type stopping struct {
	fs.FS
	file  string
	after int64
	reads *atomic.Int64
	stop  func()
}

type stoppingFile struct {
	fs.File
	of stopping
}

func (s stopping) Open(name string) (fs.File, error) {
	f, err := s.FS.Open(name)
	if err == nil && name == s.file {
		f = stoppingFile{f, s}
	}
	return f, err
}

func (f stoppingFile) ReadAt(p []byte, at int64) (int, error) {
	if f.of.reads.Add(1) == f.of.after {
		f.of.stop()
	}
	return f.File.(io.ReaderAt).ReadAt(p, at)
}

// A model is not read to its end once the command is interrupted.
func TestInterruptedWhileLoading(t *testing.T) {
	dir := wordModel(t)
	read := func(after int64) (int64, int, string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var reads atomic.Int64
		files := stopping{os.DirFS(dir), "model.safetensors", after, &reads, cancel}
		code, _, errs := setting{ctx: ctx, builtins: []builtin{{Name: "slow", Files: files}}}.nrt(t, "generate", "--model", "slow", "--prompt", "who", "--max-tokens", "1")
		return reads.Load(), code, errs
	}
	all, code, errs := read(-1)
	if code != exitOK || all < 10 {
		t.Fatalf("exit %d after %d reads\n%s", code, all, errs)
	}
	if reads, code, errs := read(all / 2); code != exitFailure || !strings.HasSuffix(errs, "nrt generate: interrupted\n") || reads != all/2 {
		t.Errorf("interrupted at read %d of %d: exit %d after %d reads\n%s", all/2, all, code, reads, errs)
	}
}

// What failed while a command was being interrupted is told: a checkpoint that could
// not be saved is not what a resume goes on from.
func TestInterruptedAndFailed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errs bytes.Buffer
	e := &env{ctx: ctx, out: bufio.NewWriter(&bytes.Buffer{}), err: &errs}
	fails := &command{name: "x", bind: func(*flags) func(*env) error {
		return func(*env) error { return errors.Join(ctx.Err(), errors.New("no space left on device")) }
	}}
	if code := execute(e, []*command{fails}, []string{"x"}); code != exitFailure || !strings.Contains(errs.String(), "no space left") {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

// What was interrupted leaves no part of a file.
func TestInterruptedWorldLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	code, _, errs := setting{ctx: ctx}.nrt(t, "world", "--out", dir, "--docs", "1000000000")
	if code != exitFailure || !strings.Contains(errs, "interrupted") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// What is written is what the small world draws, and no question of a test twice.
func TestWorldOut(t *testing.T) {
	dir := t.TempDir()
	setting{}.ok(t, "world", "--out", dir, "--docs", "9", "--train", "21", "--tests", "1700", "--world-seed", "2")
	w := world.New(2)
	for name, want := range map[string][]world.Item{
		"train.jsonl": w.Train(21, 1), "heldout.jsonl": world.Distinct(w.HeldOut(1700, 1)), "longer.jsonl": w.Longer(1700, 1),
	} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		have, err := world.ReadItems(bytes.NewReader(raw), name)
		if err != nil || !reflect.DeepEqual(have, want) || name == "heldout.jsonl" && len(have) == 1700 {
			t.Errorf("%s: %d items, want %d, %v", name, len(have), len(want), err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "text.jsonl"))
	if n := bytes.Count(raw, []byte("\n")); err != nil || n != 9 {
		t.Errorf("%d documents, %v", n, err)
	}
}

// A study that is stopped leaves the trials that had ended, and no file where
// none had.
func TestStoppedStudy(t *testing.T) {
	var out, errs bytes.Buffer
	e := &env{out: bufio.NewWriter(&out), err: &errs}
	path := filepath.Join(t.TempDir(), "study.json")
	if err := e.writeStudy(path, nil, false); err != nil || isFile(path) {
		t.Errorf("no trial: %v", err)
	}
	trials := []*recipe.Trial{{Method: "sft", Seed: 1}, {Method: "sft", Seed: 2}}
	if err := errors.Join(e.writeStudy(path, trials, false), e.out.Flush()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	var have []recipe.Trial
	if err == nil {
		err = json.Unmarshal(raw, &have)
	}
	if err != nil || len(have) != 2 || have[1].Seed != 2 || !strings.Contains(errs.String(), "holds the 2 trials that had ended") || !strings.Contains(out.String(), "| sft |") {
		t.Errorf("%v, %d trials, %q, %q", err, len(have), errs.String(), out.String())
	}
}

func TestRefusedAtOnce(t *testing.T) {
	known, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	dir, file, damaged := t.TempDir(), filepath.Join(t.TempDir(), "file"), wordModel(t)
	writeFile(t, file, "kept")
	good, wordless, runs := lines(t, whoIs), wordModel(t), t.TempDir()
	if err := os.Mkdir(filepath.Join(runs, "nrt"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(runs, "nrt", "metrics.jsonl"), "{}\n")
	if err := os.Remove(filepath.Join(wordless, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(damaged, "model.safetensors"), 900); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"explain", "--threads", "1000000", "--model", wordModel(t), "--question", "who", "--answer", "no"}, exitUsage, "--threads: want 0 to 1024, have 1000000"},
		{[]string{"train", "--threads", "1000000", "--data", "x"}, exitUsage, "train.threads (--threads): want 0 to 1024, have 1000000"},
		{[]string{"train", "--output", dir}, exitUsage, "data.train (--data): name at least one JSONL or Parquet file"},
		{[]string{"world", "--study", filepath.Join(dir, "none", "study.json")}, exitFailure, "no such file"},
		{[]string{"world", "--study", dir}, exitFailure, "is a folder"},
		{[]string{"world", "--study", file}, exitFailure, "--study: " + file + " exists; name a new file, or remove it"},
		{[]string{"world", "--study", filepath.Join(file, "study.json")}, exitFailure, "--study: open " + file + "/study.json: not a directory"},
		{[]string{"world", "--study", filepath.Join(dir, "study.json"), "--base", damaged}, exitFailure, "--base: model \"" + damaged + "\" was not made for the small world: its token 0 is"},
		{[]string{"world", "--study", filepath.Join(dir, "study.json"), "--base", wordless}, exitFailure, "holds no tokenizer.json"},
		{[]string{"world", "--out", filepath.Join(file, "w")}, exitFailure, "--out: " + file + " is a file, want a folder"},
		{[]string{"world", "--models", file}, exitFailure, "--models: " + file + " is a file, want a folder"},
		{[]string{"world", "--models", runs}, exitFailure, "--models: " + filepath.Join(runs, "nrt") + " is a training run"},
		{[]string{"bake", "--out", filepath.Join(dir, "none", "baked.json")}, exitFailure, "--out: open " + dir + "/none/baked.json: no such file"},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", file}, exitFailure, "output.dir (--output): " + file + " is a file, want a folder"},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", filepath.Join(file, "a", "b")}, exitFailure, "output.dir (--output): " + file + " is a file, want a folder"},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", filepath.Join(dir, strings.Repeat("x", 300))}, exitFailure, "output.dir (--output): " + dir},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", filepath.Join(dir, "a", "b")}, exitFailure, "nowhere.jsonl"},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", filepath.Join(dir, "a", "b"), "--resume=auto"}, exitFailure, "nowhere.jsonl"},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", filepath.Join(dir, "a"), "--resume=yes"}, exitUsage, `output.resume (--resume): want latest, auto or the folder of a checkpoint, have "yes"`},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", dir, "--resume=yes"}, exitUsage, `output.resume (--resume): want latest, auto or the folder of a checkpoint, have "yes"`},
		{[]string{"train", "--data", "nowhere.jsonl", "--output", dir, "--resume", file}, exitUsage, `output.resume (--resume): want latest, auto or the folder of a checkpoint, have "` + file + `"`},
		{[]string{"export", "--model", damaged, "--output", filepath.Join(dir, "a", "b")}, exitFailure, "model.safetensors"},
		{[]string{"train", "--data", good, "--output", filepath.Join(dir, "a"), "--eval-data", "nowhere.jsonl"}, exitFailure, "open nowhere.jsonl: no such file"},
		{[]string{"train", "--data", good, "--output", filepath.Join(dir, "a"), "--data", dir}, exitFailure, dir + " is a folder: name the files in it"},
		{[]string{"train", "--data", good, "--output", filepath.Join(dir, "a"), "--tokenizer", "nowhere"}, exitFailure, "model.tokenizer (--tokenizer): tokenizer of nowhere"},
		{[]string{"train", "--data", good, "--output", filepath.Join(dir, "a"), "--model", wordless}, exitFailure, "model.path (--model) " + wordless + ": holds no tokenizer.json"},
		{[]string{"train", "--data", good, "--output", filepath.Join(dir, "a"), "--vocab", "100"}, exitUsage, "model.vocab (--vocab): want at least 260"},
		{[]string{"eval", "--data", "nowhere.jsonl", "--model", damaged}, exitFailure, "nowhere.jsonl"},
		{[]string{"score", "--in", dir, "--model", damaged}, exitFailure, dir + " is a folder: name the files in it"},
		{[]string{"bench", "--text", "nowhere.txt", "--model", damaged}, exitFailure, "--text: read data: open nowhere.txt"},
	} {
		code, _, errs := setting{builtins: known}.nrt(t, c.args...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("nrt %s: exit %d, %q", strings.Join(c.args, " "), code, errs)
		}
		if strings.Contains(errs, "training examples") {
			t.Errorf("nrt %s reads the data first: %q", strings.Join(c.args, " "), errs)
		}
		if strings.Contains(errs, ".tmp") || strings.Contains(errs, "partial") {
			t.Errorf("nrt %s names what it did not ask for: %q", strings.Join(c.args, " "), errs)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestVersionFlag(t *testing.T) {
	if have := (setting{}).ok(t, "--version"); !strings.HasPrefix(have, "nrt "+version) {
		t.Errorf("have %q", have)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestUnwritableOutputFails(t *testing.T) {
	var errs bytes.Buffer
	e := &env{ctx: t.Context(), out: bufio.NewWriter(full{}), err: &errs, getenv: func(string) string { return "" }}
	if code := execute(e, commands(), []string{"version"}); code != exitFailure || !strings.Contains(errs.String(), "no space left") {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"score", "score", 0}, {"score", "scroe", 2}, {"eval", "evil", 1}, {"kitten", "sitting", 3}} {
		if have := distance(c.a, c.b); have != c.want {
			t.Errorf("%q → %q: have %d, want %d", c.a, c.b, have, c.want)
		}
		if distance(c.a, c.b) != distance(c.b, c.a) {
			t.Errorf("%q, %q: not symmetric", c.a, c.b)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
