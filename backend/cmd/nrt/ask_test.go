package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nrt/trainer/verdict"
)

// decode reads JSON into v and refuses fields that v lacks.
func decode(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}

func near(a, b verdict.Number) bool { return math.Abs(float64(a-b)) < 1e-9 }

func TestVersionJSON(t *testing.T) {
	var v struct {
		Version, Go, Platform, Device string
		CUDA                          *bool
	}
	decode(t, setting{}.ok(t, "version", "--json"), &v)
	if v.Version == "" || v.Go == "" || v.Platform == "" || v.Device == "" || v.CUDA == nil || *v.CUDA {
		t.Errorf("have %+v", v)
	}
}

func TestTokenize(t *testing.T) {
	dir := wordModel(t)
	// Only the tokenizer is read.
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	text := "who  is ann ?"
	type result struct {
		Model  string
		IDs    []int32
		Tokens []piece
	}
	var r result
	decode(t, setting{}.ok(t, "tokenize", "--model", dir, "--text", text, "--json"), &r)
	if len(r.IDs) != 4 || len(r.Tokens) != 4 {
		t.Fatalf("have %+v", r)
	}
	for i, p := range r.Tokens {
		if p.ID != r.IDs[i] || text[p.Start:p.End] != p.Text {
			t.Errorf("token %d: %+v does not fit %q", i, p, text)
		}
	}
	var again result
	decode(t, setting{stdin: text}.ok(t, "tokenize", "--model", dir, "--text", "-", "--json"), &again)
	if !reflect.DeepEqual(r, again) {
		t.Errorf("from standard input: have %+v, want %+v", again, r)
	}
	decode(t, setting{}.ok(t, "tokenize", "--model", dir, "--text", text, "--special", "--json"), &again)
	if n := len(again.Tokens) - len(r.Tokens); n != 1 || !reflect.DeepEqual(again.Tokens[n:], r.Tokens) || again.Tokens[0].Piece != "<bos>" || again.Tokens[0].End != 0 {
		t.Errorf("--special: have %+v, want one more before %+v", again, r)
	}
	var back struct {
		Model string
		IDs   []int32
		Text  string
	}
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(r.IDs), " ", ","), "[]")
	decode(t, setting{}.ok(t, "tokenize", "--model", dir, "--ids", list, "--json"), &back)
	if back.Text != "who is ann ?" {
		t.Errorf("--ids %s: have %q", list, back.Text)
	}
	if code, _, errs := (setting{}).nrt(t, "tokenize", "--model", dir, "--ids", "1,9999"); code != exitFailure || !strings.Contains(errs, "item 2 is 9999") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

type logprobsResult struct {
	Model   string
	Tokens  []position
	LogProb verdict.Number
}

func TestLogprobs(t *testing.T) {
	dir := wordModel(t)
	var r logprobsResult
	decode(t, setting{}.ok(t, "logprobs", "--model", dir, "--text", "who is ann", "--top", "3", "--json"), &r)
	if len(r.Tokens) < 3 {
		t.Fatalf("have %+v", r)
	}
	sum := verdict.Number(0)
	for i, p := range r.Tokens {
		if i == 0 {
			if p.LogProb != nil || p.Entropy != nil || len(p.Top) != 0 {
				t.Errorf("token 0 has a log-probability: %+v", p)
			}
			continue
		}
		sum += *p.LogProb
		if *p.LogProb > 0 || *p.Entropy < 0 || len(p.Top) != 3 {
			t.Errorf("token %d: %+v", i, p)
		}
		for j := 1; j < len(p.Top); j++ {
			if p.Top[j].LogProb > p.Top[j-1].LogProb {
				t.Errorf("token %d: alternatives are not in order: %+v", i, p.Top)
			}
		}
	}
	if !near(sum, r.LogProb) {
		t.Errorf("logprob is %v, the tokens sum to %v", r.LogProb, sum)
	}

	// The same ids without a tokenizer give the same numbers and no text.
	ids := make([]string, len(r.Tokens))
	for i, p := range r.Tokens {
		ids[i] = fmt.Sprint(p.ID)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var bare logprobsResult
	decode(t, setting{}.ok(t, "logprobs", "--model", dir, "--ids", strings.Join(ids, ","), "--top", "3", "--json"), &bare)
	for i := range r.Tokens {
		r.Tokens[i].Text = ""
		for j := range r.Tokens[i].Top {
			r.Tokens[i].Top[j].Text = ""
		}
	}
	if !reflect.DeepEqual(bare, r) {
		t.Errorf("without a tokenizer: have %+v, want %+v", bare, r)
	}
	setting{}.ok(t, "logprobs", "--model", dir, "--ids", strings.Join(ids, " "))
	for args, want := range map[string]string{
		"logprobs --text who":                              "holds no tokenizer.json",
		"logprobs --ids 1,99":                              "id 99, vocabulary has",
		"generate --prompt who":                            "holds no tokenizer.json",
		"tokenize --text who":                              "tokenizer.json",
		"logprobs --ids " + strings.Repeat("1,", 64) + "1": "65 tokens; the model reads at most 64",
	} {
		if code, _, errs := (setting{}).nrt(t, append(strings.Fields(args), "--model", dir)...); code != exitFailure || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q; want %q", args, code, errs, want)
		}
	}
}

