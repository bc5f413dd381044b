package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nrt/backend/device"
	"nrt/web/wire"
)

func TestV1Refusals(t *testing.T) {
	r := start(t, func(o *Options) { o.Chain = 40 })
	user := func(content any) any { return []object{{"role": "user", "content": content}} }
	long := strings.Repeat("one ", 500)
	for _, x := range []struct {
		path, field string
		value       any
		param, code string
	}{
		{"chat/completions", "model", nil, "model", ""},
		{"chat/completions", "model", 7, "model", ""},
		{"chat/completions", "model", "../../etc/passwd", "model", "model_not_found"},
		{"chat/completions", "messages", nil, "messages", ""},
		{"chat/completions", "messages", "hello", "messages", ""},
		{"chat/completions", "messages", []any{}, "messages", ""},
		{"chat/completions", "messages", []any{7}, "messages", ""},
		{"chat/completions", "messages", []object{{"role": "system", "content": "x"}, {"role": "user", "content": "y"}}, "messages", ""},
		{"chat/completions", "messages", []object{{"role": "assistant", "content": "x"}}, "messages[0].role", ""},
		{"chat/completions", "messages", []object{{"role": "user", "content": "x", "tool_calls": []any{7}}}, "messages[0].tool_calls", "unknown_parameter"},
		{"chat/completions", "messages", user(7), "messages[0].content", ""},
		{"chat/completions", "messages", user(nil), "messages[0].content", ""},
		{"chat/completions", "messages", user("  "), "messages[0].content", ""},
		{"chat/completions", "messages", user([]any{}), "messages[0].content", ""},
		{"chat/completions", "messages", user([]object{{"type": "image_url", "image_url": "x"}}), "messages[0].content[0].type", ""},
		{"chat/completions", "messages", user([]object{{"type": "text", "text": 3}}), "messages[0].content[0].text", ""},
		{"chat/completions", "messages", user(strings.Repeat("a ", 5000)), "messages[0].content", ""},
		{"chat/completions", "messages", user(long), "messages", "context_length_exceeded"},
		{"chat/completions", "temperature", -0.1, "temperature", ""},
		{"chat/completions", "temperature", 2.1, "temperature", ""},
		{"chat/completions", "temperature", "hot", "temperature", ""},
		{"chat/completions", "top_p", -0.1, "top_p", ""},
		{"chat/completions", "top_p", 1.5, "top_p", ""},
		{"chat/completions", "n", 0, "n", ""},
		{"chat/completions", "n", 17, "n", ""},
		{"chat/completions", "n", 1.5, "n", ""},
		{"chat/completions", "seed", 1.5, "seed", ""},
		{"chat/completions", "seed", json.Number("9223372036854775808"), "seed", ""},
		{"chat/completions", "max_tokens", 0, "max_tokens", ""},
		{"chat/completions", "stream", "yes", "stream", ""},
		{"chat/completions", "stream_options", object{"include_usage": true}, "stream_options", ""},
		{"chat/completions", "logprobs", 5, "logprobs", ""},
		{"chat/completions", "top_logprobs", 5, "top_logprobs", ""},
		{"chat/completions", "tools", []object{{"type": "function"}}, "tools", "unsupported_parameter"},
		{"chat/completions", "response_format", object{"type": "json_object"}, "response_format", "unsupported_parameter"},
		{"chat/completions", "logit_bias", object{"5": 1}, "logit_bias", "unsupported_parameter"},
		{"chat/completions", "frequency_penalty", 0.5, "frequency_penalty", "unsupported_parameter"},
		{"chat/completions", "presence_penalty", 0.5, "presence_penalty", "unsupported_parameter"},
		{"chat/completions", "stop", []string{"a", "b", "c", "d", "e"}, "stop", ""},
		{"chat/completions", "stop", "", "stop", ""},
		{"chat/completions", "top_k", 5, "top_k", "unknown_parameter"},
		{"completions", "prompt", nil, "prompt", ""},
		{"completions", "prompt", 7, "prompt", ""},
		{"completions", "prompt", []any{7}, "prompt", ""},
		{"completions", "prompt", []any{"a", nil}, "prompt[1]", ""},
		{"completions", "prompt", make([]string, 17), "prompt", ""},
		{"completions", "prompt", long, "prompt", "context_length_exceeded"},
		{"completions", "prompt", []any{"a", long}, "prompt[1]", "context_length_exceeded"},
		{"completions", "logprobs", 6, "logprobs", ""},
		{"completions", "stop", []string{"a", ""}, "stop", ""},
		{"completions", "stop", strings.Repeat("a", 200), "stop", ""},
		{"completions", "best_of", 2, "best_of", "unsupported_parameter"},
		{"completions", "suffix", "x", "suffix", "unsupported_parameter"},
		{"completions", "echo", true, "echo", "unsupported_parameter"},
		{"score", "question", nil, "question", ""},
		{"score", "question", long, "question", "context_length_exceeded"},
		{"score", "answer", " ", "answer", ""},
		{"score", "chains", nil, "chains", ""},
		{"score", "chains", []string{}, "chains", ""},
		{"score", "chains", "one", "chains", ""},
		{"score", "chains", make([]string, 65), "chains", ""},
		{"score", "chains", []string{"one", strings.Repeat("one ", 81)}, "chains[1]", "context_length_exceeded"},
		{"score", "mode", "best", "mode", ""},
		{"score", "clip", 1, "clip", ""},
		{"score", "n", 2, "n", ""},
		{"score", "stream", true, "stream", "unsupported_parameter"},
	} {
		q := map[string]func(object) object{"chat/completions": chatRequest, "completions": textRequest, "score": scoreRequest}[x.path](object{x.field: x.value})
		resp, body := r.post(x.path, q)
		status := http.StatusBadRequest
		if x.code == "model_not_found" {
			status = http.StatusNotFound
		}
		e := told(t, body)
		if resp.StatusCode != status || value(e.Param) != x.param || value(e.Code) != x.code || e.Type != kindRequest {
			t.Errorf("%s with %s: %d %s, want %d, %s, %s", x.path, x.field, resp.StatusCode, body, status, x.param, x.code)
		}
	}
	for _, q := range []object{
		{"user": "me", "metadata": object{"a": "b"}, "store": true, "service_tier": "auto"},
		{"tools": []any{}, "response_format": object{"type": "text"}, "logit_bias": object{}, "frequency_penalty": 0, "presence_penalty": 0.0, "stop": nil},
		{"messages": user([]object{{"type": "text", "text": "who"}, {"type": "text", "text": "is ?"}})},
		{"max_tokens": 1}, {"max_tokens": 2}, {"max_tokens": 100000}, {"logprobs": true, "top_logprobs": 20},
	} {
		good[chatWhole](r, "chat/completions", chatRequest(q))
	}
	good[textWhole](r, "completions", textRequest(object{"best_of": 1, "suffix": "", "echo": false, "prompt": ""}))
	for _, x := range []struct {
		status  int
		body    string
		headers []string
	}{
		{400, `{"model":`, nil}, {400, `[]`, nil}, {400, `null`, nil}, {400, `7`, nil}, {400, ``, nil}, {400, `{} {}`, nil}, {400, "{\"model\":\"\xff\"}", nil},
		{413, `{"model":"` + strings.Repeat("a", mostBody) + `"}`, nil},
		{415, `{}`, []string{"Content-Type: text/plain"}}, {415, `a=b`, []string{"Content-Type: application/x-www-form-urlencoded"}},
		{403, `{}`, []string{"Origin: http://evil.example.com"}}, {403, `{}`, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}},
		{421, `{}`, []string{"Host: evil.example.com"}},
	} {
		resp, body := r.post("chat/completions", x.body, x.headers...)
		if told(t, body); resp.StatusCode != x.status {
			t.Errorf("%.40q %v: %d %s, want %d", x.body, x.headers, resp.StatusCode, body, x.status)
		}
	}
	for path, status := range map[string]int{"/v1/score": 405, "/v1/nothing": 404, "/v1/": 404} {
		resp, body := r.get(path)
		if told(t, body); resp.StatusCode != status {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, body, status)
		}
	}
	_, body := r.get("/metrics")
	for _, want := range []string{`nrt_v1_requests_total{endpoint="chat",result="done"} 7`, `nrt_v1_requests_total{endpoint="score",result="refused"}`, `nrt_v1_requests_total{endpoint="none",result="refused"} 3`} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestV1NeedsTheToken(t *testing.T) {
	r := start(t, func(o *Options) { o.Token = "sesame" })
	resp, body := r.post("score", scoreRequest(nil))
	if e := told(t, body); resp.StatusCode != 401 || value(e.Code) != "invalid_api_key" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body = r.post("score", scoreRequest(nil), "Authorization: Bearer sesame"); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// slow makes every token take a while, with one slot and a short queue.
func slow(o *Options) {
	o.Slots, o.Queue = 1, 1
	o.onToken = func() { time.Sleep(20 * time.Millisecond) }
}

// open posts and gives the answer back while it streams.
func (r *rig) open(ctx context.Context, path string, body object) (*http.Response, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.http.URL+"/v1/"+path, bytes.NewReader(raw))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
}

