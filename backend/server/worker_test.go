package server

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nrt/web"
	"nrt/web/view"
)

// told is what the service worker that a server sends was told.
func (r *rig) told() build {
	r.t.Helper()
	_, body := r.get("/worker.js")
	line, text, _ := strings.Cut(body, "\n")
	want, err := web.Read(workerName)
	if err != nil {
		r.t.Fatal(err)
	}
	if text != string(want) {
		r.t.Error("after its first line the worker is not static/worker.js")
	}
	var b build
	raw, ok := strings.CutPrefix(strings.TrimSuffix(line, ";"), "const BUILD = ")
	if err := json.Unmarshal([]byte(raw), &b); !ok || err != nil {
		r.t.Fatalf("%v: %q", err, line)
	}
	return b
}

// The worker is a script at the root that the browser asks for anew each time, by a
// policy that lets it fetch from here and nothing else; everyone may have it.
func TestWorkerIsServedAtTheRoot(t *testing.T) {
	r := start(t, func(o *Options) { o.Token = "sesame" })
	resp, _ := r.get("/worker.js", "Service-Worker: script")
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; connect-src 'self'; frame-ancestors 'none'",
	} {
		if have := resp.Header.Get(name); have != want {
			t.Errorf("%s: %q, want %q", name, have, want)
		}
	}
	if again, body := r.get("/worker.js", "If-None-Match: "+resp.Header.Get("ETag")); again.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("unchanged: %s", again.Status)
	}
	// Elsewhere it could act for nothing.
	if resp, _ := r.get("/static/" + workerName); resp.StatusCode != http.StatusNotFound {
		t.Errorf("as a static file: %s", resp.Status)
	}
}

// It keeps the files that the page asks for, all of them and no other, by addresses
// whose answers never change.
func TestWorkerKeepsWhatThePageFetches(t *testing.T) {
	r := start(t, nil)
	_, page := r.get("/")
	var want []string
	for _, m := range regexp.MustCompile(`(?:src|href|data-wasm)="(/static/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		if web.Hash("app.wasm") != "" || m[1] != "/static/app.wasm" {
			want = append(want, m[1])
		}
	}
	if len(want) < 8 {
		t.Fatalf("the page asks for %v", want)
	}
	have := r.told().Files
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(have, want) {
		t.Errorf("kept:\n%s\nfetched:\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	for _, address := range have {
		if resp, _ := r.get(address); resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %s, %s", address, resp.Status, resp.Header.Get("Cache-Control"))
		}
	}
}

// The same page has the same version, at every start; another page has another.
func TestWorkerNamesTheBuild(t *testing.T) {
	r := start(t, nil)
	first := r.told().Version
	if again := start(t, nil).told().Version; again != first || len(first) < 8 {
		t.Errorf("versions %q and %q of the same page", first, again)
	}
	other := start(t, func(o *Options) {
		o.Models = append(o.Models, Source{Name: "other", About: "other", Files: o.Models[0].Files})
	})
	if other.told().Version == first {
		t.Error("a page with another model has the same version")
	}
	p := r.page.shell(r.Server, nil)
	p.Fragments = map[string]string{view.Containers[0]: "<i>another</i>"}
	changed, err := newBuild(p)
	if err != nil {
		t.Fatal(err)
	}
	p.Nonce = "n0nce"
	same, err := newBuild(p)
	if err != nil {
		t.Fatal(err)
	}
	if changed.Version == first || same.Version != changed.Version {
		t.Errorf("versions %q, %q, with a nonce %q", first, changed.Version, same.Version)
	}
}
