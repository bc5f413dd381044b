package templates

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"nrt/trainer/reward"
	"nrt/web/view"
)

func shell(t *testing.T, p Page) string {
	t.Helper()
	var b strings.Builder
	if err := Shell(p).Render(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestShellHasEveryContainerOnce(t *testing.T) {
	fragments := map[string]string{}
	for _, id := range view.Containers {
		fragments[id] = "<i>of " + id + "</i>"
	}
	page := shell(t, Page{Nonce: "n0nce", Fragments: fragments, Boot: []int{}, WASMSize: 1})
	for _, id := range view.Containers {
		if n := strings.Count(page, ` id="`+id+`"`); n != 1 {
			t.Errorf("#%s is there %d times", id, n)
		}
	}
	for _, id := range []string{"pipeline", "question", "strip", "chain", "chains", "why", "slope", "dots", "train", "notes"} {
		if !strings.Contains(page, fragments[id]) {
			t.Errorf("#%s lacks its fragment", id)
		}
	}
}

// What a strict policy forbids is not there: handlers in attributes, scripts
// without the nonce.
func TestShellKeepsThePolicy(t *testing.T) {
	page := shell(t, Page{Nonce: "n0nce", Boot: map[string]string{"x": "</script><script>alert(1)</script>"}, WASMSize: 1})
	if m := regexp.MustCompile(`<[^>]* on[a-z]+=`).FindString(page); m != "" {
		t.Errorf("a handler: %s", m)
	}
	for _, tag := range regexp.MustCompile(`<script[^>]*>`).FindAllString(page, -1) {
		if !strings.Contains(tag, `nonce="n0nce"`) && !strings.Contains(tag, `type="application/json"`) {
			t.Errorf("no nonce: %s", tag)
		}
	}
	if strings.Contains(page, "<script>alert") {
		t.Error("the first state ends its script element")
	}
}

func TestShellChoosesAndEscapes(t *testing.T) {
	page := shell(t, Page{
		Boot: 0, Model: "m<2", Models: []Option{{"m1", "one"}, {"m<2", "<two>"}},
		Choice: view.Choice{Mode: reward.AM, K: 5, Temperature: 0.75, TopP: 1, Seed: 9, MaxChain: 40}, MaxChain: 99,
	})
	for _, want := range []string{
		`<option value="m&lt;2" selected>&lt;two&gt;</option>`, `value="am" data-change="mode" checked`,
		`name="k" value="5" min="1" max="16"`, `name="max_chain" value="40" min="1" max="99"`, `name="temperature" value="0.75"`, `data-size="0"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("lacks %s", want)
		}
	}
	if strings.Contains(page, "wasm_exec.js") {
		t.Error("asks for a client that was not built")
	}
}

// Firefox fills fields in again when a page is loaded again, files too, of which its
// client would know nothing.
func TestFormsAreNotFilledInAgain(t *testing.T) {
	forms := regexp.MustCompile(`<form[^>]*>`).FindAllString(shell(t, Page{Boot: 0}), -1)
	if len(forms) < 3 {
		t.Fatalf("there are %d forms", len(forms))
	}
	for _, form := range forms {
		if !strings.Contains(form, `autocomplete="off"`) {
			t.Errorf("may be filled in again: %s", form)
		}
	}
}
