package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/gorilla/websocket"

	"nrt/backend/token"
	"nrt/web"
	"nrt/web/wire"
)

// get asks with headers "Name: value".
func (r *rig) get(path string, headers ...string) (*http.Response, string) {
	r.t.Helper()
	return r.send(http.MethodGet, path, nil, append([]string{"Accept-Encoding: identity"}, headers...))
}

// send makes a request over a connection of its own; of headers of one name the
// last counts.
func (r *rig) send(method, path string, content io.Reader, headers []string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.http.URL+path, content)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	t := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(body)
}

// cookie is what a browser sends that was let in with a token.
func (r *rig) cookie(token string) string {
	return cookie(httptest.NewRequest(http.MethodGet, r.http.URL, nil)) + "=" + token
}

func TestHostAndOrigin(t *testing.T) {
	r := start(t, func(o *Options) { o.Hosts = []string{"teach.example.org"} })
	own := strings.TrimPrefix(r.http.URL, "http://")
	for _, x := range []struct {
		code    int
		headers []string
	}{
		{200, nil},
		{200, []string{"Host: localhost:8080"}},
		{200, []string{"Host: [::1]:8080"}},
		{200, []string{"Host: Teach.Example.org"}},
		{421, []string{"Host: evil.example.com"}},
		{421, []string{"Host: 192.168.1.7"}}, // no token, so this machine alone
		{421, []string{"Host: localhost.evil.example.com"}},
		{200, []string{"Origin: http://" + own}},
		{403, []string{"Origin: http://evil.example.com"}},
		{403, []string{"Origin: null"}},
		{403, []string{"Origin: file://"}},
		{403, []string{"Sec-Fetch-Site: cross-site"}},
		{200, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"}}, // a link
		{200, []string{"Sec-Fetch-Site: same-origin"}},
	} {
		resp, body := r.get("/api/status", x.headers...)
		if resp.StatusCode != x.code {
			t.Errorf("%v: %d %s, want %d", x.headers, resp.StatusCode, body, x.code)
		}
	}
	// As HAProxy looks whether a server lives.
	c, err := net.Dial("tcp", own)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /healthz HTTP/1.0\r\n\r\n")
	if all, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(all), "\r\n\r\nok\n") {
		t.Errorf("%v: %s", err, all)
	}
	c.Close()
	// As through a proxy that names the server by its own address for it.
	if _, body := r.get("/api/status", "Origin: https://teach.example.org"); !strings.Contains(body, "proxy in between must hand on the header Host") || !strings.Contains(body, own) {
		t.Errorf("have %s", body)
	}
	for _, h := range []http.Header{{"Origin": {"http://evil.example.com"}}, {"Host": {"evil.example.com"}}} {
		_, resp, err := websocket.DefaultDialer.Dial(r.url(), h)
		if err == nil {
			t.Fatalf("%v: the websocket opened", h)
		}
		resp.Body.Close()
	}
}

func TestTokenGuardsWhatComputes(t *testing.T) {
	const secret = "our-own-model"
	r := start(t, func(o *Options) { o.Token, o.Models[0].Name = "sesame", secret })
	for path, code := range map[string]int{
		"/": 200, "/healthz": 200, "/readyz": 200, "/api/status": 200, "/static/style.css": 200,
		"/ws": 401, "/vocab/x": 401, "/api/models": 401, "/api/examples": 401, "/api/runs": 401, "/api/runs/run1": 401, "/metrics": 401,
		"/?token=wrong": 403, "/?token=sesame": 303,
	} {
		if resp, body := r.get(path, "Host: 192.168.1.7"); resp.StatusCode != code {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, body, code)
		}
	}
	for head, code := range map[string]int{
		"Authorization: Bearer sesame": 200, "Authorization: bearer  sesame": 200, "Authorization: Basic sesame": 401, "Authorization: sesame": 401,
		"Cookie: " + r.cookie("guess"): 401, "Cookie: " + r.cookie("guess") + "; " + r.cookie("sesame"): 200,
	} {
		if resp, _ := r.get("/api/models", head); resp.StatusCode != code {
			t.Errorf("%s: %d, want %d", head, resp.StatusCode, code)
		}
	}
	resp, _ := r.get("/?token=sesame&x=1")
	set := resp.Header.Get("Set-Cookie")
	if !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Strict") || resp.Header.Get("Location") != "/?x=1" {
		t.Errorf("cookie %q, location %q", set, resp.Header.Get("Location"))
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(r.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(at, resp.Cookies())
	d := websocket.Dialer{Jar: jar}
	ws, resp, err := d.Dial(r.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	ws.Close()
	for _, who := range []struct {
		head string
		told bool
	}{{"Cookie: " + r.cookie("guess"), false}, {"Cookie: " + r.cookie("sesame"), true}} {
		if _, body := r.get("/", who.head); strings.Contains(body, secret) != who.told {
			t.Errorf("%s: the page tells the served model's name: %v", who.head, !who.told)
		}
	}
	_, body := r.get("/api/status")
	if !strings.Contains(body, `"token":"needed"`) {
		t.Errorf("status: %s", body)
	}
}

// TestTwoServersOneBrowser: a browser keeps the tokens of two servers on one computer.
func TestTwoServersOneBrowser(t *testing.T) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := http.Client{Jar: jar}
	var list []string
	for _, token := range []string{"sesame", "letmein"} {
		r := start(t, func(o *Options) { o.Token = token })
		list = append(list, r.http.URL+"/?token="+token, r.http.URL+"/api/models")
		t.Cleanup(browser.CloseIdleConnections)
	}
	for _, at := range []int{0, 2, 1, 3} {
		resp, err := browser.Get(list[at])
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", list[at], resp.Status)
		}
	}
}

