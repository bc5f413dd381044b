package data

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
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
	in       io.ReaderAt
	size     int64 // of the file, in bytes
	room     int64 // bytes that pages may take, see roomOf
	most     int   // bytes of a row's line
	file     *parquet.File
	root     *column
	next     int               // the row group that follows
	group    parquet.Rows      // the one that is read, or nil
	left     int64             // rows of it that are not read
	buffer   [16]parquet.Row   // rows read at once
	atOnce   int               // how many of buffer are used in this row group
	ready    []parquet.Row     // of buffer, those to come
	leaves   [][]parquet.Value // of one row, the values of each leaf
	line     []byte
	bad      *LineError // what is wrong with the row
	zstd     *zstd.Decoder
	unpacked []byte // a page, while it is looked at
}

const parquetMagic = "PAR1"

// openParquet reads the footer: names and types of the columns, where their pages are.
func openParquet(in io.ReaderAt, size int64, most int) (p *rows, err error) {
	defer contain(&err)
	p = &rows{in: in, size: size, room: roomOf(size), most: int(min(int64(most), roomOf(size)))}
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
		n, err := p.group.ReadRows(p.buffer[:min(p.left, int64(p.atOnce))])
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
