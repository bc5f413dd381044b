package server

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/trainer/reward"
	"nrt/trainer/world"
	"nrt/web/view"
	"nrt/web/wire"
)

// Wanted is a question to save for the page, with its name in the address and a
// title for people.
type Wanted struct {
	Name, Title string
	Ask         wire.Ask
	// Seeds > 1 asks with so many seeds from Ask.Seed on and keeps the group
	// that shows most: rewards far apart, chains that differ, a best one to read.
	Seeds int
}

// Bake asks the first model the questions and returns what a reader would have been
// sent; w knows those of the small world. The models that runs have kept, which are
// among the models, read what the first has written, and the last of the last run is
// asked the questions, too.
func Bake(ctx context.Context, dev device.Device, w *world.World, sources []Source, runs []SavedRun, list []Wanted) ([]view.Example, error) {
	o := Options{Models: sources, Device: dev}
	if err := o.defaults(); err != nil {
		return nil, err
	}
	h, err := newHub(o)
	if err != nil {
		return nil, err
	}
	defer h.close()
	r, err := h.take(ctx, h.find(sources[0].Name))
	if err != nil {
		return nil, err
	}
	defer h.give(r)
	var out []view.Example
	for _, x := range list {
		e, err := bakeOne(ctx, r, w, x)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.Name, err)
		}
		out = append(out, e)
	}
	for _, run := range runs {
		st := run.report().State
		for i := range out {
			out[i].Runs = append(out[i].Runs, st)
		}
		for _, c := range st.Checkpoints {
			if err := bakeRead(ctx, h, c.Model, out); err != nil {
				return nil, fmt.Errorf("%s, step %d: %w", st.Run, c.Step, err)
			}
		}
	}
	if n := len(runs); n > 0 { // the one that the page follows at first
		if err := bakeAnew(ctx, h, w, runs[n-1].State.Checkpoints, out); err != nil {
			return nil, fmt.Errorf("%s: %w", runs[n-1].State.Run, err)
		}
	}
	return out, nil
}

