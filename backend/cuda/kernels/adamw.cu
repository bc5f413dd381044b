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

// load_param and store_param move N neighbours of a parameter.
template <int N> DEVICE void load_param(float* x, const float* p, const bf16* low, long long left) {
	if (p) {
		load_run<N>(x, p, left, aligned16(p));
	} else {
		load_run<N>(x, low, left, aligned16(low));
	}
}
template <int N> DEVICE void store_param(float* p, bf16* low, const float* x, long long left) {
	if (p) store_run<N>(p, x, left, aligned16(p));
	if (low) store_run<N>(low, x, left, aligned16(low));
}

// offset is p+i, or null if p is.
template <typename T> DEVICE T* offset(T* p, long long i) { return p ? p + i : p; }

#define CONSTANTS float scale, float b1, float c1, float b2, float c2, float keep, float step, float root, float eps

template <typename G>
DEVICE void adamw(float* p, bf16* low, const G* g, float* m, float* v, long long n, CONSTANTS) {
	constexpr int N = 8;
	long long next = (long long)grid_x() * threads() * N;
	for (long long j = ((long long)block_x() * threads() + thread()) * N; j < n; j += next) {
		float x[N], d[N], a[N], b[N];
		load_param<N>(x, offset(p, j), offset(low, j), n - j);
		load_run<N>(d, g + j, n - j, aligned16(g));
		load_run<N>(a, m + j, n - j, aligned16(m));
		load_run<N>(b, v + j, n - j, aligned16(v));
		UNROLL for (int i = 0; i < N; i++) update(x[i], d[i], a[i], b[i], scale, b1, c1, b2, c2, keep, step, root, eps);
		store_param<N>(offset(p, j), offset(low, j), x, n - j);
		store_run<N>(m + j, a, n - j, aligned16(m));
		store_run<N>(v + j, b, n - j, aligned16(v));
	}
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

// adamw8: a warp has a block, a lane eight neighbours of it, whose codes are one
// word of 8 bytes. Codes stand 256 to a block, the last one filled up.
template <typename G>
DEVICE void adamw8(float* p, bf16* low, const G* g, signed char* m, float* ms, unsigned char* v, float* vs,
                   long long n, CONSTANTS) {
	constexpr int N = 8;
	long long b = (long long)block_x() * (threads() / 32) + warp();
	if (b * block >= n) return;
	long long j = b * block + lane() * N, left = n - j;
	float x[N], d[N], first[N], second[N];
	load_param<N>(x, offset(p, j), offset(low, j), left);
	load_run<N>(d, g + j, left, aligned16(g));
	float top1 = 0, top2 = 0;
	bool bad1 = false, bad2 = false;
	unsigned long long codes1 = *reinterpret_cast<const unsigned long long*>(m + j);
	unsigned long long codes2 = *reinterpret_cast<const unsigned long long*>(v + j);
	UNROLL for (int i = 0; i < N; i++) {
		first[i] = decode_first(static_cast<signed char>(codes1 >> 8 * i), ms[b]);
		second[i] = decode_second(static_cast<unsigned char>(codes2 >> 8 * i), vs[b]);
		update(x[i], d[i], first[i], second[i], scale, b1, c1, b2, c2, keep, step, root, eps);
		if (i < left) {
			top1 = f_max(top1, f_abs(first[i]));
			top2 = f_max(top2, second[i]);
			bad1 = bad1 || !(f_abs(first[i]) <= 0x1.fffffep127f);
			bad2 = bad2 || !(f_abs(second[i]) <= 0x1.fffffep127f);
		}
	}
	if (left > 0) store_param<N>(offset(p, j), offset(low, j), x, left);
	float s1 = scale_of(top1, bad1), s2 = scale_of(top2, bad2); // all lanes have read the old ones
	codes1 = codes2 = 0;
	UNROLL for (int i = 0; i < N; i++) {
		if (i < left && s1 > 0) codes1 |= (unsigned long long)(encode_first(first[i], s1) & 255) << 8 * i;
		if (i < left && s2 > 0) codes2 |= (unsigned long long)(encode_second(second[i], s2)) << 8 * i;
	}
	*reinterpret_cast<unsigned long long*>(m + j) = codes1;
	*reinterpret_cast<unsigned long long*>(v + j) = codes2;
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
