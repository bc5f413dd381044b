package clienttest

import (
	"bufio"
	"context"
	"errors"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

const (
	model    = "world:nrt"
	question = "kin : fay a) friend b) mother c) friend d) father who ?"
)

var address string // of the server, without a slash at its end

// TestMain serves while the tests run.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		binary := os.Getenv("NRT")
		if binary == "" {
			binary = filepath.FromSlash("../../../bin/nrt")
		}
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		serve := exec.CommandContext(ctx, binary, "serve", "--addr", "127.0.0.1:0", "--no-train")
		serve.Cancel = func() error { return serve.Process.Signal(os.Interrupt) }
		serve.WaitDelay = 5 * time.Second
		out, err := serve.StdoutPipe()
		if err == nil {
			err = serve.Start()
		}
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\nmake build makes the binary\n")
			return 1
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			os.Stderr.WriteString("nrt serve prints no address: " + err.Error() + "\n")
			return 1
		}
		address = strings.TrimSuffix(strings.TrimSpace(line), "/")
		code := m.Run()
		stop()
		_ = serve.Wait()
		return code
	}())
}

func client(more ...option.RequestOption) openai.Client {
	all := append([]option.RequestOption{option.WithBaseURL(address + "/v1"), option.WithAPIKey("none"), option.WithMaxRetries(8)}, more...)
	return openai.NewClient(all...)
}

func chat(change func(*openai.ChatCompletionNewParams)) openai.ChatCompletionNewParams {
	p := openai.ChatCompletionNewParams{
		Model: model, Seed: openai.Int(1),
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)},
	}
	if change != nil {
		change(&p)
	}
	return p
}

func text(change func(*openai.CompletionNewParams)) openai.CompletionNewParams {
	p := openai.CompletionNewParams{
		Model: model, Seed: openai.Int(1), MaxTokens: openai.Int(12),
		Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(question)},
	}
	if change != nil {
		change(&p)
	}
	return p
}

// refused checks an error of the client's own type.
func refused(t *testing.T, err error, status int, param, code string) {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != status || e.Message == "" || e.Type != "invalid_request_error" || e.Param != param || e.Code != code {
		t.Errorf("have %v, want %d, %q, %q", err, status, param, code)
	}
}

func TestModels(t *testing.T) {
	c := client()
	page, err := c.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, m := range page.Data {
		found = found || m.ID == model
	}
	if !found {
		t.Errorf("the list lacks %s", model)
	}
	if m, err := c.Models.Get(t.Context(), model); err != nil || m.ID != model {
		t.Errorf("have %+v, %v", m, err)
	}
	_, err = c.Models.Get(t.Context(), "none")
	refused(t, err, http.StatusNotFound, "model", "model_not_found")
}

