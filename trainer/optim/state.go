package optim

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"

	"nrt/backend/device"
)

// The file of an optimizer's state, all numbers little-endian:
//
//	8 bytes   "NRTADAM1"
//	uint32    length of the header
//	header    JSON: {"updates": …, "params": [{"name": …, "len": …}, …]}
//	chunks    for each parameter the first and then the second moments, at
//	          most chunkLen floats a chunk: one byte 4 or 8, the width, then
//	          the floats. A chunk is float32 when that keeps every bit.
//	uint32    CRC-32C of everything before it
const stateMagic = "NRTADAM1"

const (
	chunkLen  = 1 << 18
	maxHeader = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type stateHeader struct {
	Updates int          `json:"updates"`
	Params  []stateParam `json:"params"`
}

type stateParam struct {
	Name string `json:"name"`
	Len  int    `json:"len"`
}

// Save writes the number of updates and the moments. Load brings back the same
// bits, whether the device keeps float32 or float64.
func (a *AdamW) Save(w io.Writer) error {
	if a.broken != nil {
		return a.broken
	}
	sum := crc32.New(castagnoli)
	b := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<20)
	h := stateHeader{Updates: a.updates, Params: make([]stateParam, len(a.params))}
	for i, p := range a.params {
		h.Params[i] = stateParam{p.Name, p.Value.Len()}
	}
	header, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	head := append([]byte(stateMagic), binary.LittleEndian.AppendUint32(nil, uint32(len(header)))...)
	if _, err := b.Write(append(head, header...)); err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	values, bytes := make([]float64, chunkLen), make([]byte, 0, 1+8*chunkLen)
	for i, p := range a.params {
		for _, moment := range []device.Buffer{a.m[i], a.v[i]} {
			for at := 0; at < p.Value.Len(); at += chunkLen {
				chunk := values[:min(chunkLen, p.Value.Len()-at)]
				a.dev.Read64(chunk, moment.View(at, len(chunk)))
				if _, err := b.Write(appendChunk(bytes[:0], chunk)); err != nil {
					return fmt.Errorf("save optimizer: %s: %w", p.Name, err)
				}
			}
		}
	}
	if err := a.dev.Sync(); err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return fmt.Errorf("save optimizer: %w", err)
	}
	return nil
}

// appendChunk writes the width and the values, as float32 when none loses a
// bit (NaN does: its payload need not survive, so it goes as float64).
func appendChunk(out []byte, values []float64) []byte {
	narrow := true
	for _, v := range values {
		if float64(float32(v)) != v {
			narrow = false
			break
		}
	}
	if narrow {
		out = append(out, 4)
		for _, v := range values {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(v)))
		}
		return out
	}
	out = append(out, 8)
	for _, v := range values {
		out = binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
	}
	return out
}

// Load restores what Save wrote for the same parameters. After an error the
// optimizer may be half loaded: every later Step and Save returns that error,
// until a Load succeeds.
func (a *AdamW) Load(r io.Reader) error {
	err := a.load(r)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the state ends too early: %w", io.ErrUnexpectedEOF)
		}
		err = fmt.Errorf("load optimizer: %w", err)
	}
	a.broken = err
	return err
}

func (a *AdamW) load(r io.Reader) error {
	in := &summed{r: bufio.NewReaderSize(r, 1<<20), sum: crc32.New(castagnoli)}
	var head [len(stateMagic) + 4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	if string(head[:len(stateMagic)]) != stateMagic {
		return fmt.Errorf("not an optimizer state: it begins with %q", head[:len(stateMagic)])
	}
	size := binary.LittleEndian.Uint32(head[len(stateMagic):])
	if size > maxHeader {
		return fmt.Errorf("header of %d bytes: want at most %d", size, maxHeader)
	}
	// Copying in steps, a false size costs no more memory than the file has.
	raw, err := io.ReadAll(io.LimitReader(in, int64(size)))
	if err != nil {
		return err
	}
	if len(raw) < int(size) {
		return io.ErrUnexpectedEOF
	}
	var h stateHeader
	if err := json.Unmarshal(raw, &h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Updates < 0 {
		return fmt.Errorf("header: updates: want >= 0, have %d", h.Updates)
	}
	if len(h.Params) != len(a.params) {
		return fmt.Errorf("the state has %d parameters, the model %d", len(h.Params), len(a.params))
	}
	for i, p := range a.params {
		if h.Params[i] != (stateParam{p.Name, p.Value.Len()}) {
			return fmt.Errorf("parameter %d: the state has %s with %d values, the model %s with %d", i, h.Params[i].Name, h.Params[i].Len, p.Name, p.Value.Len())
		}
	}
	values, bytes := make([]float64, chunkLen), make([]byte, 8*chunkLen)
	for i, p := range a.params {
		for _, moment := range []device.Buffer{a.m[i], a.v[i]} {
			for at := 0; at < p.Value.Len(); at += chunkLen {
				chunk := values[:min(chunkLen, p.Value.Len()-at)]
				if err := readChunk(in, chunk, bytes); err != nil {
					return fmt.Errorf("%s: %w", p.Name, err)
				}
				a.dev.Write64(moment.View(at, len(chunk)), chunk)
			}
		}
	}
	want := in.sum.Sum32()
	var tail [4]byte
	if _, err := io.ReadFull(in.r, tail[:]); err != nil {
		return err
	}
	if have := binary.LittleEndian.Uint32(tail[:]); have != want {
		return fmt.Errorf("damaged: checksum is %08x, the content's is %08x", have, want)
	}
	if err := a.dev.Sync(); err != nil {
		return err
	}
	a.updates = h.Updates
	return nil
}

// readChunk is the inverse of appendChunk.
func readChunk(in io.Reader, values []float64, bytes []byte) error {
	var width [1]byte
	if _, err := io.ReadFull(in, width[:]); err != nil {
		return err
	}
	if width[0] != 4 && width[0] != 8 {
		return fmt.Errorf("damaged: width of floats is %d, want 4 or 8", width[0])
	}
	bytes = bytes[:len(values)*int(width[0])]
	if _, err := io.ReadFull(in, bytes); err != nil {
		return err
	}
	for i := range values {
		if width[0] == 4 {
			values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(bytes[4*i:])))
		} else {
			values[i] = math.Float64frombits(binary.LittleEndian.Uint64(bytes[8*i:]))
		}
	}
	return nil
}

// summed computes the checksum of what is read through it.
type summed struct {
	r   io.Reader
	sum hash.Hash32
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	return n, err
}