type generateResult struct {
	Model, Prompt, Question string
	Seed                    uint64
	Completions             []completion
}

func TestGenerate(t *testing.T) {
	dir := wordModel(t)
	var r, again, other generateResult
	call := func(seed string) string {
		return setting{}.ok(t, "generate", "--model", dir, "--prompt", "who is", "--n", "3", "--max-tokens", "7", "--seed", seed, "--json")
	}
	decode(t, call("5"), &r)
	decode(t, call("5"), &again)
	decode(t, call("6"), &other)
	if !reflect.DeepEqual(r, again) {
		t.Error("the same seed gives other tokens")
	}
	if reflect.DeepEqual(r.Completions, other.Completions) {
		t.Error("another seed gives the same tokens")
	}
	if len(r.Completions) != 3 || r.Prompt != "who is" || r.Seed != 5 {
		t.Fatalf("have %+v", r)
	}
	for _, c := range r.Completions {
		sum := verdict.Number(0)
		for _, x := range c.Tokens {
			sum += x.LogProb
		}
		if len(c.Tokens) == 0 || len(c.Tokens) > 7 || !near(sum, c.LogProb) || c.Answer != nil {
			t.Errorf("have %+v", c)
		}
		if c.Finish != "length" && c.Finish != "stop" {
			t.Errorf("finish %q", c.Finish)
		}
	}

	// What is printed as it comes is what JSON says.
	text := setting{}.ok(t, "generate", "--model", dir, "--prompt", "who is", "--n", "3", "--max-tokens", "7", "--seed", "5")
	for _, c := range r.Completions {
		if !strings.Contains(text, "\n"+strings.TrimRight(c.Text, " ")) {
			t.Errorf("%q is not in\n%s", c.Text, text)
		}
	}
}

func TestGenerateAnswersAQuestion(t *testing.T) {
	dir := wordModel(t)
	var r generateResult
	decode(t, setting{}.ok(t, "generate", "--model", dir, "--question", "who is ann ?", "--n", "2", "--max-chain", "6", "--max-tokens", "4", "--json"), &r)
	if len(r.Completions) != 2 || r.Question != "who is ann ?" || r.Prompt != "" {
		t.Fatalf("have %+v", r)
	}
	for _, c := range r.Completions {
		if len(c.Tokens) > 6 || c.Answer == nil || len(c.Answer.Tokens) == 0 || len(c.Answer.Tokens) > 4 {
			t.Errorf("have %+v", c)
		}
	}
	// By default what is asked for fits the model's 64 positions.
	setting{}.ok(t, "generate", "--model", dir, "--question", "who is ann ?")
	setting{}.ok(t, "generate", "--model", dir, "--prompt", "who")
	if code, _, errs := (setting{}).nrt(t, "generate", "--model", dir, "--prompt", "who", "--max-tokens", "100"); code != exitUsage || !strings.Contains(errs, "--max-tokens: want at most 62") {
		t.Errorf("exit %d, %q", code, errs)
	}
}
