package web

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestFilesThatThePageAsksFor(t *testing.T) {
	for _, name := range []string{Sheet, "theme.js", "loader.js", "train.js", "morph.js", "icon.svg", "vendor/uplot.js", "vendor/uplot.LICENSE"} {
		if raw, err := Read(name); err != nil || len(raw) == 0 || !slices.Contains(Names(), name) {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
		if Hash(name) == "" || !strings.Contains(URL(name), "?v=") {
			t.Errorf("%s: no digest in %s", name, URL(name))
		}
	}
	if URL("none.css") != "/static/none.css" {
		t.Errorf("have %s", URL("none.css"))
	}
}

// TestSheetIsWhole: every part is in the sheet, and each ends what it begins.
func TestSheetIsWhole(t *testing.T) {
	raw, err := Read(Sheet)
	if err != nil {
		t.Fatal(err)
	}
	list, err := fs.Glob(files, "style/*.css")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		if !slices.Contains(parts, name) {
			t.Errorf("%s is no part of the sheet", name)
		}
	}
	for _, name := range parts {
		text, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(raw, text) || bytes.Count(text, []byte("{")) != bytes.Count(text, []byte("}")) {
			t.Errorf("%s is not whole", name)
		}
	}
}

func TestClientIsWholeOrAbsent(t *testing.T) {
	b, ok, err := Client()
	if err != nil {
		t.Fatal(err)
	}
	if ok && (b.Size == 0 || b.Brotli == 0 || b.Gzip == 0) {
		t.Errorf("sizes missing: %+v", b)
	}
}
