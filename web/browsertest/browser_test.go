package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// chrome is the one browser of all tests; each test has a profile of its own in
// it.
var chrome struct {
	once sync.Once
	ctx  context.Context
	stop func()
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if chrome.stop != nil {
		chrome.stop()
	}
	os.Exit(code)
}

func browserPath() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	return ""
}

func startChrome(t testing.TB) context.Context {
	t.Helper()
	exe := browserPath()
	if exe == "" {
		t.Skip("no browser: install chromium")
	}
	chrome.once.Do(func() {
		dir, err := os.MkdirTemp("", "nrt-browser-")
		if err != nil {
			chrome.err = err
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(exe), chromedp.UserDataDir(dir), chromedp.NoSandbox, chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
			chromedp.Flag("hide-scrollbars", false), chromedp.WSURLReadTimeout(patience),
		)
		alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stop := chromedp.NewContext(alloc, chromedp.WithErrorf(quiet))
		chrome.ctx = ctx
		chrome.stop = func() { stop(); stopAlloc(); os.RemoveAll(dir) }
		chrome.err = chromedp.Run(ctx)
	})
	if chrome.err != nil {
		t.Fatal(chrome.err)
	}
	return chrome.ctx
}

// window opens an empty window with a profile of its own: no cookies, storage or
// cache of another test.
func window(t testing.TB) target.ID {
	t.Helper()
	ctx := cdp.WithExecutor(chrome.ctx, chromedp.FromContext(chrome.ctx).Browser)
	profile, err := target.CreateBrowserContext().WithDisposeOnDetach(true).Do(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id, err := target.CreateTarget("about:blank").WithBrowserContextID(profile).WithNewWindow(true).Do(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.DisposeBrowserContext(profile).Do(ctx); err != nil {
			t.Log(err)
		}
	})
	return id
}

// view says how a reader looks at the page.
type view struct {
	width, height int64
	dark          bool
	phone         bool
	noScript      bool
	still         bool // prefers reduced motion
	block         []string
}

var desk = view{width: 1440, height: 900}
var phone = view{width: 390, height: 844, phone: true}

// patience is how long a test waits for what must come. A machine may be slow and busy,
// and who waits in vain has failed anyway.
const patience = 2 * time.Minute

// tab is one reader.
type tab struct {
	t   testing.TB
	ctx context.Context
	mu  sync.Mutex
	bad []string
	ok  []string // parts of complaints that the test expects
}

// open is a new reader's tab, with nothing loaded. Whatever the page complains
// about in the console, errors and policy violations alike, fails the test.
func open(t testing.TB, v view) *tab {
	t.Helper()
	parent := startChrome(t)
	ctx, cancel := chromedp.NewContext(parent, chromedp.WithTargetID(window(t)))
	b := &tab{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(e any) {
		switch e := e.(type) {
		case *runtime.EventExceptionThrown:
			b.complain("exception: " + e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError {
				var words []string
				for _, a := range e.Args {
					words = append(words, string(a.Value)+a.Description)
				}
				b.complain("console: " + strings.Join(words, " "))
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.LevelError {
				b.complain(fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
			}
		}
	})
	if err := chromedp.Run(ctx); err != nil { // the tab lives as long as this context
		t.Fatal(err)
	}
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	motion := "no-preference"
	if v.still {
		motion = "reduce"
	}
	scale := 1.0
	actions := []chromedp.Action{
		log.Enable(), network.Enable(),
		emulation.SetDeviceMetricsOverride(v.width, v.height, scale, v.phone),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: motion},
		}),
		emulation.SetScriptExecutionDisabled(v.noScript),
	}
	if v.phone {
		actions = append(actions, emulation.SetTouchEmulationEnabled(true))
	}
	if v.block != nil {
		actions = append(actions, blocked(v.block))
	}
	b.run(actions...)
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
	next:
		for _, line := range b.bad {
			for _, part := range b.ok {
				if strings.Contains(line, part) {
					continue next
				}
			}
			t.Error("the browser complains: " + line)
		}
	})
	return b
}

