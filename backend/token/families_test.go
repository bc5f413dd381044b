package token

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew (then run testdata/oracle.mjs)")

type object = map[string]any
type list = []any

// families are the tokenizers that the vectors in testdata are made with: small
// vocabularies trained on testdata/corpus.txt, each in the form that a family of
// models uses.
func families(t *testing.T) map[string]object {
	corpus, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	text := string(corpus)
	out := make(map[string]object)

	// Byte-level.
	bpe := func(pattern string, vocab int) (ids map[string]int32, merges []merge, tokens []string) {
		tk, err := TrainBPE(slices.Values([]string{text}), TrainOptions{Vocab: vocab, Pattern: pattern})
		if err != nil {
			t.Fatal(err)
		}
		return tk.model, tk.doc.Model.Merges, tk.tokens
	}
	type maker struct {
		pattern string
		vocab   int
		added   []addedToken
		norm    any
		pre     any
		post    any
		extra   []string // whole words in the vocabulary that no merge makes
		model   object
		arrays  bool
	}
	level := func(space, regex bool) object {
		return object{"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex}
	}
	split := func(pattern, how string) object {
		return object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": how, "invert": false}
	}
	seq := func(parts ...any) object { return object{"type": "Sequence", "pretokenizers": parts} }
	special := func(names ...string) []addedToken {
		var out []addedToken
		for _, n := range names {
			out = append(out, addedToken{Content: n, Special: true})
		}
		return out
	}
	template := func(tok string, id int) object {
		return object{"type": "TemplateProcessing",
			"single":         list{object{"SpecialToken": object{"id": tok, "type_id": 0}}, object{"Sequence": object{"id": "A", "type_id": 0}}},
			"pair":           list{object{"Sequence": object{"id": "A", "type_id": 0}}, object{"Sequence": object{"id": "B", "type_id": 1}}},
			"special_tokens": object{tok: object{"id": tok, "ids": list{id}, "tokens": list{tok}}}}
	}
	byteLevel := map[string]maker{
		"gpt2": {pattern: "gpt2", vocab: 640, added: special("<|endoftext|>"), pre: level(false, true),
			post: level(true, true), model: object{"type": nil, "continuing_subword_prefix": "", "end_of_word_suffix": ""}},
		"gpt2-prefix": {pattern: "gpt2", vocab: 500, pre: level(true, true), added: append(special("<s>", "</s>", "<pad>", "<unk>"),
			addedToken{Content: "<mask>", LStrip: true, Special: true}),
			post: object{"type": "RobertaProcessing", "sep": list{"</s>", 501}, "cls": list{"<s>", 500}, "trim_offsets": true, "add_prefix_space": true}},
		"llama3": {pattern: "llama3", vocab: 640, pre: seq(split(patternLlama3, "Isolated"), level(false, false)),
			added:  special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<think>", "</think>"),
			post:   object{"type": "Sequence", "processors": list{level(true, false), template("<|begin_of_text|>", 643)}},
			extra:  []string{"Ġsupercalifragilistic", "ĠProbability", "Ġthinkingly"},
			model:  object{"ignore_merges": true},
			arrays: true},
		"qwen2": {pattern: "qwen2", vocab: 600, norm: object{"type": "NFC"}, pre: seq(split(patternQwen2, "Isolated"), level(false, false)),
			added: append(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
				addedToken{Content: "<tool_call>"}, addedToken{Content: "<think>"}, addedToken{Content: "</think>"}, addedToken{Content: "café", Normalized: true}),
			post: level(false, false)},
		"digits": {pattern: "digits", vocab: 560, added: special("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
			pre: seq(object{"type": "Digits", "individual_digits": true}, level(false, true))},
		"digits-grouped": {pattern: "gpt2", vocab: 560, added: special("<|endoftext|>"),
			pre: seq(object{"type": "Digits", "individual_digits": false}, level(false, true))},
		"digits-split": {pattern: "gpt2", vocab: 560, added: special("<|endoftext|>"),
			pre: seq(split(`\p{N}`, "Isolated"), split(`\s+`, "MergedWithNext"), split(`[\r\n]`, "Contiguous"), level(false, false))},
		"deepseek": {pattern: "gpt2", vocab: 560, added: append(special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), addedToken{Content: "<｜User｜>"}),
			pre:  seq(split(`\p{N}{1,3}`, "Isolated"), split(`[一-龥぀-ゟ゠-ヿ]+`, "Isolated"), split(strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(patternDeepSeek), "Isolated"), level(false, false)),
			post: template("<｜begin▁of▁sentence｜>", 560)},
		"tekken": {pattern: "qwen2", vocab: 600, added: special("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
			pre: seq(split(patternTekken, "Isolated"), level(false, false)), model: object{"ignore_merges": true}},
	}
	for name, m := range byteLevel {
		ids, merges, tokens := bpe(m.pattern, m.vocab)
		vocab := make(object)
		for tok, id := range ids {
			vocab[tok] = id
		}
		for _, tok := range m.extra {
			vocab[tok] = len(vocab)
		}
		for i := range m.added {
			m.added[i].ID = int32(len(vocab) + i)
		}
		var ms list
		for _, mg := range merges {
			a, b := tokens[mg.left], tokens[mg.right]
			if m.arrays {
				ms = append(ms, list{a, b})
			} else {
				ms = append(ms, a+" "+b)
			}
		}
		model := object{"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
			"fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": ms}
		for k, v := range m.model {
			model[k] = v
			if v == nil {
				delete(model, k)
			}
		}
		out[name] = object{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": m.added, "normalizer": m.norm,
			"pre_tokenizer": m.pre, "post_processor": m.post, "decoder": level(true, true), "model": model}
	}

	// SentencePiece-style.
	learned := learnPieces(text, 420)
	replaceSpace := object{"type": "Replace", "pattern": object{"String": " "}, "content": "▁"}
	legacy := object{"type": "Sequence", "normalizers": list{object{"type": "Prepend", "prepend": "▁"}, replaceSpace}}
	decoder := object{"type": "Sequence", "decoders": list{
		object{"type": "Replace", "pattern": object{"String": "▁"}, "content": " "},
		object{"type": "ByteFallback"}, object{"type": "Fuse"},
		object{"type": "Strip", "content": " ", "start": 1, "stop": 0}}}
	gemmaDecoder := object{"type": "Sequence", "decoders": list{
		object{"type": "Replace", "pattern": object{"String": "▁"}, "content": " "},
		object{"type": "ByteFallback"}, object{"type": "Fuse"}}}
	meta := func(scheme string, cut bool) object {
		return object{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}
	}
	base := []addedToken{{ID: 0, Content: "<unk>", Special: true}, {ID: 1, Content: "<s>", Special: true}, {ID: 2, Content: "</s>", Special: true}}
	type sp struct {
		fallback, fuse bool
		unk            any
		added          []string
		flags          []addedToken
		norm, pre, dec any
	}
	all := map[string]sp{
		"llama2":           {fallback: true, fuse: true, unk: "<unk>", norm: legacy, dec: decoder},
		"llama2-metaspace": {fallback: true, fuse: true, unk: "<unk>", pre: meta("first", false), dec: decoder},
		"mistral":          {fallback: true, fuse: true, unk: "<unk>", norm: legacy, dec: decoder, added: []string{"[INST]", "[/INST]", "[TOOL_CALLS]"}},
		"metaspace-always": {fallback: false, fuse: true, unk: "<unk>", pre: meta("always", true), dec: meta("always", true)},
		"metaspace-never":  {fallback: false, fuse: false, unk: "<unk>", pre: meta("never", true), dec: meta("never", true)},
		"metaspace-drop":   {fallback: false, fuse: false, unk: nil, pre: meta("first", true), dec: meta("first", true)},
		"gemma": {fallback: true, fuse: true, unk: "<unk>", norm: replaceSpace, dec: gemmaDecoder,
			pre: object{"type": "Split", "pattern": object{"String": " "}, "behavior": "MergedWithPrevious", "invert": false}},
		"added": {fallback: true, fuse: true, unk: "<unk>", norm: legacy, dec: decoder, flags: []addedToken{
			{Content: "<l>", LStrip: true}, {Content: "<r>", RStrip: true}, {Content: "<lr>", LStrip: true, RStrip: true},
			{Content: "word", SingleWord: true}, {Content: "norm al", Normalized: true}, {Content: "<ln>", LStrip: true, Normalized: true},
			{Content: "<rn> ", RStrip: true, Normalized: true}, {Content: "<sp>", Normalized: true}, {Content: "<l", LStrip: true}}},
	}
	for name, s := range all {
		vocab, merges := sentencePieces(learned, s.fallback)
		added := slices.Clone(base)
		for _, c := range s.added {
			added = append(added, addedToken{Content: c, Special: true})
		}
		added = append(added, s.flags...)
		for i := 3; i < len(added); i++ {
			added[i].ID = int32(len(vocab) + i - 3)
		}
		out[name] = object{"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added, "normalizer": s.norm,
			"pre_tokenizer": s.pre, "post_processor": template("<s>", 1), "decoder": s.dec,
			"model": object{"type": "BPE", "dropout": nil, "unk_token": s.unk, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
				"fuse_unk": s.fuse, "byte_fallback": s.fallback, "ignore_merges": false, "vocab": vocab, "merges": merges}}
	}

	// Word-level.
	words := object{"<unk>": 0, "<bos>": 1, "<eos>": 2, "<think>": 3, "</think>": 4}
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n\t.,;:!?()\"'", r) }) {
		if _, ok := words[w]; !ok && len(words) < 200 {
			words[w] = len(words)
		}
	}
	for i, r := range ".,;:!?()\"'" {
		words[string(r)] = 200 + i
	}
	for i := len(words); i < 210; i++ {
		words[fmt.Sprintf("word%d", i)] = i
	}
	for name, pre := range map[string]string{"wordlevel": "WhitespaceSplit", "wordlevel-punct": "Whitespace"} {
		out[name] = object{"version": "1.0", "truncation": nil, "padding": nil, "normalizer": nil, "pre_tokenizer": object{"type": pre},
			"post_processor": nil, "decoder": nil, "model": object{"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
			"added_tokens": []addedToken{{ID: 0, Content: "<unk>", Special: true}, {ID: 1, Content: "<bos>", Special: true},
				{ID: 2, Content: "<eos>", Special: true}, {ID: 3, Content: "<think>", Special: true}, {ID: 4, Content: "</think>", Special: true}}}
	}
	return out
}

