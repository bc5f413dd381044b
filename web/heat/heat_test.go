package heat

import (
	"math"
	"strings"
	"testing"
)

func TestTextIsReadableOnEveryColour(t *testing.T) {
	for name, s := range map[string]*Scale{"sure": Sure, "change": Change} {
		least := math.Inf(1)
		for i, p := range s.table {
			for _, c := range [][2]string{{p.Light, p.OnLight}, {p.Dark, p.OnDark}} {
				ground, err := Parse(c[0])
				if err != nil {
					t.Fatal(err)
				}
				text, err := Parse(c[1])
				if err != nil {
					t.Fatal(err)
				}
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
	grounds := map[string][]string{
		"light": {"#f6f6f3", "#ffffff", "#f2f2ee"},
		"dark":  {"#0e1013", "#16181c", "#1e2126"},
	}
	text := map[string][]string{
		"light": {"#1a1b1e", "#4c4d53", "#66676d", "#542788", "#974a04", "#596070", "#1c6b46"},
		"dark":  {"#eceef1", "#bcc0c8", "#9aa0aa", "#c3b6f2", "#f2ad62", "#aab1bf", "#74cfa0"},
	}
	fill := map[string][]string{ // on the surface alone
		"light": {"#858b97", "#8073ac", "#c96d0a", "#85847e", "#2f8f62", "#0b5fff"},
		"dark":  {"#6a727f", "#9d90d6", "#d98a35", "#7d838d", "#4bb584", "#7fb2ff"},
	}
	for theme, list := range grounds {
		for i, g := range list {
			ground, err := Parse(g)
			if err != nil {
				t.Fatal(err)
			}
			check := func(colours []string, least float64) {
				for _, c := range colours {
					have, err := Parse(c)
					if err != nil {
						t.Fatal(err)
					}
					if x := Contrast(have, ground); x < least {
						t.Errorf("%s: %s on %s has %.2f:1, want %.1f", theme, c, g, x, least)
					}
				}
			}
			check(text[theme], 4.5)
			if i == 1 {
				check(fill[theme], 3)
			}
		}
	}
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
		c, err := Parse(Sure.At(float64(i) / 100).Light)
		if err != nil {
			t.Fatal(err)
		}
		if l := c.Luminance(); l < last {
			t.Errorf("at %d %%: darker than before", i)
		} else {
			last = l
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("#0b5fff")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := Parse(s); err == nil && c.String() != strings.ToLower(s) {
			t.Errorf("%s is written %s", s, c)
		}
	})
}