func TestPage(t *testing.T) {
	r := start(t, nil)
	resp, body := r.get("/")
	csp := resp.Header.Get("Content-Security-Policy")
	found := regexp.MustCompile(`'nonce-([\w-]{20,})'`).FindStringSubmatch(csp)
	if found == nil || !strings.Contains(csp, "'wasm-unsafe-eval'") || strings.Contains(csp, "'unsafe-eval'") ||
		strings.Contains(csp, "script-src 'unsafe-inline'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Fatalf("policy: %s", csp)
	}
	if strings.Count(body, `nonce="`+found[1]+`"`) == 0 {
		t.Error("the page's scripts do not have the policy's nonce")
	}
	if bad := regexp.MustCompile(`(?i)<[^>]+\son\w+\s*=`).FindString(body); bad != "" {
		t.Errorf("inline handler: %s", bad)
	}
	if again, _ := r.get("/"); again.Header.Get("Content-Security-Policy") == csp {
		t.Error("the nonce is not fresh")
	}
	for _, h := range []string{"X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy", "Permissions-Policy"} {
		if resp.Header.Get(h) == "" {
			t.Errorf("no %s", h)
		}
	}
	for _, e := range r.page.baked {
		if !strings.Contains(body, e.Name) {
			t.Errorf("the page does not offer the example %s", e.Name)
		}
	}
	if len(r.page.baked) == 0 {
		t.Error("no saved examples")
	}
	for _, e := range r.page.examples {
		if !strings.HasSuffix(e.Plain, "?") || strings.Contains(e.Plain, " : ") {
			t.Errorf("%q is offered as %q", e.Question, e.Plain)
		}
	}
	zipped, raw := r.get("/", "Accept-Encoding: gzip")
	if zipped.Header.Get("Content-Encoding") != "gzip" || len(raw) >= len(body)/2 {
		t.Errorf("%d bytes zipped, %d plain", len(raw), len(body))
	}
	t.Logf("page %d bytes, %d zipped", len(body), len(raw))
}

func TestStaticFiles(t *testing.T) {
	r := start(t, nil)
	_, plain := r.get("/static/style.css")
	for encoding, open := range map[string]func(io.Reader) (io.Reader, error){
		"br":   func(in io.Reader) (io.Reader, error) { return brotli.NewReader(in), nil },
		"gzip": func(in io.Reader) (io.Reader, error) { return gzip.NewReader(in) },
	} {
		resp, body := r.get("/static/style.css", "Accept-Encoding: "+encoding)
		if resp.Header.Get("Content-Encoding") != encoding {
			t.Fatalf("%s: %v", encoding, resp.Header)
		}
		in, err := open(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := io.ReadAll(in)
		if err != nil || string(unpacked) != plain {
			t.Errorf("%s: %d bytes, %v; want %d", encoding, len(unpacked), err, len(plain))
		}
	}
	if resp, _ := r.get("/static/style.css", "Accept-Encoding: br;q=0, gzip; Q=0"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("refused encodings are sent")
	}
	resp, _ := r.get("/static/style.css")
	tag := resp.Header.Get("ETag")
	if resp.Header.Get("Cache-Control") != "no-cache" || !strings.HasPrefix(tag, `W/"`) { // one tag for three encodings must be weak
		t.Errorf("without version: %v", resp.Header)
	}
	if resp, body := r.get("/static/style.css", "If-None-Match: "+strings.TrimPrefix(tag, "W/")); resp.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("unchanged: %d, %d bytes", resp.StatusCode, len(body))
	}
	if resp, _ := r.get(web.URL("style.css")); !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("with its version: %v", resp.Header)
	}
	if resp, _ := r.get("/static/style.css?v=other"); strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
		t.Error("immutable under a wrong version")
	}
	for _, path := range []string{"/static/../http.go", "/static/%2e%2e/%2e%2e/go.mod", "/static/", "/static/nothing", "/static/app.wasm.br", "/static/..%5cgo.mod"} {
		if resp, _ := r.get(path); resp.StatusCode == 200 {
			t.Errorf("%s: served", path)
		}
	}
}

