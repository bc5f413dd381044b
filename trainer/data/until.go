package data

import (
	"context"
	"io"
	"os"
	"sync"
)

// Until reads r until ctx ends, also while r waits, as a terminal or a pipe does, for
// somebody to write. Nothing is read from r before it is asked for. A regular file is
// returned as it is.
func Until(ctx context.Context, r io.Reader) io.Reader {
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return r
		}
	}
	return &until{ctx: ctx, from: r}
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
