// AdamW. With g the scaled gradient and the bias corrections folded into step and
// root,
//
//	m = b1·m + c1·g,  v = b2·v + c2·g²,  p = keep·p − step·m/(√v·root + eps)
//
// A parameter is float32 (p), or bfloat16 (low), or both: then p is what learns
// and low what p rounds to. The pointer that there is not is null.
#include "kernel.h"

DEVICE void update(float& p, float g, float& m, float& v, float scale, float b1, float c1, float b2, float c2,
                   float keep, float step, float root, float eps) {
	g *= scale;
	m = f_fma(b1, m, c1 * g);
	v = f_fma(b2, v, c2 * g * g);
	p = f_fma(keep, p, -(step * m / f_fma(f_sqrt(v), root, eps)));
}

// There is a float32 beside every number, so runs are those of float32.
constexpr int N = run_of<float>;

// load_param and store_param move a run of a parameter, from number j on.
DEVICE void load_param(float* x, const float* p, const bf16* low, long long j, long long left, bool aligned) {
	if (p) {
		load_run<N>(x, p + j, left, aligned);
	} else {
		load_run<N>(x, low + j, left, aligned);
	}
}
DEVICE void store_param(float* p, bf16* low, const float* x, long long j, long long left, bool aligned) {
	if (p) store_run<N>(p + j, x, left, aligned);
	if (low) store_run<N>(low + j, x, left, aligned);
}

#define CONSTANTS float scale, float b1, float c1, float b2, float c2, float keep, float step, float root, float eps

template <typename G>
DEVICE void adamw(float* p, bf16* low, const G* g, float* m, float* v, long long n, CONSTANTS) {
	each_run<N, 4>(n, aligned16(p) && aligned16(low) && aligned16(g) && aligned16(m) && aligned16(v),
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			load_param(x[0], p, low, j, left, aligned);
			load_run<N>(x[1], g + j, left, aligned);
			load_run<N>(x[2], m + j, left, aligned);
			load_run<N>(x[3], v + j, left, aligned);
		},
		[&](float (*x)[N], long long j, long long left, bool aligned) {
			UNROLL for (int i = 0; i < N; i++) update(x[0][i], x[1][i], x[2][i], x[3][i], scale, b1, c1, b2, c2, keep, step, root, eps);
			store_param(p, low, x[0], j, left, aligned);
			store_run<N>(m + j, x[2], left, aligned);
			store_run<N>(v + j, x[3], left, aligned);
		});
}

KERNEL(adamw_f32, (float* p, bf16* low, const float* g, float* m, float* v, long long n, CONSTANTS)) {
	adamw(p, low, g, m, v, n, scale, b1, c1, b2, c2, keep, step, root, eps);
}
KERNEL(adamw_bf16, (float* p, bf16* low, const bf16* g, float* m, float* v, long long n, CONSTANTS)) {
	adamw(p, low, g, m, v, n, scale, b1, c1, b2, c2, keep, step, root, eps);
}

// Moments in 8 bits: 256 neighbours, one block, have a scale s, their largest
// magnitude. A first moment is sign(c)·(c/127)²·s with c of −127 … 127, a second
// one (c/255)⁴·s with c of 0 … 255. Package device (moments.go) is the same for
// the host, operation by operation.
constexpr int block = 256;
constexpr float least_scale = 0x1p-100f;

DEVICE float decode_first(int c, float s) {
	float t = float(c) / 127.0f;
	return t * f_abs(t) * s;
}
DEVICE float decode_second(int c, float s) {
	float t = float(c) / 255.0f;
	t *= t;
	return t * t * s;
}
DEVICE int encode_first(float x, float s) {
	int c = int(f_round(127.0f * f_sqrt(f_abs(x) / s)));
	return x < 0 ? -c : c;
}
DEVICE int encode_second(float x, float s) {
	int c = int(f_round(255.0f * f_sqrt(f_sqrt(x / s))));
	return x > 0 && c == 0 ? 1 : c;
}

