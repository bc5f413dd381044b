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

// store_group writes 16 numbers.
DEVICE void store_group(float* to, const float x[16]) {
	UNROLL for (int i = 0; i < 16; i += 4)
		store16(to + i, {float_bits(x[i]), float_bits(x[i + 1]), float_bits(x[i + 2]), float_bits(x[i + 3])});
}
DEVICE void store_group(bf16* to, const float x[16]) {
	UNROLL for (int i = 0; i < 16; i += 8)
		store16(to + i, {pack_bf16(x[i], x[i + 1]), pack_bf16(x[i + 2], x[i + 3]), pack_bf16(x[i + 4], x[i + 5]), pack_bf16(x[i + 6], x[i + 7])});
}

// unpack_weights_*: rows from first on, as numbers, apart from each other. A
// thread does a group of 16.
template <typename T>
DEVICE void unpack(T* to, const void* data, const bf16* scales, int format, int pitch, int first, int rows, int apart) {
	int groups = apart / 16;
	long long i = (long long)block_x() * threads() + thread();
	if (i >= (long long)rows * groups) return;
	int row = int(i / groups), col = int(i % groups) * 16;
	const long long at = (long long)(first + row) * pitch + col;
	float x[16];
	if (format == Q8_WEIGHTS) {
		float scale = to_float(scales[(long long)(first + row) * scale_pitch(pitch) + col / 32]);
		vec16 v = load16(static_cast<const unsigned char*>(data) + at);
		unsigned words[4] = {v.x, v.y, v.z, v.w};
		UNROLL for (int b = 0; b < 16; b++) x[group_number(b)] = q8_number(words[b / 4], b % 4) * scale;
	} else {
		UNROLL for (int e = 0; e < 16; e++)
			x[e] = format == F32_WEIGHTS ? static_cast<const float*>(data)[at + e] : to_float(static_cast<const bf16*>(data)[at + e]);
	}
	store_group(to + (long long)row * apart + col, x);
}
KERNEL(unpack_weights_f32, (float* to, const void* data, const bf16* scales, int format, int pitch, int first, int rows, int apart)) {
	unpack(to, data, scales, format, pitch, first, rows, apart);
}
KERNEL(unpack_weights_bf16, (bf16* to, const void* data, const bf16* scales, int format, int pitch, int first, int rows, int apart)) {
	unpack(to, data, scales, format, pitch, first, rows, apart);
}
