package verdict

import (
	"encoding/json"
	"math"
	"testing"

	"nrt/backend/engine"
	"nrt/backend/token"
)

// A boundary that is not one token is found in a chain's text. Bytes that a decoder
// holds until their run ends, as the run 5, 6, 7 for 日, are the chain's, whatever ends
// it.
func TestChainTextWithoutItsBoundary(t *testing.T) {
	tok, err := token.Parse("tokenizer.json", []byte(`{
		"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
		"model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "merges": [],
			"vocab": {"<unk>": 0, "<eos>": 1, "</think>": 2, "a": 3, " b": 4, "<0xE6>": 5, "<0x97>": 6, "<0xA5>": 7, "a</th": 8, "ink> ": 9}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	form := &token.Format{Close: []int32{2}, End: []int32{1}}
	for _, c := range []struct {
		ids    []int32
		closed bool
		stop   string
		want   string
	}{
		{[]int32{3, 4, 2}, true, "", "a b"},
		{[]int32{3, 4}, false, "", "a b"},
		{[]int32{3, 1}, false, "", "a"},
		{[]int32{3, 5, 6, 7, 2}, true, "", "a日"},
		{[]int32{3, 5, 6, 7, 1}, false, "", "a日"},
		{[]int32{8, 9}, true, "</think>", "a"},
		{nil, false, "", ""},
	} {
		j := engine.Chain{Closed: c.closed}
		for _, id := range c.ids {
			j.Tokens = append(j.Tokens, engine.Token{ID: id})
		}
		form.StopText = c.stop
		if have := chainText(j, tok, form); have != c.want {
			t.Errorf("%v: have %q, want %q", c.ids, have, c.want)
		}
	}
}

func TestNumbersThatJSONLacks(t *testing.T) {
	have, err := json.Marshal(numbers([]float64{0.5, math.Inf(-1), math.NaN()}))
	if err != nil || string(have) != "[0.5,null,null]" {
		t.Errorf("have %s, %v", have, err)
	}
}