// learnedPieces is what a SentencePiece trainer finds: pieces by age, and how often
// each character occurs.
type learnedPieces struct {
	pieces []string
	chars  map[string]int
}

func learnPieces(text string, n int) learnedPieces {
	counts := make(map[string]int)
	for _, line := range strings.Split(text, "\n") {
		for _, w := range strings.Split(line, " ") {
			counts["▁"+w]++
		}
	}
	type word struct {
		parts []string
		count int
	}
	var words []word
	chars := make(map[string]int)
	for _, w := range slices.Sorted(maps.Keys(counts)) {
		var parts []string
		for _, r := range w {
			parts = append(parts, string(r))
			chars[string(r)] += counts[w]
		}
		words = append(words, word{parts, counts[w]})
	}
	var learned []string
	for len(learned) < n {
		pairs := make(map[[2]string]int)
		for _, w := range words {
			for i := 1; i < len(w.parts); i++ {
				pairs[[2]string{w.parts[i-1], w.parts[i]}] += w.count
			}
		}
		var best [2]string
		for p, c := range pairs {
			if b := pairs[best]; c > b || c == b && (p[0]+p[1] < best[0]+best[1] || p[0]+p[1] == best[0]+best[1] && p[0] < best[0]) {
				best = p
			}
		}
		if pairs[best] < 2 {
			break
		}
		tok := best[0] + best[1]
		if !slices.Contains(learned, tok) {
			learned = append(learned, tok)
		}
		for i := range words {
			var out []string
			for _, p := range words[i].parts {
				if len(out) > 0 && out[len(out)-1] == best[0] && p == best[1] {
					out[len(out)-1] = tok
				} else {
					out = append(out, p)
				}
			}
			words[i].parts = out
		}
	}
	return learnedPieces{learned, chars}
}

