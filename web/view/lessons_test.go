package view

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLessons: every step opens a page that asks the server for nothing, and that
// shows each figure and each quotation of the step's text.
func TestLessons(t *testing.T) {
	raw, err := os.ReadFile("../static/baked.json")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := ReadExamples(raw)
	if err != nil {
		t.Fatal(err)
	}
	lessons := Lessons(examples)
	if len(lessons) < 11 {
		t.Errorf("%d steps; want the whole tour from the saved examples, 11 or more", len(lessons))
	}
	tags, figure, quoted := regexp.MustCompile(`<[^>]*>`), regexp.MustCompile(`[+−]?\d+\.\d+`), regexp.MustCompile(`“([^”]*)”`)
	start := New(examples)
	for _, l := range lessons {
		c, err := ParseHash(l.Hash)
		if err != nil {
			t.Errorf("%s: #%s: %v", l.Title, l.Hash, err)
			continue
		}
		s, out := start.Open(c)
		if len(out) > 0 {
			t.Errorf("%s: opening #%s asks the server: %v", l.Title, l.Hash, out)
		}
		shown := slices.Contains(Containers, l.Show)
		var page strings.Builder
		for _, id := range Containers {
			html := Fragment(&s, id)
			shown = shown || strings.Contains(html, ` id="`+l.Show+`"`)
			page.WriteString(tags.ReplaceAllString(html, " "))
		}
		if !shown {
			t.Errorf("%s: looks at %q, which is not on the page", l.Title, l.Show)
		}
		text := strings.Join(strings.Fields(page.String()), " ")
		wants := figure.FindAllString(l.Text, -1)
		for _, q := range quoted.FindAllStringSubmatch(l.Text, -1) {
			wants = append(wants, strings.Fields(q[1])...)
		}
		for _, w := range wants {
			if !strings.Contains(text, w) {
				t.Errorf("%s: the text says %q, the page it opens does not: %s", l.Title, w, l.Text)
			}
		}
	}
}

func TestNoLessonsWithoutExamples(t *testing.T) {
	if l := Lessons(nil); l != nil {
		t.Errorf("without saved examples: %d steps, want none", len(l))
	}
}