// TestFilesHaveTheirTime: a large file may take longer than an ordinary answer.
func TestFilesHaveTheirTime(t *testing.T) {
	a := &asset{tag: `"a"`, plain: make([]byte, 2<<20)}
	w := &dated{ResponseRecorder: httptest.NewRecorder(), all: &shelf{}}
	a.serve(w, httptest.NewRequest(http.MethodGet, "/static/app.wasm", nil), true)
	if have := time.Until(w.until); have < 3*time.Minute-10*time.Second || have > 4*time.Minute {
		t.Errorf("%v to write 2 MiB", have)
	}
}

func TestVocab(t *testing.T) {
	r := start(t, nil)
	name := r.models()[0].Vocab
	resp, body := r.get("/vocab/" + name)
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	tok, err := token.ParseCompact([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	ask := question()
	want, _, err := r.hub.findVocab(name).open()
	if err != nil {
		t.Fatal(err)
	}
	if have := tok.Decode(tok.Encode(ask.Question), false); have != want.Decode(want.Encode(ask.Question), false) {
		t.Errorf("have %q", have)
	}
	if resp, _ := r.get("/vocab/other"); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
}

func TestAPIAndMetrics(t *testing.T) {
	r := start(t, nil)
	c := r.reader(nil)
	c.say(question())
	expect[*wire.End](c)
	_, body := r.get("/api/examples")
	var list []example
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) == 0 || list[0].Question == "" || list[0].Answer == "" {
		t.Errorf("examples: %v %s", err, body)
	}
	if _, body := r.get("/api/runs"); strings.TrimSpace(body) != "[]" {
		t.Errorf("runs: %s", body)
	}
	if resp, _ := r.get("/api/runs/..%2f..%2fetc"); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
	_, body = r.get("/metrics")
	for _, want := range []string{
		"nrt_connections 1", "nrt_sessions 1", `nrt_asks_total{result="done"} 1`, `nrt_messages_total{type="ask"} 1`,
		"nrt_ask_seconds_count 1", "nrt_first_token_seconds_count 1", "go_goroutines", `nrt_http_requests_total{code="200",route="GET /api/examples"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	resp, err := http.Post(r.http.URL+"/api/models", "text/plain", bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error(resp.Status)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:80": true, "localhost:0": true, "[::1]:80": true, "127.9.9.9:1": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.168.0.1:80": false, "example.org:80": false, "nonsense": false,
	} {
		if have := Loopback(addr); have != want {
			t.Errorf("%s: %v", addr, have)
		}
	}
}

// unwrapping and opaque are writers of some other program's middleware.
type unwrapping struct{ opaque }

func (u unwrapping) Unwrap() http.ResponseWriter { return u.w }

type opaque struct{ w http.ResponseWriter }

func (o opaque) Header() http.Header         { return o.w.Header() }
func (o opaque) Write(p []byte) (int, error) { return o.w.Write(p) }
func (o opaque) WriteHeader(code int)        { o.w.WriteHeader(code) }

// TestBehindMiddleware: a writer around the server's own gives it up for a websocket
// where it unwraps; one that can do nothing but write has the whole of a stream.
func TestBehindMiddleware(t *testing.T) {
	r := start(t, nil)
	for _, test := range []struct {
		name   string
		around func(w http.ResponseWriter) http.ResponseWriter
		status int
	}{
		{"unwrapping", func(w http.ResponseWriter) http.ResponseWriter { return unwrapping{opaque{w}} }, http.StatusSwitchingProtocols},
		{"opaque", func(w http.ResponseWriter) http.ResponseWriter { return opaque{w} }, http.StatusInternalServerError},
	} {
		t.Run(test.name, func(t *testing.T) {
			around := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				r.Handler().ServeHTTP(test.around(w), q)
			}))
			defer around.Close()
			behind := &rig{t: t, Server: r.Server, http: around}
			ws, resp, err := websocket.DefaultDialer.Dial(behind.url(), nil)
			if err == nil {
				ws.Close()
			}
			if resp == nil || resp.StatusCode != test.status {
				t.Errorf("websocket: %v, want status %d", err, test.status)
			}
			resp, err = behind.open(t.Context(), "chat/completions", chatRequest(object{"stream": true, "logprobs": true}))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
				t.Errorf("stream: %d bytes, %v", len(body), err)
			}
		})
	}
}