// sentencePieces makes a vocabulary as SentencePiece does (specials, bytes,
// pieces by age, characters) and the merges that Hugging Face's converter derives
// from one: every way to put a piece together from two others.
func sentencePieces(l learnedPieces, fallback bool) (vocab object, merges list) {
	learned, chars := l.pieces, l.chars
	vocab = object{"<unk>": 0, "<s>": 1, "</s>": 2}
	if fallback {
		for b := range 256 {
			vocab[byteName(byte(b))] = len(vocab)
		}
	}
	for _, tok := range learned {
		vocab[tok] = len(vocab)
	}
	for _, c := range slices.Sorted(maps.Keys(chars)) {
		if chars[c] > 1 && !slices.Contains(learned, c) {
			vocab[c] = len(vocab)
		}
	}
	name := make(map[int]string)
	for k, v := range vocab {
		name[v.(int)] = k
	}
	for _, tok := range learned {
		type cut struct{ l, r int }
		var cuts []cut
		for i := range tok {
			l, ok1 := vocab[tok[:i]].(int)
			r, ok2 := vocab[tok[i:]].(int)
			if i > 0 && ok1 && ok2 {
				cuts = append(cuts, cut{l, r})
			}
		}
		slices.SortFunc(cuts, func(a, b cut) int { return (a.l-b.l)*10000 + a.r - b.r })
		for _, c := range cuts {
			merges = append(merges, name[c.l]+" "+name[c.r])
		}
	}
	return vocab, merges
}

// TestFamilies keeps testdata/families what families makes.
func TestFamilies(t *testing.T) {
	for name, f := range families(t) {
		path := filepath.Join("testdata", "families", name+".json")
		got, err := marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not what families makes; run with -update, then testdata/oracle.mjs", path)
		}
	}
}
