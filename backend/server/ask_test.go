package server

import (
	"math"
	"slices"
	"testing"
	"time"

	"nrt/backend/engine"
	"nrt/backend/token"
	"nrt/web/wire"
)

// Bytes that a decoder holds until their run ends, as 5, 6, 7 for 日, are text of the
// token that brought the last of them, where the next one ends the chain: the page does
// not show that.
func TestStreamKeepsWhatAChainsEndReleases(t *testing.T) {
	tok, err := token.Parse("tokenizer.json", []byte(`{
		"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
		"model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "merges": [],
			"vocab": {"<unk>": 0, "<eos>": 1, "</think>": 2, "a": 3, " b": 4, "<0xE6>": 5, "<0x97>": 6, "<0xA5>": 7}}}`), []byte(`{"eos_token": "<eos>"}`))
	if err != nil {
		t.Fatal(err)
	}
	form, err := tok.Format("plain")
	if err != nil {
		t.Fatal(err)
	}
	req := &engine.Request{MaxChain: 5, Stop: []int32{1}, Close: []int32{2}}
	for _, c := range []struct {
		ids  []int32
		want []string
	}{
		{[]int32{3, 5, 6, 7, 2}, []string{"a", "", "", "日", "</think>"}},
		{[]int32{3, 5, 6, 7, 1}, []string{"a", "", "", "日", "<eos>"}},
		{[]int32{5, 6, 7, 4, 2}, []string{"", "", "", "日 b", "</think>"}},
		{[]int32{4, 3, 5, 6, 7}, []string{" b", "a", "", "", "日"}},  // as long as a chain may be
		{[]int32{4, 3, 5, 2}, []string{" b", "a", "�", "</think>"}}, // a character that is not whole
	} {
		var texts []string
		var ids []int32
		w := &stream{tok: tok, form: form, req: req, every: math.MaxInt64, sent: time.Now(), say: func(m wire.Message, _ time.Time) {
			for _, x := range m.(*wire.Frame).Tokens {
				if x.Part != wire.PartChain {
					continue
				}
				if x.At != len(ids) {
					t.Fatalf("%v: token %d after %d", c.ids, x.At, len(ids))
				}
				ids, texts = append(ids, x.IDs...), append(texts, x.Texts...)
			}
		}}
		for i, id := range c.ids {
			w.event(engine.Event{Part: engine.PartChain, Index: i, Token: engine.Token{ID: id}})
		}
		w.event(engine.Event{Part: engine.PartEnd})
		w.flush()
		if !slices.Equal(ids, c.ids) || !slices.Equal(texts, c.want) {
			t.Errorf("%v: have %v %q, want %q", c.ids, ids, texts, c.want)
		}
	}
}
