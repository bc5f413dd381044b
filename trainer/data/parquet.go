package data

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// A Parquet file is a table, and each of its rows is read as the line of JSON that
// would hold the same: {"column": value, …}. So the forms, their errors and the bound
// of a line hold for rows too; a row's number stands where a line's would. The rows of
// a group are read as they are asked for, a page of each column at a time.
//
// What JSON has no word for is null: bytes that are no text, such as an image, numbers
// that are not finite, decimals.
//
// The decoder trusts what a file says of itself, so the sizes in it are looked at first
// (see sized, checkFooter and checkPages), and a panic is an error of the file.
type rows struct {
	in     io.ReaderAt
	size   int64 // of the file, in bytes
	most   int   // bytes of a row's line
	file   *parquet.File
	root   *column
	next   int               // the row group that follows
	group  parquet.Rows      // the one that is read, or nil
	left   int64             // rows of it that are not read
	buffer [16]parquet.Row   // rows read at once
	ready  []parquet.Row     // of buffer, those to come
	leaves [][]parquet.Value // of one row, the values of each leaf
	line   []byte
	bad    *LineError // what is wrong with the row
	zstd   *zstd.Decoder
}

const parquetMagic = "PAR1"

// A page may hold so many of the longest lines, packed and unpacked: writers close a
// page once it is full, and look after every thousand rows or so.
const linesOfPage = 16

// openParquet reads the footer: names and types of the columns, where their pages are.
func openParquet(in io.ReaderAt, size int64, most int) (p *rows, err error) {
	defer contain(&err)
	p = &rows{in: in, size: size, most: most}
	if err := p.checkFooter(); err != nil {
		return nil, err
	}
	p.file, err = parquet.OpenFile(in, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, err
	}
	p.root = columnOf(p.file.Root(), nil)
	p.leaves = make([][]parquet.Value, p.root.leaves)
	return p, nil
}

// contain makes an error of a panic, which is how the decoder, or we, meet some of the
// files that are broken.
func contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("its parts contradict each other: %v", p)
	}
}

// read returns the next row as a line of JSON, what is wrong with it, io.EOF after the
// last, or what is wrong with the file.
func (p *rows) read() (line []byte, bad *LineError, err error) {
	defer contain(&err)
	for len(p.ready) == 0 {
		if p.left == 0 {
			if p.next == len(p.file.RowGroups()) {
				return nil, nil, io.EOF
			}
			if err := p.checkPages(p.next); err != nil {
				return nil, nil, err
			}
			group := p.file.RowGroups()[p.next]
			p.next++
			p.group, p.left = group.Rows(), group.NumRows()
			runtime.SetFinalizer(p.group, nil) // it closes the group, and a panic there could not be contained
			continue
		}
		n, err := p.group.ReadRows(p.buffer[:min(p.left, int64(len(p.buffer)))])
		if n == 0 {
			if err == nil || err == io.EOF {
				err = fmt.Errorf("%d rows of its row group %d are missing", p.left, p.next)
			}
			return nil, nil, err
		}
		p.ready, p.left = p.buffer[:n], p.left-int64(n)
	}
	clear(p.leaves)
	p.ready[0].Range(func(leaf int, values []parquet.Value) bool {
		p.leaves[leaf] = values
		return true
	})
	p.line, p.bad = p.line[:0], nil
	p.bare(p.root, p.leaves, 0, 0)
	if p.ready = p.ready[1:]; len(p.ready) == 0 && p.left == 0 {
		err = p.group.Close()
	}
	if len(p.line) > p.most {
		p.bad = &LineError{Problem: fmt.Sprintf("the row is longer than %d bytes", p.most)}
	}
	return p.line, p.bad, err
}

// column is a node of the schema: a leaf, a list or a group of columns.
type column struct {
	path     string // "messages.list.element.role"
	name     []byte // as JSON, with the colon
	optional bool
	repeated bool // a list, whether the schema calls it so or not
	text     bool // bytes that are said to be text
	unsigned bool
	decimal  bool
	item     *column   // of what the schema calls a list: that which is repeated
	fields   []*column // of a group
	leaves   int       // below it, itself included
}

