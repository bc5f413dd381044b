package chart

import (
	"math"
	"reflect"
	"testing"
)

func TestTicksAreRoundAndInside(t *testing.T) {
	for _, c := range []struct {
		lo, hi   float64
		n        int
		want     []float64
		decimals int
	}{
		{0.05, 0.42, 4, []float64{0.1, 0.2, 0.3, 0.4}, 1},
		{-5, 0, 4, []float64{-4, -2, 0}, 0},
		{0, 300, 2, []float64{0, 200}, 0},
		{0, 1, 2, []float64{0, 0.5, 1}, 1},
		{0.001, 0.0049, 4, []float64{0.001, 0.002, 0.003, 0.004}, 3},
	} {
		at, d := Ticks(c.lo, c.hi, c.n)
		ok := len(at) == len(c.want) && d == c.decimals
		for i := range at {
			ok = ok && math.Abs(at[i]-c.want[i]) < 1e-12
		}
		if !ok {
			t.Errorf("%v to %v by %d: have %v (%d decimals), want %v (%d)", c.lo, c.hi, c.n, at, d, c.want, c.decimals)
		}
	}
	for _, c := range [][2]float64{{1, 1}, {2, 1}, {math.NaN(), 1}, {0, math.Inf(1)}} {
		if at, _ := Ticks(c[0], c[1], 4); at != nil {
			t.Errorf("%v: have %v", c, at)
		}
	}
}

func FuzzTicks(f *testing.F) {
	f.Add(0.0, 1.0, 4)
	f.Add(-1e300, 1e300, 9)
	f.Add(0.0, 5e-324, 1)
	f.Fuzz(func(t *testing.T, lo, hi float64, n int) {
		n = n & 15
		at, d := Ticks(lo, hi, n)
		if len(at) > n+2 || d < 0 {
			t.Fatalf("%v to %v by %d: %v, %d", lo, hi, n, at, d)
		}
	})
}

func TestNumIsShortAndFinite(t *testing.T) {
	for x, want := range map[float64]string{0: "0", -0.01: "0", 1.25: "1.3", 2: "2", -3.14: "-3.1", math.Inf(1): "0", 1e6: "1000000"} {
		if have := Num(x); have != want {
			t.Errorf("%v: have %s, want %s", x, have, want)
		}
	}
}

func TestBarSaysWhatWasAddedAndTaken(t *testing.T) {
	for _, c := range []struct {
		base, c float64
		want    Bar
	}{
		{0.09, 0.92, Bar{0.09, 0.92, false}},
		{0.62, 0.24, Bar{0.24, 0.62, true}},
		{0.5, 0.5, Bar{0.5, 0.5, false}},
		{math.NaN(), 2, Bar{0, 1, false}},
	} {
		if have := NewBar(c.base, c.c); have != c.want {
			t.Errorf("have %+v, want %+v", have, c.want)
		}
	}
}

func TestPlacesNeverCollide(t *testing.T) {
	if have := Places([]int{2, 1, 2, 5, 2}); !reflect.DeepEqual(have, []int{1, 0, 2, 4, 3}) {
		t.Errorf("have %v", have)
	}
}

func TestSlopeStartsAndEndsOnItsPoints(t *testing.T) {
	if have, want := Slope([]float64{0, 100}, []float64{10, 30}), "M0 10C45 10 55 30 100 30"; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
	if have := Slope(nil, nil); have != "" {
		t.Errorf("have %s", have)
	}
}

func TestLineBreaksAtGaps(t *testing.T) {
	nan := math.NaN()
	if have, want := Line([]float64{0, 1, 2, 3}, []float64{1, 2, nan, 4}), "M0 1L1 2M3 4"; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}

func TestScaleAndAxis(t *testing.T) {
	s := Scale{Lo: 0, Hi: 2, From: 10, To: 110}
	if s.At(1) != 60 || s.At(-1) != 10 || s.At(5) != 110 || (Scale{From: 0, To: 10}).At(3) != 5 {
		t.Error("scale")
	}
	lo, hi := Axis([]float64{0.1, 0.4, math.NaN()}, 0.2)
	if !(lo < 0.1 && hi > 0.4) {
		t.Errorf("have %v to %v", lo, hi)
	}
	if lo, hi := Axis(nil, 0); !(lo < hi) {
		t.Errorf("have %v to %v", lo, hi)
	}
	r := NewRows(8, 20, 168)
	if r.At(0) != 30.5 || r.Bottom(8) != 188 || NewRows(16, 20, 168).Step != leastRow || NewRows(16, 20, 168).Bubble != 8 {
		t.Errorf("have %+v", r)
	}
	if x := Lanes(4, 74, 318); x[0] != 74 || x[3] != 318 {
		t.Errorf("have %v", x)
	}
}
