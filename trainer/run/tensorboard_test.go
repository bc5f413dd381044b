package run

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"nrt/trainer/objective"
)

// point is a number on a curve.
type point struct {
	step  int
	value float32
}

// curves reads a folder's event files in the order of their names, as TensorBoard does: a
// session that starts at a step takes back what was said of it and later ones.
func curves(t *testing.T, folder string) map[string][]point {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*tfevents*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%v: %v", names, err)
	}
	all := map[string][]point{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			n := binary.LittleEndian.Uint64(b)
			content := b[12 : 12+n]
			masked := func(part []byte) uint32 {
				c := crc32.Checksum(part, crc32.MakeTable(crc32.Castagnoli))
				return (c>>15 | c<<17) + 0xa282ead8
			}
			if masked(b[:8]) != binary.LittleEndian.Uint32(b[8:]) || masked(content) != binary.LittleEndian.Uint32(b[12+n:]) {
				t.Fatalf("%s: checksum", name)
			}
			event := wireFields(t, content)
			step := 0
			for _, x := range event[2] {
				step = int(x.number)
			}
			if s := event[1]; len(s) != 1 || math.Float64frombits(s[0].number) < 1e9 {
				t.Fatalf("%s: wall time %v", name, s)
			}
			for _, log := range event[7] {
				if s := wireFields(t, log.bytes)[1]; len(s) != 1 || s[0].number != 1 {
					t.Fatalf("%s: session log %v", name, s)
				}
				for tag, c := range all {
					for i, p := range c {
						if p.step >= step {
							all[tag] = c[:i]
							break
						}
					}
				}
			}
			for _, summary := range event[5] {
				for _, v := range wireFields(t, summary.bytes)[1] {
					f := wireFields(t, v.bytes)
					tag := string(f[1][0].bytes)
					all[tag] = append(all[tag], point{step, math.Float32frombits(uint32(f[2][0].number))})
				}
			}
			b = b[16+n:]
		}
	}
	return all
}

type wireField struct {
	number uint64
	bytes  []byte
}

// wireFields are those of a message, by their numbers.
func wireFields(t *testing.T, b []byte) map[protowire.Number][]wireField {
	t.Helper()
	all := map[protowire.Number][]wireField{}
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		var f wireField
		switch kind {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.number, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var x uint32
			x, n = protowire.ConsumeFixed32(b)
			f.number = uint64(x)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			t.Fatalf("field %d of wire type %d", num, kind)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		all[num] = append(all[num], f)
		b = b[n:]
	}
	return all
}

// sameCurves compares TensorBoard's curves with metrics.jsonl.
func sameCurves(t *testing.T, dir string) {
	t.Helper()
	want := map[string][]point{}
	metrics, err := ReadMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range metrics {
		step := int(v["step"])
		for name, x := range v {
			if name == "step" {
				continue
			}
			if !strings.HasPrefix(name, "eval/") {
				name = "train/" + name
			}
			want[name] = append(want[name], point{step, float32(x)})
		}
	}
	have := curves(t, filepath.Join(dir, boardDir))
	for name, c := range have {
		if len(want[name]) != len(c) {
			t.Fatalf("%s: %v, want %v", name, c, want[name])
		}
		for i, p := range c {
			w := want[name][i]
			if p.step != w.step || p.value != w.value && !(p.value != p.value && w.value != w.value) {
				t.Errorf("%s: %v, want %v", name, p, w)
			}
		}
	}
	if len(want) == 0 || len(have) != len(want) {
		t.Errorf("%d curves, want %d", len(have), len(want))
	}
}

// TensorBoard shows what metrics.jsonl says: of a run that is stopped, loses steps and goes
// on, and of one that begins to write for it in its middle.
func TestTensorBoard(t *testing.T) {
	dev := newCPU(t)
	for _, late := range []bool{false, true} {
		c := tinyRun(t, objective.NRT)
		c.Output.TensorBoard = !late
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		if !late {
			sameCurves(t, c.Output.Dir)
		}
		for _, gone := range []string{"checkpoint-7", "checkpoint-6", "final"} {
			if err := os.RemoveAll(filepath.Join(c.Output.Dir, gone)); err != nil {
				t.Fatal(err)
			}
		}
		c.Output.TensorBoard, c.Output.Resume = true, "latest"
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		sameCurves(t, c.Output.Dir)
		names, err := os.ReadDir(filepath.Join(c.Output.Dir, boardDir))
		if want := map[bool]int{false: 2, true: 1}[late]; err != nil || len(names) != want {
			t.Errorf("%v, %v, want %d", names, err, want)
		}
	}
}

