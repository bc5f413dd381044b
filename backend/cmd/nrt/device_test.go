package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"nrt/backend/cpu"
	"nrt/backend/cuda"
	"nrt/backend/device"
	"nrt/backend/server"
)

// fakeCards are cards that compute on the CPU; opened gets what was asked for.
func fakeCards(opened *[]cuda.Options, list ...cuda.Info) cards {
	return cards{
		built: true,
		list:  func() ([]cuda.Info, error) { return list, nil },
		open: func(o cuda.Options) (device.Device, error) {
			*opened = append(*opened, o)
			return cpu.New(cpu.Options{Threads: 1})
		},
		kept: func(device.Device) int64 { return 0 },
		mark: func(device.Device, bool) error { return nil },
	}
}

var aCard = cuda.Info{
	Name: "Card 9000", Major: 9, Total: 150e9, Free: 140e9, Driver: 13000,
	Library: "/usr/lib/libcuda.so.1", CuBLAS: "/usr/lib/libcublas.so.13",
}

func TestDeviceFlag(t *testing.T) {
	dir := wordModel(t)
	second := aCard
	second.Ordinal = 1
	old := aCard
	old.Unusable = "compute capability 3.5 is below 8.0"
	broken := cards{built: true, list: func() ([]cuda.Info, error) { return nil, errors.New("libcuda.so.1: not found") }}
	for _, c := range []struct {
		name, args string
		cards      cards
		list       []cuda.Info
		code       int
		errs       string // of standard error; "" is silence
		opens      []cuda.Options
	}{
		{name: "no CUDA in the program", code: exitOK},
		{name: "nor asked for", args: "--device cpu", code: exitOK},
		{name: "asked for", args: "--device cuda", code: exitUsage, errs: "--device cuda: this program was built without CUDA; \"make cuda\" builds one with it"},
		{name: "bf16 without a card", args: "--dtype bf16", code: exitOK},
		{name: "bf16 on the CPU", args: "--dtype bf16 --device cpu", list: []cuda.Info{aCard}, code: exitOK},
		{name: "auto", list: []cuda.Info{aCard}, code: exitOK, opens: []cuda.Options{{}}},
		{name: "f32", args: "--dtype f32 --device cuda", list: []cuda.Info{aCard}, code: exitOK, opens: []cuda.Options{{Type: cuda.F32}}},
		{name: "second", args: "--device cuda:1", list: []cuda.Info{aCard, second}, code: exitOK, opens: []cuda.Options{{Ordinal: 1}}},
		{name: "third of two", args: "--device cuda:2", list: []cuda.Info{aCard, second}, code: exitFailure, errs: "cards are numbered from 0 on, and there are 2"},
		{name: "unusable", args: "--device cuda", list: []cuda.Info{old}, code: exitFailure, errs: "--device cuda: Card 9000: compute capability 3.5"},
		{name: "unusable, so the CPU", list: []cuda.Info{old}, code: exitOK, errs: "nrt: computing on the CPU: Card 9000: compute capability 3.5 is below 8.0\n"},
		{name: "no driver", args: "--device cuda:0", cards: broken, code: exitFailure, errs: "--device cuda: libcuda.so.1: not found"},
		{name: "no driver, so the CPU", cards: broken, code: exitOK, errs: "nrt: computing on the CPU: libcuda.so.1: not found\n"},
		{name: "the CPU is wanted", args: "--device cpu", cards: broken, code: exitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			var opened []cuda.Options
			s := setting{cards: c.cards}
			if c.list != nil {
				s.cards = fakeCards(&opened, c.list...)
			}
			code, _, errs := s.nrt(t, append([]string{"logprobs", "--ids", "1,2", "--model", dir}, strings.Fields(c.args)...)...)
			if code != c.code || !strings.Contains(errs, c.errs) || c.errs == "" && errs != "" {
				t.Errorf("exit %d, %q; want %d, %q", code, errs, c.code, c.errs)
			}
			if len(opened) != len(c.opens) || len(opened) > 0 && opened[0] != c.opens[0] {
				t.Errorf("opened %+v, want %+v", opened, c.opens)
			}
		})
	}
}