// TestV1Leaving: a reader who leaves frees the slot, streaming or not; a full queue
// is said.
func TestV1Leaving(t *testing.T) {
	r := start(t, slow)
	idle := func() bool { busy, waiting := r.sched.load(); return busy == 0 && waiting == 0 }
	for _, stream := range []bool{true, false} {
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			resp, err := r.open(ctx, "chat/completions", chatRequest(object{"n": 16, "stream": stream}))
			if err != nil {
				return
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
		}()
		settled(t, "slots", func() bool { busy, _ := r.sched.load(); return busy == 1 })
		waits, stop := context.WithCancel(t.Context())
		waited := make(chan struct{})
		go func() {
			defer close(waited)
			if resp, err := r.open(waits, "score", scoreRequest(nil)); err == nil {
				resp.Body.Close()
			}
		}()
		settled(t, "queue", func() bool { _, n := r.sched.load(); return n == 1 })
		resp, body := r.post("chat/completions", chatRequest(nil))
		if e := told(t, body); resp.StatusCode != 429 || value(e.Code) != "queue_full" || resp.Header.Get("Retry-After") == "" || e.Type != kindRate {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
		stop()
		<-waited
		leave()
		<-gone
		settled(t, "slots", idle)
	}
	settled(t, "counts", func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, `nrt_v1_requests_total{endpoint="chat",result="left"} 2`) && strings.Contains(body, `nrt_v1_requests_total{endpoint="score",result="left"} 2`) &&
			strings.Contains(body, `nrt_v1_requests_total{endpoint="chat",result="busy"} 2`)
	})
}

