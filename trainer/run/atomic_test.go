package run

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestTriedFolderIsGone: a folder that could be written into is left as it was, and so
// is one that could not.
func TestTriedFolderIsGone(t *testing.T) {
	root := t.TempDir()
	there, file := filepath.Join(root, "there"), filepath.Join(root, "file")
	if err := errors.Join(os.Mkdir(there, 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{
		there:                          "",
		filepath.Join(there, "a", "b"): "",
		file:                           file + " is a file, want a folder",
		filepath.Join(file, "a"):       file + " is a file, want a folder",
		filepath.Join(there, strings.Repeat("x", 300)):      "cannot be made",
		filepath.Join(there, "a", strings.Repeat("x", 300)): "cannot be made",
	}
	if link := filepath.Join(root, "link"); os.Symlink("nowhere", link) == nil {
		paths[filepath.Join(link, "a")] = link + " cannot be made"
	}
	for path, want := range paths {
		if err := WritableDir(path); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if inside, err := os.ReadDir(there); err != nil || len(inside) > 0 {
		t.Errorf("left %v, %v", inside, err)
	}
	undo, err := MakeDirs(filepath.Join(there, "a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(there, "a", "kept"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	undo()
	if inside, err := os.ReadDir(filepath.Join(there, "a")); err != nil || len(inside) != 1 || inside[0].Name() != "kept" {
		t.Errorf("left %v, %v", inside, err)
	}
}

// TestFoldersTriedAtOnce: runs that begin at the same time in folders of one that is not
// there yet do not disturb each other.
func TestFoldersTriedAtOnce(t *testing.T) {
	root := t.TempDir()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				if err := WritableDir(filepath.Join(root, "new", "out", strconv.Itoa(i))); err != nil {
					t.Error(err)
				}
			}
			for range 50 {
				if _, err := MakeDirs(filepath.Join(root, "made", strconv.Itoa(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestErrorsNameTheFile that was asked for, not the one beside it that is written first.
func TestErrorsNameTheFile(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "folder")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	none, full := filepath.Join(root, "none", "x.json"), errors.New("no space left")
	for _, err := range []error{
		Writable(none), WriteFile(none, nil), WriteFile(folder, nil),
		WriteTo(filepath.Join(root, "x.json"), func(io.Writer) error {
			return &fs.PathError{Op: "write", Path: filepath.Join(root, "x.json.tmp"), Err: full}
		}),
	} {
		if err == nil || strings.Contains(err.Error(), ".tmp") || !strings.Contains(err.Error(), root) {
			t.Errorf("have %v", err)
		}
	}
	if err := WriteFile(none, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is no fs.ErrNotExist", err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
