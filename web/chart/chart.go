// Package chart is the geometry of the page's small drawings: pure numbers and
// SVG path strings, the same on server and client. Colours and words are not its
// business.
//
// All lengths are CSS pixels; y grows downwards.
package chart

import (
	"math"
	"strconv"
)

// Num writes a length with at most one decimal, as SVG attributes have it.
func Num(x float64) string { return string(AppendNum(nil, x)) }

// AppendNum is Num onto b.
func AppendNum(b []byte, x float64) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(b, '0')
	}
	x = math.Round(x*10) / 10
	if x == 0 {
		return append(b, '0') // never −0
	}
	return strconv.AppendFloat(b, x, 'f', -1, 64)
}

// Scale maps Lo…Hi to the pixels From…To, linearly. A domain without width maps
// to the middle.
type Scale struct {
	Lo, Hi   float64
	From, To float64
}

// At is the pixel of a value, held within From…To.
func (s Scale) At(x float64) float64 {
	f := 0.5
	if s.Hi > s.Lo {
		f = min(max((x-s.Lo)/(s.Hi-s.Lo), 0), 1)
	}
	return s.From + f*(s.To-s.From)
}

// Ticks are at most n+1 round numbers (1, 2 or 5 times a power of ten apart) within
// lo…hi, and the decimals that write them.
func Ticks(lo, hi float64, n int) (at []float64, decimals int) {
	if !(hi > lo) || math.IsInf(hi-lo, 0) || n < 1 {
		return nil, 0
	}
	exact := (hi - lo) / float64(n)
	step := math.Pow(10, math.Floor(math.Log10(exact)))
	for _, m := range []float64{2, 5, 10} {
		if step*1.0001 < exact {
			step = math.Pow(10, math.Floor(math.Log10(exact))) * m
		}
	}
	if step == 0 || math.IsInf(step, 0) {
		return nil, 0
	}
	decimals = max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	first := math.Ceil(lo/step - 1e-9)
	for i := 0; i <= n+1; i++ {
		if x := (first + float64(i)) * step; x <= hi+1e-9*step {
			if math.Abs(x) < 1e-9*step {
				x = 0
			}
			at = append(at, x)
		}
	}
	return at, decimals
}

// Bar is what one word's bar shows: the part that the model knew already and the
// part that the chain added or took away. Heights are 0 to 1 of the whole.
type Bar struct {
	Lo, Hi float64 // from 0 to Lo: sure with and without; Lo to Hi: the change
	Less   bool    // the change was taken away
}

// NewBar is the bar of a word that was base sure and is now c sure.
func NewBar(base, c float64) Bar {
	base, c = unit(base), unit(c)
	if c < base {
		return Bar{Lo: c, Hi: base, Less: true}
	}
	return Bar{Lo: base, Hi: c}
}

func unit(x float64) float64 {
	if !(x > 0) {
		return 0
	}
	return min(x, 1)
}

// Rows are equal rows of a chart, one for each of n ranks.
type Rows struct {
	Top, Step float64 // the middle of the first; between middles
	Bubble    float64 // radius of a mark that fits
}

// leastRow is the smallest row that a number fits in, at a size that can be read.
const leastRow = 18

// NewRows lays out n rows below top in about height pixels: more where the rows
// would be too small to read.
func NewRows(n int, top, height float64) Rows {
	step := max(min(height/float64(max(n, 1)), 24), leastRow)
	return Rows{Top: top + step/2, Step: step, Bubble: min(8.5, step/2-1)}
}

// At is the middle of row i, counted from 0.
func (r Rows) At(i int) float64 { return r.Top + float64(i)*r.Step }

// Bottom is the lower edge of the last of n rows.
func (r Rows) Bottom(n int) float64 { return r.At(n-1) + r.Step/2 }

// Places turns ranks that may tie (1, 2, 2, 4) into rows that do not: tied
// chains stand below each other in their own order.
func Places(ranks []int) []int {
	places := make([]int, len(ranks))
	for i, r := range ranks {
		places[i] = r - 1
		for j := range i {
			if ranks[j] == r {
				places[i]++
			}
		}
	}
	return places
}

// Lanes are n columns between from and to.
func Lanes(n int, from, to float64) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = from
		if n > 1 {
			x[i] += float64(i) * (to - from) / float64(n-1)
		}
	}
	return x
}

// Slope is the path of one chain through the lanes: it leaves and meets every
// lane level.
func Slope(x, y []float64) string {
	var b []byte
	for i := range x {
		if i == 0 {
			b = append(b, 'M')
		} else {
			bend := 0.45 * (x[i] - x[i-1])
			b = pair(append(b, 'C'), x[i-1]+bend, y[i-1])
			b = pair(append(b, ' '), x[i]-bend, y[i])
			b = append(b, ' ')
		}
		b = pair(b, x[i], y[i])
	}
	return string(b)
}

func pair(b []byte, x, y float64) []byte {
	return AppendNum(append(AppendNum(b, x), ' '), y)
}

// Line is the path through points. A NaN interrupts it.
func Line(x, y []float64) string {
	var b []byte
	on := false
	for i := range x {
		if math.IsNaN(x[i]) || math.IsNaN(y[i]) {
			on = false
			continue
		}
		if on {
			b = append(b, 'L')
		} else {
			b = append(b, 'M')
		}
		b, on = pair(b, x[i], y[i]), true
	}
	return string(b)
}

// Axis is the domain of a reward plot: all values and the baseline, with room.
func Axis(values []float64, base float64) (lo, hi float64) {
	lo, hi = base, base
	for _, v := range values {
		if !math.IsNaN(v) {
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	room := 0.12 * (hi - lo)
	if room == 0 {
		room = max(math.Abs(hi)*0.1, 1e-6)
	}
	return lo - room, hi + room/3
}
