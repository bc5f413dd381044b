package server

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/andybalholm/brotli"

	"nrt/web"
)

// asset is a file in the forms that it is sent in.
type asset struct {
	kind  string // Content-Type
	tag   string // ETag, quoted
	size  int    // uncompressed
	plain []byte // nil: from gz
	br    []byte // nil: not worth it
	gz    []byte
}

// compressible are the types that shrink.
func compressible(kind string) bool {
	return strings.HasPrefix(kind, "text/") || strings.Contains(kind, "javascript") || strings.Contains(kind, "json") ||
		strings.Contains(kind, "svg") || kind == "application/wasm" || kind == "application/octet-stream"
}

// newAsset compresses data if that helps.
func newAsset(kind string, data []byte) (*asset, error) {
	sum := sha256.Sum256(data)
	a := &asset{kind: kind, tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`, size: len(data), plain: data}
	if len(data) < 512 || !compressible(kind) {
		return a, nil
	}
	var br, gz bytes.Buffer
	b := brotli.NewWriterLevel(&br, 9)
	if err := writeAll(b, data); err != nil {
		return nil, err
	}
	g, err := gzip.NewWriterLevel(&gz, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if err := writeAll(g, data); err != nil {
		return nil, err
	}
	if br.Len() < len(data) {
		a.br = br.Bytes()
	}
	if gz.Len() < len(data) {
		a.gz = gz.Bytes()
	}
	return a, nil
}

func writeAll(w io.WriteCloser, data []byte) error {
	_, err := w.Write(data)
	return errors.Join(err, w.Close())
}

// serve answers with the form that the client takes. forEver says that the
// address changes with the bytes.
func (a *asset) serve(w http.ResponseWriter, r *http.Request, forEver bool) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Vary", "Accept-Encoding")
	h.Set("ETag", "W/"+a.tag) // weak: the same file in three encodings
	h.Set("Cache-Control", "no-cache")
	if forEver {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	// A progress bar cannot go by Content-Length when that is compressed.
	h.Set("X-Uncompressed-Length", strconv.Itoa(a.size))
	if noneMatch(r.Header.Get("If-None-Match"), a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := a.plain
	switch {
	case a.br != nil && accepts(r, "br"):
		h.Set("Content-Encoding", "br")
		body = a.br
	case a.gz != nil && accepts(r, "gzip"):
		h.Set("Content-Encoding", "gzip")
		body = a.gz
	case body == nil:
		var err error
		if body, err = unzip(a.gz, a.size); err != nil {
			http.Error(w, "the file cannot be unpacked", http.StatusInternalServerError)
			return
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	// A class that opens the page at once shares its line, so the client may take longer
	// than an ordinary answer. Where there are no deadlines none is set.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute + atPace(len(body))))
	// A client that has gone cannot be told so.
	if _, err := w.Write(body); err != nil {
		return
	}
}

func unzip(gz []byte, size int) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, int64(size)))
}

// noneMatch tells whether If-None-Match has the tag, weak or not.
func noneMatch(header, tag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == tag {
			return true
		}
	}
	return false
}

// accepts tells whether the client takes an encoding (q=0 refuses it).
func accepts(r *http.Request, encoding string) bool {
	for _, line := range r.Header.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
			if !strings.EqualFold(strings.TrimSpace(name), encoding) {
				continue
			}
			q, found := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(params, " ", "")), "q=")
			if !found {
				return true
			}
			x, err := strconv.ParseFloat(q, 64)
			return err == nil && x > 0
		}
	}
	return false
}

// static is the embedded files, compressed once.
type static struct {
	files map[string]*asset
	wasm  int64 // bytes of the client uncompressed, 0 without it
}

// types are those of the files that there are.
var types = map[string]string{
	".wasm": "application/wasm", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".json": "application/json", ".LICENSE": "text/plain; charset=utf-8",
}

func typeOf(name string) string { return cmp.Or(types[path.Ext(name)], "application/octet-stream") }

// loadStatic compresses once for all servers of the process.
var loadStatic = sync.OnceValues(newStatic)

func newStatic() (*static, error) {
	s := &static{files: map[string]*asset{}}
	build, built, err := web.Client()
	if err != nil {
		return nil, err
	}
	for _, name := range web.Names() {
		if ext := path.Ext(name); ext == ".br" || ext == ".gz" || name == workerName {
			continue // halves of what is packed already; what is served elsewhere
		}
		raw, err := web.Read(name)
		if err != nil {
			return nil, fmt.Errorf("static files: %w", err)
		}
		if s.files[name], err = newAsset(typeOf(name), raw); err != nil {
			return nil, fmt.Errorf("static files: %w", err)
		}
	}
	if built {
		a := &asset{kind: types[".wasm"], tag: `"` + web.Hash("app.wasm") + `"`, size: int(build.Size)}
		if a.br, err = web.Read("app.wasm.br"); err != nil {
			return nil, err
		}
		if a.gz, err = web.Read("app.wasm.gz"); err != nil {
			return nil, err
		}
		s.files["app.wasm"], s.wasm = a, build.Size
	}
	return s, nil
}

// serveStatic is /static/{file…}: a look-up in a map, so no path leads anywhere
// else.
func (s *Server) serveStatic(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	a := s.static.files[name]
	if a == nil {
		if name == "app.wasm" {
			s.refuse(w, http.StatusNotFound, "this program was built without its browser client: build it with make build")
			return
		}
		s.refuse(w, http.StatusNotFound, "no such file")
		return
	}
	v := r.URL.Query().Get("v")
	a.serve(w, r, v != "" && v == web.Hash(name))
}
