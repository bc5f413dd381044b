package heat

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
)

// parse reads #rrggbb.
func parse(t *testing.T, s string) (c RGB) {
	t.Helper()
	if _, err := fmt.Sscanf(s, "#%02x%02x%02x", &c.R, &c.G, &c.B); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return c
}

func TestTextIsReadableOnEveryColour(t *testing.T) {
	for name, s := range map[string]*Scale{"sure": Sure, "change": Change} {
		least := math.Inf(1)
		for i, p := range s.table {
			for _, c := range [][2]string{{p.Light, p.OnLight}, {p.Dark, p.OnDark}} {
				ground := parse(t, c[0])
				text := parse(t, c[1])
				x := Contrast(ground, text)
				if x < 4.5 {
					t.Errorf("%s step %d: %s on %s has %.2f:1", name, i, text, ground, x)
				}
				least = min(least, x)
			}
		}
		t.Logf("%s: least contrast %.2f:1", name, least)
	}
}

// The style sheet's text and fill colours, on all grounds that they stand on.
func TestPageColoursAreReadable(t *testing.T) {
	css, err := os.ReadFile("../style/base.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]RGB{} // light, dark
	for _, m := range regexp.MustCompile(`--([\w-]+):\s+light-dark\((#\w{6}), (#\w{6})\)`).FindAllStringSubmatch(string(css), -1) {
		colours[m[1]] = [2]RGB{parse(t, m[2]), parse(t, m[3])}
	}
	check := func(grounds, list string, least float64) {
		for _, name := range strings.Fields(list) {
			for _, ground := range strings.Fields(grounds) {
				for theme := range 2 {
					c, g := colours[name][theme], colours[ground][theme]
					if c == g {
						t.Fatalf("the style sheet lacks --%s or --%s", name, ground)
					}
					if x := Contrast(c, g); x < least {
						t.Errorf("--%s %s on --%s %s has %.2f:1, want %.1f", name, c, ground, g, x, least)
					}
				}
			}
		}
	}
	check("bg surface inset", "ink ink-2 ink-3 up down", 4.5)
	check("surface", "slate up-fill down-fill edge ok-fill focus", 3)
}

func TestScalesEndAndMiddle(t *testing.T) {
	for _, c := range []struct {
		have, want string
	}{
		{Sure.At(0).Light, "#002051"}, {Sure.At(1).Light, "#ead156"}, {Sure.At(7).Light, "#ead156"},
		{Sure.At(-1).Light, "#002051"}, {Sure.At(math.NaN()).Light, "#002051"},
		{Sure.At(0.5).Dark, "#9d9778"}, {Change.At(0).Light, "#f7f7f7"}, {Change.At(0).Dark, "#22242b"},
		{Sure.At(0).OnLight, "#ffffff"}, {Sure.At(1).OnLight, "#000000"},
	} {
		if c.have != c.want {
			t.Errorf("have %s, want %s", c.have, c.want)
		}
	}
	if p := Change.At(0.9); p.Light[1:3] >= p.Light[5:7] {
		t.Errorf("more is %s: want purple", p.Light)
	}
	if p := Change.At(-0.9); p.Light[1:3] <= p.Light[5:7] {
		t.Errorf("less is %s: want orange", p.Light)
	}
	lo, hi := Change.Ends()
	if lo != "−100" || hi != "100" || strings.Count(Sure.Ramp(), "light-dark") != 9 {
		t.Errorf("have %s to %s, ramp %s", lo, hi, Sure.Ramp())
	}
}

// Cividis is made to be read without colour: it only gets lighter.
func TestSureGetsLighter(t *testing.T) {
	last := -1.0
	for i := 0; i <= 100; i++ {
		c := parse(t, Sure.At(float64(i)/100).Light)
		if l := c.luminance(); l < last {
			t.Errorf("at %d %%: darker than before", i)
		} else {
			last = l
		}
	}
}
