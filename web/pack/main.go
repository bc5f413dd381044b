// Command pack compresses the WebAssembly client for the server.
//
//	pack app.wasm static/
//
// writes app.wasm.br, app.wasm.gz and app.json (the sizes) into the folder, and
// nothing when they already belong to the same bytes.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/andybalholm/brotli"
)

type build struct {
	Size   int64  `json:"size"`
	Brotli int64  `json:"brotli"`
	Gzip   int64  `json:"gzip"`
	SHA256 string `json:"sha256"` // of app.wasm
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack app.wasm FOLDER")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// pack writes the three files of the client into dir and says what it wrote.
func pack(wasm, dir string, out io.Writer) error {
	raw, err := os.ReadFile(wasm)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	b := build{Size: int64(len(raw)), SHA256: hex.EncodeToString(sum[:])}
	if old, ok := packed(dir); ok && old.SHA256 == b.SHA256 {
		return report(out, old, "unchanged")
	}
	br, err := compress(raw, func(w io.Writer) (io.WriteCloser, error) {
		// The largest window that every browser accepts.
		return brotli.NewWriterOptions(w, brotli.WriterOptions{Quality: brotli.BestCompression, LGWin: 24}), nil
	})
	if err != nil {
		return fmt.Errorf("brotli: %w", err)
	}
	gz, err := compress(raw, func(w io.Writer) (io.WriteCloser, error) {
		return gzip.NewWriterLevel(w, gzip.BestCompression)
	})
	if err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	b.Brotli, b.Gzip = int64(len(br)), int64(len(gz))
	desc, err := json.Marshal(b)
	if err != nil {
		return err
	}
	// The description comes last: while it is there, the others are whole.
	for _, f := range []struct {
		name string
		data []byte
	}{{"app.wasm.br", br}, {"app.wasm.gz", gz}, {"app.json", append(desc, '\n')}} {
		if err := write(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	return report(out, b, "written")
}

// packed reads what an earlier run left, if all of it is there.
func packed(dir string) (b build, ok bool) {
	raw, err := os.ReadFile(filepath.Join(dir, "app.json"))
	if err != nil || json.Unmarshal(raw, &b) != nil {
		return build{}, false
	}
	for name, size := range map[string]int64{"app.wasm.br": b.Brotli, "app.wasm.gz": b.Gzip} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() != size {
			return build{}, false
		}
	}
	return b, true
}

func report(out io.Writer, b build, what string) error {
	_, err := fmt.Fprintf(out, "app.wasm %.2f MB, brotli %.2f MB, gzip %.2f MB (%s)\n",
		float64(b.Size)/1e6, float64(b.Brotli)/1e6, float64(b.Gzip)/1e6, what)
	return err
}

func compress(raw []byte, open func(io.Writer) (io.WriteCloser, error)) ([]byte, error) {
	var buf bytes.Buffer
	w, err := open(&buf)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(raw); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// write replaces name in one step.
func write(name string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)) // a name that is not embedded, should Go look now
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
