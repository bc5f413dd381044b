package main

import (
	"bufio"
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nrt/backend/server"
	"nrt/trainer/world"
	"nrt/web"
	"nrt/web/view"
	"nrt/web/wire"
)

func TestServeHelp(t *testing.T) {
	golden(t, "help/serve.txt", setting{}.ok(t, "serve", "--help"))
	golden(t, "help/bake.txt", setting{}.ok(t, "bake", "--help"))
}

// TestServeBounds: what no reader could ever be sent is said at start.
func TestServeBounds(t *testing.T) {
	known, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--max-chain", "4096"}, {"--keep-runs", "99999"}, {"--burst", "-1"}, {"--trusted-proxy", "proxy.example.org"}, {"--trusted-proxy", "10.0.0.0/99"},
		{"--host", "teach.example.org:8080"}, {"--host", "http://teach.example.org"},
	} {
		code, _, stderr := setting{builtins: known}.nrt(t, append([]string{"serve"}, args...)...)
		if code != exitUsage || !strings.Contains(stderr, args[0]) {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
	list, err := networks([]string{"10.1.2.3", "10.0.0.0/8", "::1"})
	if err != nil || len(list) != 3 || list[0].String() != "10.1.2.3/32" || list[1].String() != "10.0.0.0/8" {
		t.Errorf("have %v, %v", list, err)
	}
}

// serving runs serve until the test ends and returns the address it printed.
func serving(t *testing.T, args ...string) (address string, stop func() int) {
	t.Helper()
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	e := &env{
		ctx: ctx, in: strings.NewReader(""), out: bufio.NewWriter(in), err: io.Discard,
		getenv: func(string) string { return "" }, builtins: list,
	}
	code := make(chan int, 1)
	go func() { code <- execute(e, commands(), append([]string{"serve", "--threads", "1"}, args...)) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	stop = func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(2 * time.Minute):
			t.Fatal("serve does not stop")
			return -1
		}
	}
	return strings.TrimSpace(line), stop
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	address, stop := serving(t, "--addr", "127.0.0.1:0", "--state", dir)
	for _, path := range []string{"", "healthz", "readyz", "metrics", "api/models"} {
		resp, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "runs")); err != nil {
		t.Error(err)
	}
}

func TestServeElsewhereAsksForAToken(t *testing.T) {
	address, stop := serving(t, "--addr", "0.0.0.0:0", "--no-train", "--host", "teach.example.org")
	at, token, ok := strings.Cut(address, "?token=")
	if !ok || len(token) < 20 || !strings.HasPrefix(at, "http://teach.example.org:") {
		t.Fatalf("address %s", address)
	}
	at = strings.Replace(at, "teach.example.org", "127.0.0.1", 1)
	for _, x := range []struct {
		bearer string
		code   int
	}{{"", 401}, {"wrong", 401}, {token, 200}} {
		req, err := http.NewRequest(http.MethodGet, at+"api/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+x.bearer)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != x.code {
			t.Errorf("%q: %s, want %d", x.bearer, resp.Status, x.code)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// TestServeAddress: what is printed for others to open, or how to have it printed.
func TestServeAddress(t *testing.T) {
	for _, c := range []struct {
		listens string
		hosts   []string
		want    string
		told    bool
	}{
		{"0.0.0.0:80", nil, "http://localhost:80/?token=a%26b", true},
		{"[::]:80", nil, "http://localhost:80/?token=a%26b", true},
		{"[::]:80", []string{"teach.example.org", "other"}, "http://teach.example.org:80/?token=a%26b", false},
		{"192.0.2.7:80", nil, "http://192.0.2.7:80/?token=a%26b", false},
		{"[2001:db8::7]:80", []string{"teach.example.org"}, "http://[2001:db8::7]:80/?token=a%26b", false},
	} {
		var errs strings.Builder
		at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.listens))
		have := (&serveFlags{hosts: c.hosts}).address(&env{err: &errs}, at, "a&b")
		if told := strings.Contains(errs.String(), "--host NAME"); have != c.want || told != c.told {
			t.Errorf("%s, %q: have %s, want %s; told %q", c.listens, c.hosts, have, c.want, errs.String())
		}
	}
}

// TestServeBehindAProxy: that nobody is asked for a token is said where others are meant to come.
func TestServeBehindAProxy(t *testing.T) {
	at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:80"))
	for _, c := range []struct {
		s     serveFlags
		token string
		told  bool
	}{
		{serveFlags{}, "", false},
		{serveFlags{hosts: []string{"teach.example.org"}}, "", true},
		{serveFlags{proxies: []string{"127.0.0.1"}}, "", true},
		{serveFlags{hosts: []string{"teach.example.org"}, proxies: []string{"127.0.0.1"}}, "sesame", false},
	} {
		var errs strings.Builder
		c.s.address(&env{err: &errs}, at, c.token)
		if told := strings.Contains(errs.String(), "--token"); told != c.told {
			t.Errorf("%q, %q, token %q: told %q", c.s.hosts, c.s.proxies, c.token, errs.String())
		}
	}
}

func TestServeRefuses(t *testing.T) {
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{"--addr", "nowhere"}, "--addr: want HOST:PORT"},
		{[]string{"--slots", "-1"}, "--slots: want 0 or more"},
		{[]string{"--model", "no/such"}, "no such folder"},
		{nil, "no built-in models"},
	} {
		code, _, errs := setting{}.nrt(t, append([]string{"serve"}, x.args...)...)
		if code == exitOK || !strings.Contains(errs, x.want) {
			t.Errorf("%v: exit %d, %q, want %q", x.args, code, errs, x.want)
		}
	}
}

