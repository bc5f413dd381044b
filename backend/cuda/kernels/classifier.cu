// The softmax over a vocabulary: matrix products make float32 logits for some rows
// and a chunk of the vocabulary, and the kernels here read them once. All of them
// together are held only where the caller has memory for them.
//
// A row is read in parts of PART logits, and the parts are joined in ascending
// order. Both are the same whatever the chunks are, so a row's bits depend on its
// logits alone.
#include "kernel.h"

constexpr int PART = 2048, THREADS = 128;

// Of x, the logits times scale, a part has top = max x, sum = Σ exp(x-top) and
// weighted = Σ exp(x-top)·(x-top).

// class_parts: a warp has a part of a row, a block (row, four parts of the
// chunk). logits (rows, pitch) are those of the vocabulary from first on, cols of
// them; first is a multiple of PART. parts is (parts of the vocabulary, rows, 3);
// picked[row] = the target's x, if it is here.
KERNEL_OF(THREADS, class_parts, (const float* logits, int rows, int pitch, int first, int cols, float scale, const int* targets, float* parts, float* picked)) {
	constexpr int N = PART / 32, RUN = run_of<float>;
	const int row = block_x(), from = (block_y() * (THREADS / 32) + warp()) * PART;
	if (from >= cols) return;
	const float* in = logits + (long long)row * pitch + from;
	const bool aligned = aligned16(in);
	const float low = -bits_float(0x7f800000u);
	float x[N], top = low;
	UNROLL for (int i = 0; i < N; i += RUN) {
		int at = (lane() + i / RUN * 32) * RUN;
		load_run<RUN>(x + i, in + at, cols - from - at, aligned);
	}
	UNROLL for (int i = 0; i < N; i++) {
		x[i] = from + (lane() + i / RUN * 32) * RUN + i % RUN < cols ? scale * x[i] : low;
		top = f_max(top, x[i]);
	}
	top = warp_max(top);
	float sum = 0, weighted = 0;
	UNROLL for (int i = 0; i < N; i++) {
		float below = x[i] - top, e = f_exp_below(below);
		if (from + (lane() + i / RUN * 32) * RUN + i % RUN >= cols) e = 0;
		sum += e;
		if (e > 0) weighted = f_fma(e, below, weighted);
	}
	sum = warp_sum(sum);
	weighted = warp_sum(weighted);
	if (lane()) return;
	float* out = parts + ((long long)((first + from) / PART) * rows + row) * 3;
	out[0] = top;
	out[1] = sum;
	out[2] = weighted;
	int target = targets[row] - first - from;
	if (target >= 0 && target < PART && from + target < cols) picked[row] = scale * in[target];
}

// class_join joins a row's parts into out (rows, 4): top, sum, weighted, picked.
// The logarithm is the host's, in float64.
KERNEL(class_join, (const float* parts, int count, int rows, const float* picked, float* out)) {
	int row = block_x() * threads() + thread();
	if (row >= rows) return;
	float top = parts[3 * row], sum = parts[3 * row + 1], weighted = parts[3 * row + 2];
	for (int i = 1; i < count; i++) {
		const float* part = parts + ((long long)i * rows + row) * 3;
		float high = f_max(top, part[0]);
		// Each side is exp(top-high) times what it would be against its own top.
		float by = f_exp(top - high), below = top - high;
		weighted = by > 0 ? by * f_fma(below, sum, weighted) : 0.0f;
		sum *= by;
		by = f_exp(part[0] - high), below = part[0] - high;
		if (by > 0) weighted += by * f_fma(below, part[1], part[2]);
		sum += by * part[1];
		top = high;
	}
	float* to = out + 4ll * row;
	to[0] = top;
	to[1] = sum;
	to[2] = weighted;
	to[3] = picked[row];
}

// class_grad: out (rows, to_pitch) is the gradient of Σ -(logp·log π(target) + ent·H)
// at the logits (rows, pitch) of the vocabulary from first on, or takes their place.
// terms (rows, 4) holds lse, H, logp·scale
// and ent·scale. A thread does a run of eight columns of a row.
template <typename T>
DEVICE void gradient(T* out, int to_pitch, const float* logits, int pitch, int first, int cols, float scale, const int* targets, const float* terms) {
	constexpr int N = 8;
	const int row = block_x(), col = (block_y() * THREADS + thread()) * N;
	if (col >= cols) return;
	vec16 v = load16(terms + 4ll * row);
	const float lse = bits_float(v.x), entropy = bits_float(v.y), a = bits_float(v.z), b = bits_float(v.w);
	const float* in = logits + (long long)row * pitch + col;
	const int target = targets[row] - first - col;
	float x[N];
	load_run<N>(x, in, cols - col, aligned16(in));
	UNROLL for (int i = 0; i < N; i++) {
		float logp = f_fma(scale, x[i], -lse), p = f_exp_below(logp);
		float g = p == 0 ? 0.0f : p * f_fma(b, logp + entropy, a);
		x[i] = i == target ? g - a : g;
	}
	out += (long long)row * to_pitch + col;
	store_run<N>(out, x, cols - col, aligned16(out));
}
KERNEL_OF(THREADS, class_grad_f32, (float* out, int to_pitch, const float* logits, int pitch, int first, int cols, float scale, const int* targets, const float* terms)) {
	gradient(out, to_pitch, logits, pitch, first, cols, scale, targets, terms);
}
KERNEL_OF(THREADS, class_grad_bf16, (bf16* out, int to_pitch, const float* logits, int pitch, int first, int cols, float scale, const int* targets, const float* terms)) {
	gradient(out, to_pitch, logits, pitch, first, cols, scale, targets, terms);
}
