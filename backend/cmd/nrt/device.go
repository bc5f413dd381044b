package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"nrt/backend/cpu"
	"nrt/backend/cuda"
	"nrt/backend/device"
	"nrt/backend/engine"
	"nrt/trainer/run"
)

// cards is what this program can do with CUDA; tests give a command other ones.
type cards struct {
	built bool
	list  func() ([]cuda.Info, error)
	open  func(cuda.Options) (device.Device, error)
	kept  func(d device.Device) int64          // see cuda.Kept
	mark  func(d device.Device, on bool) error // see cuda.Profile
}

// builtCards are those of package cuda, with or without its tag.
var builtCards = cards{cuda.Built, cuda.Devices, cuda.Open, cuda.Kept, cuda.Profile}

// What is missing where no card can be taken.
const (
	withoutCUDA = "this program was built without CUDA; \"make cuda\" builds one with it"
	withoutCard = "the driver finds no card"
)

// deviceFlags choose what a command computes with.
type deviceFlags struct {
	on      choiceFlag
	dtype   typeFlag
	threads int
}

func (d *deviceFlags) bind(f *flags) {
	*d = deviceFlags{on: choiceFlag{device.Auto}, dtype: "auto"}
	f.value(&d.on, "device", "D", "what computes: auto, cpu, cuda or cuda:N\nauto takes a CUDA card where there is one; \"nrt devices\" lists what there is")
	f.value(&d.dtype, "dtype", "T", "what it computes in: auto, f32 or bf16\nauto is f32 on the CPU and bf16 on CUDA; in bf16 the CPU rounds\nwhat matrix products multiply, and is up to twice as fast on AMD's Zen 4 and later")
	f.integer(&d.threads, "threads", "N", "threads to compute with on the CPU; 0 takes all")
}

// choiceFlag is --device.
type choiceFlag struct{ device.Choice }

func (v *choiceFlag) Set(s string) (err error) {
	v.Choice, err = device.ParseChoice(s)
	return err
}

// typeFlag is --dtype.
type typeFlag string

func (v *typeFlag) String() string { return string(*v) }

func (v *typeFlag) Set(s string) error {
	if !slices.Contains(device.Types(), s) {
		return fmt.Errorf("want %s, have %q", strings.Join(device.Types(), ", "), s)
	}
	*v = typeFlag(s)
	return nil
}

// place is an open device, and what is known of it beside.
type place struct {
	device.Device
	kind    string // "cpu" or "cuda"
	dtype   string // "f32" or "bf16"
	ordinal int    // of a CUDA device
	e       *env
}

// compute opens the device that the flags ask for. With auto it says why the CPU
// is taken, if this program could have used a card.
func (e *env) compute(d deviceFlags) (*place, error) {
	if d.threads < 0 || d.threads > run.MaxThreads {
		return nil, usagef("--threads: want 0 to %d, have %d", run.MaxThreads, d.threads)
	}
	if d.on.Name == "cpu" {
		return e.onCPU(d)
	}
	if !e.cards.built {
		if d.on.Name == "cuda" {
			return nil, usagef("--device %s: %s", d.on, withoutCUDA)
		}
		return e.onCPU(d)
	}
	p, err := e.onCard(d)
	if err == nil || d.on.Name == "cuda" {
		return p, err
	}
	p, cpuErr := e.onCPU(d)
	if cpuErr == nil {
		fmt.Fprintf(e.err, "nrt: computing on the CPU: %v\n", err)
	}
	return p, cpuErr
}

// onCPU opens the CPU.
func (e *env) onCPU(d deviceFlags) (*place, error) {
	o, dtype := cpu.Options{Threads: d.threads}, "f32"
	if d.dtype == "bf16" {
		o.Type, dtype = cpu.BFloat16, "bf16"
	}
	dev, err := cpu.New(o)
	if err != nil {
		return nil, err
	}
	return &place{Device: dev, kind: "cpu", dtype: dtype, e: e}, nil
}

// onCard opens a CUDA device. Its errors say what is missing.
func (e *env) onCard(d deviceFlags) (*place, error) {
	fail := func(err error) (*place, error) {
		if d.on.Name == "auto" {
			return nil, err
		}
		return nil, fmt.Errorf("--device %s: %w", d.on, err)
	}
	list, err := e.cards.list()
	switch {
	case err != nil:
		return fail(err)
	case len(list) == 0:
		return fail(errors.New(withoutCard))
	case d.on.Ordinal >= len(list):
		return fail(fmt.Errorf("cards are numbered from 0 on, and there %s", isAre(len(list))))
	}
	info := list[d.on.Ordinal]
	if info.Unusable != "" {
		return fail(fmt.Errorf("%s: %s", info.Name, info.Unusable))
	}
	o := cuda.Options{Ordinal: d.on.Ordinal, Type: cuda.BF16}
	if d.dtype == "f32" {
		o.Type = cuda.F32
	}
	dev, err := e.cards.open(o)
	if err != nil {
		return fail(err)
	}
	return &place{Device: dev, kind: "cuda", dtype: o.Type.String(), ordinal: d.on.Ordinal, e: e}, nil
}

func isAre(n int) string {
	if n == 1 {
		return "is 1"
	}
	return fmt.Sprintf("are %d", n)
}

// room is how many bytes the device may still take; 0 where that is not known. What a
// card has given and got back does not look free, and is ready for the next taker.
func (p *place) room() int64 {
	free := p.free()
	if p.kind == "cuda" && free > 0 {
		free += p.e.cards.kept(p.Device)
	}
	return free
}

// free is how many bytes nobody has taken of the device's memory; 0 where that is not known.
func (p *place) free() int64 {
	if p.kind == "cuda" {
		if list, err := p.e.cards.list(); err == nil && p.ordinal < len(list) {
			return list[p.ordinal].Free
		}
		return 0
	}
	if p.e.free == nil {
		return 0
	}
	return p.e.free()
}

// NewWeights is the device's. The CPU would take what the machine does not have, and the
// system end the program: here it fails like a card.
func (p *place) NewWeights(f device.Format, rows, cols int, read func(first int, dst []float32) error) (device.Weights, error) {
	if p.kind == "cpu" {
		need := f.Bytes(rows, cols)
		lacks := func(free int64) bool { return free > 0 && need > free }
		if lacks(p.free()) {
			debug.FreeOSMemory() // what Go has got back, of other models, say, does not look free before
			if free := p.free(); lacks(free) {
				return nil, fmt.Errorf("weights of %d × %d numbers: %w: they take %s, and %s are free", rows, cols, device.ErrNoMemory, gigabytes(need), gigabytes(free))
			}
		}
	}
	return p.Device.NewWeights(f, rows, cols, read)
}

// engineOptions bound an engine's memory by what is free, half of which may go to keys
// and values: on a card, whose speed is in the width of a batch, all of that half.
func (p *place) engineOptions(free int64) engine.Options {
	const usual = 1 << 30
	switch half := free / 2; {
	case p.kind == "cuda":
		return engine.Options{CacheBytes: max(usual, half*4/p.Bytes(device.Compute, 1))} // it counts four bytes a number
	case half > 0:
		return engine.Options{CacheBytes: min(usual, half)}
	}
	return engine.Options{CacheBytes: usual}
}
