package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// A forged is a column of a file that was written by hand.
type forged struct {
	schema []format.SchemaElement // of the column, the path to it first
	pages  []forgedPage
	codec  format.CompressionCodec
}

type forgedPage struct {
	format.PageHeader
	packed string
}

func some[T any](v T) thrift.Null[T] { return thrift.New(v) }

// forge writes a file of one row group.
func forge(t testing.TB, rows int64, columns ...forged) []byte {
	t.Helper()
	encode := func(v any) []byte {
		b, err := thrift.Marshal(new(thrift.CompactProtocol), v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	file := []byte(parquetMagic)
	meta := format.FileMetaData{Version: 1, NumRows: rows, Schema: []format.SchemaElement{{Name: "root", NumChildren: some(int32(len(columns)))}}}
	group := format.RowGroup{NumRows: rows}
	for i, c := range columns {
		chunk := format.ColumnMetaData{Type: c.schema[len(c.schema)-1].Type.V, Codec: c.codec}
		for j := range c.schema {
			if j == 0 {
				c.schema[j].Name = fmt.Sprintf("column%d", i)
			}
			chunk.PathInSchema = append(chunk.PathInSchema, c.schema[j].Name)
		}
		meta.Schema = append(meta.Schema, c.schema...)
		start := int64(len(file))
		for _, p := range c.pages {
			p.CompressedPageSize = int32(len(p.packed))
			if p.UncompressedPageSize == 0 {
				p.UncompressedPageSize = p.CompressedPageSize
			}
			if p.Type == format.DictionaryPage {
				chunk.DictionaryPageOffset = int64(len(file))
			} else if chunk.DataPageOffset == 0 {
				chunk.DataPageOffset = int64(len(file))
			}
			chunk.NumValues += int64(p.DataPageHeader.V.NumValues)
			file = append(append(file, encode(p.PageHeader)...), p.packed...)
		}
		chunk.TotalCompressedSize = int64(len(file)) - start
		group.Columns = append(group.Columns, format.ColumnChunk{MetaData: chunk})
	}
	meta.RowGroups = []format.RowGroup{group}
	foot := encode(meta)
	file = binary.LittleEndian.AppendUint32(append(file, foot...), uint32(len(foot)))
	return append(file, parquetMagic...)
}

// varint is the header of a run of n equal ones, or with packed 1 of n eights.
func varint(n, packed uint64) string {
	return string(binary.AppendUvarint(nil, n<<1|packed))
}

func prefix(s string) string {
	return string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func leaf(kind format.Type, repetition format.FieldRepetitionType) []format.SchemaElement {
	return []format.SchemaElement{{Type: some(kind), RepetitionType: some(repetition), TypeLength: some(int32(1 << 20))}}
}

// dataPage is a page of n values.
func dataPage(n int32, encoding format.Encoding, packed string) forgedPage {
	h := format.DataPageHeader{NumValues: n, Encoding: encoding, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE}
	return forgedPage{format.PageHeader{Type: format.DataPage, DataPageHeader: some(h)}, packed}
}

func dataPageV2(n, nulls int32, encoding format.Encoding, levels, packed string) forgedPage {
	h := format.DataPageHeaderV2{NumValues: n, NumNulls: nulls, NumRows: n, Encoding: encoding, DefinitionLevelsByteLength: int32(len(levels))}
	return forgedPage{format.PageHeader{Type: format.DataPageV2, DataPageHeaderV2: some(h)}, levels + packed}
}

func dictionaryPage(n int32, encoding format.Encoding, packed string) forgedPage {
	h := format.DictionaryPageHeader{NumValues: n, Encoding: encoding}
	return forgedPage{format.PageHeader{Type: format.DictionaryPage, DictionaryPageHeader: some(h)}, packed}
}

// unpacking says that a page unpacks to so many bytes.
func unpacking(size int, p forgedPage) forgedPage {
	p.UncompressedPageSize = int32(size)
	return p
}

func repeat[T any](n int, x T) (list []T) {
	for range n {
		list = append(list, x)
	}
	return list
}

func zstdOf(t testing.TB, b []byte) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll(b, nil))
}

// cost is what an input of Parquet may cost: bytes that are allocated until 16 rows of it
// were read.
const cost = 256 << 20

// costOf reads a file's first rows and returns what that allocated.
func costOf(b []byte) (read int, allocated uint64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	defer func() {
		runtime.ReadMemStats(&after)
		allocated = after.TotalAlloc - before.TotalAlloc
	}()
	r := NewReader(bytes.NewReader(nil), "f", Options{})
	if r.rows, err = openParquet(bytes.NewReader(b), int64(len(b)), r.maxLine); err != nil {
		return 0, 0, err
	}
	for ; read < 16; read++ {
		if _, bad := r.record(); bad != nil {
			err = bad
		}
		if r.failed == io.EOF {
			break
		}
		if r.failed != nil {
			return read, 0, r.failed
		}
	}
	return read, 0, err
}

// TestParquetHostile: files of a few KB that stand for gigabytes.
func TestParquetHostile(t *testing.T) {
	const many, million, most = 1<<31 - 1, 1 << 20, 60 << 20
	optional, required, repeated := format.Optional, format.Required, format.Repeated
	dictionary := dictionaryPage(1, format.Plain, prefix("a"))
	huge := zstdOf(t, make([]byte, 1<<28))
	texts := zstdOf(t, append(binary.LittleEndian.AppendUint32(nil, 7<<19), make([]byte, 7<<19)...)) // one of 3.5 MB
	control := zstdOf(t, append(binary.LittleEndian.AppendUint32(nil, 7<<19), bytes.Repeat([]byte{1}, 7<<19)...))
	list := prefix(varint(1, 0)+"\x00"+varint(99, 0)+"\x01") + prefix(varint(100, 0)+"\x01") + "\x00" + varint(100, 0) + "\x00"
	for _, c := range []struct {
		name, want string
		rows       int64
		columns    []forged
	}{
		{"levels", "more values", 1, []forged{{leaf(format.ByteArray, optional), []forgedPage{dataPage(1, format.Plain, prefix(varint(many, 0)+"\x01")+prefix("a"))}, 0}}},
		{"levels of the second version", "more values", 1, []forged{{leaf(format.ByteArray, optional), []forgedPage{dataPageV2(1, 0, format.Plain, varint(many, 0)+"\x01", prefix("a"))}, 0}}},
		{"runs of levels", "more values", 1, []forged{{leaf(format.ByteArray, optional), []forgedPage{dataPage(1, format.Plain, prefix(strings.Repeat(varint(1<<10, 0)+"\x01", 1000))+prefix("a"))}, 0}}},
		{"indexes", "more values", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{dictionary, dataPage(1, format.RLEDictionary, "\x01"+varint(many, 0)+"\x00")}, 0}}},
		{"indexes packed into nothing", "more values", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{dictionary, dataPage(1, format.RLEDictionary, "\x00"+varint(many, 1))}, 0}}},
		{"indexes that are not there", "behind its end", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{dictionary, dataPage(1, format.PlainDictionary, "\x20"+varint(100, 1))}, 0}}},
		{"booleans", "more values", 1, []forged{{leaf(format.Boolean, required), []forgedPage{dataPage(1, format.RLE, prefix(varint(many, 0)+"\x01"))}, 0}}},
		{"values after nothing", "at most", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{dictionary, dataPage(most, format.RLEDictionary, "")}, 0}}},
		{"a dictionary's values", "behind its end", 1, []forged{{leaf(format.FixedLenByteArray, required), []forgedPage{dictionaryPage(1<<20, format.Plain, "a"), dataPage(1, format.RLEDictionary, "\x01\x02\x00")}, 0}}},
		{"a dictionary of sums", "encoded as DELTA", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{dictionaryPage(1, format.DeltaLengthByteArray, "a"), dataPage(1, format.RLEDictionary, "\x01\x02\x00")}, 0}}},
		{"values that are not there", "behind its end", 1, []forged{{leaf(format.FixedLenByteArray, required), []forgedPage{dataPage(1<<20, format.ByteStreamSplit, "a")}, 0}}},
		{"more values than it says", "more values", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{dataPage(1, format.Plain, prefix("a")+prefix("b"))}, 0}}},
		{"numbers in runs", "encoded as RLE", 1, []forged{{leaf(format.Int32, required), []forgedPage{dataPage(1, format.RLE, varint(many, 1))}, 0}}},
		{"zstd", "at most", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{unpacking(1<<28, dataPage(1, format.Plain, huge))}, format.Zstd}}},
		{"zstd that says less", "", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{unpacking(1<<20, dataPage(1, format.Plain, huge))}, format.Zstd}}},
		{"snappy", "at most", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{unpacking(1<<30, dataPage(1, format.Plain, string(binary.AppendUvarint(nil, 1<<30))))}, format.Snappy}}},
		{"many columns", "take", 1, repeat(100, forged{leaf(format.ByteArray, required), []forgedPage{unpacking(4+7<<19, dataPage(1, format.Plain, texts))}, format.Zstd})},
		{"a long row", "take", 1, []forged{{leaf(format.Int32, repeated), repeat(40, dataPage(million, format.Plain, prefix(varint(million, 0)+"\x01")+prefix(varint(million, 0)+"\x00"))), 0}}},
		{"rows of many texts", "longer than", 1, []forged{{leaf(format.ByteArray, repeated), []forgedPage{unpacking(4+7<<19, dictionaryPage(1, format.Plain, control)),
			unpacking(len(list), dataPage(100, format.RLEDictionary, zstdOf(t, []byte(list))))}, format.Zstd}}},
		{"a text of control characters", "", 1, []forged{{leaf(format.ByteArray, required), []forgedPage{unpacking(4+7<<19, dataPage(1, format.Plain, control))}, format.Zstd}}},
		{"many rows", "", million, []forged{{leaf(format.ByteArray, optional), []forgedPage{dataPage(million, format.Plain, prefix(varint(million, 0)+"\x00"))}, 0}}},
	} {
		b := forge(t, c.rows, c.columns...)
		read, allocated, err := costOf(b)
		t.Logf("%s: %d bytes, %d rows, %d MB: %v", c.name, len(b), read, allocated>>20, err)
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: have %v, want %s", c.name, err, c.want)
		}
		if allocated > cost {
			t.Errorf("%s: %d bytes cost %d MB", c.name, len(b), allocated>>20)
		}
	}
}

// FuzzParquetCost: no other few KB cost more.
func FuzzParquetCost(f *testing.F) {
	for _, b := range parquetFiles(f) {
		f.Add(b)
	}
	f.Add(forge(f, 3, forged{leaf(format.Boolean, format.Optional), []forgedPage{dataPage(3, format.RLE, prefix(varint(3, 0)+"\x01")+prefix(varint(3, 0)+"\x01"))}, 0},
		forged{leaf(format.ByteArray, format.Optional), []forgedPage{dictionaryPage(1, format.Plain, prefix("a")), dataPageV2(3, 1, format.RLEDictionary, varint(1, 1)+"\x03", "\x01"+varint(1, 1)+"\x00")}, 0},
		forged{leaf(format.Int32, format.Repeated), []forgedPage{dataPage(3, format.Plain, prefix(varint(3, 0)+"\x00")+prefix(varint(3, 0)+"\x00"))}, 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, allocated, err := costOf(b); len(b) < 8<<10 && allocated > cost {
			t.Fatalf("%d bytes cost %d MB: %v", len(b), allocated>>20, err)
		}
	})
}
