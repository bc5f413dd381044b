package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"nrt/backend/device"
	"nrt/backend/llama"
)

// TestMemory: Memory is what a Generate takes, More what is not there yet, and a
// cache larger than the budget does not stay.
func TestMemory(t *testing.T) {
	m := newModel(t, false)
	with := func(change func(*Request)) Request {
		r := request(3, 4)
		r.Stop, r.Close, r.StopText = nil, nil, ""
		change(&r)
		return r
	}
	long := with(func(r *Request) { r.Prompt = make([]int32, 40) })
	for name, c := range map[string]struct {
		o    Options
		reqs []Request
	}{
		"one":    {Options{}, []Request{with(func(*Request) {})}},
		"some":   {Options{}, []Request{with(func(*Request) {}), long}},
		"pieces": {Options{BatchRows: 8}, []Request{long}},
		"given":  {Options{}, []Request{with(func(r *Request) { r.Forced = [][]int32{{1, 2, 3}, {4}}; r.MaxAnswer = 0 })}},
		"answers": {Options{}, []Request{with(func(r *Request) {
			r.Forced, r.Reference, r.Baseline, r.MaxAnswer = [][]int32{{1, 2, 3}, {4}}, nil, false, 4
		})}},
	} {
		e := New(m, nil, c.o)
		said := Memory(m.Config, c.o, c.reqs...)
		if more := e.More(c.reqs...); more != said {
			t.Errorf("%s: nothing is held, and %v more are wanted, not %v", name, more, said)
		}
		generate(t, e, c.reqs, nil)
		// No step need be as large as one may be; the cache's rows are what they are.
		held := e.cache.Floats()
		if held.Compute > said.Compute || held.Wide > said.Wide {
			t.Errorf("%s: %v are held, Memory says %v", name, held, said)
		}
		perRow := 2 * m.Config.Layers * m.Config.KVHeads * m.Config.HeadDim
		if rows := perRow * e.cache.Rows(); held.Compute < rows || said.Compute < rows {
			t.Errorf("%s: held %v, said %v, %d of them cache", name, held, said, rows)
		}
		if more := e.More(c.reqs...); more.Compute != said.Compute-held.Compute || more.Wide != said.Wide-held.Wide {
			t.Errorf("%s: of %v there are %v, and %v more are wanted", name, said, held, more)
		}
		e.Close()
	}

	e := New(m, nil, Options{CacheBytes: 1 << 12})
	defer e.Close()
	generate(t, e, []Request{long}, nil)
	if e.cache != nil {
		t.Errorf("a cache of %d tokens stays, where the budget holds %d", e.cache.Rows(), CacheRows(m.Config, e.opts, 1<<20, 0))
	}
	if _, err := e.LogProbs(context.Background(), long.Prompt, 0); err != nil || e.cache != nil {
		t.Errorf("after a long text: error %v, cache %v", err, e.cache != nil)
	}
}

// cramped is a device that has no memory for caches while it is told so.
type cramped struct {
	device.Device
	full bool
}

func (d *cramped) Reserve(k device.Kind, n int) (device.Buffer, error) {
	if d.full {
		return nil, fmt.Errorf("cramped: %w", device.ErrNoMemory)
	}
	return d.Device.Reserve(k, n)
}

// TestWithoutMemory: a lack of memory ends what is asked before any token is known, and
// the engine answers again once there is some.
func TestWithoutMemory(t *testing.T) {
	of := newModel(t, false)
	dev := &cramped{Device: of.Device()}
	m, err := llama.New(dev, of.Config, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	e := New(m, nil, Options{})
	defer e.Close()
	r := request(1, 3)
	small := r
	small.N, small.MaxChain = 1, 2
	want := generate(t, e, []Request{r}, nil)
	e.Close()
	for range 2 {
		generate(t, e, []Request{small}, nil) // which leaves a cache that is too small
		dev.full = true
		if _, err := e.Generate(context.Background(), []Request{r}, func(Event) { t.Error("a token became known") }); !errors.Is(err, device.ErrNoMemory) {
			t.Errorf("Generate: %v", err)
		}
		if _, err := e.LogProbs(context.Background(), []int32{1, 2, 3}, 2); !errors.Is(err, device.ErrNoMemory) {
			t.Errorf("LogProbs: %v", err)
		}
		dev.full = false
		if have := generate(t, e, []Request{r}, nil); !reflect.DeepEqual(have, want) {
			t.Error("afterwards the answer is another one")
		}
		e.Close()
	}
}