// Steps that were made without TensorBoard are shown once it is wanted again.
func TestTensorBoardBetween(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.NRT)
	c.Optim.Schedule = "constant" // a run that may be made longer
	for _, part := range []struct {
		steps int
		on    bool
	}{{3, true}, {5, false}, {7, true}} {
		c.Train.Steps, c.Output.TensorBoard = part.steps, part.on
		if err := train(context.Background(), dev, c, io.Discard); err != nil {
			t.Fatal(err)
		}
		c.Output.Resume = "latest"
	}
	sameCurves(t, c.Output.Dir)
}

// The curves of a run that left no checkpoint are not taken for those of the one that
// begins in its folder, and are kept as its other logs are.
func TestTensorBoardAside(t *testing.T) {
	dev := newCPU(t)
	c := tinyRun(t, objective.NRT)
	c.Output.TensorBoard = true
	if err := train(context.Background(), dev, c, io.Discard); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(c.Output.Dir, boardDir)
	was := curves(t, folder)
	for _, pattern := range []string{"checkpoint-*", "final"} {
		names, err := filepath.Glob(filepath.Join(c.Output.Dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Train.Steps, c.Output.TensorBoard = 3, false
	var log strings.Builder
	if err := train(context.Background(), dev, c, &log); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", folder, err)
	}
	if kept := curves(t, folder+asideEnd); !reflect.DeepEqual(kept, was) || !strings.Contains(log.String(), folder+asideEnd) {
		t.Errorf("set aside: %v, want %v\n%s", kept, was, log.String())
	}
}

// A run that goes on writes the last file, whatever the clock says, as one that is set right
// or another machine's does.
func TestTensorBoardClock(t *testing.T) {
	dir := t.TempDir()
	for step, seconds := range []int64{1700000000, 1700000000, 1600000000, 1700000001, 1800000000} {
		b, err := openBoard(osDisk{}, dir, step-1, false, func() time.Time { return time.Unix(seconds, 0) })
		if err != nil {
			t.Fatal(err)
		}
		for s := step; s < 5; s++ { // later ones are done again
			if err := b.Log(s, Values{"loss": float64(step)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	have := curves(t, filepath.Join(dir, boardDir))["train/loss"]
	if want := []point{{0, 0}, {1, 1}, {2, 2}, {3, 3}, {4, 4}}; !reflect.DeepEqual(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

// The first bytes are those of every event file: length, its checksum as TensorFlow's
// writers make it, and the time's tag.
func TestTensorBoardHeader(t *testing.T) {
	dir := t.TempDir()
	b, err := openBoard(osDisk{}, dir, -1, false, func() time.Time { return time.Unix(1700000000, 5e8) })
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Log(3, Values{"loss": math.NaN(), "eval/accuracy": 0.5}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(dir, boardDir, "events.out.tfevents.1700000000.nrt"))
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 0x09}
	if !bytes.HasPrefix(have, want) || !bytes.Contains(have, []byte("\x1a\x0dbrain.Event:2")) {
		t.Errorf("have % x", have[:min(len(have), 48)])
	}
	all := curves(t, filepath.Join(dir, boardDir))
	if p := all["train/loss"]; len(p) != 1 || p[0].step != 3 || p[0].value == p[0].value {
		t.Errorf("loss: %v", p)
	}
	if p := all["eval/accuracy"]; len(p) != 1 || p[0].value != 0.5 {
		t.Errorf("accuracy: %v", p)
	}

	// A file in the folder's place is an error, and named.
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, boardDir), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openBoard(osDisk{}, other, -1, false, time.Now); err == nil || !strings.Contains(err.Error(), filepath.Join(other, boardDir)) {
		t.Errorf("a file in the way: %v", err)
	}
}
