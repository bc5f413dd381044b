package view

import (
	"math"
	"strconv"
	"strings"
	"unicode"

	"nrt/web/heat"
)

// containers are the elements whose content this package writes, by their ids. The
// page around them, headings of panels and forms, is the templates'.
var containers = []struct {
	id   string
	draw func(*page, *State)
}{
	{"pipeline", (*page).pipeline},              // section.pipe: Play, the seven phases
	{"question", (*page).question},              // p.q: the question as it was asked
	{"strip", (*page).strip},                    // div.strip: the answer's words, before and after
	{"card", (*page).card},                      // div.pop[role=dialog]: one of them in detail
	{"chain", (*page).chain},                    // div.chainbox: the chosen chain, sentence by sentence
	{"chains", (*page).chains},                  // section.chains: all chains, ranked
	{"why", (*page).why},                        // section.why: the table word by word
	{"slope", (*page).slope},                    // div.plot: ranks under each formula
	{"dots", (*page).dots},                      // div.plot: rewards and the line of no reasoning
	{"through", (*page).through},                // span.cap: what the slider does, and who reads the chains
	{"train", (*page).train},                    // div.scrub: the run's buttons and the step slider
	{"notes", (*page).notes},                    // div.notes: what is wrong or going on
	{"badge", (*page).badge},                    // span.badge: the link, in a word
	{"status", (*page).status},                  // p[role=status]: what a screen reader announces
	{"tokens-question", (*page).questionTokens}, // the own question, cut into tokens
	{"tokens-answer", (*page).answerTokens},     // and its answer
	{"ask-note", (*page).typedNote},             // p: how many they are
	{"edit-score", (*page).editScore},           // div: what a rewritten sentence earns, while it is typed
}

// Containers are their ids.
var Containers = func() (ids []string) {
	for _, c := range containers {
		ids = append(ids, c.id)
	}
	return ids
}()

// Fragment is the content of one container, as HTML; "" for an unknown id.
func Fragment(s *State, id string) string {
	p := &page{}
	for _, c := range containers {
		if c.id == id {
			c.draw(p, s)
		}
	}
	return p.String()
}

// Fragments are the contents of all containers.
func Fragments(s *State) map[string]string {
	m := make(map[string]string, len(Containers))
	for _, id := range Containers {
		m[id] = Fragment(s, id)
	}
	return m
}

func (p *page) status(s *State) { p.text(s.Say) }

// page builds HTML. raw is for markup of this package alone; text escapes. The
// methods are called a thousand times in the code, so that inlining them would
// double what the browser loads.
type page struct{ b []byte }

// String is the markup so far.
func (p *page) String() string { return string(p.b) }

//go:noinline
func (p *page) raw(parts ...string) *page {
	for _, s := range parts {
		p.b = append(p.b, s...)
	}
	return p
}

//go:noinline
func (p *page) text(s string) *page {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '<':
			p.b = append(p.b, "&lt;"...)
		case '>':
			p.b = append(p.b, "&gt;"...)
		case '&':
			p.b = append(p.b, "&amp;"...)
		case '"':
			p.b = append(p.b, "&#34;"...)
		case '\'':
			p.b = append(p.b, "&#39;"...)
		default:
			p.b = append(p.b, c)
		}
	}
	return p
}

//go:noinline
func (p *page) int(n int) *page {
	p.b = strconv.AppendInt(p.b, int64(n), 10)
	return p
}

// unit writes a share 0…1 as a CSS number with three decimals.
//
//go:noinline
func (p *page) unit(x float64) *page {
	if !(x > 0) {
		x = 0
	}
	p.b = strconv.AppendFloat(p.b, min(x, 1), 'f', 3, 64)
	return p
}

// when is a piece of text that is there only then.
//
//go:noinline
func when(ok bool, text string) string { return either(ok, text, "") }

