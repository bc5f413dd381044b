package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode"

	"nrt/web/heat"
)

// isTerminal tells whether a file is a terminal and not a pipe or a file.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// depth is how many colours may be used.
type depth int

const (
	plain     depth = iota // none
	palette                // the 256 of xterm
	trueColor              // 24 bits
)

// parseColor reads --color.
func (e *env) parseColor(flag string) (depth, error) {
	switch flag {
	case "auto":
		return e.detectColor(), nil
	case "never":
		return plain, nil
	case "256":
		return palette, nil
	case "true":
		return trueColor, nil
	case "always":
		return max(palette, depthOf(e.getenv)), nil
	}
	return plain, usagef("--color: want auto, always, never, 256 or true, have %q", flag)
}

// detectColor: none without a terminal or with NO_COLOR (https://no-color.org).
func (e *env) detectColor() depth {
	if !e.terminal || e.getenv("NO_COLOR") != "" || e.getenv("TERM") == "dumb" {
		return plain
	}
	return depthOf(e.getenv)
}

// depthOf reads what terminals say of themselves.
func depthOf(getenv func(string) string) depth {
	switch c := getenv("COLORTERM"); {
	case c == "truecolor" || c == "24bit" || getenv("WT_SESSION") != "":
		return trueColor
	case c != "" || strings.Contains(getenv("TERM"), "256color"):
		return palette
	}
	return plain
}

// colorFlag declares --color.
func colorFlag(f *flags, p *string) {
	f.text(p, "color", "WHEN", "auto, always, never, 256 or true; auto honours NO_COLOR, COLORTERM, TERM")
}

// rgb is a colour, 0 to 255 each.
type rgb [3]float64

// shades go from less (orange) over the same (grey) to more (purple): five
// anchors of ColorBrewer's PuOr with its white middle made grey.
var shades = [5]rgb{{179, 88, 6}, {253, 184, 99}, {208, 208, 208}, {178, 171, 210}, {84, 39, 136}}

// shade is the colour of a probability that moved by d (−1 to 1). The square
// root lets small moves show.
func shade(d float64) rgb {
	d = max(-1, min(1, d))
	at := 2 + 2*math.Copysign(math.Sqrt(math.Abs(d)), d)
	i := min(3, int(at))
	t := at - float64(i)
	var c rgb
	for j := range c {
		c[j] = math.Round(shades[i][j]*(1-t) + shades[i+1][j]*t)
	}
	return c
}

// bytes is the colour as package heat has it.
func (c rgb) bytes() heat.RGB { return heat.RGB{R: uint8(c[0]), G: uint8(c[1]), B: uint8(c[2])} }

// onto is black or white, whichever contrasts more with the background c.
func (c rgb) onto() rgb {
	on := heat.On(c.bytes())
	return rgb{float64(on.R), float64(on.G), float64(on.B)}
}

// xterm is the nearest of xterm's 6×6×6 cube and 24 greys.
func (c rgb) xterm() int {
	levels := [6]float64{0, 95, 135, 175, 215, 255}
	cube, best := 16, rgb{}
	for i, v := range c {
		near := 0
		for j, l := range levels {
			if math.Abs(l-v) < math.Abs(levels[near]-v) {
				near = j
			}
		}
		best[i] = levels[near]
		cube += near * [3]int{36, 6, 1}[i]
	}
	grey := math.Round(((c[0]+c[1]+c[2])/3 - 8) / 10)
	grey = max(0, min(23, grey))
	if v := 8 + 10*grey; c.apart(rgb{v, v, v}) < c.apart(best) {
		return 232 + int(grey)
	}
	return cube
}

// apart is the squared distance of two colours.
func (c rgb) apart(d rgb) float64 {
	sum := 0.0
	for i := range c {
		sum += (c[i] - d[i]) * (c[i] - d[i])
	}
	return sum
}

// paint puts text on a background, with readable letters.
func (d depth) paint(text string, back rgb) string {
	front := back.onto()
	switch d {
	case trueColor:
		return fmt.Sprintf("\x1b[48;2;%.0f;%.0f;%.0fm\x1b[38;2;%.0f;%.0f;%.0fm%s\x1b[0m",
			back[0], back[1], back[2], front[0], front[1], front[2], text)
	case palette:
		return "\x1b[48;5;" + strconv.Itoa(back.xterm()) + "m\x1b[38;5;" + strconv.Itoa(front.xterm()) + "m" + text + "\x1b[0m"
	}
	return text
}

// bold and faint set text apart where there is colour.
func (d depth) bold(text string) string  { return d.sgr("1", text) }
func (d depth) faint(text string) string { return d.sgr("2", text) }

func (d depth) sgr(code, text string) string {
	if d == plain || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// mark says in a character what shade says in colour: how far a probability
// moved. Below ten points it is too little to name.
func mark(d float64) string {
	switch {
	case d >= 0.4:
		return "▲▲"
	case d >= 0.1:
		return "▲"
	case d <= -0.4:
		return "▼▼"
	case d <= -0.1:
		return "▼"
	}
	return ""
}

// visible makes a token's text fit on a line: control characters get symbols.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteRune('⏎')
		case r == '\t':
			b.WriteRune('⇥')
		case r == '\uFFFD', unicode.IsControl(r):
			b.WriteRune('�')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// harmless keeps a model's text from steering the terminal: of the control
// characters only line breaks and tabs stay.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '\uFFFD'
		}
		return r
	}, s)
}

// columns is how wide text is on a terminal: East Asian wide characters and
// emoji take two columns, combining marks none.
func columns(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 ||
			r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 ||
			r >= 0xffe0 && r <= 0xffe6 || r >= 0x1f300 && r <= 0x1faff || r >= 0x20000 && r <= 0x3fffd):
			n += 2
		default:
			n++
		}
	}
	return n
}

// pad fills text with spaces up to width columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-columns(s)))
}

// padLeft is pad with the spaces before the text.
func padLeft(s string, width int) string {
	return strings.Repeat(" ", max(0, width-columns(s))) + s
}
