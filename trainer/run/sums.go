package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
)

// fileSum tells whether a file is still what it was.
type fileSum struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// sumOf reads a file to its end, or until ctx ends.
func sumOf(ctx context.Context, files fs.FS, name string) (s fileSum, err error) {
	f, err := files.Open(name)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	n, err := io.Copy(h, untilDone{ctx, f})
	return fileSum{n, hex.EncodeToString(h.Sum(nil))}, err
}

// untilDone is a reader that fails once its context has ended.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}