func TestChat(t *testing.T) {
	c := client()
	ask := func(change func(*openai.ChatCompletionNewParams)) *openai.ChatCompletion {
		t.Helper()
		r, err := c.Chat.Completions.New(t.Context(), chat(change))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	plain := ask(nil)
	x := plain.Choices[0]
	if x.Message.Content == "" || x.FinishReason != "stop" || x.Message.JSON.ExtraFields["reasoning_content"].Raw() == "" {
		t.Errorf("have %s", plain.RawJSON())
	}
	if u := plain.Usage; u.TotalTokens != u.PromptTokens+u.CompletionTokens || u.CompletionTokensDetails.ReasoningTokens == 0 {
		t.Errorf("usage %+v", u)
	}
	if again := ask(nil); again.RawJSON() != plain.RawJSON() {
		t.Errorf("the same seed gives\n%s\nand\n%s", plain.RawJSON(), again.RawJSON())
	}
	for _, seed := range []int64{-1, math.MaxInt64} {
		ask(func(p *openai.ChatCompletionNewParams) { p.Seed = openai.Int(seed) })
	}
	three := ask(func(p *openai.ChatCompletionNewParams) {
		p.N, p.Logprobs, p.TopLogprobs = openai.Int(3), openai.Bool(true), openai.Int(3)
	})
	if len(three.Choices) != 3 {
		t.Fatalf("%d choices", len(three.Choices))
	}
	for _, x := range three.Choices {
		joined := ""
		for _, token := range x.Logprobs.Content {
			joined += token.Token
			if token.Logprob > 0 || len(token.TopLogprobs) != 3 {
				t.Errorf("token %+v", token)
			}
		}
		if joined != x.Message.Content {
			t.Errorf("tokens join to %q, the answer is %q", joined, x.Message.Content)
		}
	}
	few := ask(func(p *openai.ChatCompletionNewParams) { p.MaxTokens = openai.Int(6) })
	if few.Usage.CompletionTokens > 6 || few.Choices[0].FinishReason != "length" {
		t.Errorf("have %s", few.RawJSON())
	}
	words := strings.Fields(x.Message.Content)
	stop := ask(func(p *openai.ChatCompletionNewParams) { p.Stop.OfStringArray = []string{"never said", words[2]} })
	if have, want := stop.Choices[0].Message.Content, x.Message.Content[:strings.Index(x.Message.Content, words[2])]; have != want {
		t.Errorf("stop %q: have %q, want %q", words[2], have, want)
	}
}

func TestChatStream(t *testing.T) {
	c := client()
	p := chat(func(p *openai.ChatCompletionNewParams) { p.N, p.Logprobs = openai.Int(2), openai.Bool(true) })
	want, err := c.Chat.Completions.New(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := c.Chat.Completions.NewStreaming(t.Context(), p)
	var all openai.ChatCompletionAccumulator
	for stream.Next() {
		if !all.AddChunk(stream.Current()) {
			t.Errorf("not accumulated: %s", stream.Current().RawJSON())
		}
		if content, done := all.JustFinishedContent(); done && content == "" {
			t.Error("content is said to be finished before it began")
		}
	}
	if stream.Err() != nil || len(all.Choices) != 2 || all.Usage.TotalTokens != want.Usage.TotalTokens {
		t.Fatalf("%v: %d choices, usage %+v", stream.Err(), len(all.Choices), all.Usage)
	}
	for i, x := range all.Choices {
		if w := want.Choices[i]; x.Message.Content != w.Message.Content || x.FinishReason != w.FinishReason || len(x.Logprobs.Content) != len(w.Logprobs.Content) {
			t.Errorf("choice %d: streamed %q %s, want %q %s", i, x.Message.Content, x.FinishReason, w.Message.Content, w.FinishReason)
		}
	}
}

func TestCompletions(t *testing.T) {
	c := client()
	r, err := c.Completions.New(t.Context(), text(func(p *openai.CompletionNewParams) { p.Logprobs = openai.Int(2) }))
	if err != nil {
		t.Fatal(err)
	}
	x := r.Choices[0]
	if joined := strings.Join(x.Logprobs.Tokens, ""); joined != x.Text || x.Text == "" || len(x.Logprobs.TokenLogprobs) != len(x.Logprobs.Tokens) {
		t.Errorf("have %s", r.RawJSON())
	}
	stream, streamed := c.Completions.NewStreaming(t.Context(), text(nil)), ""
	for stream.Next() {
		for _, x := range stream.Current().Choices {
			streamed += x.Text
		}
	}
	if stream.Err() != nil || streamed != x.Text {
		t.Errorf("streamed %q, %v, want %q", streamed, stream.Err(), x.Text)
	}
}

func TestErrors(t *testing.T) {
	c := client()
	for _, x := range []struct {
		change      func(*openai.ChatCompletionNewParams)
		status      int
		param, code string
	}{
		{func(p *openai.ChatCompletionNewParams) { p.Model = "none" }, 404, "model", "model_not_found"},
		{func(p *openai.ChatCompletionNewParams) { p.N = openai.Int(99) }, 400, "n", ""},
		{func(p *openai.ChatCompletionNewParams) { p.PresencePenalty = openai.Float(1) }, 400, "presence_penalty", "unsupported_parameter"},
		{func(p *openai.ChatCompletionNewParams) {
			p.Messages = append([]openai.ChatCompletionMessageParamUnion{openai.SystemMessage("be brief")}, p.Messages...)
		}, 400, "messages", ""},
	} {
		_, err := c.Chat.Completions.New(t.Context(), chat(x.change))
		refused(t, err, x.status, x.param, x.code)
		stream := c.Chat.Completions.NewStreaming(t.Context(), chat(x.change))
		for stream.Next() {
		}
		refused(t, stream.Err(), x.status, x.param, x.code)
	}
}

// TestRetries: beyond the allowance the client waits as long as it is told, and is
// then answered.
func TestRetries(t *testing.T) {
	var refusals atomic.Int64
	c := client(option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		if err == nil && resp.StatusCode == http.StatusTooManyRequests {
			refusals.Add(1)
		}
		return resp, err
	}))
	for i := 0; refusals.Load() == 0; i++ {
		if i > 200 {
			t.Fatal("two hundred requests at once were all taken")
		}
		if _, err := c.Completions.New(t.Context(), text(func(p *openai.CompletionNewParams) { p.MaxTokens = openai.Int(1) })); err != nil {
			t.Fatal(err)
		}
	}
}
