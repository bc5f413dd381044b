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
//	chunks    for each parameter (for each run of partLen numbers of one, if
//	          moments are in 8 bits) the first and then the second moments,
//	          at most chunkLen a chunk: one byte 4 or 8, the width, then the
//	          floats. A chunk is float32 when that keeps every bit. Moments in
//	          8 bits have width 1: a float32 scale for every device.Block8
//	          numbers, then their codes.
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
// bits, whether the device keeps float32, float64 or 8 bits.
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
	buf := a.newBuffers()
	for _, p := range a.parts {
		for i, moment := range []device.Buffer{p.m, p.v} {
			if err := a.saveMoment(b, kinds[i], moment, buf); err != nil {
				return fmt.Errorf("save optimizer: %s: %w", a.params[p.param].Name, err)
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

// kinds are those of the two moments in 8 bits.
var kinds = [2]device.Kind{device.Moment8, device.Variance8}

// buffers are the host's memory for saving and loading.
type buffers struct {
	values []float64 // a chunk
	bytes  []byte    // the same, written
	part   []float32 // with 8 bits: a part
}

func (a *AdamW) newBuffers() *buffers {
	longest := 0
	for _, p := range a.parts {
		longest = max(longest, p.value.Len())
	}
	chunk := min(chunkLen, longest)
	b := &buffers{values: make([]float64, chunk), bytes: make([]byte, 1+8*chunk)}
	if a.o.Moments8 {
		b.part = make([]float32, longest)
	}
	return b
}

// saveMoment writes the chunks of one buffer.
func (a *AdamW) saveMoment(w io.Writer, k device.Kind, moment device.Buffer, buf *buffers) error {
	n := moment.Len()
	if a.o.Moments8 {
		a.dev.Read(buf.part[:n], moment)
	}
	for at := 0; at < n; at += chunkLen {
		m := min(chunkLen, n-at)
		out := buf.bytes[:0]
		if a.o.Moments8 {
			out = appendCodes(out, k, buf.part[at:at+m])
		} else {
			a.dev.Read64(buf.values[:m], moment.View(at, m))
			out = appendChunk(out, buf.values[:m])
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
	return nil
}

// appendCodes writes a chunk of moments in 8 bits, which are x: its codes are
// those that the device has.
func appendCodes(out []byte, k device.Kind, x []float32) []byte {
	blocks := (len(x) + device.Block8 - 1) / device.Block8
	out = append(out, 1)
	scales := len(out)
	out = out[:scales+4*blocks+len(x)]
	codes := out[scales+4*blocks:]
	for b := range blocks {
		from, to := b*device.Block8, min((b+1)*device.Block8, len(x))
		s := device.EncodeMoments(k, codes[from:to], x[from:to])
		binary.LittleEndian.PutUint32(out[scales+4*b:], math.Float32bits(s))
	}
	return out
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
	buf := a.newBuffers()
	for _, p := range a.parts {
		for i, moment := range []device.Buffer{p.m, p.v} {
			if err := a.loadMoment(in, kinds[i], moment, buf); err != nil {
				return fmt.Errorf("%s: %w", a.params[p.param].Name, err)
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

// loadMoment reads the chunks of one buffer.
func (a *AdamW) loadMoment(in io.Reader, k device.Kind, moment device.Buffer, buf *buffers) error {
	n := moment.Len()
	for at := 0; at < n; at += chunkLen {
		m := min(chunkLen, n-at)
		var width [1]byte
		if _, err := io.ReadFull(in, width[:]); err != nil {
			return err
		}
		if eight := width[0] == 1; eight != a.o.Moments8 {
			is := map[bool]string{false: "32 bits or more", true: "8 bits"}
			return fmt.Errorf("the state has moments in %s, the run in %s", is[eight], is[!eight])
		}
		var err error
		switch width[0] {
		case 1:
			err = readCodes(in, k, buf.part[at:at+m], buf.bytes)
		case 4, 8:
			if err = readChunk(in, int(width[0]), buf.values[:m], buf.bytes); err == nil {
				a.dev.Write64(moment.View(at, m), buf.values[:m])
			}
		default:
			err = fmt.Errorf("damaged: width of moments is %d, want 1, 4 or 8", width[0])
		}
		if err != nil {
			return err
		}
	}
	if a.o.Moments8 {
		a.dev.Write(moment, buf.part[:n])
	}
	return nil
}

// readChunk and readCodes are the inverses of appendChunk and appendCodes, after
// the width.
func readChunk(in io.Reader, width int, values []float64, bytes []byte) error {
	bytes = bytes[:len(values)*width]
	if _, err := io.ReadFull(in, bytes); err != nil {
		return err
	}
	for i := range values {
		if width == 4 {
			values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(bytes[4*i:])))
		} else {
			values[i] = math.Float64frombits(binary.LittleEndian.Uint64(bytes[8*i:]))
		}
	}
	return nil
}

func readCodes(in io.Reader, k device.Kind, x []float32, bytes []byte) error {
	blocks := (len(x) + device.Block8 - 1) / device.Block8
	bytes = bytes[:4*blocks+len(x)]
	if _, err := io.ReadFull(in, bytes); err != nil {
		return err
	}
	codes := bytes[4*blocks:]
	for b := range blocks {
		from, to := b*device.Block8, min((b+1)*device.Block8, len(x))
		device.DecodeMoments(k, x[from:to], codes[from:to], math.Float32frombits(binary.LittleEndian.Uint32(bytes[4*b:])))
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
