package data

import (
	"context"
	"io"
	"io/fs"
	"os"
	"sync"
)

// Until reads r until ctx ends, also while r waits, as a terminal or a pipe does, for
// somebody to write. Nothing is read from r before it is asked for. A regular file can
// still be read at any place.
func Until(ctx context.Context, r io.Reader) io.Reader {
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return untilDone{ctx, f}
		}
	}
	return &until{ctx: ctx, from: r}
}

// untilDone is a file that fails once its context has ended. Nothing reads the file past
// it, as its WriteTo would.
type untilDone struct {
	ctx  context.Context
	file *os.File
}

func (u untilDone) Stat() (fs.FileInfo, error) { return u.file.Stat() }

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.file.Read(p)
}

func (u untilDone) ReadAt(p []byte, at int64) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.file.ReadAt(p, at)
}

type until struct {
	ctx   context.Context
	from  io.Reader
	begin sync.Once
	out   *io.PipeReader
}

func (u *until) Read(p []byte) (int, error) {
	u.begin.Do(func() {
		var in *io.PipeWriter
		u.out, in = io.Pipe()
		context.AfterFunc(u.ctx, func() { in.CloseWithError(u.ctx.Err()) })
		go func() {
			_, err := io.Copy(in, u.from)
			in.CloseWithError(err) // nil is the end
		}()
	})
	return u.out.Read(p)
}
