// Package heat turns a number into a colour that can be read.
//
//	Sure    a probability, 0 to 1        cividis, over 0 to 0.9 of its range, so
//	                                     that certain words stay calm
//	Change  a difference of them, −1…1   PuOr: purple is more, orange is less
//
// Every colour comes for a light and a dark page, with the text colour, black or
// white, that contrasts more; that is at least 4.5:1 on any ground. The colour
// scales and the words of a legend come from the same Scale, so that a legend
// cannot drift from what it explains.
package heat

import (
	"fmt"
	"math"
)

// RGB is an sRGB colour, 0 to 255.
type RGB struct{ R, G, B uint8 }

// String is the colour as CSS writes it, #rrggbb.
func (c RGB) String() string {
	const hex = "0123456789abcdef" // by hand: the tables have hundreds, when the page starts
	return string([]byte{'#', hex[c.R>>4], hex[c.R&15], hex[c.G>>4], hex[c.G&15], hex[c.B>>4], hex[c.B&15]})
}

// The two text colours.
var (
	black = RGB{0, 0, 0}
	white = RGB{255, 255, 255}
)

// luminance is the relative luminance of WCAG 2, 0 to 1.
func (c RGB) luminance() float64 {
	return 0.2126*linear[c.R] + 0.7152*linear[c.G] + 0.0722*linear[c.B]
}

// linear undoes the transfer function of sRGB.
var linear = func() (t [256]float64) {
	for v := range t {
		x := float64(v) / 255
		if x <= 0.04045 {
			t[v] = x / 12.92
		} else {
			t[v] = math.Pow((x+0.055)/1.055, 2.4)
		}
	}
	return t
}()

// Contrast is the WCAG 2 contrast of two colours, 1 to 21.
func Contrast(a, b RGB) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// On is the text colour, black or white, that contrasts more with the ground.
func On(ground RGB) RGB {
	if Contrast(ground, black) >= Contrast(ground, white) {
		return black
	}
	return white
}

// Paint is a ground with its text, for a light and for a dark page.
type Paint struct {
	Light, Dark     string // #rrggbb
	OnLight, OnDark string
}

// Scale maps a domain to colours.
type Scale struct {
	lo, hi float64
	table  []Paint // at equal distances over lo…hi
	ramp   string
}

// resolution is the number of steps that a scale's domain is cut into: enough
// that the eye sees no step, few enough to be computed once.
const resolution = 200

// Sure colours a probability c, 0 to 1.
var Sure = newScale(0, 1,
	[]RGB{{0x00, 0x20, 0x51}, {0x0e, 0x34, 0x6b}, {0x34, 0x48, 0x6e}, {0x58, 0x5d, 0x6e}, {0x74, 0x72, 0x72}, {0x8c, 0x88, 0x77}, {0xa6, 0x9f, 0x77}, {0xc6, 0xb7, 0x6c}, {0xea, 0xd1, 0x56}},
	[]RGB{{0x59, 0x5e, 0x6e}, {0x6c, 0x6b, 0x70}, {0x7d, 0x7a, 0x74}, {0x8d, 0x88, 0x78}, {0x9d, 0x97, 0x78}, {0xb1, 0xa7, 0x75}, {0xc7, 0xb8, 0x6b}, {0xdf, 0xc9, 0x5e}, {0xf4, 0xdb, 0x4e}})

// Change colours a difference of probabilities, −1 to 1. A dark page has its
// own centre, so that little change stays quiet there too.
var Change = newScale(-1, 1,
	[]RGB{{0x99, 0x49, 0x07}, {0xca, 0x70, 0x10}, {0xf0, 0xa2, 0x48}, {0xfe, 0xcb, 0x8d}, {0xfc, 0xe4, 0xc3}, {0xf7, 0xf7, 0xf7}, {0xdb, 0xdd, 0xec}, {0xbd, 0xb7, 0xd8}, {0x93, 0x89, 0xb9}, {0x69, 0x4a, 0x9a}, {0x4c, 0x20, 0x7c}},
	[]RGB{{0xf0, 0xac, 0x60}, {0xd5, 0x90, 0x4a}, {0xb3, 0x75, 0x38}, {0x93, 0x5c, 0x2a}, {0x5d, 0x40, 0x27}, {0x22, 0x24, 0x2b}, {0x34, 0x30, 0x4b}, {0x55, 0x4b, 0x80}, {0x76, 0x69, 0xac}, {0x97, 0x89, 0xcf}, {0xb7, 0xaa, 0xf0}})

// newScale is the scale through stops at equal distances.
func newScale(lo, hi float64, light, dark []RGB) *Scale {
	s := &Scale{lo: lo, hi: hi}
	for i := range resolution + 1 {
		x := float64(i) / resolution
		l, d := between(light, x), between(dark, x)
		s.table = append(s.table, Paint{l.String(), d.String(), On(l).String(), On(d).String()})
	}
	for i := range light {
		if i > 0 {
			s.ramp += ","
		}
		s.ramp += "light-dark(" + light[i].String() + "," + dark[i].String() + ")"
	}
	return s
}

// between is the colour at x, 0 to 1, of stops at equal distances.
func between(stops []RGB, x float64) RGB {
	x *= float64(len(stops) - 1)
	i := min(int(x), len(stops)-2)
	f := x - float64(i)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + f*(float64(b)-float64(a)))) }
	a, b := stops[i], stops[i+1]
	return RGB{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B)}
}

// At is the paint of a value. NaN is the lower end.
func (s *Scale) At(x float64) Paint {
	x = (x - s.lo) / (s.hi - s.lo)
	if !(x > 0) {
		x = 0
	}
	return s.table[int(math.Round(min(x, 1)*resolution))]
}

// Ramp is the scale as CSS colour stops for a page with light-dark().
func (s *Scale) Ramp() string { return s.ramp }

// Ends are the words of a legend at the scale's ends, in whole per cent.
func (s *Scale) Ends() (lo, hi string) {
	percent := func(x float64) string {
		if x < 0 {
			return fmt.Sprintf("−%.0f", -100*x)
		}
		return fmt.Sprintf("%.0f", 100*x)
	}
	return percent(s.lo), percent(s.hi)
}
