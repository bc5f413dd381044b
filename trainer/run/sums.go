package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"

	"nrt/trainer/data"
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
	n, err := io.Copy(h, data.Until(ctx, f))
	return fileSum{n, hex.EncodeToString(h.Sum(nil))}, err
}
