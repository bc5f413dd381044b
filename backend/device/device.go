// Package device is the one interface for compute: about thirty Llama-level
// operations, forward and backward paired, that every backend implements whole.
//
// # Invariants
//
//   - All matrices are row-major and dense; (N, D) means N rows of D floats.
//   - Gradients of parameters and of the residual stream accumulate (+=);
//     gradients of all other activations are overwritten (=).
//   - Row i of a result depends on row i's inputs alone, bit for bit: never on
//     how many other rows share the call nor on the number of threads.
//   - Wrong shapes are programmer errors and panic. Failures of the device
//     itself stick and are returned by Sync.
//   - A Buffer is opaque. No pointer, stream or layout leaves a backend.
//
// Read Seq first: it is how training, prefill and cached decode are one
// attention operation. Kind (kind.go) says in how many bits a buffer is kept,
// Weights (weights.go) are matrices in fewer bits.
// devicetest holds the conformance suite.
package device

import "errors"

// Buffer is a run of floats, in the device's compute type unless its Kind is wider.
type Buffer interface {
	// Len is the number of floats.
	Len() int
	// View is the run of n floats from offset on; it shares the memory.
	View(offset, n int) Buffer
}

// Span is the rows [Start, Start+Len).
type Span struct{ Start, Len int }

// Seq is one causal run of queries and the keys it sees. Row i of Q sees all
// rows of every Past span (oldest first) and rows Own … Own+i of k and v.
//
// In training k and v are packed like q, so Own equals Q.Start, and a chain's
// Past names the prompt's rows: K chains share one prompt. In cached decode k
// and v are the cache, and Past names the blocks written earlier. The position
// of row i, for the sliding window, is the summed length of Past plus i.
type Seq struct {
	Q    Span
	Past []Span
	Own  int
}

// Heads is the shape of attention: q and out are (N, Query·Dim), k and v are
// (M, KV·Dim); query head h reads key head h·KV/Query.
type Heads struct {
	Query, KV, Dim int
	// Window > 0 limits a query at position p to keys at positions > p−Window
	// (Mistral's sliding window). 0 sees everything.
	Window int
}

// Classified is what Classifier found for each row.
type Classified struct {
	LogProb []float64 // log-probability of the target, nats
	Entropy []float64 // of the whole distribution, nats
	LSE     []float64 // log Σ exp of the scaled logits; ClassifierBackward needs it
	// Logits is nil or the caller's, Wide, LogitsLen numbers: then Classifier leaves the
	// logits in it, and ClassifierBackward reads them there in place of computing them
	// again. How they lie in it is the device's affair.
	Logits Buffer
}

// LogitsPitch is how many numbers Logits has for a row: whole lines of a cache, and
// an odd number of them, since rows a power of two apart begin at the same place of
// a cache.
func LogitsPitch(vocab int) int {
	const line = 32 // numbers
	return (vocab+line-1)/line*line | line
}

// LogitsLen is the length of Logits for so many targets.
func LogitsLen(targets, vocab int) int { return targets * LogitsPitch(vocab) }

// Coldest is the lowest temperature that logits are divided by. Below it a row is
// greedy, which is what its callers mean: quotients have more digits before the point
// than float32 has, and a draw from them would be one from their rounding.
const Coldest = 1e-6

// SampleRow says how to draw one token. Temperature 0, or one below Coldest, is
// greedy. Truncation (TopK, TopP, MinP; zero values switch each off, as does TopP 1)
// happens after the temperature, in that order; U in [0,1) then picks by inverse CDF
// over the kept tokens in descending probability, ties by lower id.
type SampleRow struct {
	Temperature float64
	TopK        int
	TopP, MinP  float64
	U           float64
	Top         int // how many alternatives to report
}

// Greedy tells whether the row takes the likeliest token.
func (r SampleRow) Greedy() bool { return r.Temperature < Coldest }

// Alternative is a token that might have been drawn.
type Alternative struct {
	ID      int32
	LogProb float64
}

// Sampled is one drawn token. LogProb, Entropy and Top are those of the full
// distribution at the row's temperature (1 when greedy), before truncation, so
// that the trainer's forward pass reproduces them.
type Sampled struct {
	ID      int32
	LogProb float64
	Entropy float64
	Top     []Alternative
}

// AdamW holds the constants of one AdamW update (Loshchilov and Hutter 2019).
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	Step                               int     // 1 for the first update
	Scale                              float64 // multiplies the gradient (clipping, averaging)
}

// Projection is one product of Project: C (m, N) from weights B (N, k).
type Projection struct {
	C, B Buffer
	N    int
}

// Rotation is one buffer of RoPE: X (len(pos), Heads·dim).
type Rotation struct {
	X     Buffer
	Heads int
}

// Scatter is one pair of ScatterRows: rows of Src go to rows of Dst.
type Scatter struct{ Dst, Src Buffer }

// ErrNoMemory is what Reserve and NewWeights fail with where no memory is left for them.
var ErrNoMemory = errors.New("no memory")

