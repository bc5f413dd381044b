package browsertest

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var pictures = flag.Bool("pictures", false, "write docs/screenshots again")

// TestPictures takes the pictures of docs/screenshots: the page after a short
// training run, on a desk and on a phone, light and dark, and the form for an
// own question.
func TestPictures(t *testing.T) {
	if !*pictures {
		t.Skip("needs -pictures")
	}
	dir := filepath.Join("..", "..", "docs", "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := serve(t)
	b := open(t, desk)
	b.load(s.url())
	b.until("connected", live)
	b.click("#act-open")
	b.until("the form is open", `document.querySelector("#traindlg").open`)
	b.choose("#trainform [name=steps]", "40")
	frame(b)
	b.click("#traindlg [type=submit]")
	b.until("it ends", `document.querySelector("#train").innerText.includes("done")`)
	for _, x := range []struct {
		name string
		view view
	}{
		{"desktop-light", desk}, {"desktop-dark", view{width: 1440, height: 900, dark: true}},
		{"phone-light", phone}, {"phone-dark", view{width: 390, height: 844, phone: true, dark: true}},
	} {
		b := open(t, x.view)
		b.load(s.url())
		b.until("connected", live)
		b.until("curves are drawn", `document.querySelectorAll("#trainchart canvas").length === 4`)
		frame(b)
		frame(b)
		b.shot(filepath.Join(dir, x.name+".png"), x.view.phone)
		if x.name != "desktop-light" {
			continue
		}
		b.click(".own")
		b.until("the answer is cut into tokens", `document.querySelectorAll("#tokens-answer span").length > 1`)
		frame(b)
		b.shot(filepath.Join(dir, "own-question.png"), false)
	}
}
