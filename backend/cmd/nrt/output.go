package main

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// printJSON prints v: indented for people, or on one line.
func (e *env) printJSON(v any, indent bool) error {
	enc := json.NewEncoder(e.out)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// plural is a number of things: "1 chain", "2 chains".
func plural(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}

// minus is the sign of negative numbers in text for people.
const minus = "−"

// signed prints an advantage: two decimals, always a sign.
func signed(x float64) string {
	switch {
	case math.Abs(x) < 0.005:
		return "0.00"
	case x < 0:
		return minus + strconv.FormatFloat(-x, 'f', 2, 64)
	}
	return "+" + strconv.FormatFloat(x, 'f', 2, 64)
}

// decimal prints a reward or a part of one: three digits that count, at least
// three decimals, an exponent below 0.001.
func decimal(x float64) string {
	sign := ""
	if x < 0 {
		x, sign = -x, minus
	}
	switch {
	case x == 0:
		return "0"
	case x < 0.001:
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(x, 'e', 1, 64), "e-")
		return sign + mantissa + "e" + minus + strings.TrimLeft(exponent, "0")
	case x < 0.01:
		return sign + strconv.FormatFloat(x, 'f', 5, 64)
	case x < 0.1:
		return sign + strconv.FormatFloat(x, 'f', 4, 64)
	}
	return sign + strconv.FormatFloat(x, 'f', 3, 64)
}

// percent prints a probability in whole per cent, never rounding to certainty.
func percent(p float64) string {
	switch {
	case p > 0 && p < 0.005:
		return "<1%"
	case p < 1 && p > 0.995:
		return ">99%"
	}
	return strconv.Itoa(int(math.Round(100*p))) + "%"
}