func columnOf(n parquet.Node, path []string) *column {
	c := &column{path: strings.Join(path, "."), optional: n.Optional(), repeated: n.Repeated(), leaves: 1}
	var kind any
	if logical := n.Type().LogicalType(); logical != nil {
		kind = logical.Value
	}
	if n.Leaf() {
		switch kind := kind.(type) {
		case *format.StringType, *format.EnumType, *format.JsonType:
			c.text = true
		case *format.IntType:
			c.unsigned = !kind.IsSigned
		case *format.DecimalType:
			c.decimal = true
		}
		return c
	}
	c.leaves = 0
	for _, f := range n.Fields() {
		field := columnOf(f, append(path[:len(path):len(path)], f.Name()))
		name, err := json.Marshal(f.Name())
		if err != nil {
			panic(err) // of a string
		}
		field.name = append(name, ':')
		c.fields = append(c.fields, field)
		c.leaves += field.leaves
	}
	if _, list := kind.(*format.ListType); list && len(c.fields) == 1 && c.fields[0].repeated {
		// The rules of the format's LogicalTypes.md for lists of writers old and new.
		c.item = c.fields[0]
		if name := n.Fields()[0].Name(); len(c.item.fields) == 1 && name != "array" && !strings.HasSuffix(name, "_tuple") {
			c.item.fields[0].name, c.item.item = nil, c.item.fields[0]
		}
	}
	return c
}

// value appends a column's value as JSON. leaves are the values of the column's leaves
// within what encloses it, repetition and definition its levels: a value whose
// definition level is lower than the column's says that the column, or something
// around it, is not there; one whose repetition level is not higher begins a new item.
func (p *rows) value(c *column, leaves [][]parquet.Value, repetition, definition int) {
	if c.optional || c.repeated {
		definition++
	}
	there := leaves[0][0].DefinitionLevel() >= definition
	switch {
	case c.repeated:
		p.list(c, leaves, repetition+1, definition, there)
	case c.optional && !there:
		p.line = append(p.line, "null"...)
	default:
		p.bare(c, leaves, repetition, definition)
	}
}

// list appends the items of a column that is repeated.
func (p *rows) list(c *column, leaves [][]parquet.Value, repetition, definition int, any bool) {
	p.line = append(p.line, '[')
	item := make([][]parquet.Value, len(leaves))
	for rest := append([][]parquet.Value(nil), leaves...); any && len(rest[0]) > 0; {
		for i, values := range rest {
			n := 1
			for n < len(values) && values[n].RepetitionLevel() > repetition {
				n++
			}
			item[i], rest[i] = values[:n], values[n:]
		}
		if p.line[len(p.line)-1] != '[' {
			p.line = append(p.line, ',')
		}
		if len(p.line) > p.most {
			break
		}
		if c.item != nil {
			p.value(c.item, item, repetition, definition)
		} else {
			p.bare(c, item, repetition, definition)
		}
	}
	p.line = append(p.line, ']')
}

// bare is value for one that is there, and no list but by the schema's word.
func (p *rows) bare(c *column, leaves [][]parquet.Value, repetition, definition int) {
	switch {
	case c.item != nil:
		p.value(c.item, leaves, repetition, definition)
	case c.fields != nil:
		p.line = append(p.line, '{')
		for i, f := range c.fields {
			if i > 0 {
				p.line = append(p.line, ',')
			}
			p.line = append(p.line, f.name...)
			p.value(f, leaves[:f.leaves], repetition, definition)
			leaves = leaves[f.leaves:]
		}
		p.line = append(p.line, '}')
	default:
		p.scalar(c, leaves[0][0])
	}
}

func (p *rows) scalar(c *column, v parquet.Value) {
	if len(p.line) > p.most {
		return
	}
	float := func(x float64, bits int) {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			p.line = append(p.line, "null"...)
		} else {
			p.line = strconv.AppendFloat(p.line, x, 'g', -1, bits)
		}
	}
	kind := v.Kind()
	switch {
	case v.IsNull(), c.decimal:
		p.line = append(p.line, "null"...)
	case kind == parquet.Boolean:
		p.line = strconv.AppendBool(p.line, v.Boolean())
	case kind == parquet.Int32 && c.unsigned:
		p.line = strconv.AppendUint(p.line, uint64(v.Uint32()), 10)
	case kind == parquet.Int64 && c.unsigned:
		p.line = strconv.AppendUint(p.line, v.Uint64(), 10)
	case kind == parquet.Int32:
		p.line = strconv.AppendInt(p.line, int64(v.Int32()), 10)
	case kind == parquet.Int64:
		p.line = strconv.AppendInt(p.line, v.Int64(), 10)
	case kind == parquet.Float:
		float(float64(v.Float()), 32)
	case kind == parquet.Double:
		float(v.Double(), 64)
	case kind == parquet.ByteArray:
		p.text(c, v.ByteArray())
	default:
		p.line = append(p.line, "null"...)
	}
}

func (p *rows) text(c *column, b []byte) {
	if at := invalidUTF8(b); at >= 0 {
		if c.text && p.bad == nil {
			p.bad = &LineError{Field: c.path, Problem: fmt.Sprintf("byte %d (0x%02x) is not UTF-8", at+1, b[at])}
		}
		p.line = append(p.line, "null"...)
		return
	}
	quoted, err := json.Marshal(string(b[:min(len(b), p.most)])) // of one that is cut, the row is too long
	if err != nil {
		panic(err) // of a string
	}
	p.line = append(p.line, quoted...)
}

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