// TestBakedIsWhatTheModelSays bakes the page's examples again. Kernels of other
// processors differ in the last digits.
func TestBakedIsWhatTheModelSays(t *testing.T) {
	list, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "baked.json")
	setting{builtins: list}.ok(t, "bake", "--out", path)
	read := func(raw []byte, err error) []view.Example {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		examples, err := view.ReadExamples(raw)
		if err != nil {
			t.Fatal(err)
		}
		return examples
	}
	have := read(os.ReadFile(path))
	want := read(web.Read(server.Baked))
	if len(have) != len(want) {
		t.Fatalf("%d examples, want %d: nrt bake writes them again", len(have), len(want))
	}
	if plain := want[0].Start.Plain; plain == "" || strings.Contains(plain, "memory") {
		t.Errorf("the first example asks %q, which its reader cannot work out", plain)
	}
	type key struct {
		chain int
		part  string
	}
	small := world.New(worldSeed)
	// graded compares what is said of each chain with what the small world says.
	graded := func(e view.Example) {
		t.Helper()
		chains, right := make([]string, e.Ask.K), 0
		for _, x := range e.Frame.Tokens {
			if x.Part == wire.PartChain {
				chains[x.Chain] += strings.Join(x.Texts, "")
			}
		}
		for _, d := range e.Frame.Done {
			if want := small.EndsRight(e.Ask.Question, chains[d.Chain]); d.Right != want {
				t.Errorf("%s by %s: %q is right: %t, it says %t: nrt bake writes it again", e.Name, e.Ask.Model, chains[d.Chain], want, d.Right)
			}
			if d.Right {
				right++
			}
		}
		if right == 0 {
			t.Errorf("%s by %s: no chain is right", e.Name, e.Ask.Model)
		}
	}
	for i, w := range want {
		h := have[i]
		if len(w.Anew) != 1 || len(h.Anew) != 1 {
			t.Errorf("%s: asked of %d trained models, want one: nrt bake writes it again", w.Name, len(w.Anew))
			continue
		}
		if a, b := w.Anew[0], h.Anew[0]; a.Ask.Model != b.Ask.Model || a.Ask.Question != w.Ask.Question || a.Ask.Seed != w.Ask.Seed {
			t.Errorf("%s: %+v; want %+v: nrt bake writes it again", w.Name, a.Ask, b.Ask)
		}
		for _, e := range []view.Example{w, w.Anew[0]} {
			graded(e)
		}
		if h.Name != w.Name || h.Ask != w.Ask || len(h.Frame.Tokens) != len(w.Frame.Tokens) {
			t.Errorf("%s differs: nrt bake writes it again", w.Name)
			continue
		}
		at := map[key]int{}
		for j, e := range h.Frame.Tokens {
			at[key{e.Chain, string(e.Part)}] = j
		}
		for _, e := range w.Frame.Tokens {
			o := h.Frame.Tokens[at[key{e.Chain, string(e.Part)}]]
			if !slices.Equal(o.IDs, e.IDs) {
				t.Errorf("%s: chain %d, %s: other tokens: nrt bake writes them again", w.Name, e.Chain, e.Part)
				continue
			}
			for j, x := range e.LogProbs {
				if math.Abs(x-o.LogProbs[j]) > 1e-3*max(1, math.Abs(x)) {
					t.Errorf("%s: chain %d, %s, token %d: %g, want %g", w.Name, e.Chain, e.Part, j, o.LogProbs[j], x)
				}
			}
		}
		if !reflect.DeepEqual(h.Runs, w.Runs) || len(h.Reads) != len(w.Reads) || len(w.Reads) == 0 {
			t.Errorf("%s: the kept steps of %+v have read the chains, %d models: nrt bake has others", w.Name, w.Runs, len(w.Reads))
			continue
		}
		for k, m := range w.Reads {
			for n, v := range m.Variants {
				for j, x := range v.LogProbs {
					if o := h.Reads[k].Variants[n].LogProbs[j]; h.Reads[k].Model != m.Model || math.Abs(x-o) > 1e-3*max(1, math.Abs(x)) {
						t.Errorf("%s: %s, chain %d, token %d: %g, want %g", w.Name, m.Model, n+1, j, o, x)
					}
				}
			}
		}
	}
}

