package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"nrt/backend/engine"
	"nrt/trainer/reward"
	"nrt/trainer/verdict"
	"nrt/web/wire"
)

type object = map[string]any

// post sends a body to /v1; headers are "Name: value". The allowance starts anew.
func (r *rig) post(path string, body any, headers ...string) (*http.Response, string) {
	r.t.Helper()
	r.rates.mu.Lock()
	r.rates.of = nil
	r.rates.mu.Unlock()
	raw, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		raw = string(b)
	}
	return r.send(http.MethodPost, "/v1/"+path, strings.NewReader(raw), append([]string{"Content-Type: application/json"}, headers...))
}

// told is what an error says.
func told(t testing.TB, body string) (e struct {
	Message string
	Type    string
	Param   *string
	Code    *string
}) {
	t.Helper()
	var out struct{ Error any }
	out.Error = &e
	if err := json.Unmarshal([]byte(body), &out); err != nil || e.Message == "" || e.Type == "" {
		t.Fatalf("no error of /v1: %q, %v", body, err)
	}
	return e
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// chatRequest is the rig's question with changes; a nil value takes a field out.
func chatRequest(changes object) object {
	q := object{"model": "world:base", "messages": []object{{"role": "user", "content": question().Question}}, "seed": 7}
	return changed(q, changes)
}

func textRequest(changes object) object {
	return changed(object{"model": "world:base", "prompt": question().Question, "seed": 7, "max_tokens": 12}, changes)
}

func scoreRequest(changes object) object {
	return changed(object{"model": "world:base", "question": question().Question, "answer": question().Answer, "chains": []string{"well", "", question().Answer}}, changes)
}

func changed(q, changes object) object {
	for k, v := range changes {
		if q[k] = v; v == nil {
			delete(q, k)
		}
	}
	return q
}

// good posts and decodes.
func good[T any](r *rig, path string, body any) (out T) {
	r.t.Helper()
	resp, text := r.post(path, body)
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		r.t.Fatalf("%s: %v in %s", path, err, text)
	}
	return out
}

// events are the data of a stream.
func events(t testing.TB, body string) (list []string) {
	t.Helper()
	for e := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		data, ok := strings.CutPrefix(e, "data: ")
		if !ok || strings.Contains(data, "\n") {
			t.Fatalf("event %q", e)
		}
		list = append(list, data)
	}
	return list
}

func TestV1Models(t *testing.T) {
	r := start(t, nil)
	_, body := r.get("/v1/models")
	if want := `{"object":"list","data":[{"id":"world:base","object":"model","created":0,"owned_by":"nrt"}]}`; strings.TrimSpace(body) != want {
		t.Errorf("have %s", body)
	}
}

// TestV1ChatIsTheAsk: the same seed gives the texts and numbers that the websocket
// gives, for every choice.
func TestV1ChatIsTheAsk(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	finishes := map[string]int{}
	for i, change := range []func(*wire.Ask, object){
		func(*wire.Ask, object) {},
		func(a *wire.Ask, q object) { a.Temperature = 0; q["temperature"] = 0 },
		func(a *wire.Ask, q object) { a.TopP, a.Seed = 0.7, 9; q["top_p"], q["seed"] = 0.7, 9 },
		func(a *wire.Ask, q object) { a.MaxChain = 8; q["max_tokens"] = 12 },
		func(a *wire.Ask, q object) { a.MaxChain = 40; q["max_tokens"], q["max_completion_tokens"] = 60, 60 },
	} {
		ask := question()
		ask.K, ask.MaxChain = 4, 512
		q := chatRequest(object{"n": 4, "logprobs": true, "top_logprobs": 2})
		change(ask, q)
		h := asked(t, c, ask)
		out := good[chatWhole](r, "chat/completions", q)
		if len(out.Choices) != 4 {
			t.Fatalf("%d choices", len(out.Choices))
		}
		used, reasoned := 0, 0
		for k, x := range out.Choices {
			chain, answer := h.tokens[fmt.Sprintf("%d/chain", k)], h.tokens[fmt.Sprintf("%d/answer", k)]
			finishes[x.Finish]++
			text := strings.TrimSuffix(h.texts[fmt.Sprintf("%d/chain", k)], " </think>")
			if x.Message.Reasoning != strings.TrimSuffix(text, " <eos>") || x.Message.Role != "assistant" {
				t.Errorf("%d: choice %d: chain %q, want %q", i, k, x.Message.Reasoning, text)
			}
			if x.Finish == "stop" && x.Message.Content != h.done[k].Answer || !strings.HasPrefix(h.done[k].Answer, x.Message.Content) {
				t.Errorf("%d: choice %d: answer %q, want %q", i, k, x.Message.Content, h.done[k].Answer)
			}
			same := func(what, whole string, have []chatToken, want []engine.Token) {
				joined := ""
				for j, x := range have {
					joined += x.Token
					if x.LogProb != want[j].LogProb || len(x.Top) != 2 || x.Top[0].LogProb < x.Top[1].LogProb {
						t.Errorf("%d: choice %d: %s token %d: %+v, want %g", i, k, what, j, x, want[j].LogProb)
					}
				}
				if joined != whole {
					t.Errorf("%d: choice %d: %s tokens join to %q, not %q", i, k, what, joined, whole)
				}
			}
			same("chain", x.Message.Reasoning, x.LogProbs.Reasoning, chain)
			same("answer", x.Message.Content, x.LogProbs.Content, answer)
			used += len(chain) + min(len(answer), len(x.LogProbs.Content)+1)
			reasoned += len(chain)
		}
		if u := out.Usage; u.Details.Reasoning != reasoned || u.Completion > used || u.Total != u.Prompt+u.Completion || u.Prompt == 0 {
			t.Errorf("%d: usage %+v, want %d of reasoning of %d", i, u, reasoned, used)
		}
	}
	if finishes["stop"] == 0 || finishes["length"] == 0 {
		t.Errorf("finishes %v: the test needs both sorts", finishes)
	}
}

