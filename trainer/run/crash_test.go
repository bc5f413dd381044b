package run

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var errCrash = errors.New("the machine has stopped")

// quickDisk flushes nothing: thousands of runs would wait for the real disk.
type quickDisk struct{ osDisk }

func (quickDisk) SyncFile(string) error { return nil }
func (quickDisk) SyncDir(string) error  { return nil }

func (d quickDisk) Create(path string) (diskFile, error) {
	f, err := d.osDisk.Create(path)
	return quickFile{f}, err
}

type quickFile struct{ diskFile }

func (quickFile) Sync() error { return nil }

// crashDisk is a disk whose machine stops at the n-th change, which is not made
// or half made. Afterwards cut can play a power cut.
type crashDisk struct {
	quickDisk
	left   int    // changes until the stop
	half   bool   // the last change is half made, otherwise not at all
	halves []bool // of each change: whether there is such a thing as half of it

	dirty   map[string]bool // files written but not flushed
	renamed [][2]string     // renames whose folder is not flushed, oldest first
}

func newCrashDisk(n int, half bool) *crashDisk {
	return &crashDisk{left: n, half: half, dirty: map[string]bool{}}
}

// change makes one change, or stops the machine. half may be nil.
func (d *crashDisk) change(whole, half func() error) error {
	d.halves = append(d.halves, half != nil)
	d.left--
	switch {
	case d.left > 0:
		return whole()
	case d.left == 0 && d.half && half != nil:
		return errors.Join(half(), errCrash)
	}
	return errCrash
}

func (d *crashDisk) MkdirAll(path string) error {
	return d.change(func() error { return d.quickDisk.MkdirAll(path) }, nil)
}

func (d *crashDisk) Create(path string) (f diskFile, err error) {
	err = d.change(func() error {
		inner, err := d.quickDisk.Create(path)
		d.dirty[path] = true
		f = &crashFile{d, path, inner}
		return err
	}, nil)
	return f, err
}

func (d *crashDisk) Rename(old, new string) error {
	return d.change(func() error {
		if err := d.quickDisk.Rename(old, new); err != nil {
			return err
		}
		d.renamed = append(d.renamed, [2]string{old, new})
		for path := range d.dirty {
			if rest, ok := strings.CutPrefix(path, old); ok && (rest == "" || rest[0] == filepath.Separator) {
				delete(d.dirty, path)
				d.dirty[new+rest] = true
			}
		}
		return nil
	}, nil)
}

func (d *crashDisk) RemoveAll(path string) error {
	return d.change(func() error { return d.quickDisk.RemoveAll(path) }, func() error {
		entries, err := os.ReadDir(path)
		if err != nil || len(entries) == 0 {
			return nil
		}
		return d.quickDisk.RemoveAll(filepath.Join(path, entries[len(entries)/2].Name()))
	})
}

func (d *crashDisk) SyncFile(path string) error {
	return d.change(func() error { delete(d.dirty, path); return nil }, nil)
}

func (d *crashDisk) SyncDir(path string) error {
	return d.change(func() error {
		kept := d.renamed[:0]
		for _, r := range d.renamed {
			if filepath.Dir(r[1]) != path {
				kept = append(kept, r)
			}
		}
		d.renamed = kept
		return nil
	}, nil)
}

type crashFile struct {
	d    *crashDisk
	path string
	diskFile
}

func (f *crashFile) Write(p []byte) (n int, err error) {
	err = f.d.change(
		func() error { n, err = f.diskFile.Write(p); return err },
		func() error { n, err = f.diskFile.Write(p[:len(p)/2]); return err })
	return n, err
}

func (f *crashFile) Sync() error {
	return f.d.change(func() error { delete(f.d.dirty, f.path); return nil }, nil)
}

