package server

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestStopTextAtOnce: a stop text that an answer begins with ends it at its first token.
func TestStopTextAtOnce(t *testing.T) {
	r := start(t, nil)
	whole := good[textWhole](r, "completions", textRequest(nil)).Choices[0].Text
	first := whole[:1+strings.IndexByte(whole[1:], ' ')] // " word"
	resp, body := r.post("completions", textRequest(object{"stop": first}))
	var out struct {
		Choices []textChoice
		Usage   usage
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || resp.StatusCode != 200 {
		t.Fatal(body)
	}
	if out.Usage.Completion != 1 || out.Choices[0].Text != "" {
		t.Errorf("stop text %q: %q of %d tokens", first, out.Choices[0].Text, out.Usage.Completion)
	}
}