// TestV1SameBytes: the same request with a seed gives the same bytes, streamed or
// not; without a seed the answer names the one that repeats it.
func TestV1SameBytes(t *testing.T) {
	r := start(t, nil)
	for path, q := range map[string]object{
		"chat/completions": chatRequest(object{"n": 3, "logprobs": true}),
		"completions":      textRequest(object{"n": 3, "logprobs": 2, "prompt": []string{"who", "is"}}),
		"score":            scoreRequest(object{"chains": nil, "n": 3}),
	} {
		streams := []bool{false}
		if path != "score" {
			streams = append(streams, true)
		}
		for _, stream := range streams {
			if delete(q, "stream"); stream {
				q["stream"] = true
			}
			_, a := r.post(path, q)
			_, b := r.post(path, q)
			if a != b || strings.Contains(a, `"error"`) {
				t.Errorf("%s: have\n%s\nand\n%s", path, a, b)
			}
		}
	}
	first := good[chatWhole](r, "chat/completions", chatRequest(object{"seed": nil}))
	again := good[chatWhole](r, "chat/completions", chatRequest(object{"seed": first.Seed}))
	if !reflect.DeepEqual(first.Choices, again.Choices) || first.Seed == 0 {
		t.Errorf("seed %d does not repeat the answer", first.Seed)
	}
}

