package browsertest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// front stands where the browser finds the program, and may answer for it.
type front struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(http.ResponseWriter, *http.Request) bool // true: it has answered
	change func(string) string                           // of page and worker
}

// newFront passes on to the program at addr.
func newFront(t testing.TB, addr string) *front {
	t.Helper()
	f := &front{}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host
			if r.In.URL.Path == "/" || r.In.URL.Path == "/worker.js" {
				for _, name := range []string{"Accept-Encoding", "If-None-Match"} {
					r.Out.Header.Del(name)
				}
				r.Out.Header.Set("Accept-Encoding", "identity")
			}
		},
		ModifyResponse: func(r *http.Response) error {
			f.mu.Lock()
			change := f.change
			f.mu.Unlock()
			if path := r.Request.URL.Path; change == nil || path != "/" && path != "/worker.js" {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = []byte(change(string(body)))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			r.Header.Del("ETag")
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		answer := f.answer
		f.mu.Unlock()
		if answer == nil || !answer(w, r) {
			p.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.CloseClientConnections)
	return f
}

// becomes changes what the front does.
func (f *front) becomes(answer func(http.ResponseWriter, *http.Request) bool, change func(string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer, f.change = answer, change
	f.CloseClientConnections()
}

// gone drops every connection.
func gone(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// reload loads the page again and waits for its client.
func (b *tab) reload() {
	b.t.Helper()
	b.run(chromedp.Reload())
	b.ready()
}

const (
	worker  = `navigator.serviceWorker.getRegistration().then(r => r?.active?.state === "activated" && !r.installing && !r.waiting)`
	stored  = `caches.keys().then(k => Promise.all(k.map(n => caches.open(n).then(c => c.keys())))).then(l => l.flat().map(r => r.url.replace(location.origin, "")).sort())`
	fetched = `[...new Set(performance.getEntriesByType("resource").map(e => e.name).filter(n => n.startsWith(location.origin + "/static/")).map(n => n.replace(location.origin, "")))].sort()`
)

// kept waits until the worker has the page.
func (b *tab) kept() {
	b.t.Helper()
	b.until("the worker has the page", worker)
}

// The page opens again with its server gone: it is read, it says that it is offline, and
// its client switches formulas and what-ifs that were scored. Only the page and what it
// fetched are kept, and nothing that was typed.
func TestPageOpensWithoutItsServer(t *testing.T) {
	s := serve(t)
	for _, away := range []string{"no connection", "a proxy whose server is gone"} {
		f := newFront(t, s.addr)
		b := open(t, phone)
		b.expectAway()
		b.load(f.URL + "/?theme=dark")
		b.until("connected", live)
		b.kept()
		if eval[bool](b, `navigator.serviceWorker.ready.then(r => r.navigationPreload.getState()).then(s => s.enabled)`) {
			t.Error("navigation preload is on, with which Firefox opens no page without its server")
		}
		want := append([]string{"/"}, eval[[]string](b, fetched)...)
		slices.Sort(want)
		if have := eval[[]string](b, stored); len(want) < 9 || !slices.Equal(have, want) {
			t.Errorf("kept are\n%s\nfetched were\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
		}
		group := b.rows()
		if away == "no connection" {
			f.becomes(gone, nil)
		} else {
			s.stop(syscall.SIGTERM)
		}
		b.reload()
		b.until("the page says so", `document.querySelector("#badge").innerText.includes("Offline") && document.querySelector("#notes").innerText.includes("Formulas, ranks and what-ifs that were scored still work")`)
		if have := b.rows(); len(have) != len(group) {
			t.Errorf("%s: %d chains, before %d", away, len(have), len(group))
		}
		const pager = `document.querySelector(".pager .cap").innerText`
		before := eval[string](b, pager)
		b.until("the charts say why they are empty", `[...document.querySelectorAll("#trainchart .canvas")].every(e => e.innerText.trim() === "needs the server" && e.ariaLabel.endsWith(": needs the server"))`)
		b.choose("#modeselect", "logp")
		b.until("the formula changes the reward", pager+` !== $ && location.hash.includes("mode=logp")`, before)
		b.click(`#chain .sent.is-on`)
		b.until("a saved what-if is scored", `document.querySelector("#chain .whatif b")?.innerText.includes("the reward")`)
		b.run(chromedp.Focus(`#chain .sent.is-on`, chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
		b.until("Enter says why no sheet opens", `document.querySelector("#notes").innerText.includes("Rewriting a sentence needs the server") && document.querySelector("#status").textContent.startsWith("Rewriting a sentence") && !document.querySelector("#edit").open`)
		if have := eval[[]string](b, stored); !slices.Equal(have, want) {
			t.Errorf("%s: kept are now %v", away, have)
		}
		// A question that the address has waits for the server, until it is stopped.
		b.load(f.URL + "/?theme=light#q=who&a=me")
		b.until("the question waits", `document.querySelector("#badge").innerText.includes("Offline") && document.querySelector("#act-cancel")`)
		b.click("#act-cancel")
		b.until("Stop stops", `!document.querySelector("#act-cancel") && document.querySelector("#chains").innerText.includes("No chain was written")`)
	}
}

// As long as a server answers its page is shown, whatever was kept; the worker of the
// new build takes the place of the old one, and what that kept goes.
func TestNewBuildIsShownAtOnce(t *testing.T) {
	s := serve(t)
	f := newFront(t, s.addr)
	b := open(t, desk)
	b.expectAway()
	b.load(f.URL)
	b.kept()
	old := eval[[]string](b, `caches.keys()`)
	if len(old) != 1 {
		t.Fatalf("caches %v", old)
	}
	f.becomes(gone, nil)
	b.reload()
	style := eval[string](b, `document.querySelector("link[href*='style.css']").getAttribute("href")`)
	next := strings.NewReplacer("<title>nrt:", "<title>nrt, another build:", style, "/static/style.css?v=another", `"version":"`, `"version":"another-`).Replace
	f.becomes(nil, next)
	b.reload()
	const isNew = `document.title.startsWith("nrt, another build") && document.querySelector("link[href*='style.css']").href.endsWith("v=another")`
	if !eval[bool](b, isNew) {
		t.Error("the old build's page hides the new one's")
	}
	b.until("the new worker has cleaned up", `caches.keys().then(k => k.length === 1 && k[0].startsWith("nrt-another-"))`)
	b.kept()
	f.becomes(gone, nil)
	b.reload()
	if !eval[bool](b, isNew) {
		t.Error("without the server the old build's page is shown")
	}
}

// Another program in the server's place, or a server that knows no worker, is rid of it at
// the next visit, and of all that it kept; a server in trouble is not.
func TestWorkerGoes(t *testing.T) {
	s := serve(t)
	programs := map[string]func(http.ResponseWriter){
		"404":   func(w http.ResponseWriter) { http.Error(w, "no such file", http.StatusNotFound) },
		"empty": func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/javascript") },
		"a page": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<p>Hello")
		},
	}
	for name, answer := range programs {
		f := newFront(t, s.addr)
		b := open(t, desk)
		b.expectAway()
		for _, part := range []string{"/worker.js", "503"} {
			b.expect(part)
		}
		b.load(f.URL)
		b.kept()
		answers := func(page bool, answer func(http.ResponseWriter)) {
			f.becomes(func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.URL.Path == "/worker.js":
					answer(w)
				case page && r.URL.Path == "/":
					w.Header().Set("Content-Type", "text/html")
					_, _ = io.WriteString(w, "<title>Another program</title>")
				default:
					return page
				}
				return true
			}, nil)
		}
		answers(false, func(w http.ResponseWriter) { http.Error(w, "later", http.StatusServiceUnavailable) })
		b.reload()
		if b.soon(`caches.keys().then(k => k.length === 0)`) {
			t.Errorf("%s: the worker goes because its server is in trouble", name)
		}
		answers(true, answer)
		b.run(chromedp.Reload())
		b.until("the other program's page is shown", `document.title === "Another program"`)
		b.until(name+": nothing is kept", `caches.keys().then(k => k.length === 0)`)
		b.run(chromedp.Reload())
		b.until(name+": no worker is left", `navigator.serviceWorker.getRegistrations().then(l => l.length === 0)`)
	}
}

// Where the address is not secure browsers have no workers, and the page does without;
// where it is, the worker waits for the client.
func TestNoWorkerWithoutSecurity(t *testing.T) {
	s := serve(t)
	f := newFront(t, s.addr)
	var client, asked, early atomic.Int32
	f.becomes(func(_ http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/static/app.wasm":
			time.Sleep(500 * time.Millisecond) // the browser has time for more
			client.Add(1)
		case "/worker.js":
			asked.Add(1)
			if client.Load() < 2 {
				early.Add(1)
			}
		}
		return false
	}, nil)
	for _, secure := range []bool{false, true} {
		b := open(t, desk)
		if !secure {
			b.script(`delete Navigator.prototype.serviceWorker`)
		}
		b.load(f.URL)
		b.until("connected", live)
		if secure {
			b.kept()
		} else if b.soon(`"serviceWorker" in navigator`) {
			t.Fatal("this browser cannot be made insecure")
		}
		if have := asked.Load() > 0; have != secure {
			t.Errorf("secure %t: the worker is asked for: %t", secure, have)
		}
	}
	if early.Load() > 0 {
		t.Error("the page asks for the worker before its client")
	}
}

// A browser that lacks the server's token is told so, and not that no server answers;
// once it has it, the page goes on.
func TestPageWithoutTheToken(t *testing.T) {
	s := serve(t, "--token", "secret")
	b := open(t, desk)
	b.expect("/ws")
	b.expect("401")
	b.load(s.url())
	b.until("the page says what is missing", `document.querySelector("#notes").innerText.includes("asks for its token") && document.querySelector("#badge").innerText === "No token"`)
	if text := b.text("#notes"); strings.Contains(text, "no server answers") {
		t.Errorf("the page says %q", text)
	}
	b.load(s.url() + "?token=secret")
	b.until("connected", live)
}

// A server that is asked and says no word, as the one of a computer that sleeps, is called
// lost, though nothing ends the connection, and has the question when it is back.
func TestSilentServerIsLost(t *testing.T) {
	s := serve(t)
	b := open(t, desk)
	b.expectAway()
	p := newProxy(t, s.addr)
	b.script(`
		const later = setTimeout.bind(window), timeout = AbortSignal.timeout.bind(AbortSignal);
		window.setTimeout = (f, ms, ...rest) => later(f, ms < 5000 ? ms : ms / 50, ...rest);
		AbortSignal.timeout = ms => timeout(ms / 50);
	`)
	b.load(p.url())
	b.until("connected", live)
	p.gate.Lock()
	b.click("#act-again")
	b.during("the page says so", `document.querySelector("#status").textContent.startsWith("Connection lost.") && document.querySelector("#badge").innerText.trim() !== "Live"`)
	p.gate.Unlock()
	b.until("connected again", live)
	b.complete(8)
}
