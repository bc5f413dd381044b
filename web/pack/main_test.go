package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
)

func TestPackWritesBothFormsOnce(t *testing.T) {
	dir := t.TempDir()
	wasm := filepath.Join(dir, "in.wasm")
	want := bytes.Repeat([]byte("\x00asm one two three "), 4000)
	if err := os.WriteFile(wasm, want, 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := pack(wasm, dir, &out); err != nil {
		t.Fatal(err)
	}
	read := func(name string, open func(io.Reader) (io.Reader, error)) []byte {
		t.Helper()
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := open(f)
		if err != nil {
			t.Fatal(err)
		}
		have, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return have
	}
	if have := read("app.wasm.br", func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }); !bytes.Equal(have, want) {
		t.Error("brotli: the bytes differ")
	}
	if have := read("app.wasm.gz", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }); !bytes.Equal(have, want) {
		t.Error("gzip: the bytes differ")
	}

	out.Reset()
	if err := pack(wasm, dir, &out); err != nil || !strings.Contains(out.String(), "unchanged") {
		t.Errorf("second run: %q, %v", out.String(), err)
	}
	// A file cut short is written again.
	if err := os.Truncate(filepath.Join(dir, "app.wasm.br"), 3); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := pack(wasm, dir, &out); err != nil || !strings.Contains(out.String(), "written") {
		t.Errorf("after damage: %q, %v", out.String(), err)
	}
}

func TestPackNamesTheMissingFile(t *testing.T) {
	if err := pack(filepath.Join(t.TempDir(), "none.wasm"), t.TempDir(), io.Discard); err == nil || !strings.Contains(err.Error(), "none.wasm") {
		t.Errorf("have %v", err)
	}
}
