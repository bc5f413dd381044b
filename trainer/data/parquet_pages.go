package data

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// A page may hold so many of the longest lines, packed and unpacked: writers close a
// page once it is full, and look after every thousand rows or so.
const linesOfPage = 16

// roomOf is how many bytes the pages that are open at once may take when decoded. A few
// bytes can stand for gigabytes, by a run's length alone; texts shrink to a tenth, and
// columns that repeat themselves seldom to less than a hundredth.
func roomOf(size int64) int64 { return 8<<20 + 256*size }

// valueSize is what the decoder holds a value of a row in, in bytes.
const valueSize = 24

// valuesAtOnce is how many values are held, of several rows.
const valuesAtOnce = 1 << 16

// checkPages unpacks all pages of a row group and looks at the sizes in them, before the
// decoder makes room for what they say, and settles how many rows are read at once.
func (p *rows) checkPages(group int) error {
	groups := p.file.Metadata().RowGroups
	held, longest := int64(0), 0
	for i, chunk := range p.file.RowGroups()[group].ColumnChunks() {
		meta := &groups[group].Columns[i].MetaData
		c := pages{rows: p, codec: groups[0].Columns[i].MetaData.Codec, column: chunk.(*parquet.FileColumnChunk).Node().(*parquet.Column), longest: 1}
		if meta.Codec != c.codec { // for the decoder takes the first group's
			return fmt.Errorf("column %s: packed with %v and with %v", strings.Join(c.column.Path(), "."), c.codec, meta.Codec)
		}
		if err := c.check(meta); err != nil {
			return fmt.Errorf("column %s: %w", strings.Join(c.column.Path(), "."), err)
		}
		longest += c.longest
		if held += c.dictionary + c.page; held+valueSize*int64(longest) > p.room {
			return p.tooMuch(held + valueSize*int64(longest))
		}
	}
	p.unpacked = nil
	p.atOnce = min(max(1, valuesAtOnce/max(1, longest)), len(p.buffer))
	return nil
}

func (p *rows) tooMuch(held int64) error {
	return fmt.Errorf("its pages take %d bytes when they are read, more than the %d that are granted to a file of %d bytes: write it with smaller pages", held, p.room, p.size)
}

// pages are those of a column in a row group.
type pages struct {
	*rows
	codec            format.CompressionCodec
	column           *parquet.Column
	dictionary, page int64 // bytes that the largest takes when it is decoded
	row, longest     int   // values of the row that is looked at, and of the longest
}

func (c *pages) check(meta *format.ColumnMetaData) error {
	at := meta.DataPageOffset
	if meta.DictionaryPageOffset != 0 {
		at = meta.DictionaryPageOffset
	}
	end := at + meta.TotalCompressedSize
	if at < 0 || meta.TotalCompressedSize < 0 || end < at || end > c.size || meta.DataPageOffset < at {
		return errCut
	}
	var err error
	if at < meta.DataPageOffset {
		if _, err = c.checkPage(at, end); err != nil {
			return err
		}
	}
	for at = meta.DataPageOffset; at < end; {
		if at, err = c.checkPage(at, end); err != nil {
			return err
		}
	}
	return nil
}

// checkPage looks at the page at an offset of a column that ends at another, and
// returns the offset of the page that follows.
func (c *pages) checkPage(at, end int64) (int64, error) {
	var h format.PageHeader
	var n int
	for most, err := int64(16<<10), errCut; err != nil; most *= 16 { // a header may hold the column's least and greatest text
		head := make([]byte, min(most, end-at))
		if _, err := c.in.ReadAt(head, at); err != nil {
			return 0, err
		}
		h = format.PageHeader{}
		if n, err = decodeSized(head, &h); err != nil && (err != errCut || most >= end-at) {
			return 0, fmt.Errorf("header of a page: %w", err)
		}
	}
	v1, v2, dictionary := &h.DataPageHeader.V, &h.DataPageHeaderV2.V, &h.DictionaryPageHeader.V
	values := max(v1.NumValues, v2.NumValues, dictionary.NumValues)
	if size := max(h.UncompressedPageSize, h.CompressedPageSize); int64(size) > linesOfPage*int64(c.most) || int64(values) > int64(c.most) {
		return 0, fmt.Errorf("a page of %d bytes and %d values: at most %d and %d are read", size, values, linesOfPage*int64(c.most), c.most)
	}
	at += int64(n)
	next := at + int64(h.CompressedPageSize)
	if h.CompressedPageSize < 0 || h.UncompressedPageSize < 0 || min(v1.NumValues, v2.NumValues, dictionary.NumValues) < 0 || next > end {
		return 0, errCut
	}
	if size := int64(h.UncompressedPageSize); size > c.room {
		return 0, c.tooMuch(size)
	}
	packed := make([]byte, h.CompressedPageSize)
	if _, err := c.in.ReadAt(packed, at); err != nil {
		return 0, err
	}
	switch h.Type {
	case format.DictionaryPage:
		return next, c.checkDictionary(dictionary, packed, h.UncompressedPageSize)
	case format.DataPage:
		return next, c.checkV1(v1, packed, h.UncompressedPageSize)
	case format.DataPageV2:
		return next, c.checkV2(v2, packed, h.UncompressedPageSize)
	}
	return 0, fmt.Errorf("a page of type %v", h.Type)
}