// TestV1HalfClosed: to a reader who has stopped sending, and may still read, a request
// that ends with that looks broken and not answered.
func TestV1HalfClosed(t *testing.T) {
	r := start(t, slow)
	for _, stream := range []bool{true, false} {
		body, err := json.Marshal(chatRequest(object{"n": 16, "stream": stream}))
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", strings.TrimPrefix(r.http.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		settled(t, "slots", func() bool { busy, _ := r.sched.load(); return busy == 1 })
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err == nil {
			t.Errorf("stream %v: %s, to its end", stream, resp.Status)
		}
		settled(t, "slots", func() bool { busy, _ := r.sched.load(); return busy == 0 })
	}
}

// TestV1IsRated: requests that are refused count too, since taking them apart is work.
func TestV1IsRated(t *testing.T) {
	for what, request := range map[string]object{"taken": textRequest(object{"max_tokens": 1}), "refused": {"model": "none", "prompt": 7}} {
		r, rated := start(t, still), false
		for i := 0; i < 60 && !rated; i++ {
			resp, err := r.open(t.Context(), "completions", request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK || what == "refused" && resp.StatusCode == http.StatusBadRequest {
				continue
			}
			rated = true
			if e := told(t, string(body)); resp.StatusCode != 429 || value(e.Code) != "rate_limit_exceeded" || resp.Header.Get("Retry-After") != "1" || i != askBurst {
				t.Errorf("%s request %d: %d %s", what, i, resp.StatusCode, body)
			}
		}
		if !rated {
			t.Errorf("sixty %s requests at once were all let in", what)
		}
	}
}

// faulty panics where a file is opened, while it is told to.
type faulty struct {
	fs.FS
	file  string
	wrong *atomic.Bool
}

func (f faulty) Open(name string) (fs.File, error) {
	if name == f.file && f.wrong.Load() {
		panic("a mistake in what reads " + name)
	}
	return f.FS.Open(name)
}

// TestV1Mistake: a panic while a model is loaded or an answer computed is told as the
// server's error, and neither the server nor its slots go with it.
func TestV1Mistake(t *testing.T) {
	var wrong, loads atomic.Bool
	wrong.Store(true)
	loads.Store(true)
	r := start(t, func(o *Options) {
		o.Slots = 1
		o.Models[0].Files = faulty{o.Models[0].Files, "model.safetensors", &loads}
		o.onToken = func() {
			if wrong.Load() {
				panic("a mistake in the engine")
			}
		}
	})
	for _, path := range []string{"loading", "chat/completions", "completions", "score"} {
		loads.Store(path == "loading")
		if path == "loading" {
			path = "completions"
		}
		q := map[string]func(object) object{"chat/completions": chatRequest, "completions": textRequest, "score": scoreRequest}[path](nil)
		for _, stream := range []bool{false, true} {
			if stream && path != "score" {
				q["stream"] = true
			}
			resp, body := r.post(path, q)
			if resp.StatusCode != http.StatusInternalServerError || told(t, body).Type != kindServer {
				t.Errorf("%s, stream %v: %d %s", path, stream, resp.StatusCode, body)
			}
		}
	}
	c := r.reader(nil)
	c.say(question())
	if f := expect[*wire.Failed](c); f.Code != wire.CodeInternal {
		t.Errorf("have %+v", f)
	}
	settled(t, "replicas", func() bool { return r.idleOf("world:base") == 0 })
	wrong.Store(false)
	asked(t, c, question())
}

func TestAllowances(t *testing.T) {
	a := allowances{burst: askBurst}
	at := time.Unix(0, 0)
	for i := range mostAddresses + 10 {
		a.take(fmt.Sprint(i), at.Add(time.Duration(i)))
	}
	if len(a.of) != mostAddresses || a.of["9"] != nil || a.of["10"] == nil || a.of[fmt.Sprint(mostAddresses+9)] == nil {
		t.Errorf("%d addresses are kept", len(a.of))
	}
	for remote, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1", "[::ffff:10.0.0.1]:80": "10.0.0.1", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64", "[fe80::1%eth0]:80": "fe80::/64", "@": "@",
		"2001:db8:1:2:3::4": "2001:db8:1:2::/64", "[2001:db8:1:2:3::4]": "2001:db8:1:2::/64",
	} {
		if have := address(remote); have != want {
			t.Errorf("%s: have %s, want %s", remote, have, want)
		}
	}
}