// TestV1StreamIsTheWhole: chunks join to what is not streamed, tokens and all.
func TestV1StreamIsTheWhole(t *testing.T) {
	r := start(t, nil)
	for _, tokens := range []bool{false, true} {
		q := chatRequest(object{"n": 3, "logprobs": tokens, "max_tokens": 20})
		want := good[chatWhole](r, "chat/completions", q)
		q["stream"], q["stream_options"] = true, object{"include_usage": true}
		resp, body := r.post("chat/completions", q)
		if resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("headers %v", resp.Header)
		}
		list := events(t, body)
		if n := len(list); list[n-1] != "[DONE]" {
			t.Fatalf("ends with %q", list[n-1])
		}
		have := make([]chatChoice, 3)
		for i, e := range list[:len(list)-1] {
			var c chatChunk
			if err := json.Unmarshal([]byte(e), &c); err != nil || c.Object != "chat.completion.chunk" {
				t.Fatalf("%q: %v", e, err)
			}
			if last := i == len(list)-2; last {
				var u usage
				b, _ := json.Marshal(c.Usage)
				if err := json.Unmarshal(b, &u); err != nil || u != *want.Usage || len(c.Choices) != 0 {
					t.Errorf("usage %s, want %+v", b, want.Usage)
				}
				continue
			} else if len(c.Choices) != 1 || !strings.Contains(e, `"usage":null`) {
				t.Fatalf("%q", e)
			}
			d := c.Choices[0]
			x := &have[d.Index]
			x.Index = d.Index
			x.Message.Role += d.Delta.Role
			x.Message.Content += value(d.Delta.Content)
			x.Message.Reasoning += value(d.Delta.Reasoning)
			x.Finish += value(d.Finish)
			if tokens && x.LogProbs == nil {
				x.LogProbs = &chatLogProbs{[]chatToken{}, []chatToken{}}
			}
			if d.LogProbs != nil {
				x.LogProbs.Content = append(x.LogProbs.Content, d.LogProbs.Content...)
				x.LogProbs.Reasoning = append(x.LogProbs.Reasoning, d.LogProbs.Reasoning...)
			}
		}
		if !reflect.DeepEqual(have, want.Choices) {
			t.Errorf("have %+v\nwant %+v", have, want.Choices)
		}

		p := textRequest(object{"n": 2, "prompt": []string{"who is", "the father"}, "max_tokens": 30, "stop": "a"})
		if tokens {
			p["logprobs"] = 3
		}
		whole := good[textWhole](r, "completions", p)
		p["stream"] = true
		_, body = r.post("completions", p)
		joined := make([]textChoice, 4)
		list = events(t, body)
		for _, e := range list[:len(list)-1] {
			var c textWhole
			if err := json.Unmarshal([]byte(e), &c); err != nil || c.Usage != nil {
				t.Fatalf("%q: %v", e, err)
			}
			d := c.Choices[0]
			x := &joined[d.Index]
			x.Index, x.Text = d.Index, x.Text+d.Text
			if d.Finish != nil {
				x.Finish = d.Finish
			}
			if tokens && x.LogProbs == nil {
				x.LogProbs = textTokens(nil, nil, new(int))
			}
			if l := d.LogProbs; l != nil {
				x.LogProbs.Tokens = append(x.LogProbs.Tokens, l.Tokens...)
				x.LogProbs.LogProbs = append(x.LogProbs.LogProbs, l.LogProbs...)
				x.LogProbs.Top = append(x.LogProbs.Top, l.Top...)
				x.LogProbs.Offsets = append(x.LogProbs.Offsets, l.Offsets...)
			}
		}
		if !reflect.DeepEqual(joined, whole.Choices) {
			t.Errorf("have %+v\nwant %+v", joined, whole.Choices)
		}
	}
}

// TestV1Text: a prompt goes on as the engine says, alone or beside others.
func TestV1Text(t *testing.T) {
	r := start(t, nil)
	loaded, err := r.hub.take(t.Context(), r.hub.find("world:base"))
	if err != nil {
		t.Fatal(err)
	}
	prompts := []string{question().Question, "who is the father"}
	var want []engine.Chain
	var read [][]int32
	for _, p := range prompts {
		q := engine.Request{N: 2, Seed: 7, Sampling: engine.Sampling{Temperature: 1, TopP: 1, Top: 2}, MaxChain: 12}
		if err := loaded.goesOn(&q, p, 512); err != nil {
			t.Fatal(err)
		}
		results, err := loaded.engine.Generate(t.Context(), []engine.Request{q}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, results[0].Chains...)
		read = append(read, q.Prompt)
	}
	tok := loaded.tok
	r.hub.give(loaded)
	out := good[textWhole](r, "completions", textRequest(object{"prompt": prompts, "n": 2, "logprobs": 2}))
	if len(out.Choices) != 4 {
		t.Fatalf("%d choices", len(out.Choices))
	}
	for i, c := range out.Choices {
		list := want[i].Tokens
		finish := "length"
		if want[i].Finish == "stop" {
			list, finish = list[:len(list)-1], "stop"
		}
		// The text goes on where the prompt ends, its space included.
		prompt := read[i/2]
		text := strings.TrimPrefix(tok.Decode(append(prompt[:len(prompt):len(prompt)], engine.IDsOf(list)...), false), tok.Decode(prompt, false))
		if c.Text != text || !strings.HasPrefix(text, " ") || c.Index != i || *c.Finish != finish || len(c.LogProbs.Tokens) != len(list) {
			t.Errorf("choice %d: have %+v, want %q, %s", i, c, text, finish)
		}
		for j, x := range c.LogProbs.LogProbs {
			if x != list[j].LogProb || c.LogProbs.Top[j][c.LogProbs.Tokens[j]] != x || !strings.HasPrefix(string([]rune(c.Text)[c.LogProbs.Offsets[j]:]), c.LogProbs.Tokens[j]) {
				t.Errorf("choice %d, token %d: have %g of %+v, want %g", i, j, x, c.LogProbs, list[j].LogProb)
			}
		}
	}
	alone := good[textWhole](r, "completions", textRequest(object{"prompt": prompts[1], "n": 2, "logprobs": 2}))
	for i, c := range alone.Choices {
		if c.Text != out.Choices[2+i].Text {
			t.Errorf("alone %q, beside another %q", c.Text, out.Choices[2+i].Text)
		}
	}
	// The stop text ends it and is not in it.
	whole := out.Choices[0].Text
	stop := whole[len(whole)/2 : len(whole)/2+3]
	before, _, _ := strings.Cut(whole, stop)
	for _, s := range []any{stop, []string{stop}} {
		got := good[textWhole](r, "completions", textRequest(object{"stop": s})).Choices[0]
		if got.Text != before || *got.Finish != "stop" {
			t.Errorf("stop %q: have %q %s, want %q", s, got.Text, *got.Finish, before)
		}
	}
}

