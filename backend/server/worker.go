package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"nrt/templates"
	"nrt/web"
)

// workerName is the service worker among the static files. It is served at the root,
// since it acts for what is below its own address.
const workerName = "worker.js"

// build is what the service worker is told.
type build struct {
	Version string   `json:"version"` // changes with the page and with each file
	Files   []string `json:"files"`   // addresses that p asks for
}

// newBuild renders p and notes what it asks for.
func newBuild(p templates.Page) (build, error) {
	b := build{Files: []string{}}
	p.Asset = func(name string) string {
		address := web.URL(name)
		if web.Hash(name) != "" { // without a client there is no app.wasm
			b.Files = append(b.Files, address)
		}
		return address
	}
	p.Nonce = ""
	var text bytes.Buffer
	if err := templates.Shell(p).Render(context.Background(), &text); err != nil {
		return build{}, fmt.Errorf("page: %w", err)
	}
	sum := sha256.Sum256(text.Bytes())
	b.Version = base64.RawURLEncoding.EncodeToString(sum[:9])
	return b, nil
}

// newWorker is static/worker.js for a build.
func newWorker(b build) (*asset, error) {
	text, err := web.Read(workerName)
	if err != nil {
		return nil, err
	}
	told, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return newAsset(typeOf(workerName), fmt.Appendf(nil, "const BUILD = %s;\n%s", told, text))
}

// serveWorker is /worker.js. The browser asks for it at every visit; the policy is that
// of what the worker itself fetches.
func (s *Server) serveWorker(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; frame-ancestors 'none'")
	s.page.worker.serve(w, r, false)
}