func TestShortName(t *testing.T) {
	for path, want := range map[string]string{
		"llama-1b": "llama-1b", "/models/llama-1b/": "llama-1b", "runs/gsm8k/final": "gsm8k/final",
		"out/checkpoint-40": "out/checkpoint-40", "final": "final", "/final": "final",
	} {
		if have := shortName(path); have != want {
			t.Errorf("%s is called %q, want %q", path, have, want)
		}
	}
}

// TestOneModelOneName: a model that a shown run has, and that is named too or is another
// run's, is offered once; two that are called alike are told apart.
func TestOneModelOneName(t *testing.T) {
	root, model := t.TempDir(), wordModel(t)
	folder := func(name string) string {
		path := filepath.Join(root, filepath.FromSlash(name))
		if _, err := os.Stat(path); err != nil {
			if err := os.CopyFS(path, os.DirFS(model)); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	source := func(name, path string) server.Source { return server.Source{Name: name, Files: os.DirFS(folder(path))} }
	runs := []struct{ run, start string }{{"math/nrt", "math/sft/final"}, {"code/nrt", "code/sft/final"}, {"code/rlpr", "code/sft/final"}, {"code/more", "code/nrt/final"}}
	var shown []server.Source
	for _, x := range runs {
		shown = append(shown, source(x.run+"/final", x.run+"/final"))
	}
	starts := make([]string, len(runs))
	for i, x := range runs {
		from, served := source("", x.start), false
		if starts[i], served = nameStart(x.run, shortName(x.start), from.Files, shown); !served {
			shown = append(shown, source(starts[i], x.start))
		}
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(folder("math/nrt/final"), link); err != nil {
		t.Skip(err)
	}
	s := serveFlags{models: []string{
		link, folder("code/nrt/final") + "/", folder("elsewhere/sft/final"), folder("elsewhere/sft") + "/../sft/final", folder("code/sft/final"),
	}}
	list, base, err := s.sources(&env{}, shown)
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]server.Source{}
	for i, x := range list {
		if _, twice := named[x.Name]; twice {
			t.Errorf("two models are called %s", x.Name)
		}
		named[x.Name] = x
		for _, y := range list[:i] {
			if sameFolder(x.Files, y.Files) {
				t.Errorf("one model is called %s and %s", x.Name, y.Name)
			}
		}
	}
	if len(list) != 7 || list[0].Name != "math/nrt/final" || base != list[0].Name || list[1].Name != "code/nrt/final" || list[2].Name != folder("elsewhere/sft/final") {
		t.Errorf("%d models, from %s: %+v", len(list), base, list)
	}
	t.Chdir(root)
	folder("a/llama")
	folder("llama")
	list, _, err = (&serveFlags{models: []string{"a/llama", "llama"}}).sources(&env{}, nil)
	if err != nil || len(list) != 2 || list[0].Name != "llama" || !sameFolder(list[1].Files, os.DirFS("llama")) || !filepath.IsAbs(list[1].Name) {
		t.Errorf("%+v, %v", list, err)
	}
	for i, x := range runs {
		for name, path := range map[string]string{starts[i]: x.start, x.run + "/final": x.run + "/final"} {
			if m, ok := named[name]; !ok || !sameFolder(m.Files, os.DirFS(folder(path))) {
				t.Errorf("%s: %s is not the model in %s", x.run, name, path)
			}
		}
	}
}

// TestServeTokenOfOnesOwn: the address that is printed lets a browser in, whatever
// signs the token has; one that a browser could not keep is refused.
func TestServeTokenOfOnesOwn(t *testing.T) {
	address, stop := serving(t, "--addr", "127.0.0.1:0", "--no-train", "--token", "a+b&c=%2F#1")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := http.Client{Jar: jar}
	at, _, _ := strings.Cut(address, "?")
	for _, url := range []string{address, at + "api/models"} {
		resp, err := browser.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, resp.Status)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	known, err := builtins()
	if err != nil {
		t.Fatal(err)
	}
	code, _, stderr := setting{builtins: known}.nrt(t, "serve", "--addr", "127.0.0.1:0", "--no-train", "--token", "klasse 3b;")
	if code == exitOK || !strings.Contains(stderr, ": token: want letters") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
