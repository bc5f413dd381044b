package llama

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"nrt/backend/device"
	"nrt/backend/safetensors"
)

// sink is a device that throws weights away and watches the host's memory.
type sink struct {
	device.Device
	start, peak uint64 // bytes in use: at first, at most
	longest     int    // of a Write
	freed       int
}

type nothing int

func (n nothing) Len() int                                 { return int(n) }
func (n nothing) View(offset, m int) device.Buffer         { return nothing(m) }
func (s *sink) AllocAs(_ device.Kind, n int) device.Buffer { return nothing(n) }
func (s *sink) Free(device.Buffer)                         { s.freed++ }
func (s *sink) Sync() error                                { return nil }

func (s *sink) Write(dst device.Buffer, src []float32) {
	s.longest = max(s.longest, len(src))
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if s.start == 0 {
		s.start = m.HeapAlloc
	}
	s.peak = max(s.peak, m.HeapAlloc)
}

// Loading streams: the host holds a piece of the model at a time, however large a
// tensor is.
func TestLoadStreams(t *testing.T) {
	c := tiny(4, 2, false, 0)
	c.Vocab, c.Hidden, c.HeadDim = 40000, 256, 64 // two tensors of 41 MB
	dir := t.TempDir()
	specs := c.Tensors()
	largest := 0
	for _, s := range specs {
		largest = max(largest, s.Len())
	}
	if largest < 2*piece {
		t.Fatalf("the largest tensor has %d numbers, which is no more than two pieces", largest)
	}
	zeros := make([]float32, largest)
	if err := writeCheckpoint(dir, c, safetensors.BF16, func(i int) ([]float32, error) { return zeros[:specs[i].Len()], nil }, 1<<40); err != nil {
		t.Fatal(err)
	}
	zeros = nil
	var s sink
	var calls, last, all int64
	m, err := Load(&s, os.DirFS(dir), func(done, of int64) error {
		if done <= last {
			t.Errorf("%d bytes after %d", done, last)
		}
		calls, last, all = calls+1, done, of
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.longest != piece {
		t.Errorf("the longest piece has %d numbers, want %d", s.longest, piece)
	}
	if used := s.peak - s.start; used > 4*piece {
		t.Errorf("the host held %d bytes more than at the first piece", used)
	}
	if want := int64(2 * m.NumParams()); all != want || last != all || calls < int64(len(specs)) {
		t.Errorf("told of %d of %d bytes in %d calls, want %d", last, all, calls, want)
	}
	stop := errors.New("stop")
	calls = 0
	if _, err := Load(&s, os.DirFS(dir), func(int64, int64) error {
		if calls++; calls == 2 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || calls != 2 {
		t.Errorf("told to stop: %v, told %d times", err, calls)
	}
	s.freed = 0
	if _, err := NewFrom(&s, c, func(i, from int, dst []float32) error {
		if i == 2 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) || s.freed == 0 {
		t.Errorf("a source that fails: %v, %d buffers freed", err, s.freed)
	}
}

// lost is a device that fails after so many reads, which then leave zeros.
type lost struct {
	device.Device
	left int
}

func (l *lost) Read(dst []float32, src device.Buffer) {
	if l.Device.Read(dst, src); l.left == 0 {
		clear(dst)
		return
	}
	l.left--
}

func (l *lost) Sync() error {
	if l.left == 0 {
		return errLost
	}
	return l.Device.Sync()
}

var errLost = errors.New("the device is lost")

// A model of a device that fails while it is written is not written: what the device
// leaves are no weights.
func TestSaveOfALostDevice(t *testing.T) {
	c := tiny(4, 2, true, 0)
	dev := &lost{Device: newDevice(t, false), left: -1}
	m, err := NewLoRAFrom(dev, c, LoRA{Rank: 2, Alpha: 4, Modules: LoRAModules()}, 1, initial(c, 1))
	if err != nil {
		t.Fatal(err)
	}
	adapter := func(dir string) error { return m.SaveAdapter(dir, "base") }
	whole := func(dir string) error { return m.Save(dir, safetensors.F32) }
	for name, save := range map[string]func(dir string) error{"model": whole, "adapter": adapter} {
		dir := t.TempDir()
		if err := save(dir); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, map[string]string{"model": weightsFile, "adapter": AdapterWeights}[name])
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for reads := range 2 * len(m.Learned()) {
			dev.left = reads
			err := save(dir)
			enough := dev.left > 0
			dev.left = -1
			if enough {
				break
			}
			if !errors.Is(err, errLost) {
				t.Errorf("%s: a device lost after %d reads: have %v", name, reads, err)
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
				t.Errorf("%s: a device lost after %d reads: the file has changed, %v", name, reads, err)
			}
		}
	}
}
