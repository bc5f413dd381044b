package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// errCut is a file that ends too early, or whose numbers point past its end.
var errCut = errors.New("a part of it lies behind its end")

// checkFooter looks at the sizes in the footer, before the decoder makes room for them.
func (p *rows) checkFooter() error {
	var end [8]byte // the footer's length and the magic
	if p.size < int64(len(parquetMagic)+len(end)) {
		return errCut
	}
	if _, err := p.in.ReadAt(end[:], p.size-int64(len(end))); err != nil {
		return err
	}
	if string(end[4:]) != parquetMagic {
		return errors.New("it does not end with " + parquetMagic)
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	if length > p.size-int64(len(parquetMagic)+len(end)) {
		return errCut
	}
	footer := make([]byte, length)
	if _, err := p.in.ReadAt(footer, p.size-int64(len(end))-length); err != nil {
		return err
	}
	_, err := decodeSized(footer, new(format.FileMetaData))
	return err
}

// sized reads Thrift's compact protocol from bytes. It refuses a list that has more
// items than the bytes could hold, for which the decoder would make room all the same,
// and structures nested deeper than the format's ever are.
type sized struct {
	thriftReader
	bytes int
	open  []int32 // structures to come on each level of nesting
}

type thriftReader = thrift.Reader // which has a method Reader

// decodeSized decodes a structure and returns how many bytes it took.
func decodeSized(b []byte, v any) (int, error) {
	r := &sized{thriftReader: new(thrift.CompactProtocol).NewReaderFromBytes(b), bytes: len(b), open: []int32{1}}
	err := thrift.NewDecoder(r).Decode(v)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errCut
	}
	return r.BytesRead(), err
}

func (r *sized) ReadField() (thrift.Field, error) {
	f, err := r.thriftReader.ReadField()
	if err != nil {
		return f, err
	}
	switch top := len(r.open) - 1; {
	case f.Type == thrift.STRUCT:
		return f, r.nest(1)
	case f.Type == thrift.STOP && top >= 0:
		if r.open[top]--; r.open[top] == 0 {
			r.open = r.open[:top]
		}
	}
	return f, nil
}

func (r *sized) ReadList() (thrift.List, error) {
	l, err := r.thriftReader.ReadList()
	switch {
	case err != nil:
	case l.Size < 0 || int(l.Size) > r.bytes || l.Type == thrift.LIST || l.Type == thrift.SET || l.Type == thrift.MAP:
		err = fmt.Errorf("a list of %d items where there are %d bytes", l.Size, r.bytes)
	case l.Type == thrift.STRUCT && l.Size > 0:
		err = r.nest(l.Size)
	}
	return l, err
}

func (r *sized) nest(structures int32) error {
	if r.open = append(r.open, structures); len(r.open) > 32 {
		return errors.New("structures are nested too deep")
	}
	return nil
}

// Discard is what the decoder asks of its own readers.
func (r *sized) Discard(n int) (int, error) {
	return r.thriftReader.(interface{ Discard(int) (int, error) }).Discard(n)
}

// The format has neither sets nor maps.
func (r *sized) ReadSet() (thrift.Set, error) {
	return thrift.Set{}, errors.New("a set, of which the format has none")
}
func (r *sized) ReadMap() (thrift.Map, error) {
	return thrift.Map{}, errors.New("a map, of which the format has none")
}
