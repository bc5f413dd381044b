// Packing weights into their format and unpacking them; weights.h has the layout.
#include "weights.h"

// pack_weights_f32 and _bf16: a thread per number of the padded rows.
template <typename T> DEVICE void pack(T* to, const float* from, int rows, int cols, int pitch) {
	long long i = (long long)block_x() * threads() + thread();
	if (i >= (long long)rows * pitch) return;
	int row = int(i / pitch), col = int(i % pitch);
	to[i] = from_float<T>(col < cols ? from[(long long)row * cols + col] : 0.0f);
}
KERNEL(pack_weights_f32, (float* to, const float* from, int rows, int cols, int pitch)) { pack(to, from, rows, cols, pitch); }
KERNEL(pack_weights_bf16, (bf16* to, const float* from, int rows, int cols, int pitch)) { pack(to, from, rows, cols, pitch); }

// pack_weights_q8: a warp per block of 32. The scale is max|w|/127 rounded to
// bfloat16, NaN where a number is not finite. The quotient is taken in float64, so
// that its rounding does not move it to a tie.
KERNEL(pack_weights_q8, (unsigned char* to, bf16* scales, const float* from, int rows, int cols, int pitch)) {
	int blocks = pitch / 32;
	long long block = (long long)block_x() * (threads() / 32) + warp();
	if (block >= (long long)rows * blocks) return;
	int row = int(block / blocks), col = int(block % blocks) * 32 + lane();
	float x = col < cols ? from[(long long)row * cols + col] : 0.0f;
	float top = warp_max(f_abs(x)) / 127.0f;
	if (ballot(!(f_abs(x) <= 3.40282347e38f))) top = bits_float(0x7fc00000u);
	bf16 scale = to_bf16(top);
	double number = 0;
	if (to_float(scale) > 0) {
		const double whole = 6755399441055744.0; // 1.5·2^52: a sum with it has no fraction
		number = double(x) / double(to_float(scale)) + whole - whole;
		number = number < -127 ? -127 : number > 127 ? 127 : number; // a scale may have lost digits
	}
	long long at = (long long)row * pitch;
	to[at + col / 16 * 16 + group_byte(col % 16)] = (unsigned char)(int(number) + 128);
	if (lane() == 0) scales[(long long)row * scale_pitch(pitch) + col / 32] = scale;
}

// unpack_weights_*: rows from first on, as numbers, apart from each other. A
// thread does a run, half or a quarter of a group, so that neighbours write
// neighbouring 16 bytes.
template <typename T>
DEVICE void unpack(T* to, const void* data, const bf16* scales, int format, int pitch, int first, int rows, int apart) {
	constexpr int N = run_of<T>;
	int runs = apart / N;
	long long i = (long long)block_x() * threads() + thread();
	if (i >= (long long)rows * runs) return;
	int row = int(i / runs), col = int(i % runs) * N, in = col % 16;
	const long long at = (long long)(first + row) * pitch + col;
	float x[N];
	if (format == Q8_WEIGHTS) {
		float scale = to_float(scales[(long long)(first + row) * scale_pitch(pitch) + col / 32]);
		vec16 v = load16(static_cast<const unsigned char*>(data) + at - in);
		unsigned words[4] = {v.x, v.y, v.z, v.w};
		// Two neighbours are half of a word, the lower one in the group's first eight.
		UNROLL for (int e = 0; e < N; e += 2) {
			unsigned pair = (N == 4 && in % 8 ? words[2 + e / 2 % 2] : words[e / 2]) >> in / 8 * 16;
			x[e] = q8_number(pair, 0) * scale;
			x[e + 1] = q8_number(pair, 1) * scale;
		}
	} else if (format == F32_WEIGHTS) {
		load_run<N>(x, static_cast<const float*>(data) + at, N, true);
	} else {
		load_run<N>(x, static_cast<const bf16*>(data) + at, N, true);
	}
	store_run<N>(to + (long long)row * apart + col, x, N, true);
}
KERNEL(unpack_weights_f32, (float* to, const void* data, const bf16* scales, int format, int pitch, int first, int rows, int apart)) {
	unpack(to, data, scales, format, pitch, first, rows, apart);
}
KERNEL(unpack_weights_bf16, (bf16* to, const void* data, const bf16* scales, int format, int pitch, int first, int rows, int apart)) {
	unpack(to, data, scales, format, pitch, first, rows, apart);
}