// checkPages looks at the sizes of all pages of a row group, in their headers and of what
// they unpack to.
func (p *rows) checkPages(group int) error {
	groups := p.file.Metadata().RowGroups
	for i := range groups[group].Columns {
		c := &groups[group].Columns[i].MetaData
		start := c.DataPageOffset
		if c.DictionaryPageOffset != 0 {
			start = c.DictionaryPageOffset
		}
		end := start + c.TotalCompressedSize
		if start < 0 || c.TotalCompressedSize < 0 || end < start || end > p.size || c.DataPageOffset < start {
			return errCut
		}
		name, codec := strings.Join(c.PathInSchema, "."), groups[0].Columns[i].MetaData.Codec
		if c.Codec != codec { // for the decoder takes the first group's
			return fmt.Errorf("column %s: packed with %v and with %v", name, codec, c.Codec)
		}
		if start < c.DataPageOffset {
			if _, err := p.checkPage(start, end, codec); err != nil {
				return fmt.Errorf("column %s: %w", name, err)
			}
		}
		for at := c.DataPageOffset; at < end; {
			var err error
			if at, err = p.checkPage(at, end, codec); err != nil {
				return fmt.Errorf("column %s: %w", name, err)
			}
		}
	}
	return nil
}

// checkPage looks at the page at an offset of a column that ends at another, and
// returns the offset of the page that follows.
func (p *rows) checkPage(at, end int64, codec format.CompressionCodec) (int64, error) {
	var h format.PageHeader
	var n int
	for most, err := int64(16<<10), errCut; err != nil; most *= 16 { // a header may hold the column's least and greatest text
		head := make([]byte, min(most, end-at))
		if _, err := p.in.ReadAt(head, at); err != nil {
			return 0, err
		}
		h = format.PageHeader{}
		if n, err = decodeSized(head, &h); err != nil && (err != errCut || most >= end-at) {
			return 0, fmt.Errorf("header of a page: %w", err)
		}
	}
	encoding := h.DataPageHeader.V.Encoding
	if h.Type == format.DataPageV2 {
		encoding = h.DataPageHeaderV2.V.Encoding
	}
	switch encoding {
	case format.DeltaBinaryPacked, format.DeltaLengthByteArray, format.DeltaByteArray:
		// The decoder makes room for the sum of lengths that it has not looked at.
		return 0, fmt.Errorf("encoded as %v: write it plain or with a dictionary", encoding)
	}
	values := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DictionaryPageHeader.V.NumValues)
	if bytes := max(h.UncompressedPageSize, h.CompressedPageSize); int64(bytes) > linesOfPage*int64(p.most) || int64(values) > int64(p.most) {
		return 0, fmt.Errorf("a page of %d bytes and %d values: at most %d and %d are read", bytes, values, linesOfPage*int64(p.most), p.most)
	}
	at += int64(n)
	next := at + int64(h.CompressedPageSize)
	if h.CompressedPageSize < 0 || next > end {
		return 0, errCut
	}
	packed, size := io.NewSectionReader(p.in, at, int64(h.CompressedPageSize)), int64(h.UncompressedPageSize)
	if v2 := h.DataPageHeaderV2.V; h.Type == format.DataPageV2 { // its levels stand before what is packed
		levels := int64(v2.RepetitionLevelsByteLength) + int64(v2.DefinitionLevelsByteLength)
		if _, err := packed.Seek(levels, io.SeekStart); err != nil || levels > size {
			return 0, errCut
		}
		if size -= levels; v2.IsCompressed.Valid && !v2.IsCompressed.V {
			codec = format.Uncompressed
		}
	}
	return next, p.checkPacked(packed, size, codec)
}

// checkPacked unpacks a page into nothing: it must have the size that its header says.
// (The decoder makes room for as much as comes out, and for LZ4 does so without end.)
func (p *rows) checkPacked(packed io.Reader, size int64, codec format.CompressionCodec) (err error) {
	in := bufio.NewReader(packed)
	var out io.Reader
	switch codec {
	case format.Uncompressed:
		return nil
	case format.Snappy:
		if n, err := binary.ReadUvarint(in); err != nil || n != uint64(size) {
			return errSize
		}
		return nil
	case format.Gzip:
		out, err = gzip.NewReader(in)
	case format.Zstd:
		if p.zstd == nil {
			p.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(linesOfPage*uint64(p.most)))
		}
		if err == nil {
			err = p.zstd.Reset(in)
		}
		out = p.zstd
	default:
		return fmt.Errorf("packed with %v: write it with snappy, gzip or zstd", codec)
	}
	if err == nil {
		var n int64
		if n, err = io.Copy(io.Discard, io.LimitReader(out, size+1)); err == nil && n != size {
			err = errSize
		}
	}
	return err
}

var errSize = errors.New("a page unpacks to another size than it says")

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
