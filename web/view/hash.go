package view

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"nrt/trainer/reward"
	"nrt/web/wire"
)

// maxHash bounds an address that is read: a question, an answer, the reader's sentences,
// some numbers. Three characters stand for a byte that is no letter of English.
const maxHash = 4 * (wire.MaxQuestion + wire.MaxAnswer + maxSentences*maxRewrite)

// Hash writes what differs from the default choice as the address's part after
// #, without the #.
func (c Choice) Hash() string {
	d := DefaultChoice()
	var list []string
	add := func(key, value string) { list = append(list, key+"="+url.QueryEscape(value)) }
	differs := func(key, value, otherwise string) {
		if value != otherwise {
			add(key, value)
		}
	}
	whole := func(key string, n, otherwise int) { differs(key, strconv.Itoa(n), strconv.Itoa(otherwise)) }
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	if c.Example != "" {
		add("e", c.Example)
	} else {
		differs("q", c.Question, "")
		differs("a", c.Answer, "")
	}
	differs("model", c.Model, "")
	whole("k", c.K, d.K)
	differs("t", number(c.Temperature), number(d.Temperature))
	differs("top_p", number(c.TopP), number(d.TopP))
	differs("seed", strconv.FormatUint(c.Seed, 10), strconv.FormatUint(d.Seed, 10))
	whole("len", c.MaxChain, d.MaxChain)
	differs("mode", c.Mode.String(), d.Mode.String())
	differs("clip", strconv.FormatBool(c.Clip), strconv.FormatBool(d.Clip))
	differs("norm", strconv.FormatBool(c.Normalize), strconv.FormatBool(d.Normalize))
	differs("by", c.Colour.String(), d.Colour.String())
	whole("z", c.Chain+1, d.Chain+1)
	whole("w", c.Word+1, d.Word+1)
	whole("s", c.Sentence+1, d.Sentence+1)
	whole("phase", c.Phase, d.Phase)
	whole("fresh", c.Fresh+1, d.Fresh+1)
	differs("read", c.Reader, "")
	differs("slide", when(c.NewChains, "new"), "")
	if c.Chain >= 0 {
		var off []string
		for k := range maxSentences {
			if c.Edit.off(k) {
				off = append(off, strconv.Itoa(k+1))
			}
		}
		if len(off) > 0 {
			add("off", strings.Join(off, "."))
		}
		for _, x := range c.Edit.Text {
			add("say", strconv.Itoa(x.At+1)+"."+x.Text)
		}
	}
	return strings.Join(list, "&")
}

// ParseHash reads an address's part after #. What it does not say is as in the
// default choice; what it says wrongly too, and the error names those keys. So
// an old or mangled link still opens the page.
func ParseHash(hash string) (Choice, error) {
	c := DefaultChoice()
	hash = strings.TrimPrefix(hash, "#")
	if len(hash) > maxHash {
		return c, fmt.Errorf("address: %d bytes; want at most %d", len(hash), maxHash)
	}
	var wrong []error
	for _, part := range strings.Split(hash, "&") {
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		value, err := url.QueryUnescape(value)
		if err == nil {
			err = c.set(key, value)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("address: %s: %w", clean(key), err))
		}
	}
	if c.Example != "" {
		c.Question, c.Answer = "", ""
	}
	if c.Chain < 0 {
		c.Edit = Edit{}
	}
	return c, errors.Join(wrong...)
}

func clean(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return strings.ToValidUTF8(s, "")
}

// set sets one choice by its key in the hash.
func (c *Choice) set(key, value string) error {
	whole := func(dst *int, lo, hi, shift int) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("want %d to %d", lo, hi)
		}
		*dst = n - shift
		return nil
	}
	real := func(dst *float64, lo, hi float64) error {
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(x) || x < lo || x > hi {
			return fmt.Errorf("want %v to %v", lo, hi)
		}
		if x == 0 {
			x = 0 // no −0
		}
		*dst = x
		return nil
	}
	text := func(dst *string, most int) error {
		if len(value) > most {
			return fmt.Errorf("%d bytes; want at most %d", len(value), most)
		}
		*dst = strings.ToValidUTF8(value, "")
		return nil
	}
	switch key {
	case "e":
		return text(&c.Example, 200)
	case "q":
		return text(&c.Question, wire.MaxQuestion)
	case "a":
		return text(&c.Answer, wire.MaxAnswer)
	case "model":
		return text(&c.Model, 200)
	case "k":
		return whole(&c.K, 1, wire.MaxChains, 0)
	case "t", "temperature":
		return real(&c.Temperature, 0, wire.MaxHeat)
	case "top_p":
		return real(&c.TopP, 0, 1)
	case "seed":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || n > wire.MaxSafe {
			return fmt.Errorf("want 0 to %d", uint64(wire.MaxSafe))
		}
		c.Seed = n
	case "len", "max_chain":
		return whole(&c.MaxChain, 1, wire.MaxChain, 0)
	case "mode":
		m, err := reward.ParseMode(value)
		if err != nil {
			return err
		}
		c.Mode = m
	case "clip", "norm":
		on := value == "true"
		if !on && value != "false" {
			return errors.New("want true or false")
		}
		if key == "clip" {
			c.Clip = on
		} else {
			c.Normalize = on
		}
	case "by":
		i := slices.Index(colourNames[:], value)
		if i < 0 {
			return fmt.Errorf("want one of %v", colourNames)
		}
		c.Colour = Colour(i)
	case "z":
		return whole(&c.Chain, 1, wire.MaxChains, 1)
	case "w":
		return whole(&c.Word, 1, 1<<13, 1)
	case "s":
		return whole(&c.Sentence, 1, 1<<13, 1)
	case "off":
		off := uint64(0)
		for _, x := range strings.Split(value, ".") {
			k, err := strconv.Atoi(x)
			if err != nil || k < 1 || k > maxSentences {
				return fmt.Errorf("want sentences from 1 to %d", maxSentences)
			}
			off |= 1 << (k - 1)
		}
		c.Edit.Off = off
	case "say":
		at, said, ok := strings.Cut(value, ".")
		k, err := strconv.Atoi(at)
		said = strings.ToValidUTF8(said, "")
		if !ok || err != nil || k < 1 || k > maxSentences || said == "" || len(said) > maxRewrite {
			return fmt.Errorf("want a sentence from 1 to %d and its text", maxSentences)
		}
		off := c.Edit.Off
		c.Edit = c.Edit.rewrite(k-1, said, false)
		c.Edit.Off = off
	case "read":
		return text(&c.Reader, 200)
	case "slide":
		if value != "new" && value != "same" {
			return errors.New("want same or new")
		}
		c.NewChains = value == "new"
	case "phase":
		return whole(&c.Phase, 0, Phases-1, 0)
	case "fresh":
		return whole(&c.Fresh, 1, wire.MaxChains, 1)
	default:
		return errors.New("unknown")
	}
	return nil
}
