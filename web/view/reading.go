package view

import (
	"math"
	"strings"
)

// ChainText is the chosen chain as text, sentence by sentence, with what the
// model answered after it.
func ChainText(s *State) string {
	p := &page{}
	r := s.Reading
	i := s.chain()
	if i < 0 {
		if r != nil && r.under() {
			p.raw(`<div class="chain-h"><h2>Reasoning</h2><span class="cap">not begun</span></div>`)
		}
		return p.String()
	}
	c := &r.Chains[i]
	tokens := c.shown()
	p.raw(`<div class="chain-h"><h2>Chain `).int(i + 1).raw(`</h2><span class="cap">`)
	switch {
	case !c.Done && r.under():
		p.raw(`being written · `).text(count(len(tokens), "token"))
	case !c.Done:
		p.raw(`stopped after `).text(count(len(tokens), "token"))
	default:
		if k := s.rank(s.Mode, i); k > 0 {
			p.raw(`rank <b>`).int(k).raw(`</b> of `).int(s.scores().done).raw(` · `)
		}
		p.text(count(len(tokens), "token"))
		if c.Finish == "length" || c.Forced {
			p.raw(` · cut at the limit`)
		}
	}
	p.raw(`</span><span class="sp"></span><span class="cap only-desk"><button type="button" class="kb-act" id="act-p" data-act="prev" aria-label="Previous chain"><kbd>p</kbd></button> <button type="button" class="kb-act" id="act-n" data-act="next" aria-label="Next chain"><kbd>n</kbd></button></span></div>`)
	p.raw(`<div class="text" role="group" aria-label="Chain `).int(i + 1).raw(`. Left and right arrow keys move between sentences.">`)
	list := sentences(tokens)
	for k, x := range list {
		writing := !c.Done && k == len(list)-1 && r.under()
		on := k == s.Sentence
		p.raw(`<span role="button" class="sent`)
		if writing {
			p.raw(` todo`)
		}
		if on {
			p.raw(` is-on`)
		}
		tab := "-1"
		if on || s.Sentence < 0 && k == 0 || s.Sentence >= len(list) && k == 0 {
			tab = "0"
		}
		p.raw(`" id="sent-`).int(k).raw(`" data-act="sentence" data-value="`).int(k).raw(`" tabindex="`, tab, `" aria-pressed="`, boolText(on), `"><span class="no">`).int(k + 1).raw(`</span>`)
		for _, t := range tokens[x.from:x.to] {
			p.text(t.Text)
		}
		if writing {
			p.raw(`<span class="caret"></span>`)
		}
		p.raw(`</span> `)
	}
	if len(tokens) == 0 {
		switch {
		case c.Done:
			p.raw(`<span class="cap">This chain is empty: the model answered at once.</span>`)
		case r.under():
			p.raw(`<span class="cap">No word yet.</span>`)
		}
	}
	p.raw(`</div>`)
	s.sentenceNote(p, c, list)
	return p.String()
}

// sentenceNote tells what is known of the chosen sentence, else of how the chain
// ended.
func (s *State) sentenceNote(p *page, c *Chain, list []sentence) {
	if k := s.Sentence; k >= 0 && k < len(list) {
		tokens := c.Tokens[list[k].from:list[k].to]
		sum, least := 0.0, 0
		for i, t := range tokens {
			sum += t.LogProb
			if t.LogProb < tokens[least].LogProb {
				least = i
			}
		}
		p.raw(`<div class="whatif said"><p><b>Sentence `).int(k + 1).raw(`: `).text(count(len(tokens), "token")).raw(`, `)
		p.text(percent(math.Exp(sum / float64(len(tokens))))).raw(` % sure each, on average.</b> <span class="cap">Boldest word: “`)
		p.text(word(tokens[least].Text)).raw(`”, `).text(percent(math.Exp(tokens[least].LogProb))).raw(` %. That is how sure the model was while it wrote; the reward does not look at it.</span></p>`)
		p.raw(`<div class="acts"><button type="button" class="btn" id="act-release" data-act="release">Let go</button></div></div>`)
		return
	}
	if !c.Done || strings.TrimSpace(c.Answer) == "" {
		return
	}
	p.raw(`<div class="whatif said"><p><b>Then it answered: `).text(strings.TrimSpace(c.Answer)).raw(`</b> <span class="cap">`)
	if c.Match {
		p.raw(`The same as the reference. The reward does not need that: it asks how probable the reference became.`)
	} else {
		p.raw(`Not the reference. The reward does not grade this: it asks how probable the reference became.`)
	}
	p.raw(`</span></p></div>`)
}
