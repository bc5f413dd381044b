package server

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/web/wire"
)

// with is an embedded model with files changed.
func with(t testing.TB, name string, change map[string]string) fs.FS {
	t.Helper()
	files, m := embedded(t, name), fstest.MapFS{}
	for _, f := range []string{"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
		b, err := fs.ReadFile(files, f)
		if err != nil {
			continue
		}
		m[f] = &fstest.MapFile{Data: b}
	}
	for f, text := range change {
		m[f] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// TestV1Model: one entry of the list, whatever slashes are in its name.
func TestV1Model(t *testing.T) {
	r := start(t, func(o *Options) { o.Models = append(o.Models, Source{Name: "gsm/final", Files: o.Models[0].Files}) })
	for _, name := range []string{"world:base", "gsm/final"} {
		if _, body := r.get("/v1/models/" + name); strings.TrimSpace(body) != `{"id":"`+name+`","object":"model","created":0,"owned_by":"nrt"}` {
			t.Errorf("have %s", body)
		}
	}
	resp, body := r.get("/v1/models/gpt")
	if e := told(t, body); resp.StatusCode != 404 || value(e.Param) != "model" || value(e.Code) != "model_not_found" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := r.post("models/world:base", object{}); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestV1OwnEnds: ids of eos_token_id in generation_config.json end a chat and a
// page's answer, as they end a completion.
func TestV1OwnEnds(t *testing.T) {
	tok, err := token.LoadFS(embedded(t, "world:base"))
	if err != nil {
		t.Fatal(err)
	}
	q := chatRequest(object{"logprobs": true})
	r := start(t, nil)
	plain := good[chatWhole](r, "chat/completions", q).Choices[0]
	words := strings.Fields(plain.Message.Content)
	end := words[len(words)-1]
	id, ok := tok.ID(end)
	if !ok || len(words) < 2 {
		t.Fatalf("%q", plain.Message.Content)
	}
	files := with(t, "world:base", map[string]string{"generation_config.json": fmt.Sprintf(`{"eos_token_id":[%d,%d]}`, tok.EOS(), id)})
	ended := start(t, func(o *Options) { o.Models[0].Files = files })
	x := good[chatWhole](ended, "chat/completions", q).Choices[0]
	if strings.Contains(x.Message.Content, end) || x.Finish != "stop" {
		t.Errorf("have %q, %s: %q ends it", x.Message.Content, x.Finish, end)
	}
	h := asked(t, ended.reader(nil), question())
	for key, list := range h.tokens {
		if !strings.HasSuffix(key, "/answer") && !strings.HasSuffix(key, "/chain") {
			continue
		}
		if at := slices.IndexFunc(list, func(x engine.Token) bool { return x.ID == id }); at >= 0 && at != len(list)-1 {
			t.Errorf("%s goes on after %q", key, end)
		}
	}
	for i, d := range h.done {
		if strings.Contains(d.Answer, end) {
			t.Errorf("answer %d is %q, with what ends it", i, d.Answer)
		}
	}
}

// TestV1Stops: an answer ends before whichever text comes first, streamed or not,
// and so does a text that goes on; a chain does not.
func TestV1Stops(t *testing.T) {
	r := start(t, nil)
	q := chatRequest(object{"n": 3})
	whole := good[chatWhole](r, "chat/completions", q)
	a := whole.Choices[0].Message.Content
	q["stop"] = []string{a[len(a)/2:], a[len(a)/3 : len(a)/3+4], "never said"}
	cut := good[chatWhole](r, "chat/completions", q)
	for i, c := range cut.Choices {
		want, finish := whole.Choices[i].Message.Content, whole.Choices[i].Finish
		for _, s := range q["stop"].([]string) {
			if before, _, found := strings.Cut(want, s); found {
				want, finish = before, "stop"
			}
		}
		if c.Message.Content != want || c.Message.Reasoning != whole.Choices[i].Message.Reasoning || c.Finish != finish {
			t.Errorf("choice %d: %+v %s, want %q of %+v", i, c.Message, c.Finish, want, whole.Choices[i].Message)
		}
	}
	if cut.Choices[0].Message.Content == a {
		t.Error("nothing was cut")
	}
	q["stream"] = true
	_, body := r.post("chat/completions", q)
	list, texts := events(t, body), make([]string, 3)
	for i, e := range list[:len(list)-1] {
		var c chatChunk
		if err := json.Unmarshal([]byte(e), &c); err != nil {
			t.Fatal(err)
		}
		texts[c.Choices[0].Index] += value(c.Choices[0].Delta.Content)
		if d := c.Choices[0].Delta; d.Role != "" && (d.Content != nil || d.Reasoning != nil) {
			t.Errorf("chunk %d: want the role alone, have %s", i, e)
		}
	}
	for i, c := range cut.Choices {
		if texts[i] != c.Message.Content {
			t.Errorf("choice %d: streamed %q, want %q", i, texts[i], c.Message.Content)
		}
	}
	p := textRequest(object{"max_tokens": 60})
	long := good[textWhole](r, "completions", p)
	text := long.Choices[0].Text
	p["stop"] = []string{text[len(text)/2:], text[4:9]}
	short := good[struct {
		Choices []textChoice
		Usage   usage
	}](r, "completions", p)
	want, _, _ := strings.Cut(text, text[4:9])
	if short.Choices[0].Text != want || *short.Choices[0].Finish != "stop" || short.Usage.Completion > 6 {
		t.Errorf("have %q, %s, %d tokens, want %q", short.Choices[0].Text, *short.Choices[0].Finish, short.Usage.Completion, want)
	}
}

// TestV1Seeds: any whole number of 64 bits is a seed, which the answer repeats.
func TestV1Seeds(t *testing.T) {
	r := start(t, nil)
	texts := map[string]bool{}
	for _, seed := range []int64{-1, math.MinInt64, math.MaxInt64, 1 << 53, 0} {
		x := good[chatWhole](r, "chat/completions", chatRequest(object{"seed": seed}))
		if x.Seed != seed {
			t.Errorf("seed %d: the answer has %d", seed, x.Seed)
		}
		texts[x.Choices[0].Message.Reasoning+x.Choices[0].Message.Content] = true
	}
	if len(texts) < 3 {
		t.Errorf("five seeds give %d texts", len(texts))
	}
	greedy := good[textWhole](r, "completions", textRequest(object{"temperature": 0}))
	if x := good[textWhole](r, "completions", textRequest(object{"top_p": 0})); x.Choices[0].Text != greedy.Choices[0].Text {
		t.Errorf("top_p 0 gives %q, the likeliest tokens are %q", x.Choices[0].Text, greedy.Choices[0].Text)
	}
}

// TestV1TokenAmongTop: the token that was drawn is found among its alternatives by
// its text.
func TestV1TokenAmongTop(t *testing.T) {
	r := start(t, nil)
	x := good[chatWhole](r, "chat/completions", chatRequest(object{"temperature": 0, "logprobs": true, "top_logprobs": 3})).Choices[0]
	for _, list := range [][]chatToken{x.LogProbs.Content, x.LogProbs.Reasoning} {
		for i, c := range list {
			if c.Top[0].Token != c.Token || c.Top[0].LogProb != c.LogProb {
				t.Errorf("token %d is %q, its likeliest alternative %q", i, c.Token, c.Top[0].Token)
			}
		}
	}
}

// TestV1Conversation: earlier turns and a system's are laid out where the model's
// family has a place for them, and refused by name where it has none.
func TestV1Conversation(t *testing.T) {
	turns := []object{{"role": "developer", "content": "you know this family"}, {"role": "user", "content": "who is the father"},
		{"role": "assistant", "content": "lena", "refusal": nil, "reasoning_content": "hmm"}, {"role": "user", "content": "who is the mother"}}
	r := start(t, func(o *Options) {
		o.Models = append(o.Models, Source{Name: "tulu", Files: with(t, "world:base", map[string]string{
			"chat_template.jinja": "<|user|><|assistant|>",
		})})
	})
	a, b := r.hub.find("world:base").vocab, r.hub.find("tulu").vocab
	if a == b {
		t.Fatal("two chat templates share a layout")
	}
	loaded, err := r.hub.take(t.Context(), r.hub.find("tulu"))
	if err != nil {
		t.Fatal(err)
	}
	if loaded.form.Name != "tulu" {
		t.Errorf("the layout is %s", loaded.form.Name)
	}
	want, err := loaded.form.Messages([]token.Message{{Role: "system", Content: "you know this family"}, {Role: "user", Content: "who is the father"}, {Role: "assistant", Content: "lena"}, {Role: "user", Content: "who is the mother"}})
	r.hub.give(loaded)
	if err != nil {
		t.Fatal(err)
	}
	x := good[chatWhole](r, "chat/completions", chatRequest(object{"model": "tulu", "messages": turns}))
	if x.Usage.Prompt != len(want) {
		t.Errorf("the prompt has %d tokens, want %d", x.Usage.Prompt, len(want))
	}
	turns[2]["content"] = "" // no tokens were left for it
	if x := good[chatWhole](r, "chat/completions", chatRequest(object{"model": "tulu", "messages": turns})); x.Usage.Prompt != len(want)-1 {
		t.Errorf("the prompt has %d tokens, want %d", x.Usage.Prompt, len(want)-1)
	}
	turns[2]["content"] = "lena"
	resp, body := r.post("chat/completions", chatRequest(object{"messages": turns}))
	if e := told(t, body); resp.StatusCode != http.StatusBadRequest || value(e.Param) != "messages" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// bytewise is a tokenizer that spells what it does not know as bytes.
func bytewise(t testing.TB) *token.Tokenizer {
	t.Helper()
	vocab := []string{`"<unk>":0`, `"<s>":1`, `"</s>":2`}
	for b := range 256 {
		vocab = append(vocab, fmt.Sprintf(`"<0x%02X>":%d`, b, 3+b))
	}
	tok, err := token.LoadFS(fstest.MapFS{
		"tokenizer.json": {Data: []byte(`{"added_tokens":[{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true},{"id":2,"content":"</s>","special":true}],
			"normalizer":null,"pre_tokenizer":null,"post_processor":null,
			"decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"}]},
			"model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,"fuse_unk":true,"vocab":{` + strings.Join(vocab, ",") + `},"merges":[]}}`)},
		"tokenizer_config.json": {Data: []byte(`{"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>"}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestBytePieces: a long run of characters that are spelt as bytes settles in one
// token, whose text stays within what a message may hold; a chain that is cut off
// keeps the characters that are whole.
func TestBytePieces(t *testing.T) {
	tok := bytewise(t)
	form, err := tok.Format("")
	if err != nil {
		t.Fatal(err)
	}
	start := &wire.Start{Head: wire.Head{ID: "q", Seq: 1}, Model: "m", K: 1, Prompt: pieces(tok, tok.EncodeText(strings.Repeat("😀", 300))), Answer: pieces(tok, tok.EncodeText("yes"))}
	if _, err := wire.Encode(start); err != nil {
		t.Error(err)
	}
	list := tok.EncodeMore("so it is 😀")
	req := engine.Request{MaxChain: len(list)}
	text := ""
	s := &stream{id: "a", tok: tok, form: form, req: &req, every: time.Hour, sent: time.Now(), say: func(m wire.Message, _ time.Time) {
		for _, e := range m.(*wire.Frame).Tokens {
			if e.Part == wire.PartChain {
				text += strings.Join(e.Texts, "")
			}
		}
	}}
	for i, id := range list {
		s.event(engine.Event{Part: engine.PartChain, Index: i, Token: engine.Token{ID: id}})
	}
	for i, id := range form.Close {
		s.event(engine.Event{Part: engine.PartBoundary, Index: i, Token: engine.Token{ID: id}})
	}
	s.event(engine.Event{Part: engine.PartEnd})
	s.flush()
	if want := tok.Decode(list, false); text != want {
		t.Errorf("the page shows %q, the chain is %q", text, want)
	}
}