// TestLet: a text is let go of until the stop text may have begun.
func TestLet(t *testing.T) {
	for _, c := range []struct{ pieces, want string }{
		{"ab|cd", "ab|cd|"},
		{"a<|/x", "a|</x|"},
		{"a</thi|nk>b", "a||"},
		{"</t|</thi|nk>|c", "|</t|||"},
		{"a</|", "a||</"},
	} {
		v := voice{until: []string{"</think>", "</tt"}}
		var have []string
		for p := range strings.SplitSeq(c.pieces, "|") {
			have = append(have, v.let(p, false))
		}
		have = append(have, v.let("", true))
		if text := strings.Join(have, "|"); text != c.want {
			t.Errorf("%q: have %q, want %q", c.pieces, text, c.want)
		}
	}
}

// TestV1Score: the numbers are package reward's, and those of the engine asked in
// one go, as "nrt score" and "nrt explain" ask it.
func TestV1Score(t *testing.T) {
	r := start(t, nil)
	ask := question()
	loaded, err := r.hub.take(t.Context(), r.hub.find(ask.Model))
	if err != nil {
		t.Fatal(err)
	}
	defer r.hub.give(loaded)
	q := verdict.Question{Model: ask.Model, Question: ask.Question, Answer: ask.Answer, Reference: loaded.form.Answer(ask.Answer)}
	chains := []string{"well", "", ask.Answer, strings.Repeat("no ", 70)}
	for range 50 {
		chains = append(chains, strings.Repeat("yes ", 60)) // more than one step reads
	}
	check := func(name string, body object, req engine.Request, o reward.Options, texts []string) {
		t.Helper()
		results, err := loaded.engine.Generate(context.Background(), []engine.Request{req}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := verdict.Judge(q, loaded.tok, loaded.form, results[0], o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range texts {
			want.Chains[i].Text = texts[i]
		}
		var have, line any
		raw, _ := json.Marshal(verdict.Line{Line: 1, Verdict: want})
		if err := json.Unmarshal(raw, &line); err != nil {
			t.Fatal(err)
		}
		have = good[any](r, "score", body)
		if diff := differ(have, line, 1e-6); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, mode := range reward.Modes() {
		for _, o := range []reward.Options{{Mode: mode, Clip: true}, {Mode: mode, NormalizeWeights: true}} {
			body := scoreRequest(object{"chains": chains, "mode": mode.String(), "clip": o.Clip, "normalize": o.NormalizeWeights})
			check(mode.String(), body, verdict.Given(loaded.tok, loaded.form, loaded.form.Prompt(q.Question), q.Answer, chains), o, chains)
		}
	}
	req := engine.Request{
		Prompt: loaded.form.Prompt(q.Question), N: 5, Seed: 3, Sampling: engine.Sampling{Temperature: 0.8, TopP: 1}, MaxChain: 20,
		Stop: loaded.form.End, Close: loaded.form.Close, StopText: loaded.form.StopText, Reference: q.Reference, Baseline: true,
	}
	check("sampled", scoreRequest(object{"chains": nil, "n": 5, "seed": 3, "temperature": 0.8, "max_chain": 20}), req, reward.Options{Mode: reward.WSLogP, Clip: true}, nil)
}

// differ names the first place where two decoded values differ, "" if none.
func differ(a, b any, by float64) string {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return fmt.Sprintf("%v, want %v", a, b)
		}
		for k := range x {
			if d := differ(x[k], y[k], by); d != "" {
				return k + "." + d
			}
		}
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return fmt.Sprintf("%v, want %v", a, b)
		}
		for i := range x {
			if d := differ(x[i], y[i], by); d != "" {
				return fmt.Sprintf("%d.%s", i, d)
			}
		}
	case float64:
		if y, ok := b.(float64); !ok || math.Abs(x-y) > by*max(1, math.Abs(y)) {
			return fmt.Sprintf("%v, want %v", a, b)
		}
	default:
		if a != b {
			return fmt.Sprintf("%v, want %v", a, b)
		}
	}
	return ""
}