func (c *pages) checkDictionary(h *format.DictionaryPageHeader, packed []byte, size int32) error {
	b, err := c.unpack(packed, size, c.codec)
	if err != nil {
		return err
	}
	if h.Encoding != format.Plain && h.Encoding != format.PlainDictionary {
		return encodedAs(h.Encoding)
	}
	c.dictionary = max(c.dictionary, 2*int64(len(b))+4*int64(h.NumValues))
	return c.plain(b, int(h.NumValues))
}

func (c *pages) checkV1(h *format.DataPageHeader, packed []byte, size int32) error {
	b, err := c.unpack(packed, size, c.codec)
	if err != nil {
		return err
	}
	n := int(h.NumValues)
	level := func(encoding format.Encoding, most int, each func(level, n int)) error {
		if most == 0 {
			return nil
		}
		if encoding != format.RLE {
			return encodedAs(encoding)
		}
		levels, rest, err := prefixed(b)
		if err == nil {
			err = runs(levels, bits.Len(uint(most)), n, each)
		}
		b = rest
		return err
	}
	if err := level(h.RepetitionLevelEncoding, c.column.MaxRepetitionLevel(), c.repetitions); err != nil {
		return err
	}
	nulls := 0
	if err := level(h.DefinitionLevelEncoding, c.column.MaxDefinitionLevel(), func(level, n int) {
		if level != c.column.MaxDefinitionLevel() {
			nulls += n
		}
	}); err != nil {
		return err
	}
	return c.values(h.Encoding, b, n, n-nulls)
}

// checkV2: the levels of such a page stand before what is packed.
func (c *pages) checkV2(h *format.DataPageHeaderV2, packed []byte, size int32) error {
	r, d := int(h.RepetitionLevelsByteLength), int(h.DefinitionLevelsByteLength)
	if r < 0 || d < 0 || r+d > min(len(packed), int(size)) || h.NumNulls < 0 || h.NumNulls > h.NumValues {
		return errCut
	}
	if most := c.column.MaxRepetitionLevel(); most > 0 {
		if err := runs(packed[:r], bits.Len(uint(most)), int(h.NumValues), c.repetitions); err != nil {
			return err
		}
	}
	if most := c.column.MaxDefinitionLevel(); most > 0 {
		if err := runs(packed[r:r+d], bits.Len(uint(most)), int(h.NumValues), nil); err != nil {
			return err
		}
	}
	codec := c.codec
	if h.IsCompressed.Valid && !h.IsCompressed.V {
		codec = format.Uncompressed
	}
	b, err := c.unpack(packed[r+d:], size-int32(r+d), codec)
	if err != nil {
		return err
	}
	return c.values(h.Encoding, b, int(h.NumValues), int(h.NumValues-h.NumNulls))
}

// repetitions counts the values of the rows, each of which begins with a level of 0.
func (c *pages) repetitions(level, n int) {
	if level == 0 {
		c.row = 0
		n = 1
	}
	c.row += n
	c.longest = max(c.longest, c.row)
}

// values looks at a page's values less the levels: n, of which there are that are no nulls.
func (c *pages) values(encoding format.Encoding, b []byte, n, there int) error {
	c.page = max(c.page, 2*int64(len(b))+4*int64(there)+2*int64(n))
	kind := c.column.Type().Kind()
	switch {
	case encoding == format.Plain, encoding == format.ByteStreamSplit && kind != parquet.ByteArray:
		return c.plain(b, there)
	case encoding == format.PlainDictionary, encoding == format.RLEDictionary:
		if len(b) == 0 {
			return nil
		}
		return runs(b[1:], int(b[0]), there, nil)
	case encoding == format.RLE && kind == parquet.Boolean:
		b, _, err := prefixed(b)
		if err == nil {
			err = runs(b, 1, there, nil)
		}
		return err
	}
	return encodedAs(encoding) // the decoder makes room for sums of lengths that it has not looked at
}

