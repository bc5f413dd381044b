package device

import "testing"

func TestParseChoice(t *testing.T) {
	for text, want := range map[string]Choice{
		"auto": Auto, "cpu": {Name: "cpu"}, "cuda": {Name: "cuda"}, "cuda:0": {Name: "cuda"}, "cuda:3": {"cuda", 3},
	} {
		have, err := ParseChoice(text)
		if err != nil || have != want {
			t.Errorf("%q: %+v, %v; want %+v", text, have, err, want)
		}
		if again, err := ParseChoice(have.String()); err != nil || again != have {
			t.Errorf("%q: written as %q, which is %+v, %v", text, have, again, err)
		}
	}
	for _, text := range []string{"", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "CUDA"} {
		if c, err := ParseChoice(text); err == nil {
			t.Errorf("%q is %+v", text, c)
		}
	}
}