// Device computes. See the package comment for what all methods hold to.
type Device interface {
	// Name tells a person what computes, such as "cpu avx512 ×2".
	Name() string
	// Sync waits for all work and returns the first failure since New.
	Sync() error
	// Close stops workers and frees everything.
	Close() error

	// Alloc returns n zeroed floats of kind Compute.
	Alloc(n int) Buffer
	// AllocAs returns n zeroed floats of a kind.
	AllocAs(k Kind, n int) Buffer
	// Reserve is AllocAs for memory that there may not be: an error then, ErrNoMemory,
	// which is no failure that sticks.
	Reserve(k Kind, n int) (Buffer, error)
	// Lazy tells whether memory takes nothing until it is written, as the system's does.
	Lazy() bool
	// Bytes is what n floats of a kind take.
	Bytes(k Kind, n int64) int64
	// NewWeights makes Weights of rows that read hands over a few at a time, in
	// order: it fills dst, whole rows of cols numbers, from row first on. So the
	// matrix need never exist in float32 as a whole. An error of read is returned, and
	// ErrNoMemory as by Reserve.
	NewWeights(f Format, rows, cols int, read func(first int, dst []float32) error) (Weights, error)
	// Free gives a buffer from Alloc (not a view) or Weights back. To use them or their
	// views later panics.
	Free(b Buffer)
	// Write and Read convert between the host's float32 or float64 and the
	// device; lengths must agree.
	Write(dst Buffer, src []float32)
	Read(dst []float32, src Buffer)
	Write64(dst Buffer, src []float64)
	Read64(dst []float64, src Buffer)
	// Zero sets b to 0; Copy sets dst = src; Add sets dst += src; Scale b *= s.
	// Copy and Add convert where the kinds differ.
	Zero(b Buffer)
	Copy(dst, src Buffer)
	Add(dst, src Buffer)
	Scale(b Buffer, s float64)

	// GatherRows sets dst[i] = src[rows[i]], rows of width floats.
	GatherRows(dst, src Buffer, rows []int32, width int)
	// ScatterRows sets Dst[rows[i]] = Src[i] for each of out, buffers of one kind
	// that do not overlap, which a device may do together; rows must not repeat.
	ScatterRows(out []Scatter, rows []int32, width int)
	// ScatterAddRows sets dst[rows[i]] += src[i]; rows may repeat.
	ScatterAddRows(dst, src Buffer, rows []int32, width int)

	// MatMul sets C = op(A)·op(B), or C += with accumulate. C is (m, n), op(A)
	// (m, k), op(B) (k, n); transA says that A is stored (k, m), transB that B
	// is stored (n, k). C may be Wide.
	MatMul(c, a, b Buffer, m, n, k int, transA, transB, accumulate bool)
	// Project is MatMul(p.C, a, p.B, m, p.N, k, false, true, false) for each p of
	// out, the layers of a model that read the same input, which a device may start
	// together.
	Project(out []Projection, a Buffer, m, k int)

	// Embed sets out[i] = table[ids[i]]; EmbedBackward dtable[ids[i]] += dout[i]
	// (dtable Wide).
	Embed(out, table Buffer, ids []int32, dim int)
	EmbedBackward(dtable, dout Buffer, ids []int32, dim int)

	// RMSNorm sets out = x·rstd·w, rstd = 1/sqrt(mean x² + eps) (one per row,
	// kept for the backward pass, Wide). x is (rows, dim), w (dim).
	RMSNorm(out, rstd, x, w Buffer, rows, dim int, eps float64)
	// RMSNormBackward: dx += , dw += (Wide); dw nil is not wanted.
	RMSNormBackward(dx, dw, dout, x, w, rstd Buffer, rows, dim int)

	// RoPE rotates each head of the buffers of out in place, which a device may do
	// together: the pair (i, i+dim/2) by the angle whose cosine and sine stand in
	// row pos of the tables (positions, dim/2; Wide). inverse rotates back, which
	// is the backward.
	RoPE(out []Rotation, cos, sin Buffer, pos []int32, dim int, inverse bool)

	// Attention is softmax(q·kᵀ/√Dim)·v over what each Seq sees. lse (rows of
	// q, Query; Wide) keeps log Σ exp of the scaled scores for the backward pass.
	Attention(out, lse, q, k, v Buffer, seqs []Seq, h Heads)
	// AttentionBackward: dq = ; dk, dv += (several runs may share a prefix), so
	// the caller zeroes dk and dv.
	AttentionBackward(dq, dk, dv, dout, q, k, v, out, lse Buffer, seqs []Seq, h Heads)

	// SwiGLU sets out = silu(gate)·up; the backward overwrites dgate and dup.
	SwiGLU(out, gate, up Buffer)
	SwiGLUBackward(dgate, dup, dout, gate, up Buffer)

	// Classifier computes logits = invTemp·h·wᵀ for h (len(targets), dim) and w
	// (vocab, dim), chunked so that rows×vocab is not held unless out.Logits is there
	// for it, and fills out (its slices have len(targets)).
	Classifier(out Classified, h, w Buffer, targets []int32, vocab, dim int, invTemp float64)
	// ClassifierBackward is the gradient of the loss −Σ_t (wLogp_t·log π(target_t)
	// + wEnt_t·H_t); wEnt may be nil. dh = , dw += (Wide); dw nil is not wanted. At
	// the logits that is −invTemp·(wLogp·(1[v=target] − p_v) − wEnt·p_v·(log p_v + H)).
	// fwd.Logits change no bit of it, unless a library's products depend on their shape.
	ClassifierBackward(dh, dw, h, w Buffer, targets []int32, vocab, dim int, invTemp float64, fwd Classified, wLogp, wEnt []float64)
	// Sample draws one token from each row of logits (len(rows), vocab; may be
	// Wide).
	Sample(out []Sampled, logits Buffer, rows []SampleRow, vocab int)

	// AdamW updates p with gradient g and moments m, v (all the same length): p
	// is Master where that makes a difference, g Wide, m and v are Wide, or Moment8
	// and Variance8.
	AdamW(p, g, m, v Buffer, o AdamW)
	// SumSquares is Σ b², summed in float64 in a fixed order.
	SumSquares(b Buffer) float64
}