// cut plays what a power cut may do on top: half of what was not flushed is
// gone, and the last `lost` renames never happened.
func (d *crashDisk) cut(t *testing.T, lost int) {
	t.Helper()
	for path := range d.dirty {
		info, err := os.Stat(path)
		if err != nil {
			continue // its folder is gone
		}
		if err := os.Truncate(path, info.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
	for i := len(d.renamed) - 1; i >= 0 && lost > 0; i, lost = i-1, lost-1 {
		old, new := d.renamed[i][0], d.renamed[i][1]
		if _, err := os.Stat(new); err != nil {
			continue
		}
		if err := os.Rename(new, old); err != nil {
			t.Fatal(err)
		}
	}
}

// A run that saves, keeps one and the best, replaces a checkpoint and rewinds is
// stopped at every change it makes to the disk. Whatever is there under the name
// of a checkpoint afterwards is whole, and the last one saved is there.
func TestCrashAnywhere(t *testing.T) {
	type result struct {
		saved int // the last step whose Save has returned
		floor int // the step that a Rewind in progress goes back to, or −1
	}
	life := func(dir string, d *crashDisk) (r result, err error) {
		r.saved, r.floor = -1, -1
		c, err := openCheckpoints(d, dir, 1)
		if err != nil {
			return r, err
		}
		for _, step := range []int{1, 2, 3, 3} {
			p := parts(d, step)
			if step >= 2 {
				p.State.Best = &Best{Step: 2}
			}
			if _, err := c.Save(p); err != nil {
				return r, err
			}
			r.saved = step
		}
		r.floor = 2
		if _, err := c.Rewind(2); err != nil {
			return r, err
		}
		r.saved = 2
		if _, err := c.Save(parts(d, 3)); err != nil {
			return r, err
		}
		r.saved, r.floor = 3, -1
		return r, nil
	}

	dir := t.TempDir()
	whole := newCrashDisk(1<<30, false)
	if _, err := life(filepath.Join(dir, "whole"), whole); err != nil {
		t.Fatal(err)
	}
	if len(whole.halves) < 80 {
		t.Fatalf("only %d changes: the test does not see the disk", len(whole.halves))
	}
	stop := func(n int, half bool, lost int) (pending int) {
		name := fmt.Sprintf("stop at change %d, half made %v, %d renames lost", n, half, lost)
		out := filepath.Join(dir, fmt.Sprintf("%d-%v-%d", n, half, lost))
		d := newCrashDisk(n, half)
		r, err := life(out, d)
		if !errors.Is(err, errCrash) {
			t.Fatalf("%s: %v", name, err)
		}
		pending = len(d.renamed)
		d.cut(t, lost)
		checkAfterCrash(t, name, out, r.saved, r.floor)
		return pending
	}
	for i, halves := range whole.halves {
		pending := stop(i+1, false, 0)
		for lost := 1; lost <= pending; lost++ {
			stop(i+1, false, lost)
		}
		for lost := 0; halves && lost <= pending; lost++ {
			stop(i+1, true, lost)
		}
	}
}

func checkAfterCrash(t *testing.T, name, dir string, saved, floor int) {
	t.Helper()
	c, err := openCheckpoints(quickDisk{}, dir, 1)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	list := steps(t, c)
	for _, s := range list {
		k, err := OpenCheckpoint(t.Context(), c.Path(s))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f, err := os.ReadFile(filepath.Join(k.Path, optimizerFile))
		if err != nil || string(f) != fmt.Sprintf("moments of %d", s) || k.State.Step != s {
			t.Fatalf("%s: checkpoint-%d holds %q: %v", name, s, f, err)
		}
	}
	least := saved
	if floor >= 0 {
		least = floor
	}
	if least >= 0 && (len(list) == 0 || list[len(list)-1] < least) {
		t.Fatalf("%s: checkpoint-%d had been saved; left are %v", name, least, list)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tmpEnd) || strings.HasSuffix(e.Name(), oldEnd) {
			t.Fatalf("%s: leftover %s", name, e.Name())
		}
	}
	// And the run goes on.
	save(t, c, parts(quickDisk{}, 5))
	if k, err := c.Latest(t.Context()); err != nil || k.State.Step != 5 {
		t.Fatalf("%s: going on: %v", name, err)
	}
}

// Stopped while the log is cut for a resume, the log has its old or its new
// content, and the next resume gives the right one.
func TestCrashCuttingLog(t *testing.T) {
	const before = "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n{\"st"
	const after = "{\"step\": 1}\n{\"step\": 2}\n"
	for n := 1; ; n++ {
		for _, half := range []bool{false, true} {
			path := filepath.Join(t.TempDir(), "metrics.jsonl")
			if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
				t.Fatal(err)
			}
			d := newCrashDisk(n, half)
			err := cutLines(d, path, 2)
			d.cut(t, 0)
			got, readErr := os.ReadFile(path)
			if err == nil {
				if string(got) != after || readErr != nil {
					t.Fatalf("have %q, %v", got, readErr)
				}
				return // n is past the last change
			}
			if s := string(got); s != before && s != after {
				t.Fatalf("stop at change %d, half made %v: have %q", n, half, s)
			}
			if err := cutLines(osDisk{}, path, 2); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, []byte(after)) {
				t.Fatalf("stop at change %d, half made %v, again: %q, %v", n, half, got, err)
			}
		}
	}
}
