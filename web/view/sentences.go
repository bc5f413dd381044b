package view

import (
	"slices"
	"strings"
)

// sentence is a stretch of a chain's tokens.
type sentence struct{ from, to int }

// sentences cuts a chain where a sentence or a step ends: after . ! ? and line
// breaks, and before a label such as “b)”.
func sentences(tokens []Token) []sentence {
	var list []sentence
	from := 0
	for i := 1; i < len(tokens); i++ {
		if stepLabel(tokens[i].Text) || endsSentence(tokens[i-1].Text, tokens[i].Text) {
			list = append(list, sentence{from, i})
			from = i
		}
	}
	if from < len(tokens) {
		list = append(list, sentence{from, len(tokens)})
	}
	return list
}

func textOf(tokens []Token) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(t.Text)
	}
	return b.String()
}

func stepLabel(text string) bool {
	t := strings.TrimSpace(text)
	return len(t) >= 2 && len(t) <= 3 && t[len(t)-1] == ')' && !strings.ContainsAny(t[:len(t)-1], "()")
}

func endsSentence(text, next string) bool {
	if strings.Contains(text, "\n") {
		return strings.TrimSpace(next) != ""
	}
	t := strings.TrimSpace(text)
	if t == "" || !strings.ContainsRune(".!?", rune(t[len(t)-1])) {
		return false
	}
	return next != "" && (next[0] == ' ' || next[0] == '\n')
}

// shown are the tokens of a chain that are its text: without the boundary that
// ends it.
func (c *Chain) shown() []Token {
	t := c.Tokens
	for len(t) > 0 {
		last := strings.TrimSpace(t[len(t)-1].Text)
		if len(t) == len(c.Tokens) && c.Done && c.Finish != "length" || last == "" || strings.HasPrefix(last, "</") {
			t = t[:len(t)-1]
			if last != "" {
				break
			}
			continue
		}
		break
	}
	if c.Finish == "length" || c.Finish == "stop" {
		return t
	}
	// A boundary of several tokens goes with all of them, and from the one in which it
	// begins.
	end := ""
	for k := len(t) - 1; k >= 0; k-- {
		end = t[k].Text + end
		switch i := strings.LastIndex(end, "</"); {
		case strings.ContainsAny(end[max(i, 0):], " \n"):
			return t
		case i >= 0 && strings.TrimSpace(end[:i]) == "":
			return t[:k]
		case i >= 0:
			t = slices.Clone(t[:k+1])
			t[k].Text = end[:i]
			return t
		}
	}
	return t
}
