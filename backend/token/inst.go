package token

import (
	"fmt"
	"strings"
)

// The layouts whose questions stand between [INST] and [/INST].

// squeeze takes the quotes and spaces out of a template, and what trims.
var squeeze = strings.NewReplacer(" ", "", "'", "", `"`, "", ".strip()", "", "| trim", "", "|trim", "")

// isLlama2 tells Llama 2's own template from those that only share its marks: BOS and
// EOS stand about each turn, and no system message is given by the template itself.
func isLlama2(template string) bool {
	s := squeeze.Replace(template)
	return strings.Contains(s, "bos_token+[INST]+content+[/INST]") && strings.Contains(s, "+content++eos_token") &&
		strings.Count(s, "system_message=") == strings.Count(s, "system_message=messages[0][content]")+strings.Count(s, "system_message=false")
}

// layoutLlama2 puts a system message into the first question.
func layoutLlama2(l *line, msgs []Message) error {
	system, first := "", 0
	if msgs[0].Role == "system" {
		system, first = "<<SYS>>\n"+msgs[0].Content+"\n<</SYS>>\n\n", 1
		if len(msgs) == 1 {
			return fmt.Errorf("messages: no question after the system message")
		}
	}
	for i, m := range msgs[first:] {
		if want := []string{"user", "assistant"}[i%2]; m.Role != want {
			return fmt.Errorf("messages[%d].role: want %s, since questions and answers alternate, have %s", first+i, want, m.Role)
		}
		if m.Role == "assistant" {
			l.write(" " + strings.TrimSpace(m.Content) + " ")
			l.end()
			continue
		}
		if i > 0 {
			l.token(l.t.Token(l.t.bos))
		}
		l.write("[INST] " + strings.TrimSpace(system+m.Content) + " [/INST]")
		system = ""
	}
	return nil
}

// layoutMistral has its spaces where the template has them, without one as Mistral 7B
// has them. A system message stands in the last question, or where the template says so
// in the first.
func layoutMistral(l *line, msgs []Message) error {
	template := strings.ReplaceAll(l.t.config.ChatTemplate, `"`, "'")
	space := func(mark string, unsaid bool) string {
		if strings.Contains(template, mark) || unsaid && !strings.Contains(template, "[INST]") {
			return " "
		}
		return ""
	}
	_, tokens := l.t.ID("[INST]")
	open, start, end := space("' [INST]", false), space("[INST] ", true), space(" [/INST]", !tokens)
	reply, done := space("' ' + ", true), space("eos_token + ' '", false)
	trims := strings.Contains(strings.ReplaceAll(template, " ", ""), "|trim+eos_token")
	first := strings.Contains(template, "loop.first and system_message")
	system, with := "", -1
	for i, m := range msgs {
		switch {
		case m.Role == "system" && i > 0:
			return fmt.Errorf("messages[%d].role: a system message must come first", i)
		case m.Role == "system":
			system = m.Content + "\n\n"
		case m.Role == "user" && (with < 0 || !first):
			with = i
		}
	}
	for i, m := range msgs {
		switch m.Role {
		case "user":
			l.write(open)
			l.added("[INST]")
			l.write(start)
			if i == with {
				l.write(system)
			}
			l.write(m.Content + end)
			l.added("[/INST]")
		case "assistant":
			if trims {
				m.Content = strings.TrimSpace(m.Content)
			}
			l.write(reply + m.Content)
			l.end()
			l.write(done)
		}
	}
	return nil
}

// todayV7 is the day that mistral-v7 takes for the one on which a question is asked, which
// the system message of some of its templates names: the layout must not depend on it.
const todayV7 = "2025-01-30"

// systemV7 finds the system message that a template of mistral-v7 writes where none is
// given, its default_system_message: strings and today, joined by +. It is not ok if it is
// written otherwise, or the template has marks that another layout would need.
func systemV7(template string) (text string, ok bool) {
	const mark = "[SYSTEM_PROMPT]"
	for _, other := range []string{"[THINK]", "[MODEL_SETTINGS]"} {
		if strings.Contains(template, other) {
			return "", false
		}
	}
	for _, next := range strings.Split(squeeze.Replace(template), mark)[1:] {
		known := false
		for _, what := range []string{"+system_message+", "+default_system_message+", "+message[content]+", "+messages[0][content]+", "-}}", "}}"} {
			known = known || strings.HasPrefix(next, what)
		}
		if !known {
			return "", false
		}
	}
	_, rest, found := strings.Cut(template, "set default_system_message =")
	for found {
		rest = strings.TrimSpace(rest)
		if after, today := strings.CutPrefix(rest, "today"); today && strings.Contains(template, `set today = strftime_now("%Y-%m-%d")`) {
			text, rest = text+todayV7, after
		} else {
			part, after, ok := quoted(rest)
			if !ok {
				return "", false
			}
			text, rest = text+part, after
		}
		if rest, found = strings.CutPrefix(strings.TrimSpace(rest), "+"); !found {
			return text, strings.HasPrefix(rest, "%}") || strings.HasPrefix(rest, "-%}")
		}
	}
	return "", true
}

func layoutMistralV7(l *line, msgs []Message) error {
	space := ""
	if strings.Contains(l.t.config.ChatTemplate, "[INST] ") {
		space = " "
	}
	between := func(start, content, end string) {
		l.added(start)
		l.write(space + content)
		l.added(end)
	}
	if text, _ := systemV7(l.t.config.ChatTemplate); text != "" && msgs[0].Role != "system" {
		between("[SYSTEM_PROMPT]", text, "[/SYSTEM_PROMPT]")
	}
	for _, m := range msgs {
		switch m.Role {
		case "system":
			between("[SYSTEM_PROMPT]", m.Content, "[/SYSTEM_PROMPT]")
		case "user":
			between("[INST]", m.Content, "[/INST]")
		case "assistant":
			l.write(space + m.Content)
			l.end()
		}
	}
	return nil
}
