package main

import (
	"strings"
	"testing"

	"nrt/web/heat"
)

func TestDetectColor(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		vars     map[string]string
		flag     string
		want     depth
	}{
		{false, map[string]string{"COLORTERM": "truecolor"}, "auto", plain},
		{true, nil, "auto", plain},
		{true, map[string]string{"TERM": "xterm"}, "auto", plain},
		{true, map[string]string{"TERM": "xterm-256color"}, "auto", palette},
		{true, map[string]string{"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "auto", trueColor},
		{true, map[string]string{"COLORTERM": "24bit"}, "auto", trueColor},
		{true, map[string]string{"COLORTERM": "yes"}, "auto", palette},
		{true, map[string]string{"WT_SESSION": "1"}, "auto", trueColor},
		{true, map[string]string{"COLORTERM": "truecolor", "NO_COLOR": "1"}, "auto", plain},
		{true, map[string]string{"COLORTERM": "truecolor", "NO_COLOR": ""}, "auto", trueColor},
		{true, map[string]string{"COLORTERM": "truecolor", "TERM": "dumb"}, "auto", plain},
		{false, map[string]string{"NO_COLOR": "1"}, "true", trueColor},
		{false, nil, "256", palette},
		{false, nil, "always", palette},
		{false, map[string]string{"COLORTERM": "truecolor"}, "always", trueColor},
		{true, map[string]string{"COLORTERM": "truecolor"}, "never", plain},
	} {
		e := &env{terminal: c.terminal, getenv: func(k string) string { return c.vars[k] }}
		if have, err := e.parseColor(c.flag); err != nil || have != c.want {
			t.Errorf("%v %v --color %s: have %v, %v; want %v", c.terminal, c.vars, c.flag, have, err, c.want)
		}
	}
}

func TestShades(t *testing.T) {
	if c := shade(0); c[0] != c[1] || c[1] != c[2] {
		t.Errorf("no change is %v, want grey", c)
	}
	if up, down := shade(0.6), shade(-0.6); up[2] <= up[1] || down[0] <= down[2] {
		t.Errorf("more is %v, want purple; less is %v, want orange", up, down)
	}
	if shade(1) != shade(7) || shade(-1) != shade(-7) {
		t.Error("beyond 1 the shade changes")
	}
	for i := -100; i <= 100; i++ {
		c := shade(float64(i) / 100)
		if r := heat.Contrast(c.bytes(), c.onto().bytes()); r < 4.5 {
			t.Errorf("shade(%.2f) = %v: contrast %.2f with its text", float64(i)/100, c, r)
		}
		if c.xterm() < 16 || c.xterm() > 255 {
			t.Errorf("shade(%.2f): xterm colour %d", float64(i)/100, c.xterm())
		}
	}
	for c, want := range map[rgb]int{{0, 0, 0}: 16, {255, 255, 255}: 231, {255, 0, 0}: 196, {8, 8, 8}: 232, {128, 128, 128}: 244} {
		if have := c.xterm(); have != want {
			t.Errorf("%v: xterm colour %d, want %d", c, have, want)
		}
	}
}

func TestMarksFollowTheChange(t *testing.T) {
	for d, want := range map[float64]string{0: "", 0.09: "", 0.1: "▲", 0.39: "▲", 0.4: "▲▲", -0.09: "", -0.1: "▼", -0.8: "▼▼"} {
		if have := mark(d); have != want {
			t.Errorf("mark(%v) = %q, want %q", d, have, want)
		}
	}
}

func TestColumnsAndPadding(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "你好": 4, "e\u0301": 1, "🙂": 2, "▲▲": 2, "한": 2} {
		if have := columns(s); have != want {
			t.Errorf("columns(%q) = %d, want %d", s, have, want)
		}
		if w := columns(pad(s, 6)); w != 6 {
			t.Errorf("pad(%q) has %d columns", s, w)
		}
		if w := columns(padLeft(s, 6)); w != 6 {
			t.Errorf("padLeft(%q) has %d columns", s, w)
		}
	}
	if have, want := harmless("a\nb\tc\x1b]0;title\x07\u009b2Jé\r"), "a\nb\tc\uFFFD]0;title\uFFFD\uFFFD2Jé\uFFFD"; have != want {
		t.Errorf("harmless leaves %q, want %q", have, want)
	}
	if have := visible("a\nb\tc\x1b[31m\u0000"); strings.ContainsAny(have, "\n\t\x1b\x00") {
		t.Errorf("visible leaves control characters: %q", have)
	}
	if have := clip("你好你好你好", 5); columns(have) > 5 {
		t.Errorf("clip: %q has %d columns", have, columns(have))
	}
}

func TestNumbersForPeople(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.4123: "0.412", 12.5: "12.500", 0.04567: "0.0457", 0.004567: "0.00457", 0.00034: "3.4e−4", -0.5: "−0.500", -1e-7: "−1.0e−7", 0.00099999: "1.0e−3"} {
		if have := decimal(x); have != want {
			t.Errorf("decimal(%v) = %q, want %q", x, have, want)
		}
	}
	for x, want := range map[float64]string{0: "0.00", -0.001: "0.00", 1.234: "+1.23", -1.236: "−1.24"} {
		if have := signed(x); have != want {
			t.Errorf("signed(%v) = %q, want %q", x, have, want)
		}
	}
	for p, want := range map[float64]string{0: "0%", 0.001: "<1%", 0.12: "12%", 0.9999: ">99%", 1: "100%"} {
		if have := percent(p); have != want {
			t.Errorf("percent(%v) = %q, want %q", p, have, want)
		}
	}
}