// scale_of is the scale of a block of which each lane knows its own largest
// magnitude and whether it has a number that is not finite.
DEVICE float scale_of(float top, bool bad) {
	top = warp_max(top);
	if (ballot(bad)) return bits_float(0x7fc00000u);
	return top < least_scale ? 0.0f : top;
}

// adamw8: a warp has a block, a lane a run of each half of it, whose codes are one
// word. Codes stand 256 to a block, the last one filled up.
template <typename G>
DEVICE void adamw8(float* p, bf16* low, const G* g, signed char* m, float* ms, unsigned char* v, float* vs,
                   long long n, CONSTANTS) {
	constexpr int RUNS = block / (32 * N);
	long long b = (long long)block_x() * (threads() / 32) + warp();
	if (b * block >= n) return;
	bool aligned = aligned16(p) && aligned16(low) && aligned16(g);
	long long j = b * block + lane() * N, left = n - j;
	float x[RUNS][N], d[RUNS][N], first[RUNS][N], second[RUNS][N];
	unsigned codes1[RUNS], codes2[RUNS];
	UNROLL for (int r = 0; r < RUNS; r++) {
		const int at = r * 32 * N;
		load_param(x[r], p, low, j + at, left - at, aligned);
		load_run<N>(d[r], g + j + at, left - at, aligned);
		codes1[r] = *reinterpret_cast<const unsigned*>(m + j + at);
		codes2[r] = *reinterpret_cast<const unsigned*>(v + j + at);
	}
	float top1 = 0, top2 = 0;
	bool bad1 = false, bad2 = false;
	UNROLL for (int r = 0; r < RUNS; r++) {
		const int at = r * 32 * N;
		UNROLL for (int i = 0; i < N; i++) {
			float &m1 = first[r][i], &m2 = second[r][i];
			m1 = decode_first(static_cast<signed char>(codes1[r] >> 8 * i), ms[b]);
			m2 = decode_second(static_cast<unsigned char>(codes2[r] >> 8 * i), vs[b]);
			update(x[r][i], d[r][i], m1, m2, scale, b1, c1, b2, c2, keep, step, root, eps);
			if (at + i < left) {
				top1 = f_max(top1, f_abs(m1));
				top2 = f_max(top2, m2);
				bad1 = bad1 || !(f_abs(m1) <= 0x1.fffffep127f);
				bad2 = bad2 || !(f_abs(m2) <= 0x1.fffffep127f);
			}
		}
		if (at < left) store_param(p, low, x[r], j + at, left - at, aligned);
	}
	float s1 = scale_of(top1, bad1), s2 = scale_of(top2, bad2); // all lanes have read the old ones
	UNROLL for (int r = 0; r < RUNS; r++) {
		const int at = r * 32 * N;
		codes1[r] = codes2[r] = 0;
		UNROLL for (int i = 0; i < N; i++) {
			if (at + i < left && s1 > 0) codes1[r] |= unsigned(encode_first(first[r][i], s1) & 255) << 8 * i;
			if (at + i < left && s2 > 0) codes2[r] |= unsigned(encode_second(second[r][i], s2)) << 8 * i;
		}
		*reinterpret_cast<unsigned*>(m + j + at) = codes1[r];
		*reinterpret_cast<unsigned*>(v + j + at) = codes2[r];
	}
	if (lane() == 0) {
		ms[b] = s1;
		vs[b] = s2;
	}
}

KERNEL(adamw8_f32, (float* p, bf16* low, const float* g, signed char* m, float* ms, unsigned char* v, float* vs,
                    long long n, CONSTANTS)) {
	adamw8(p, low, g, m, ms, v, vs, n, scale, b1, c1, b2, c2, keep, step, root, eps);
}
KERNEL(adamw8_bf16, (float* p, bf16* low, const bf16* g, signed char* m, float* ms, unsigned char* v, float* vs,
                     long long n, CONSTANTS)) {
	adamw8(p, low, g, m, ms, v, vs, n, scale, b1, c1, b2, c2, keep, step, root, eps);
}
