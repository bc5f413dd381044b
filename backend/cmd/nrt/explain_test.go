package main

import (
	"bufio"
	"math"
	"os"
	"strings"
	"testing"
	"unicode"

	"nrt/backend/engine"
	"nrt/backend/llama"
	"nrt/backend/token"
	"nrt/trainer/reward"
	"nrt/trainer/verdict"
)

func explainSetting(t *testing.T) setting {
	return setting{builtins: []builtin{{
		Name: "world:tiny", About: "random weights", Files: os.DirFS(wordModel(t)),
		Samples: []sample{{"who is the father of ann ?", "it is bob ."}, {"who is bob ?", "no ."}},
	}}}
}

func TestExplain(t *testing.T) {
	s := explainSetting(t)
	args := []string{"explain", "--model", "world:tiny", "--k", "4", "--max-chain", "9", "--seed", "2"}
	var v verdict.Verdict
	decode(t, s.ok(t, append(args, "--json")...), &v)
	if v.Question != "who is the father of ann ?" || v.Answer != "it is bob ." || len(v.Chains) != 4 || len(v.Tokens) != 5 {
		t.Fatalf("have %+v", v)
	}
	answer := ""
	for _, x := range v.Tokens {
		answer += x.Text
	}
	if answer != "it is bob . <eos>" {
		t.Errorf("answer tokens spell %q", answer)
	}
	text := s.ok(t, args...)
	for _, want := range []string{"reward ws-logp · 4 chains", "who is the father of ann ?", "\nrank  chain  tokens", "R_base", "\nWhere the reward of chain"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colour codes without a terminal")
	}
	for _, c := range v.Chains {
		if first, _, _ := strings.Cut(c.Text, " "); !strings.Contains(text, first) || strings.Contains(c.Text, token.CloseText) {
			t.Errorf("chain %q is not in\n%s", c.Text, text)
		}
	}

	// Colour changes nothing but colour, and NO_COLOR takes it away.
	s.terminal, s.vars = true, map[string]string{"COLORTERM": "truecolor"}
	painted := s.ok(t, args...)
	if !strings.Contains(painted, "\x1b[48;2;") || unpainted(painted) != text {
		t.Errorf("with colour:\n%q\nwithout:\n%q", painted, text)
	}
	s.vars["COLORTERM"], s.vars["TERM"] = "", "xterm-256color"
	if painted = s.ok(t, args...); !strings.Contains(painted, "\x1b[48;5;") || unpainted(painted) != text {
		t.Errorf("with 256 colours:\n%q", painted)
	}
	s.vars["NO_COLOR"] = "1"
	if plain := s.ok(t, args...); plain != text {
		t.Errorf("with NO_COLOR:\n%q", plain)
	}

	decode(t, s.ok(t, append(args, "--sample", "2", "--json")...), &v)
	if v.Question != "who is bob ?" {
		t.Errorf("--sample 2 asks %q", v.Question)
	}
	if code, _, errs := s.nrt(t, append(args, "--sample", "3")...); code != exitUsage || !strings.Contains(errs, "--sample: want 1 to 2") {
		t.Errorf("exit %d, %q", code, errs)
	}
	if one := s.ok(t, append(args, "--k", "1")...); !strings.Contains(one, "No gradient from this group.") || !strings.Contains(one, " · 1 chain · ") {
		t.Errorf("one chain alone:\n%s", one)
	}
}

// unpainted takes the escape sequences away.
func unpainted(s string) string {
	var b strings.Builder
	for s != "" {
		before, after, ok := strings.Cut(s, "\x1b[")
		b.WriteString(before)
		if !ok {
			break
		}
		_, s, _ = strings.Cut(after, "m")
	}
	return b.String()
}