// bakeRead has a model read the examples' chains, those that it neither wrote nor has
// read before.
func bakeRead(ctx context.Context, h *hub, name string, list []view.Example) error {
	m := h.find(name)
	if m == nil {
		return fmt.Errorf("no model %q", name)
	}
	r, err := h.take(ctx, m)
	if err != nil {
		return err
	}
	defer h.give(r)
	for i := range list {
		e := &list[i]
		if e.Ask.Model == name || slices.ContainsFunc(e.Reads, func(x wire.Scored) bool { return x.Model == name }) {
			continue
		}
		ask := e.Reading().Reread(name)
		ask.ID = e.Ask.ID
		answer, err := scored(ctx, ask, r, wire.MaxChain, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		for _, v := range answer.Variants {
			round(v.LogProbs, 1e4)
		}
		e.Reads = append(e.Reads, *answer)
	}
	return nil
}

// bakeAnew puts the examples' questions to the model of a run's last step.
func bakeAnew(ctx context.Context, h *hub, w *world.World, kept []wire.Checkpoint, list []view.Example) error {
	if len(kept) < 2 {
		return nil
	}
	r, err := h.take(ctx, h.find(kept[len(kept)-1].Model))
	if err != nil {
		return err
	}
	defer h.give(r)
	for i := range list {
		ask := list[i].Ask
		ask.Model = r.of.Name
		e, _, err := bakeSeed(ctx, r, w, ask)
		if err != nil {
			return fmt.Errorf("%s: %w", list[i].Name, err)
		}
		for _, t := range e.Frame.Tokens {
			round(t.LogProbs, 1e4)
			round(t.Entropies, 1e4)
		}
		list[i].Anew = append(list[i].Anew, e)
	}
	return nil
}

// round leaves of numbers what a page can show.
func round(list []float64, to float64) {
	for i, x := range list {
		list[i] = math.Round(x*to) / to
	}
}

func bakeOne(ctx context.Context, r *replica, w *world.World, x Wanted) (best view.Example, err error) {
	most := math.Inf(-1)
	for i := range max(1, x.Seeds) {
		ask := x.Ask
		ask.Seed += uint64(i)
		e, spread, err := bakeSeed(ctx, r, w, ask)
		if err != nil {
			return best, err
		}
		if spread > most {
			best, most = e, spread
		}
	}
	best.Name, best.Title = x.Name, x.Title
	if best.Without, err = bakeWithout(ctx, r, &best); err != nil {
		return best, err
	}
	best.Fresh, err = bakeFresh(ctx, r, &best)
	return best, err
}

// bakeWithout scores each chain without each of its sentences.
func bakeWithout(ctx context.Context, r *replica, e *view.Example) (list [][]wire.ScoredVariant, err error) {
	reading := e.Reading()
	for i := range reading.Chains {
		ask := wire.Score{Head: wire.Head{ID: e.Ask.ID}, Model: e.Ask.Model, Question: e.Ask.Question, Answer: e.Ask.Answer, Variants: reading.Without(i)}
		answer := &wire.Scored{Variants: []wire.ScoredVariant{}}
		if len(ask.Variants) > 0 {
			if answer, err = scored(ctx, &ask, r, wire.MaxChain, nil); err != nil {
				return nil, fmt.Errorf("chain %d: %w", i+1, err)
			}
		}
		for _, v := range answer.Variants {
			round(v.LogProbs, 1e6)
		}
		list = append(list, answer.Variants)
	}
	return list, nil
}

// bakeFresh has each chain written afresh from each of its sentences on. Nothing is
// to be asked about the tokens of that, so only their text is kept.
func bakeFresh(ctx context.Context, r *replica, e *view.Example) (list [][][]wire.Fresh, err error) {
	reading := e.Reading()
	for i := range reading.Chains {
		places := reading.Places(i)
		fresh := make([][]wire.Fresh, len(places))
		if len(places) > 0 {
			err := resampled(ctx, reading.Resample(i, places), r, func(m *wire.Resampled) {
				for _, f := range m.Fresh {
					round(f.LogProbs, 1e4)
				}
				for j := range m.Fresh {
					m.Fresh[j].IDs = nil
				}
				fresh[slices.Index(places, m.Cut)] = m.Fresh
			}, func() {})
			if err != nil {
				return nil, fmt.Errorf("chain %d: %w", i+1, err)
			}
		}
		list = append(list, fresh)
	}
	return list, nil
}

// bakeSeed is one group and how much it shows: the deviation of its rewards times
// the share of chains that differ, times the best chain's length as a share of the
// longest: a lucky guess of three words explains nothing.
func bakeSeed(ctx context.Context, r *replica, w *world.World, ask wire.Ask) (view.Example, float64, error) {
	e := view.Example{Ask: ask}
	if _, err := wire.Encode(&ask); err != nil {
		return e, 0, err
	}
	tok, form := r.tok, r.form
	req, err := request(&ask, form, r.model.Config.MaxPositions)
	if err != nil {
		return e, 0, err
	}
	began := time.Now()
	out := &stream{id: ask.ID, tok: tok, form: form, req: &req, every: math.MaxInt64, sent: began, right: r.of.right(w, ask.Question)}
	out.say = func(m wire.Message, _ time.Time) { e.Frame = *m.(*wire.Frame) }
	results, err := r.generate(ctx, []engine.Request{req}, out.event)
	if err != nil {
		return e, 0, err
	}
	out.flush()
	head := wire.Head{V: wire.Version, ID: ask.ID}
	e.Ask.Head, e.Start.Head, e.Frame.Head, e.End.Head = head, head, head, head
	e.Ask.T, e.Start.T, e.Frame.T, e.End.T = "ask", "start", "frame", "end"
	e.Start.Model, e.Start.K, e.Start.Seed = ask.Model, ask.K, ask.Seed
	e.Start.Plain = r.of.plain(w, ask.Question)
	e.Start.Prompt, e.Start.Answer = pieces(tok, req.Prompt), pieces(tok, req.Reference)
	e.End.Seconds = math.Round(1000*time.Since(began).Seconds()) / 1000
	gather(&e.Frame)
	var s [][]float64
	for _, c := range results[0].Chains {
		s = append(s, engine.LogProbsOf(c.Reference))
	}
	g, err := reward.ScoreGroup(s, engine.LogProbsOf(results[0].Baseline), view.DefaultChoice().Options())
	if err != nil {
		return e, 0, err
	}
	if g.AllHarmful {
		return e, -1, nil
	}
	distinct := map[string]bool{}
	for _, c := range results[0].Chains {
		distinct[fmt.Sprint(engine.IDsOf(c.Tokens))] = true
	}
	best, longest := 0, 0
	for k, c := range results[0].Chains {
		longest = max(longest, len(c.Tokens))
		if g.Chains[k].R > g.Chains[best].R {
			best = k
		}
	}
	read := float64(len(results[0].Chains[best].Tokens)) / float64(longest)
	return e, g.Sigma * read * float64(len(distinct)) / float64(len(s)), nil
}

// gather joins the entries of each part of each chain and rounds their numbers
// to what a page can show.
func gather(f *wire.Frame) {
	type key struct {
		chain int
		part  wire.Part
	}
	at := map[key]int{}
	var out []wire.Tokens
	for _, t := range f.Tokens {
		k := key{t.Chain, t.Part}
		i, ok := at[k]
		if !ok {
			at[k] = len(out)
			out = append(out, t)
			continue
		}
		o := &out[i]
		o.IDs, o.Texts = append(o.IDs, t.IDs...), append(o.Texts, t.Texts...)
		o.LogProbs, o.Entropies = append(o.LogProbs, t.LogProbs...), append(o.Entropies, t.Entropies...)
	}
	for i := range out {
		round(out[i].LogProbs, 1e6)
		round(out[i].Entropies, 1e6)
	}
	f.Tokens = out
}
