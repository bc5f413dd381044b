package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// With --profile a line has two runs that warm up (in the second one the device
// records its graphs) and a third that is marked. profiledLayers are those of the
// training step, which show every kernel; profiledTokens are sampled where two
// steps in the middle, from the token profiledFrom on, are marked.
const (
	profiledRuns   = 3
	profiledLayers = 2
	profiledTokens = 12
	profiledFrom   = 6
)

// checkProfile refuses what --profile cannot mark.
func (o *benchOptions) checkProfile() error {
	if !o.profile {
		return nil
	}
	if o.model != "" {
		return usagef("--profile and --model: want a --shape, whose layers can be fewer")
	}
	var names []string
	for _, p := range benchParts {
		if p.marked {
			names = append(names, p.name)
		}
	}
	for _, p := range o.only {
		if !slices.Contains(names, p) {
			return usagef("--profile: want --only of %s, have %q", strings.Join(names, ","), p)
		}
	}
	return nil
}

// widths reads --at.
func widths(s string) ([]int, error) {
	var list []int
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > maxWidth {
			return nil, usagef("--at: want numbers of 1 to %d, have %q", maxWidth, word)
		}
		list = append(list, n)
	}
	return list, nil
}

// maxWidth is more sequences than any card decodes at once.
const maxWidth = 1 << 16

// mark begins or ends what a profiler looks at.
func (b *bench) mark(on bool) error { return b.e.cards.mark(b.dev.Device, on) }

// marked is run, of which --profile marks the last one as a whole.
func (b *bench) marked(run func() (float64, error)) func() (float64, error) {
	if !b.o.profile {
		return run
	}
	runs := 0
	return func() (float64, error) {
		if runs++; runs != profiledRuns {
			return run()
		}
		if err := b.mark(true); err != nil {
			return 0, err
		}
		seconds, err := run()
		return seconds, errors.Join(err, b.mark(false))
	}
}

// shallow makes the model of the parts to come one of few layers, for --profile;
// whole takes it back.
func (b *bench) shallow() (whole func()) {
	all := b.config
	b.config.Layers = min(all.Layers, profiledLayers)
	return func() {
		b.config = all
		if b.model != nil {
			b.model.Free()
			b.model = nil
		}
	}
}