// TestResumeOnItsCard: a run goes on on the card that it was on, or on the one that is
// named by then.
func TestResumeOnItsCard(t *testing.T) {
	second := aCard
	second.Ordinal = 1
	var opened []cuda.Options
	s := setting{cards: fakeCards(&opened, aCard, second)}
	in, out := filepath.Join(t.TempDir(), "in.jsonl"), filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(in, []byte(`{"question": "who is ann ?", "answer": "it is bob ."}`), 0o644); err != nil {
		t.Fatal(err)
	}
	s.ok(t, "train", "--method", "sft", "--model", wordModel(t), "--data", in, "--questions", "1", "--schedule", "constant", "--steps", "1", "--device", "cuda:1", "--output", out)
	s.ok(t, "train", "--output", out, "--resume", "--steps", "2")
	s.ok(t, "train", "--output", out, "--resume", "--steps", "3", "--device", "cuda")
	if len(opened) != 3 || opened[0].Ordinal != 1 || opened[1].Ordinal != 1 || opened[2].Ordinal != 0 {
		t.Errorf("opened %+v", opened)
	}
	if code, _, errs := s.nrt(t, "train", "--output", out, "--resume", "--device", "cpu"); code != exitFailure || !strings.Contains(errs, "train.device (--device): \"cpu\", was \"cuda\"") {
		t.Errorf("exit %d, %s", code, errs)
	}
}

func TestDevices(t *testing.T) {
	plain := setting{free: 8e9}.ok(t, "devices")
	for _, want := range []string{"cpu ", "8.0 GB free", "cuda    none: this program was built without CUDA", "--device auto takes cpu."} {
		if !strings.Contains(plain, want) {
			t.Errorf("%q is missing in\n%s", want, plain)
		}
	}
	var opened []cuda.Options
	bare := aCard
	bare.Ordinal, bare.CuBLAS, bare.NoCuBLAS = 1, "", "tried libcublas.so.13"
	s := setting{free: 8e9, cards: fakeCards(&opened, aCard, bare)}
	out := s.ok(t, "devices")
	_, out, _ = strings.Cut(out, "\n") // the processor differs
	golden(t, "devices.txt", out)
	var d deviceList
	if err := json.Unmarshal([]byte(s.ok(t, "devices", "--json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.Auto != "cuda" || len(d.CUDA.Cards) != 2 || d.CUDA.Cards[0].Capability != "9.0" || d.CUDA.Cards[1].Device != "cuda:1" || d.CPU.Free != 8e9 || d.CPU.BF16 != cpu.FastBF16() {
		t.Errorf("%+v", d)
	}
	s.cards.list = func() ([]cuda.Info, error) { return nil, errors.New("no driver") }
	if out := s.ok(t, "devices"); !strings.Contains(out, "cuda    none: no driver") || len(opened) > 0 {
		t.Errorf("%s, opened %v", out, opened)
	}
}

// What is free is asked of the device that computes.
func TestFreeOfTheDevice(t *testing.T) {
	var opened []cuda.Options
	card := aCard
	card.Free = 1 << 20
	dir := wordModel(t)
	args := []string{"generate", "--prompt", "who", "--n", "512", "--model", dir}
	s := setting{free: 1 << 40, cards: fakeCards(&opened, card)}
	if code, _, errs := s.nrt(t, args...); code != exitFailure || !strings.Contains(errs, "0.0 GB are free") {
		t.Errorf("exit %d, %q", code, errs)
	}
	s.ok(t, append(args, "--device", "cpu")...)
}

// On the CPU weights are refused where the machine has no memory for them, which what Go
// has got back does not count as.
func TestWeightsNeedMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	mapped := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapSys - m.HeapReleased)
	}
	free := func() int64 { return 0 } // not known
	p, err := (&env{free: func() int64 { return free() }}).onCPU(deviceFlags{threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	try := func() error {
		w, err := p.NewWeights(device.F32, 64, 32, func(int, []float32) error { return nil })
		if err == nil {
			p.Free(w)
		}
		return err
	}
	if err := try(); err != nil {
		t.Error(err)
	}
	free = func() int64 { return 4 * 64 * 32 }
	if err := try(); err != nil {
		t.Error(err)
	}
	free = func() int64 { return 4*64*32 - 1 }
	if err := try(); !errors.Is(err, device.ErrNoMemory) {
		t.Errorf("have %v", err)
	}
	left := make([]byte, 1<<30)
	all := mapped()
	runtime.KeepAlive(left)
	free = func() int64 { return max(1, all-mapped()) }
	if err := try(); err != nil {
		t.Error(err)
	}
}

// What a card has given and got back is room for readers and for training, though nobody
// else may have it.
func TestRoomToServe(t *testing.T) {
	var opened []cuda.Options
	card := aCard
	card.Free = 3 << 30
	e := &env{ctx: t.Context(), cards: fakeCards(&opened, card)}
	e.cards.kept = func(device.Device) int64 { return 5 << 30 }
	var o server.Options
	closeAll, err := (&serveFlags{on: deviceFlags{on: choiceFlag{device.Choice{Name: "cuda"}}, dtype: "auto"}}).devices(e, &o)
	if err != nil {
		t.Fatal(err)
	}
	if o.Free() != 8<<30 || o.Train.Free() != 8<<30 {
		t.Errorf("%d bytes for readers and %d for training, want 8 GiB", o.Free(), o.Train.Free())
	}
	if err := closeAll(); err != nil {
		t.Error(err)
	}
}
