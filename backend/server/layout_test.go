package server

import (
	"net/http"
	"strings"
	"testing"
)

// TestUnknownTemplate: a model whose chat template is none of the known ones is
// refused, with what to do about it, unless the server was told a layout for such.
func TestUnknownTemplate(t *testing.T) {
	odd := func(format string) func(*Options) {
		return func(o *Options) {
			o.Format = format
			o.Models = append(o.Models, Source{Name: "odd", Files: with(t, "world:base", map[string]string{
				"chat_template.jinja": "{{ messages[0]['content'] }} over to you:",
			})})
		}
	}
	r := start(t, odd(""))
	resp, body := r.post("chat/completions", chatRequest(object{"model": "odd"}))
	if resp.StatusCode == http.StatusOK || !strings.Contains(string(body), "--format") {
		t.Errorf("%d %s; want a refusal that names --format", resp.StatusCode, body)
	}
	r = start(t, odd("plain"))
	if x := good[chatWhole](r, "chat/completions", chatRequest(object{"model": "odd"})); len(x.Choices) != 1 {
		t.Errorf("%+v", x)
	}
	loaded, err := r.hub.take(t.Context(), r.hub.find("world:base"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.hub.give(loaded)
	if loaded.form.Name == "plain" {
		t.Error("a model with a known layout is asked in the one for unknown ones")
	}
}
