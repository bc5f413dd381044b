package browsertest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var pictures = flag.Bool("pictures", false, "write docs/screenshots again")

// TestPictures takes the pictures of docs/screenshots: the page as it opens, on a
// desk and on a phone, light and dark; the form for an own question; chains while
// they are written; a group that teaches nothing.
func TestPictures(t *testing.T) {
	if !*pictures {
		t.Skip("needs -pictures")
	}
	dir := filepath.Join("..", "..", "docs", "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--model", slowModel(t))
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
		b.until("both runs are there", `[...document.querySelectorAll("#trainchart table")].every(t => [...t.querySelectorAll("tr:nth-child(3) td")].filter(e => e.textContent !== "").length === 2)`)
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

	b := open(t, desk)
	b.load(s.url())
	b.choose("#model", "world:sft")
	for end := time.Now().Add(20 * time.Second); !strings.Contains(b.text("#notes"), "No gradient") && time.Now().Before(end); time.Sleep(time.Second) {
		b.complete(8)
		b.click("#act-again")
	}
	b.until("a group teaches nothing", `document.querySelector("#notes").innerText.includes("No gradient")`)
	b.shot(filepath.Join(dir, "no-gradient.png"), false)

	b = open(t, desk)
	b.load(s.url())
	b.slow(160)
	b.until("curves are drawn", `document.querySelectorAll("#trainchart canvas").length === 4`)
	b.during("chains are long", `[...document.querySelectorAll("#chain .sent")].length > 0 && [...document.querySelectorAll("#chains .wide")].some(e => parseInt(e.innerText) > 30)`)
	b.shot(filepath.Join(dir, "streaming.png"), false)
}
