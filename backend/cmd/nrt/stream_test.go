package main

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"nrt/backend/engine"
	"nrt/backend/token"
)

// bytesTokenizer spells what it lacks as bytes, which a decoder holds until the run
// of them ends: "日" is 3, 4, 5.
func bytesTokenizer(t *testing.T) *token.Tokenizer {
	t.Helper()
	tok, err := token.Parse("tokenizer.json", []byte(`{
		"added_tokens": [{"id": 1, "content": "</s>", "special": true}, {"id": 6, "content": "</think>", "special": true}],
		"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
		"model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "merges": [],
			"vocab": {"<unk>": 0, "</s>": 1, "a": 2, "<0xE6>": 3, "<0x97>": 4, "<0xA5>": 5}}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// events are those of one chain: its own tokens, a forced boundary, an answer.
func events(chain, boundary, answer []int32) (list []engine.Event) {
	for _, p := range []struct {
		part engine.Part
		ids  []int32
	}{{engine.PartChain, chain}, {engine.PartBoundary, boundary}, {engine.PartAnswer, answer}} {
		for i, id := range p.ids {
			list = append(list, engine.Event{Part: p.part, Index: i, Token: engine.Token{ID: id}})
		}
	}
	return append(list, engine.Event{Part: engine.PartEnd})
}

// TestStreamsEndWhole: what the decoder still holds where a chain or an answer ends
// is printed, whatever ends it.
func TestStreamsEndWhole(t *testing.T) {
	tok := bytesTokenizer(t)
	for _, c := range []struct {
		name                    string
		chain, boundary, answer []int32
		want                    string
	}{
		{"cut off", []int32{2, 3, 4, 5}, nil, nil, "a日\n"},
		{"stopped", []int32{2, 3, 4, 5, 1}, nil, nil, "a日\n"},
		{"an answer after it", []int32{3, 4, 5, 1}, []int32{6}, []int32{3, 4, 5, 1}, "日</think>\n日\n"},
		{"an answer without a boundary", []int32{3, 4, 5}, nil, []int32{2, 1}, "日\na\n"},
		{"no answer", []int32{3, 4, 5}, nil, []int32{1}, "日\n\n"},
	} {
		var out bytes.Buffer
		e := &env{out: bufio.NewWriter(&out)}
		emit := (&generateFlags{n: 1}).show(e, &loaded{tok: tok}, &engine.Request{Stop: []int32{1}})
		for _, ev := range events(c.chain, c.boundary, c.answer) {
			emit(ev)
		}
		e.out.Flush()
		if have := out.String(); have != c.want {
			t.Errorf("%s: have %q, want %q", c.name, have, c.want)
		}
	}

	var out bytes.Buffer
	e := &env{out: bufio.NewWriter(&out)}
	emit := (&explainer{env: e, tok: tok, req: &engine.Request{}}).chains()
	for _, ev := range events([]int32{2, 3, 4, 5}, []int32{6}, nil) {
		emit(ev)
	}
	e.out.Flush()
	if have, want := out.String(), "chain 1    a日 (cut off after 4 tokens)\n"; have != want {
		t.Errorf("explain: have %q, want %q", have, want)
	}
}

// However the chains' tokens interleave, they are shown chain by chain.
func TestChainsAreShownInOrder(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var want, have []int32
		left := make([][]engine.Event, 4)
		for c := range left {
			for i := range rng.IntN(5) {
				id := int32(c*10 + i)
				left[c] = append(left[c], engine.Event{Chain: c, Index: i, Token: engine.Token{ID: id}})
				want = append(want, id)
			}
			left[c] = append(left[c], engine.Event{Chain: c, Part: engine.PartEnd})
			want = append(want, -1)
		}
		s := &inOrder{
			begin: func(int) {},
			token: func(ev engine.Event) { have = append(have, ev.Token.ID) },
			end:   func() { have = append(have, -1) },
		}
		s.event(engine.Event{Chain: -1, Part: engine.PartBaseline})
		for n := 1; n > 0; {
			n = 0
			for _, l := range left {
				n += len(l)
			}
			if c := rng.IntN(len(left)); len(left[c]) > 0 {
				s.event(left[c][0])
				left[c] = left[c][1:]
			}
		}
		if !slices.Equal(have, want) {
			t.Fatalf("seed %d: have %v, want %v", seed, have, want)
		}
	}
}

func TestWrapper(t *testing.T) {
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	w := newWrapper(out, "label", 8)
	w.width = 20
	for _, s := range []string{"one", " two", " three", " four\nfive", " sixsixsixsixsix", "seven"} {
		w.write(s, nil)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "label   one two\n        three four\n        five\n        sixsixsixsixsixseven"
	if b.String() != want {
		t.Errorf("have\n%s\nwant\n%s", b.String(), want)
	}
}