// TestV1Stopping: what is under way when the server stops is told so.
func TestV1Stopping(t *testing.T) {
	r := start(t, slow)
	resp, err := r.open(t.Context(), "chat/completions", chatRequest(object{"n": 16, "stream": true}))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	whole := make(chan string)
	go func() {
		resp, body := r.post("chat/completions", chatRequest(nil))
		whole <- fmt.Sprint(resp.StatusCode, body)
	}()
	settled(t, "queue", func() bool { _, n := r.sched.load(); return n == 1 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	list := events(t, strings.TrimPrefix(string(rest), "\n"))
	if e := told(t, list[len(list)-1]); value(e.Code) != "stopping" {
		t.Errorf("have %+v", e)
	}
	if have := <-whole; !strings.HasPrefix(have, "503") || !strings.Contains(have, `"stopping"`) {
		t.Errorf("have %s", have)
	}
	if resp, body := r.post("score", scoreRequest(nil)); resp.StatusCode != 503 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestV1OutlivesTimeouts: a request may compute for longer than an ordinary one may
// read or write.
func TestV1OutlivesTimeouts(t *testing.T) {
	const timeout = 2 * time.Second // a busy machine takes a while to read a request
	var until time.Time             // that the first token takes
	r := start(t, func(o *Options) { o.onToken = func() { time.Sleep(time.Until(until)) } })
	h := &http.Server{Handler: r.Handler(), ReadTimeout: timeout, WriteTimeout: timeout}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- h.Serve(l) }()
	own := r.http.URL
	r.http.URL = "http://" + l.Addr().String()
	for _, stream := range []bool{false, true} {
		until = time.Now().Add(timeout + timeout/4)
		resp, body := r.post("completions", textRequest(object{"n": 4, "stream": stream}))
		if resp.StatusCode != 200 || stream && !strings.Contains(body, "[DONE]") || time.Now().Before(until) {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	}
	r.http.URL = own
	h.Close()
	<-done
}

// FuzzV1: any body gets a valid answer or a JSON error.
func FuzzV1(f *testing.F) {
	r := start(f, func(o *Options) { o.Chain = 8 })
	h := r.Handler()
	for _, q := range []object{chatRequest(object{"stream": true, "max_tokens": 3}), chatRequest(object{"logprobs": true}), textRequest(object{"stop": "a", "logprobs": 1}), scoreRequest(nil), scoreRequest(object{"chains": nil, "n": 2})} {
		b, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		for path := range 3 {
			f.Add(path, b)
		}
	}
	f.Fuzz(func(t *testing.T, path int, body []byte) {
		r.rates.mu.Lock()
		r.rates.of = nil
		r.rates.mu.Unlock()
		paths := []string{"chat/completions", "completions", "score"}
		req := httptest.NewRequest(http.MethodPost, "http://localhost/v1/"+paths[uint(path)%3], bytes.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		switch out := w.Body.String(); {
		case w.Code == 200 && w.Header().Get("Content-Type") == "text/event-stream":
			if list := events(t, out); list[len(list)-1] != "[DONE]" {
				t.Errorf("%q: %q", body, out)
			}
		case w.Code == 200:
			if !json.Valid([]byte(out)) {
				t.Errorf("%q: %q", body, out)
			}
		case w.Code < 400 || w.Code >= 500:
			t.Errorf("%q: %d %q", body, w.Code, out)
		default:
			told(t, out)
		}
	})
}

// TestMemory: a request whose reading does not fit into memory is refused, with
// the field to shorten, before anything is taken; what lies idle goes for it first.
func TestMemory(t *testing.T) {
	free, idle := int64(0), int64(0)
	var r *rig
	r = start(t, func(o *Options) {
		o.Models = append(o.Models, Source{Name: "world:nrt", Files: embedded(t, "world:nrt")})
		o.Free = func() int64 {
			if r.idleOf("world:nrt") == 0 {
				return free + idle
			}
			return free
		}
	})
	for _, x := range []struct {
		path, param string
		ask         object
	}{
		{"completions", "prompt", object{"model": "world:base", "prompt": "kin : lena", "max_tokens": 2}},
		{"chat/completions", "messages", chatRequest(nil)},
		{"score", "question", scoreRequest(nil)},
	} {
		ask := x.ask
		r.hub.clear() // an engine keeps what it has taken
		free = 1000
		resp, body := r.post(x.path, ask)
		if e := told(t, body); resp.StatusCode != http.StatusBadRequest || value(e.Param) != x.param || value(e.Code) != "context_length_exceeded" {
			t.Errorf("%s with 1 kB free: %d %s", x.path, resp.StatusCode, body)
		}
		free = 1 << 30
		if resp, body := r.post(x.path, ask); resp.StatusCode != http.StatusOK {
			t.Errorf("%s with 1 GiB free: %d %s", x.path, resp.StatusCode, body)
		}
		good[textWhole](r, "completions", textRequest(object{"model": "world:nrt"}))
		free, idle = 1000, 1<<30
		if resp, body := r.post(x.path, ask); resp.StatusCode != http.StatusOK {
			t.Errorf("%s with 1 GiB in an idle model: %d %s", x.path, resp.StatusCode, body)
		}
		idle = 0
	}
	c := r.reader(nil)
	r.hub.clear()
	c.say(question())
	if f := expect[*wire.Failed](c); f.Code != wire.CodeTooLong || !strings.Contains(f.Message, "GB are free") {
		t.Errorf("a question of the page with 1 kB free: %+v", f)
	}
}

// mapped is how many bytes of Go's heap the system counts as taken.
func mapped() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapSys - m.HeapReleased)
}

// TestMemoryGotBack: on the CPU the memory of what lay idle looks taken until Go gives it
// back, which is seen to before a question is refused.
func TestMemoryGotBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var all int64
	r := start(t, func(o *Options) { o.Free = func() int64 { return max(1, all-mapped()) } })
	all = 1 << 40
	ask := textRequest(nil)
	good[textWhole](r, "completions", ask)
	r.hub.clear()
	left := make([]byte, 1<<30)
	all = mapped()
	runtime.KeepAlive(left)
	good[textWhole](r, "completions", ask)
}

// broken is a device that fails once it is told to.
type broken struct {
	device.Device
	wrong atomic.Bool
}

func (b *broken) Sync() error {
	if b.wrong.Load() {
		return errors.New("the card is gone")
	}
	return b.Device.Sync()
}

// TestV1LastStep: a device that fails in the step that ends an answer has not answered.
func TestV1LastStep(t *testing.T) {
	b := &broken{}
	r := start(t, func(o *Options) { b.Device = o.Device; o.Device = b })
	ask := textRequest(object{"max_tokens": 1})
	good[textWhole](r, "completions", ask)
	b.wrong.Store(true)
	if resp, body := r.post("completions", ask); resp.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "the card is gone") {
		t.Errorf("have %d %s", resp.StatusCode, body)
	}
	ask["stream"] = true
	if _, body := r.post("completions", ask); strings.Contains(body, "[DONE]") || !strings.Contains(body, "the card is gone") {
		t.Errorf("as a stream: %s", body)
	}
}
