package verdict

import (
	"encoding/json"
	"math"
	"testing"

	"nrt/backend/token"
)

// A boundary that is not one token is found in a chain's text.
func TestChainTextWithoutItsBoundary(t *testing.T) {
	end, close := Spelled{1, "<eos>"}, Spelled{2, "</think>"}
	form := &token.Format{Close: []int32{2}, End: []int32{1}}
	for _, c := range []struct {
		tokens []Spelled
		closed bool
		stop   string
		want   string
	}{
		{[]Spelled{{5, "a"}, {6, " b"}, close}, true, "", "a b"},
		{[]Spelled{{5, "a"}, {6, " b"}}, false, "", "a b"},
		{[]Spelled{{5, "a"}, end}, false, "", "a"},
		{[]Spelled{{5, "a</th"}, {6, "ink> "}}, true, "</think>", "a"},
		{nil, false, "", ""},
	} {
		j := Chain{Closed: c.closed}
		for _, s := range c.tokens {
			j.Tokens = append(j.Tokens, Said{Spelled: s})
		}
		form.StopText = c.stop
		if have := chainText(j, form); have != c.want {
			t.Errorf("%v: have %q, want %q", c.tokens, have, c.want)
		}
	}
}

func TestNumbersThatJSONLacks(t *testing.T) {
	have, err := json.Marshal(Numbers([]float64{0.5, math.Inf(-1), math.NaN()}))
	if err != nil || string(have) != "[0.5,null,null]" {
		t.Errorf("have %s, %v", have, err)
	}
}
