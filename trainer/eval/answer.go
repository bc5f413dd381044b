package eval

import (
	"fmt"
	"regexp"
	"strings"
)

// Extract says what of an answer is compared with the reference. The zero value
// compares all of it, spaces around it apart.
type Extract struct{ pattern *regexp.Regexp }

// ParseExtract reads a regular expression, in Go's syntax, whose one group is
// what is compared, such as "#### (.*)". "" is the zero value.
func ParseExtract(pattern string) (Extract, error) {
	if pattern == "" {
		return Extract{}, nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return Extract{}, fmt.Errorf("want a regular expression: %w", err)
	}
	if n := re.NumSubexp(); n != 1 {
		return Extract{}, fmt.Errorf("want one group in parentheses, which is what is compared, have %d in %q; (?:…) only groups", n, pattern)
	}
	return Extract{re}, nil
}

// All tells whether the whole answer is compared.
func (x Extract) All() bool { return x.pattern == nil }

// String is the pattern, "" for the zero value.
func (x Extract) String() string {
	if x.All() {
		return ""
	}
	return x.pattern.String()
}

// From is what of a text is compared: the group at the last place that matches,
// since an answer comes after its reasons. ok is false where nothing does.
func (x Extract) From(text string) (part string, ok bool) {
	if x.All() {
		return strings.TrimSpace(text), true
	}
	all := x.pattern.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return "", false
	}
	return strings.TrimSpace(all[len(all)-1][1]), true
}

// Same tells whether an answer is right.
func (x Extract) Same(answer, reference string) bool {
	have, ok := x.From(answer)
	want, known := x.From(reference)
	return ok && known && have == want
}
