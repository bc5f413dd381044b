// Package templates renders the page. The shell is here; what changes while the
// page lives (chains, words, tables, charts) comes as fragments from web/view,
// the same functions that the WebAssembly client calls, so that the client takes
// over without a jump.
package templates

import (
	"encoding/json"
	"fmt"
	"strings"

	"nrt/web/view"
)

// Option is one entry of a list to pick from.
type Option struct {
	Value, Label string
}

// Page is all that the shell needs.
type Page struct {
	Nonce     string            // of the Content-Security-Policy
	Fragments map[string]string // container id → HTML by web/view, trusted
	Boot      any               // state and baked example for the client, as JSON
	Examples  []Option
	Example   string
	Models    []Option
	Model     string
	Base      string      // the model that training starts from, as the lists call it
	WASMSize  int64       // bytes of app.wasm uncompressed; 0: not built
	Choice    view.Choice // the first values of the forms
	MaxChain  int         // tokens, of the server
	Lessons   []view.Lesson
	Asset     func(name string) string // URL of a static file
}

// boot is the client's first state as JSON that cannot end its script element.
func (p Page) boot() string {
	raw, err := json.Marshal(p.Boot) // escapes <, > and &
	if err != nil {
		panic(fmt.Sprintf("templates: the first state is no JSON: %v", err)) // plain data by contract
	}
	return `<script type="application/json" id="boot">` + string(raw) + `</script>`
}

func (p Page) asset(name string) string {
	if p.Asset == nil {
		return "/static/" + name
	}
	return p.Asset(name)
}

func decimal(x float64) string {
	s := strings.TrimRight(fmt.Sprintf("%.3f", x), "0")
	return strings.TrimSuffix(s, ".")
}
