package view

import (
	"bytes"
	"encoding/json"
	"fmt"

	"nrt/web/wire"
)

// Example is a saved question: the request and the server's answer to it, in the
// messages that would have come over the wire. A file of examples is a JSON
// array of them.
type Example struct {
	Name  string     `json:"name"`  // in the address, "swap-3"
	Title string     `json:"title"` // for people
	Ask   wire.Ask   `json:"ask"`
	Start wire.Start `json:"start"`
	// Frame holds all tokens: one entry for each part of each chain will do.
	Frame wire.Frame `json:"frame"`
	End   wire.End   `json:"end"`
	// Without is, for each chain, what a scored would say of it without each of its
	// sentences (see Reading.Without).
	Without [][]wire.ScoredVariant `json:"without,omitempty"`
	// Fresh is, for each chain and each of its sentences, what the model wrote when it
	// wrote the chain afresh from there (see Reading.Places).
	Fresh [][][]wire.Fresh `json:"fresh,omitempty"`
	// Runs are training runs whose kept models have read the chains, and Reads what
	// each of these said of them (see Reading.Reread).
	Runs  []wire.State  `json:"runs,omitempty"`
	Reads []wire.Scored `json:"reads,omitempty"`
	Anew  []Example     `json:"anew,omitempty"` // the same request to trained models
}

// right counts the chains that end at the right answer, as far as that is known.
func (e *Example) right() (n int) {
	for _, d := range e.Frame.Done {
		if d.Right {
			n++
		}
	}
	return n
}

// EachExample reads a file of examples, one at a time, until one is wrong or
// take returns an error.
func EachExample(data []byte, take func(Example) error) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	open, err := d.Token()
	if err != nil {
		return fmt.Errorf("examples: %w", err)
	}
	if open != json.Delim('[') {
		return fmt.Errorf("examples: want an array, have %v", open)
	}
	seen := map[string]bool{}
	for i := 0; d.More(); i++ {
		var e Example
		if err := d.Decode(&e); err != nil {
			return fmt.Errorf("examples: entry %d: %w", i, err)
		}
		if e.Name == "" || seen[e.Name] {
			return fmt.Errorf("examples: entry %d: name: want one of its own, have %q", i, e.Name)
		}
		seen[e.Name] = true
		for _, x := range append([]Example{e}, e.Anew...) {
			for _, m := range []wire.Message{&x.Ask, &x.Start, &x.Frame, &x.End} {
				if err := m.Validate(); err != nil {
					return fmt.Errorf("examples: %s: %s: %s: %w", e.Name, x.Ask.Model, m.Type(), err)
				}
			}
		}
		if err := take(e); err != nil {
			return fmt.Errorf("examples: %s: %w", e.Name, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("examples: %w", err)
	}
	return nil
}

// ReadExamples reads a file of examples and replays each of them once, so that
// one that cannot be shown is found here.
func ReadExamples(data []byte) ([]Example, error) {
	var list []Example
	err := EachExample(data, func(e Example) error {
		r := e.Reading()
		if r.done() != len(r.Chains) {
			return fmt.Errorf("frame: %d of %d chains are complete", r.done(), len(r.Chains))
		}
		for i := range e.Without {
			if n := len(r.Without(i)); len(e.Without) != len(r.Chains) || len(e.Without[i]) != n || len(e.Without[i]) > 0 && len(e.Without[i][0].LogProbs) != len(r.Answer) {
				return fmt.Errorf("without: chain %d: want %d sentences", i+1, n)
			}
		}
		places := 0
		for i := range r.Chains {
			places += len(r.Places(i))
		}
		if len(e.Fresh) > 0 && len(r.fresh) != places {
			return fmt.Errorf("fresh: %d of %d sentences", len(r.fresh), places)
		}
		if len(r.sights) != len(e.Reads) {
			return fmt.Errorf("reads: %d of %d models fit", len(r.sights), len(e.Reads))
		}
		for i := range e.Runs {
			if err := e.Runs[i].Validate(); err != nil {
				return fmt.Errorf("runs: %w", err)
			}
		}
		for i := range e.Anew {
			x := e.Anew[i].Reading()
			if err := score(x, DefaultChoice()).err; err != nil || x.done() != len(x.Chains) {
				return fmt.Errorf("anew: %s: %d of %d chains are complete (%v)", x.Ask.Model, x.done(), len(x.Chains), err)
			}
		}
		list = append(list, e)
		return score(r, DefaultChoice()).err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// WriteExamples is the inverse of ReadExamples: one line an example.
func WriteExamples(list []Example) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("[\n")
	for i := range list {
		data, err := json.Marshal(&list[i])
		if err != nil {
			return nil, fmt.Errorf("examples: %s: %w", list[i].Name, err)
		}
		b.Write(data)
		if i+1 < len(list) {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	return b.Bytes(), nil
}

// Reading makes the example's messages a complete reading.
func (e *Example) Reading() *Reading {
	r := &Reading{Ask: e.Ask, Saved: true}
	r = r.start(&e.Start)
	r = r.frame(&e.Frame)
	r.Status, r.Seconds = Complete, e.End.Seconds
	for i, list := range e.Without {
		var keys []tryKey
		for k := range list {
			keys = append(keys, Edit{}.toggle(k).key(i))
		}
		r = r.withTries(keys, list, false)
	}
	for i, list := range e.Fresh {
		for k, cut := range r.Places(i) {
			if k < len(list) && len(list[k]) > 0 {
				r = r.withFresh(place{i, cut}, list[k])
			}
		}
	}
	for i := range e.Reads {
		r = r.read(&e.Reads[i])
	}
	return r
}

// example finds a saved example by name.
func (s *State) example(name string) *Example {
	for i := range s.Examples {
		if s.Examples[i].Name == name {
			return &s.Examples[i]
		}
	}
	return nil
}

// openExample shows a saved example as it was saved.
func (s State) openExample(name string) State {
	e := s.example(name)
	if e == nil {
		return s
	}
	s.Example = name
	s.Question, s.Answer = "", ""
	s.Model, s.K, s.Temperature, s.TopP = e.Ask.Model, e.Ask.K, e.Ask.Temperature, e.Ask.TopP
	s.Seed, s.MaxChain = e.Ask.Seed, e.Ask.MaxChain
	return s.show(e.Reading())
}

// show makes r the reading of the page; chain and word go back to the best.
func (s State) show(r *Reading) State {
	s.Reading = r
	s.Chain, s.Word, s.Sentence, s.Hover = -1, -1, -1, -1
	s.Card, s.Pinned = -1, false
	s = s.freshDrafts()
	s.sc = nil
	return s
}
