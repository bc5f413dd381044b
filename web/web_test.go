package web

import (
	"io/fs"
	"strings"
	"testing"
)

func TestStaticHasWhatThePageAsksFor(t *testing.T) {
	for _, name := range []string{"style.css", "panels.css", "phone.css", "states.css", "theme.js", "loader.js", "train.js", "morph.js", "icon.svg", "vendor/uplot.js", "vendor/uplot.css", "vendor/uplot.LICENSE"} {
		if _, err := fs.Stat(Static(), name); err != nil {
			t.Error(err)
		}
		if Hash(name) == "" || !strings.Contains(URL(name), "?v=") {
			t.Errorf("%s: no digest in %s", name, URL(name))
		}
	}
	if URL("none.css") != "/static/none.css" {
		t.Errorf("have %s", URL("none.css"))
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
