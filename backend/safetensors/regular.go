package safetensors

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ReadSmall reads a file of at most limit bytes. It must be a regular one: of a
// device or a pipe neither Stat nor patience tells where it ends. The bytes are
// counted as they come, whatever Stat says.
func ReadSmall(fsys fs.FS, name string, limit int64) (b []byte, err error) {
	f, _, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return readBounded(f, limit)
}

// openRegular opens a file that is regular. It is looked at before it is opened,
// which for a pipe would wait for somebody to write, and after.
func openRegular(fsys fs.FS, name string) (fs.File, fs.FileInfo, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	if err := regular(info); err != nil {
		return nil, nil, err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func regular(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("want a regular file, have %s", info.Mode().Type())
	}
	return nil
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("want at most %d bytes, have more", limit)
	}
	return b, nil
}