// render prints an explanation of invented log-probabilities, so that it does
// not depend on a machine's arithmetic.
func render(t *testing.T, d depth, o reward.Options, b []float64, c ...[]float64) string {
	t.Helper()
	tok, err := token.NewWordLevel(strings.Fields("it is bob . because ann"), "<unk>", []string{"<bos>", "<eos>", token.OpenText, token.CloseText})
	if err != nil {
		t.Fatal(err)
	}
	form, err := tok.Format("world")
	if err != nil {
		t.Fatal(err)
	}
	ids := form.Answer("it is bob .")
	tokens := func(p []float64) (list []engine.Token) {
		for i, x := range p {
			list = append(list, engine.Token{ID: ids[i], LogProb: math.Log(x)})
		}
		return list
	}
	res := engine.Result{Baseline: tokens(b)}
	req := engine.Request{Stop: form.End}
	var out strings.Builder
	e := &env{ctx: t.Context(), out: bufio.NewWriter(&out), getenv: func(string) string { return "" }}
	p := &explainer{env: e, depth: d, tok: tok, mode: o.Mode, req: &req}
	show := p.chains()
	for k, s := range c {
		chain := engine.Chain{Reference: tokens(s), Closed: k != 1, Finish: "close"}
		for i, id := range append(tok.Encode("ann because bob"), form.Close...) {
			x := engine.Token{ID: id}
			if k != 1 || i < 3 {
				chain.Tokens = append(chain.Tokens, x)
				show(engine.Event{Chain: k, Index: i, Token: x})
			} else {
				show(engine.Event{Chain: k, Part: engine.PartBoundary, Token: x})
			}
		}
		show(engine.Event{Chain: k, Part: engine.PartEnd})
		res.Chains = append(res.Chains, chain)
	}
	l := &loaded{name: "world:test", tok: tok}
	v, g, err := l.judge("who ?", "it is bob .", form, ids, res, o)
	if err != nil {
		t.Fatal(err)
	}
	p.strips(v, g)
	p.table(v, g)
	p.why(v, g)
	if err := e.out.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestExplainLooks(t *testing.T) {
	b := []float64{0.9, 0.8, 0.1, 0.7, 0.99}
	good, bad, worse := []float64{0.95, 0.8, 0.75, 0.9, 0.99}, []float64{0.85, 0.3, 0.12, 0.2, 0.9}, []float64{0.3, 0.3, 0.01, 0.2, 0.9}
	o := reward.Options{Mode: reward.WSLogP, Clip: true}
	golden(t, "explain.plain.txt", render(t, plain, o, b, bad, good, worse))
	golden(t, "explain.256.txt", render(t, palette, o, b, bad, good, worse))
	golden(t, "explain.true.txt", render(t, trueColor, o, b, bad, good, worse))
	golden(t, "explain.clipped.txt", render(t, plain, o, b, worse, worse))
	golden(t, "explain.gm.txt", render(t, plain, reward.Options{Mode: reward.GM, Clip: true}, b, bad, good, worse))
}

// byteModel has a byte-level tokenizer, in which characters may be cut.
func byteModel(t *testing.T) string {
	t.Helper()
	tok, err := token.TrainBPE(func(yield func(string) bool) { yield("the answer is here") },
		token.TrainOptions{Vocab: 270, Pattern: "gpt2", Special: []string{"<bos>", "<eos>", token.OpenText, token.CloseText}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	saveModel(t, dir, tok, llama.Config{
		ModelType: "llama", Vocab: tok.Size(), Hidden: 8, Intermediate: 16, Layers: 1, Heads: 1, KVHeads: 1, HeadDim: 8,
		MaxPositions: 96, RMSEps: 1e-5, RopeTheta: 1000, TieEmbeddings: true,
	})
	return dir
}

// Tokens that are parts of characters keep a score each; their texts joined are
// the answer.
func TestCutCharactersKeepTheirScores(t *testing.T) {
	dir := byteModel(t)
	var v verdict.Verdict
	decode(t, setting{}.ok(t, "explain", "--model", dir, "--question", "the", "--answer", "é🙂", "--k", "2", "--max-chain", "4", "--json"), &v)
	text := ""
	for _, x := range v.Tokens {
		text += x.Text
	}
	if len(v.Tokens) != 7 || len(v.Chains[0].C) != 7 || text != "é🙂<eos>" {
		t.Errorf("tokens %+v, c %v", v.Tokens, v.Chains[0].C)
	}
	setting{}.ok(t, "explain", "--model", dir, "--question", "the", "--answer", "é🙂", "--k", "2", "--max-chain", "4")
	setting{}.ok(t, "generate", "--model", dir, "--prompt", "é🙂", "--max-tokens", "40", "--n", "3")
}

func TestNumbersOfThings(t *testing.T) {
	short := setting{}.ok(t, "explain", "--model", wordModel(t), "--question", "who is ann ?", "--answer", "it is bob .", "--k", "3", "--max-chain", "1", "--temperature", "2")
	if !strings.Contains(short, "(cut off after 1 token)") || strings.Contains(short, " 1 tokens") {
		t.Errorf("have\n%s", short)
	}
	for n, want := range map[int]string{0: "0 chains", 1: "1 chain", 2: "2 chains"} {
		if have := plural(n, "chain"); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
}

// What is asked, answered or written may hold control characters; a terminal
// sees none of them.
func TestControlCharactersAreShown(t *testing.T) {
	const evil = "who\x1b]0;title\x07 is\x1b[31m\r ann\u009b2J\tx\nnow"
	dir := byteModel(t)
	text := setting{}.ok(t, "explain", "--model", dir, "--question", evil, "--answer", "a\x1b[2Jb", "--k", "8", "--max-chain", "40")
	for _, r := range text {
		if r != '\n' && unicode.IsControl(r) {
			t.Fatalf("%q is in\n%q", r, text)
		}
	}
	if !strings.Contains(text, "who�]0;title� is�[31m� ann�2J⇥x\n           now") || !strings.Contains(text, "a�[2Jb") {
		t.Errorf("have\n%s", text)
	}
}