// plain looks for n values, one after the other.
func (c *pages) plain(b []byte, n int) error {
	size := 0
	switch t := c.column.Type(); t.Kind() {
	case parquet.ByteArray:
		for ; n > 0; n-- {
			_, rest, err := prefixed(b)
			if err != nil {
				return err
			}
			b = rest
		}
		if len(b) > 0 {
			return errMore
		}
	case parquet.Int32, parquet.Float:
		size = 4
	case parquet.Int64, parquet.Double:
		size = 8
	case parquet.Int96:
		size = 12
	case parquet.FixedLenByteArray:
		size = t.Length()
	}
	if size < 0 || int64(size)*int64(n) > int64(len(b)) {
		return errCut
	}
	return nil
}

// prefixed splits off bytes whose length stands before them.
func prefixed(b []byte) (head, rest []byte, err error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, nil, errCut
	}
	n := 4 + int(binary.LittleEndian.Uint32(b))
	return b[4:n], b[n:], nil
}

// filling is how many numbers more than there are may stand in runs: packed by eights,
// the last is filled up, and DuckDB fills up 32.
const filling = 1 << 10

// runs reads n numbers of width bits, which stand in runs of equal ones and packed by
// eights, and what fills them up. each, where it is not nil, is told of the n; width is
// then at most 8.
func runs(b []byte, width, n int, each func(value, n int)) error {
	for most := n + filling; len(b) > 0; {
		header, read := binary.Uvarint(b)
		if read <= 0 {
			return errCut
		}
		b = b[read:]
		run, size, packed := header>>1, uint64(width+7)/8, header&1 != 0
		if run == 0 {
			continue // nothing follows: so the decoder has it
		}
		if run > uint64(most) {
			return errMore
		}
		if packed {
			run, size = 8*run, run*uint64(width)
		}
		if size > uint64(len(b)) {
			return errCut
		}
		told := min(int(run), n)
		switch {
		case each == nil || told == 0:
		case packed:
			for i := range told {
				var eight [8]byte
				copy(eight[:], b[i/8*width:][:width])
				each(int(binary.LittleEndian.Uint64(eight[:])>>(i%8*width))&(1<<width-1), 1)
			}
		default:
			each(int(b[0]), told)
		}
		n -= told
		if most -= int(run); most < 0 {
			return errMore
		}
		b = b[size:]
	}
	return nil
}

// unpack unpacks a page, which must have the size that its header says. (The decoder
// makes room for as much as comes out, and for LZ4 does so without end.)
func (c *pages) unpack(packed []byte, size int32, codec format.CompressionCodec) (b []byte, err error) {
	if codec == format.Uncompressed {
		return packed, nil
	}
	if cap(c.unpacked) < int(size) {
		c.unpacked = make([]byte, size)
	}
	b = c.unpacked[:size]
	switch codec {
	case format.Snappy:
		n, err := snappy.DecodedLen(packed)
		if err != nil || n != int(size) {
			return nil, errSize
		}
		return snappy.Decode(b, packed)
	case format.Gzip:
		in, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, errSize
		}
		if n, err := io.CopyN(io.Discard, in, 1); n != 0 || err != io.EOF {
			return nil, errors.Join(errSize, err)
		}
		return b, nil
	case format.Zstd:
		if c.zstd == nil {
			if c.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(c.room))); err != nil {
				return nil, err
			}
		}
		b, err := c.zstd.DecodeAll(packed, b[:0])
		if err == nil && len(b) != int(size) {
			err = errSize
		}
		return b, err
	}
	return nil, fmt.Errorf("packed with %v: %w with snappy, gzip or zstd", codec, errForm)
}

var (
	errForm = errors.New("write it") // it is whole, and of a kind that is not read
	errSize = errors.New("a page unpacks to another size than it says")
	errMore = errors.New("a page has more values than it says")
)

func encodedAs(encoding format.Encoding) error {
	return fmt.Errorf("encoded as %v: %w plain or with a dictionary", encoding, errForm)
}
