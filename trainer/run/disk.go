package run

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// disk is what checkpoints and logs change on a file system. osDisk is the real
// one; the tests have one that dies at the n-th change.
type disk interface {
	MkdirAll(path string) error
	Create(path string) (diskFile, error)     // truncates
	OpenAppend(path string) (diskFile, error) // creates
	Rename(old, new string) error             // replaces a file, not a folder
	RemoveAll(path string) error
	SyncFile(path string) error // makes content durable
	SyncDir(path string) error  // makes names in it durable
}

type diskFile interface {
	io.Writer
	Sync() error
	Close() error
}

type osDisk struct{}

func (osDisk) MkdirAll(path string) error { return os.MkdirAll(path, 0o755) }

func (osDisk) Create(path string) (diskFile, error) { return os.Create(path) }

func (osDisk) OpenAppend(path string) (diskFile, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

func (osDisk) Rename(old, new string) error { return os.Rename(old, new) }

func (osDisk) RemoveAll(path string) error { return os.RemoveAll(path) }

func (osDisk) SyncFile(path string) (err error) {
	// Windows flushes only handles that may write.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}

func (osDisk) SyncDir(path string) (err error) {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be flushed there
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}

// onDisk tells whether an error is of a file or folder.
func onDisk(err error) bool {
	path, link := new(fs.PathError), new(os.LinkError)
	return errors.As(err, &path) || errors.As(err, &link)
}

// makeDir makes a folder, and those above it, and their names durable.
func makeDir(d disk, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeDir(d, parent); err != nil {
			return err
		}
	}
	if err := d.MkdirAll(path); err != nil {
		return err
	}
	return d.SyncDir(parent)
}

// syncTree flushes every file and folder below root, and root itself, children
// first.
func syncTree(d disk, root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			dirs = append(dirs, path)
			return nil
		}
		return d.SyncFile(path)
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = d.SyncDir(dirs[i])
	}
	return err
}

// writeFile writes a whole file and flushes it.
func writeFile(d disk, path string, write func(io.Writer) error) (err error) {
	f, err := d.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := write(f); err != nil {
		return err
	}
	return f.Sync()
}