//go:noinline
func either(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

// icon is a drawing of 16 × 16; path is markup.
//
//go:noinline
func (p *page) icon(path string) *page {
	return p.raw(`<svg class="ico" viewBox="0 0 16 16" aria-hidden="true">`, path, `</svg>`)
}

// The icons that fragments use.
const (
	iconPlay    = `<path d="M5 3.5v9l7-4.5z" fill="currentColor"/>`
	iconPause   = `<path d="M5.5 3.5v9M10.5 3.5v9"/>`
	iconStep    = `<path d="M4 3.5v9l6-4.5z" fill="currentColor"/><path d="M12 3.5v9"/>`
	iconStop    = `<rect x="4" y="4" width="8" height="8" rx="1" fill="currentColor"/>`
	iconUndo    = `<path d="M3 6.5h6.5a3.5 3.5 0 0 1 0 7H6M3 6.5 6 3.5M3 6.5l3 3"/>`
	iconEdit    = `<path d="m3 13 .7-3 7-6.8a1.2 1.2 0 0 1 1.7 0l.6.6a1.2 1.2 0 0 1 0 1.7L6 12.3z"/>`
	iconAgain   = `<path d="M13 8a5 5 0 1 1-1.5-3.5M13 2.5v3h-3"/>`
	iconDown    = `<path d="m4 6 4 4 4-4"/>`
	iconLeft    = `<path d="m10 4-4 4 4 4"/>`
	iconRight   = `<path d="m6 4 4 4-4 4"/>`
	iconNone    = `<circle cx="8" cy="8" r="5.5"/><path d="m4.2 11.8 7.6-7.6"/>`
	iconPlug    = `<path d="M6 2v3M10 2v3M4 5h8v2.5a4 4 0 0 1-8 0zM8 11.5V14"/>`
	iconClock   = `<circle cx="8" cy="8" r="5.5"/><path d="M8 5v3l2 1.5"/>`
	iconWarning = `<path d="M8 2.5 14 13H2zM8 6.5v3M8 11.2v.01"/>`
	iconLink    = `<path d="M6.5 9.5 9.5 6.5M7 4.5l1.3-1.3a3 3 0 0 1 4.4 4.4L11.5 9M9 11.5l-1.3 1.3a3 3 0 0 1-4.4-4.4L4.5 7"/>`
	iconClose   = `<path d="m4 4 8 8M12 4l-8 8"/>`
)

// minus makes the hyphen of a formatted number a true minus sign.
func minus(s string) string {
	if strings.HasPrefix(s, "-") {
		return "−" + s[1:]
	}
	return s
}

// percent is a probability in whole per cent, without the sign; what is not
// quite 0 or 1 does not look as if it were.
func percent(p float64) string {
	switch {
	case p > 0 && p < 0.005:
		return "<1"
	case p < 1 && p >= 0.995:
		return ">99"
	}
	return strconv.Itoa(int(math.Round(100 * p)))
}

// number is a reward: three decimals, or two digits and a power of ten where
// three decimals would have one digit or none.
func number(x float64) string { return power(x, 0.00995) }

// decimals is a part of what is shown with three decimals: it has as many, unless
// they would say nothing.
func decimals(x float64) string { return power(x, 0.0005) }

// power is a number with three decimals, below least with a power of ten.
func power(x, least float64) string {
	if a := math.Abs(x); a != 0 && a < least {
		if a < 1e-99 {
			return "0.000"
		}
		e := int(math.Floor(math.Log10(a)))
		m := x / math.Pow(10, float64(e))
		if math.Abs(m) >= 9.95 {
			m, e = m/10, e+1
		}
		return minus(strconv.FormatFloat(m, 'f', 1, 64)) + "·10" + superscript(e)
	}
	s := strconv.FormatFloat(x, 'f', 3, 64)
	if s == "-0.000" {
		s = "0.000"
	}
	return minus(s)
}

func superscript(n int) string {
	const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹"
	var b strings.Builder
	for _, c := range strconv.Itoa(n) {
		if c == '-' {
			b.WriteString("⁻")
		} else {
			b.WriteRune([]rune(digits)[c-'0'])
		}
	}
	return b.String()
}

// signed is an advantage: a sign, two decimals.
func signed(x float64) string {
	s := strconv.FormatFloat(math.Abs(x), 'f', 2, 64)
	switch {
	case s == "0.00":
		return s
	case x < 0:
		return "−" + s
	}
	return "+" + s
}

// two is a plain number with two decimals.
func two(x float64) string { return minus(strconv.FormatFloat(x, 'f', 2, 64)) }

// count is "1 chain", "8 chains".
func count(n int, what string) string {
	return strconv.Itoa(n) + " " + plural(n, what)
}

func plural(n int, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

// word is a token's text as a word of the page: without outer blanks, but never
// empty.
func word(text string) string {
	t := strings.TrimSpace(text)
	switch {
	case t != "":
		return strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return '·'
			}
			return r
		}, t)
	case strings.Contains(text, "\n"):
		return "↵"
	case text != "":
		return "␣"
	}
	return "·"
}

// answerWord is word i of the reference answer. The token that ends the answer
// is called what it is; a word out of the vocabulary is as it was written, with a
// question mark, where the server tells.
func (s *State) answerWord(i int) string {
	switch a := s.Reading.Answer[i]; {
	case a.Unknown && (a.Special || strings.TrimSpace(a.Text) == ""):
		return "unknown"
	case a.Unknown:
		return word(a.Text) + "?"
	case s.answerEnd(i):
		return "end"
	default:
		return word(a.Text)
	}
}

// answerEnd reports whether word i is the token that ends the answer.
func (s *State) answerEnd(i int) bool {
	list := s.Reading.Answer
	return i == len(list)-1 && list[i].Special && !list[i].Unknown
}

// paint writes a scale's colours as the custom properties of a chip.
//
//go:noinline
func (p *page) paint(x heat.Paint) *page {
	return p.raw("--c:", x.Light, ";--d:", x.Dark, ";--t:", x.OnLight)
}

// ground writes a scale's colours as background and text, for a pill.
//
//go:noinline
func (p *page) ground(x heat.Paint) *page {
	return p.raw("background:light-dark(", x.Light, ",", x.Dark, ");color:light-dark(", x.OnLight, ",", x.OnDark, ")")
}
