package eval

import (
	"strings"
	"testing"
)

func TestExtract(t *testing.T) {
	for _, c := range []struct {
		pattern, answer, reference string
		want                       bool
	}{
		{"", " it is 3\n", "it is 3", true},
		{"", "it is 3.", "it is 3", false},
		{`#### (.*)`, "2+1\n#### 3 ", "so it is\n####  3", true},
		{`#### (.*)`, "#### 4 no\n#### 3", "#### 3", true}, // the last counts
		{`#### (.*)`, "3", "#### 3", false},
		{`#### (.*)`, "#### 3", "3", false},
		{`#### (.*)`, "nothing", "nothing", false}, // nothing is not an answer
		{`(-?\d+)(?:\D*)$`, "that makes 3 and 12 .", "12", true},
	} {
		x, err := ParseExtract(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if x.Same(c.answer, c.reference) != c.want || x.String() != c.pattern || x.All() != (c.pattern == "") {
			t.Errorf("%q of %q and %q: want %v", c.pattern, c.answer, c.reference, c.want)
		}
	}
	for pattern, want := range map[string]string{
		"#### .*": "want one group in parentheses", "(a)(b)": "have 2 in", "(": "want a regular expression: error parsing regexp: missing closing )",
	} {
		if _, err := ParseExtract(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}
