// Package templates renders the page. The shell is here; what changes while the
// page lives (chains, words, tables, charts) comes as fragments from web/view,
// the same functions that the WebAssembly client calls, so that the client takes
// over without a jump.
package templates

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Option is one entry of a list to pick from.
type Option struct {
	Value, Label string
}

// Mode is one reward formula.
type Mode struct {
	Value, Label string // as trainer/reward spells it; as the page shows it
	Same         bool   // orders chains like logP
	Means        string // in words
}

// Modes are the six formulas in the page's order.
var Modes = []Mode{
	{"logp", "logP", true, "logarithm of the answer’s probability"},
	{"p", "P", true, "probability of the whole answer"},
	{"gm", "GM", true, "geometric mean of the words"},
	{"am", "AM", false, "arithmetic mean of the words"},
	{"ws-1/p", "WS 1/p", false, "weighted sum, rare words count more"},
	{"ws-logp", "WS −log p", false, "weighted sum, rare words count more"},
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
	Mode      string // reward formula, a value of Modes
	Base      string // the model that training starts from
	WASMSize  int64  // bytes of app.wasm uncompressed; 0: not built
	Settings  Settings
	Lessons   []Lesson
	Asset     func(name string) string // URL of a static file
}

// Lesson is a step of the tour: what it says, the address that shows it, and the
// container to look at.
type Lesson struct {
	Title, Text, Hash, Show string
}

// Settings are the first values of the form.
type Settings struct {
	K           int
	Temperature float64
	TopP        float64
	Seed        uint64
	MaxChain    int
	MaxK        int // limits of the server
	LimitChain  int
}

// Limits of the form when the server names none.
const (
	defaultMaxK     = 16
	defaultMaxChain = 512
)

func (s Settings) maxK() string     { return orInt(s.MaxK, defaultMaxK) }
func (s Settings) maxChain() string { return orInt(s.LimitChain, defaultMaxChain) }

func orInt(n, otherwise int) string {
	if n > 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprint(otherwise)
}

func (p Page) fragment(id string) string { return p.Fragments[id] }

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
