package token

import (
	"cmp"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// TrainOptions say what TrainBPE makes.
type TrainOptions struct {
	// Vocab is the size wanted, specials and the 256 bytes included. Texts with
	// too few repeated pairs give less.
	Vocab int
	// Pattern cuts texts into words: "gpt2" (also ""), "llama3", "qwen2", or
	// "digits" (gpt2 with every digit a word).
	Pattern string
	// Special tokens get the first ids. Those with usual names get their roles:
	// <bos>, <s>, <|begin_of_text|> begin texts; <eos>, </s>, <|end_of_text|> end
	// them; <|endoftext|> does both if there is no other; <pad> fills up.
	Special []string
	// Stopped is asked now and then, and its error ends the training; nil never does.
	Stopped func() error
}

// trainParts are the fields of a tokenizer.json by pattern.
var trainParts = map[string]struct{ normalizer, preTokenizer string }{
	"gpt2":   {"", byteLevelField(true)},
	"llama3": {"", sequenceField(splitField(patternLlama3), byteLevelField(false))},
	"qwen2":  {`{"type":"NFC"}`, sequenceField(splitField(patternQwen2), byteLevelField(false))},
	"digits": {"", sequenceField(`{"type":"Digits","individual_digits":true}`, byteLevelField(true))},
}

func byteLevelField(regex bool) string {
	return fmt.Sprintf(`{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":%t}`, regex)
}

func splitField(pattern string) string {
	raw, err := marshal(pattern)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"type":"Split","pattern":{"Regex":%s},"behavior":"Isolated","invert":false}`, raw)
}

func sequenceField(parts ...string) string {
	return `{"type":"Sequence","pretokenizers":[` + strings.Join(parts, ",") + `]}`
}

// TrainBPE learns a byte-level BPE vocabulary. It joins the most frequent pair
// of neighbouring symbols, again and again; of pairs equally frequent the one
// whose left, then right id is smaller. A pair must occur twice. The result
// depends on the texts and options alone, not on the order of the texts.
//
// The texts are read once. Special tokens in them are left out.
func TrainBPE(texts iter.Seq[string], o TrainOptions) (*Tokenizer, error) {
	if o.Pattern == "" {
		o.Pattern = "gpt2"
	}
	parts, ok := trainParts[o.Pattern]
	if !ok {
		return nil, fmt.Errorf("train tokenizer: pattern: want gpt2, llama3, qwen2 or digits, have %q", o.Pattern)
	}
	if least := len(o.Special) + 256; o.Vocab < least {
		return nil, fmt.Errorf("train tokenizer: vocab: want at least %d (256 bytes and %d special tokens), have %d", least, len(o.Special), o.Vocab)
	}
	doc := &document{
		Version:      "1.0",
		Normalizer:   json.RawMessage(parts.normalizer),
		PreTokenizer: json.RawMessage(parts.preTokenizer),
		Decoder:      json.RawMessage(byteLevelField(true)),
		Model:        modelDoc{Type: "BPE"},
	}
	seen := make(map[string]bool)
	for i, s := range o.Special {
		if s == "" || seen[s] {
			return nil, fmt.Errorf("train tokenizer: special[%d]: %q is empty or a repetition", i, s)
		}
		if raw, spelt := fromAlphabet(nil, s); spelt && len(raw) == 1 {
			return nil, fmt.Errorf("train tokenizer: special[%d]: %q is the name of a byte", i, s)
		}
		seen[s] = true
		doc.Model.Vocab = append(doc.Model.Vocab, s)
		doc.Added = append(doc.Added, addedToken{ID: int32(i), Content: s, Special: true})
	}
	letters := slices.Clone(alphabet[:])
	slices.Sort(letters)
	for _, r := range letters {
		doc.Model.Vocab = append(doc.Model.Vocab, string(r))
	}
	base, err := finish("train tokenizer", doc, "")
	if err != nil {
		return nil, err
	}
	if o.Stopped == nil {
		o.Stopped = func() error { return nil }
	}
	tr, err := newTrainer(base, texts, o.Stopped)
	if err != nil {
		return nil, err
	}
	if err := tr.train(o.Vocab, o.Stopped); err != nil {
		return nil, err
	}
	doc.Model.Vocab, doc.Model.Merges = tr.vocab, tr.merges
	return finish("train tokenizer", doc, "")
}

// finish builds a tokenizer made by this package: the specials with usual names
// get their roles, and a text begins with BOS.
func finish(name string, doc *document, unk string) (*Tokenizer, error) {
	role := func(names ...string) string {
		for _, n := range names {
			if slices.ContainsFunc(doc.Added, func(a addedToken) bool { return a.Content == n }) {
				return n
			}
		}
		return ""
	}
	cfg := config{
		BOS: role("<bos>", "<s>", "<|begin_of_text|>", "<|endoftext|>"),
		EOS: role("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>"),
		PAD: role("<pad>", "<|pad|>"),
		UNK: unk,
	}
	var err error
	if cfg.raw, err = cfg.generate(); err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(doc.Added, func(a addedToken) bool { return a.Content == cfg.BOS }); i >= 0 {
		if doc.PostProcessor, err = templateField(cfg.BOS, doc.Added[i].ID); err != nil {
			return nil, err
		}
	}
	return build(name, doc, cfg)
}

// templateField is a post-processor that puts one token in front.
func templateField(tok string, id int32) (json.RawMessage, error) {
	type object = map[string]any
	first := object{"SpecialToken": object{"id": tok, "type_id": 0}}
	text := func(name string, typ int) object {
		return object{"Sequence": object{"id": name, "type_id": typ}}
	}
	return marshal(object{
		"type":           "TemplateProcessing",
		"single":         []object{first, text("A", 0)},
		"pair":           []object{first, text("A", 0), first, text("B", 1)},
		"special_tokens": object{tok: object{"id": tok, "ids": []int32{id}, "tokens": []string{tok}}},
	})
}

// trainer holds every distinct word as symbols, how often each pair of
// neighbours occurs, and in which words.
type trainer struct {
	vocab  []string
	ids    map[string]int32
	merges []merge
	words  []trainWord
	pairs  map[uint64]*trainPair
	queue  []trainEntry // heap, next merge on top; counts may be outdated
}

type trainWord struct {
	syms  []int32
	count int
}

type trainPair struct {
	left, right int32
	count       int
	words       []int // where it has occurred; may repeat and be outdated
}

// trainEntry is a pair with the count it had when it was queued. A pair with a
// count of at least 2 always has an entry with that count or a larger one.
type trainEntry struct {
	*trainPair
	queued int
}

func newTrainer(base *Tokenizer, texts iter.Seq[string], stopped func() error) (*trainer, error) {
	counts := make(map[string]*int)
	e := base.pool.Get().(*encoder)
	defer e.release()
	e.mode = mode{start: true, special: true}
	e.visit = func(id int32, b *buffer, from, to int) {
		if id >= 0 {
			return
		}
		word := b.s[from:to]
		if c := counts[word]; c != nil {
			*c++
			return
		}
		one := 1
		counts[strings.Clone(word)] = &one
	}
	for text := range texts {
		if err := stopped(); err != nil {
			return nil, err
		}
		e.run(text)
	}
	tr := &trainer{vocab: slices.Clone(base.doc.Model.Vocab), ids: make(map[string]int32), pairs: make(map[uint64]*trainPair)}
	for id, tok := range tr.vocab {
		tr.ids[tok] = int32(id)
	}
	var letter [256]int32
	for b := range letter {
		letter[b] = tr.ids[string(alphabet[b])]
	}
	for word, count := range counts {
		w := trainWord{make([]int32, len(word)), *count}
		for i := range len(word) {
			w.syms[i] = letter[word[i]]
		}
		tr.words = append(tr.words, w)
	}
	for i, w := range tr.words {
		if err := stopped(); err != nil {
			return nil, err
		}
		for j := 1; j < len(w.syms); j++ {
			tr.count(w.syms[j-1], w.syms[j], w.count, i)
		}
	}
	for _, p := range tr.pairs {
		tr.enqueue(p)
	}
	return tr, nil
}

// count adds n to a pair that stands in a word.
func (tr *trainer) count(left, right int32, n, word int) *trainPair {
	key := pairKey(left, right)
	p := tr.pairs[key]
	if p == nil {
		p = &trainPair{left: left, right: right}
		tr.pairs[key] = p
	}
	p.count += n
	if n > 0 && (len(p.words) == 0 || p.words[len(p.words)-1] != word) {
		p.words = append(p.words, word)
	}
	return p
}

// before is the order of merging.
func (p trainEntry) before(q trainEntry) bool {
	return cmp.Or(cmp.Compare(q.queued, p.queued), cmp.Compare(p.left, q.left), cmp.Compare(p.right, q.right)) < 0
}

func (tr *trainer) train(size int, stopped func() error) error {
	for len(tr.vocab) < size && len(tr.queue) > 0 {
		if err := stopped(); err != nil {
			return err
		}
		p := tr.dequeue()
		if p.count != p.queued {
			if p.count < p.queued { // it grew less frequent: back to its place
				tr.enqueue(p.trainPair)
			}
			continue // else it has been merged from a place further up
		}
		text := tr.vocab[p.left] + tr.vocab[p.right]
		if _, ok := tr.ids[text]; ok {
			continue // another pair makes this token
		}
		id := int32(len(tr.vocab))
		tr.vocab = append(tr.vocab, text)
		tr.ids[text] = id
		tr.merges = append(tr.merges, merge{p.left, p.right, id})
		tr.apply(p.trainPair, id)
	}
	return nil
}

// apply joins the pair wherever it stands.
func (tr *trainer) apply(p *trainPair, id int32) {
	grown := make(map[*trainPair]bool)
	where := p.words
	p.words = nil
	for _, wi := range where {
		w := &tr.words[wi]
		out := w.syms[:0]
		for i := 0; i < len(w.syms); i++ {
			if i+1 >= len(w.syms) || w.syms[i] != p.left || w.syms[i+1] != p.right {
				out = append(out, w.syms[i])
				continue
			}
			p.count -= w.count
			if n := len(out); n > 0 {
				tr.count(out[n-1], p.left, -w.count, wi)
				grown[tr.count(out[n-1], id, w.count, wi)] = true
			}
			if i+2 < len(w.syms) {
				tr.count(p.right, w.syms[i+2], -w.count, wi)
				grown[tr.count(id, w.syms[i+2], w.count, wi)] = true
			}
			out = append(out, id)
			i++
		}
		w.syms = out
	}
	for q := range grown {
		tr.enqueue(q)
	}
}

func (tr *trainer) enqueue(p *trainPair) {
	if p.count < 2 {
		return
	}
	tr.queue = append(tr.queue, trainEntry{p, p.count})
	h, i := tr.queue, len(tr.queue)-1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (tr *trainer) dequeue() trainEntry {
	h := tr.queue
	top := h[0]
	h[0] = h[len(h)-1]
	h[len(h)-1] = trainEntry{}
	h = h[:len(h)-1]
	tr.queue = h
	for i := 0; ; {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	return top
}