func blocked(urls []string) chromedp.Action {
	var list []*network.BlockPattern
	for _, u := range urls {
		list = append(list, &network.BlockPattern{URLPattern: u, Block: true})
	}
	return network.SetBlockedURLs().WithURLPatterns(list)
}

func (b *tab) complain(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = append(b.bad, line)
}

// expect lets complaints that contain part pass.
func (b *tab) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ok = append(b.ok, part)
}

// expectAway lets complaints about a server that is not there pass.
func (b *tab) expectAway() {
	for _, part := range []string{"WebSocket", "ERR_", "502", "fetching the script"} {
		b.expect(part)
	}
}

func (b *tab) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := b.try(actions...); err != nil {
		b.t.Fatal(err)
	}
}

// try is run for whoever says more about an error.
func (b *tab) try(actions ...chromedp.Action) error {
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	return chromedp.Run(ctx, actions...)
}

// eval is the value of a JavaScript expression.
func eval[T any](b *tab, js string, args ...any) T {
	b.t.Helper()
	var v T
	if err := b.try(chromedp.Evaluate(bind(js, args), &v, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })); err != nil {
		b.t.Fatalf("%s: %v", js, err)
	}
	return v
}

// bind puts each argument, as JSON, where js says $.
func bind(js string, args []any) string {
	for _, a := range args {
		raw, err := json.Marshal(a)
		if err != nil {
			panic(err) // tests pass plain values
		}
		js = strings.Replace(js, "$", string(raw), 1)
	}
	return js
}

// until waits for a JavaScript condition, or for the promise of one, and for a page that
// is drawn whole: a drawing that takes long goes on in the next frames, and until then the
// page's parts are of different states.
func (b *tab) until(what, js string, args ...any) {
	b.t.Helper()
	b.wait(what, bind(js, args), `!("drawing" in document.documentElement.dataset)`)
}

// during waits for what passes by itself: a page that is busy with it may never be drawn
// whole before it is over.
func (b *tab) during(what, js string, args ...any) {
	b.t.Helper()
	b.wait(what, bind(js, args), "true")
}

func (b *tab) wait(what, js, and string) {
	b.t.Helper()
	js = "Promise.resolve(" + js + ").then(ok => Boolean(ok) && " + and + ")"
	end := time.Now().Add(patience)
	for {
		if eval[bool](b, js) {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("after %v not yet: %s", patience, what)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// soon tells whether js becomes true within half a second.
func (b *tab) soon(js string) bool {
	b.t.Helper()
	for range 20 {
		if eval[bool](b, "Promise.resolve("+js+").then(Boolean)") {
			return true
		}
		time.Sleep(25 * time.Millisecond)
	}
	return false
}

// load opens the page and waits until its client has taken over.
func (b *tab) load(url string) {
	b.t.Helper()
	b.run(navigate(url))
	b.ready()
}

func (b *tab) ready() {
	b.t.Helper()
	b.until("the client is ready", `document.documentElement.dataset.client === "ready"`)
}

// drawn waits until the page shows its state.
func (b *tab) drawn() {
	b.t.Helper()
	b.until("all is drawn", "true")
}

// script has every page that is opened from now on run a script first.
func (b *tab) script(js string) {
	b.t.Helper()
	b.run(chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(js).Do(ctx)
		return err
	}))
}

// text is what a reader reads there.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, `(document.querySelector($)?.innerText ?? "").replace(/\s+/g, " ").trim()`, selector)
}

// shot writes a picture of the screen, or with full of the whole page.
func (b *tab) shot(name string, full bool) {
	b.t.Helper()
	var raw []byte
	if full {
		b.run(chromedp.FullScreenshot(&raw, 100))
	} else {
		b.run(chromedp.CaptureScreenshot(&raw))
	}
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func navigate(url string) chromedp.Action { return chromedp.Navigate(url) }

// quiet leaves out chromedp's complaints about events newer than itself.
func quiet(format string, args ...any) {
	if !strings.HasPrefix(format, "unhandled") {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}
