// Package web holds the files that a browser fetches: the style sheet, whose parts are
// in style/, and what is in static/, the loader, the service worker, the vendored chart
// library and, once built, the WebAssembly client.
//
// `make wasm` writes the client (app.wasm.br, app.wasm.gz) and Go's
// wasm_exec.js into static/. A plain `go build` works without them: [Client]
// then reports that there is none, and the page says so and stays readable.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
)

//go:embed static style
var files embed.FS

// Sheet is the page's style: one file, since a browser paints nothing before it has all.
const Sheet = "style.css"

// parts are what Sheet is joined of.
var parts = []string{"static/vendor/uplot.css", "style/base.css", "style/panels.css", "style/phone.css", "style/states.css"}

// Read is a file by its name: [Sheet], or slash-separated below static/.
func Read(name string) ([]byte, error) {
	if name != Sheet {
		return files.ReadFile(path.Join("static", name))
	}
	var all []byte
	for _, part := range parts {
		text, err := files.ReadFile(part)
		if err != nil {
			return nil, err
		}
		all = append(all, text...)
	}
	return all, nil
}

// Names are those of all files that can be read.
func Names() []string {
	list := []string{Sheet}
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(name, "static/"))
		}
		return err
	})
	if err != nil {
		panic(err) // the directory is embedded under this very name
	}
	return list
}

// Build describes the WebAssembly client that was built into the binary.
type Build struct {
	Size   int64 `json:"size"`   // bytes of app.wasm, uncompressed
	Brotli int64 `json:"brotli"` // bytes of app.wasm.br
	Gzip   int64 `json:"gzip"`   // bytes of app.wasm.gz
}

// Client reads static/app.json. ok is false when the binary was built without
// `make wasm`.
func Client() (b Build, ok bool, err error) {
	raw, err := Read("app.json")
	if err != nil {
		return Build{}, false, nil
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return Build{}, false, fmt.Errorf("static/app.json: %w", err)
	}
	for _, name := range []string{"app.wasm.br", "app.wasm.gz", "wasm_exec.js"} {
		if _, err := fs.Stat(files, "static/"+name); err != nil {
			return Build{}, false, fmt.Errorf("static/app.json is there, but %s is not: build the client again", name)
		}
	}
	return b, true, nil
}

var hashes sync.Map // name → hash

// Hash is a short digest of one static file's bytes, "" if there is none; of
// the compressed pair's brotli half for app.wasm.
func Hash(name string) string {
	if h, ok := hashes.Load(name); ok {
		return h.(string)
	}
	raw, err := Read(name)
	if err != nil {
		if raw, err = Read(name + ".br"); err != nil {
			return ""
		}
	}
	sum := sha256.Sum256(raw)
	h := base64.RawURLEncoding.EncodeToString(sum[:9])
	hashes.Store(name, h)
	return h
}

// URL is where the server serves a static file; the query changes with its
// bytes, so that it may be cached for ever.
func URL(name string) string {
	u := "/static/" + strings.TrimPrefix(name, "/")
	if h := Hash(name); h != "" {
		u += "?v=" + h
	}
	return u
}
