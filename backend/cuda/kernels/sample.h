// sample.h is what sample.cu does with a row: the order and the masses of its
// tokens, how it is read, and how a range of it is counted in bins.
//
// Threads read 16 bytes at once where rows are aligned, with all of a chunk under
// way before the first is used. Which logits a thread has depends on neither the
// alignment nor other rows, so sums have the same bits everywhere. Which bin a token
// is in is one function of its logit in all passes, or they would not fit together.
#pragma once
#include "kernel.h"

typedef unsigned long long mass;

constexpr mass whole = 1ull << 40; // of the likeliest token
constexpr int few = 256;           // as many candidates are ranked at once
constexpr int PART = 8192;         // logits; sample.go has the same
constexpr int BINS = 16;
constexpr int CHUNK = 16;          // logits that a thread has in registers

// request is what a row asks for; sample.go has the same in Go.
struct request {
	double top_p, min_p, u; // top_p 0, min_p 0: off
	float scale;            // 1/temperature
	int greedy, top_k;      // top_k 0: off
	int alternatives, at;   // how many, and where the first goes
	int unused;
};

// result is what the host makes the row's log-probabilities of.
struct result {
	int id;
	float x;             // its logit
	float top;           // the largest logit
	float sum, weighted; // Σ e and Σ e·y with y = scale·(x−top), e = exp y
	int unused;          // alternatives follow the results at a multiple of 8
};

struct alternative {
	int id;
	float x;
};

// tally is how many tokens there are in each bin, and their mass.
struct tally {
	mass masses[BINS];
	int counts[BINS];
};

// part is what is known of a part of a row: by sample_top, then by sample_sum.
struct part {
	mass best;    // the likeliest token, see place_of
	float bottom; // the smallest logit, NaN aside
	float sum, weighted;
	int unused;
	tally bins;
};

// key_of is an integer that orders as x does; NaN comes before −Inf, and both
// zeros are one.
DEVICE unsigned key_of(float x) {
	unsigned u = float_bits(x + 0.0f); // −0 + 0 is 0
	return f_isnan(x) ? 0 : u ^ (unsigned(int(u) >> 31) | 0x80000000u);
}
// value_of is the inverse of key_of.
DEVICE float value_of(unsigned key) { return bits_float(key >> 31 ? key & 0x7fffffffu : ~key); }

// place_of is the place of a token in the order: the earlier the larger.
DEVICE mass place_of(float x, int id) { return mass(key_of(x)) << 32 | unsigned(~id); }

// shared is what the threads of a block share.
struct shared {
	mass masses[32];
	mass found_mass;
	int counts[32];
	float floats[32];
	int found_id, listed;
	unsigned found_key;
	tally first, split; // of all tokens, and of a range
	unsigned keys[few];
	int ids[few];
	mass weights[few];
};

DEVICE mass shfl_xor(mass v, int mask) {
	return mass(shfl_xor(unsigned(v >> 32), mask)) << 32 | shfl_xor(unsigned(v), mask);
}

// add_lanes is the sum over the warp of a count and a mass, for all lanes, add_up
// that over the block.
DEVICE void add_lanes(int& count, mass& m) {
	UNROLL for (int d = 16; d; d >>= 1) {
		count += shfl_xor(count, d);
		m += shfl_xor(m, d);
	}
}
DEVICE void add_up(int& count, mass& m, shared& s) {
	add_lanes(count, m);
	if (lane() == 0) {
		s.counts[warp()] = count;
		s.masses[warp()] = m;
	}
	sync();
	count = 0, m = 0;
	for (int i = 0; i < threads() / 32; i++) {
		count += s.counts[i];
		m += s.masses[i];
	}
	sync();
}

// largest is the largest v of the block, for all threads.
DEVICE mass largest(mass v, shared& s) {
	UNROLL for (int d = 16; d; d >>= 1) {
		mass o = shfl_xor(v, d);
		v = o > v ? o : v;
	}
	if (lane() == 0) s.masses[warp()] = v;
	sync();
	for (int i = 0; i < threads() / 32; i++) v = s.masses[i] > v ? s.masses[i] : v;
	sync();
	return v;
}

// row is one row in the hands of a block.
template <typename T> struct row {
	const T* x;
	int vocab;
	float scale;
	unsigned top;  // key of the likeliest
	float high;    // its logit
	float inverse; // of the width of the first bins
};

// likeliest makes known the likeliest token and the smallest logit of the row.
template <typename T> DEVICE void likeliest(row<T>& r, mass place, float bottom) {
	r.top = unsigned(place >> 32);
	r.high = value_of(r.top);
	// A bin is a nat wide, or less where the bins then cover all the row.
	float by = (BINS - 1) / (r.high - bottom);
	r.inverse = by > r.scale && by < bits_float(0x7f800000u) ? by : r.scale;
}

// mass_of is the mass of a token with logit x, e what its exponential is known to
// be. The likeliest has it all where it is infinite, too, or NaN.
template <typename T> DEVICE mass mass_of(const row<T>& r, float x, float e) {
	return mass((x == r.high || r.top == 0 ? 1.0f : f_max(e, 0)) * float(whole));
}
template <typename T> DEVICE mass mass_of(const row<T>& r, float x) {
	return mass_of(r, x, f_exp_below(r.scale * (x - r.high)));
}

// each_chunk calls f(x, i, n) with all logits at [begin, end), in chunks: element e
// of x is at id(i, e), but those at end and later are not there; n is whether
// all are. All loads of a chunk are under way before one is used.
template <typename T> DEVICE int id(int i, int e) {
	constexpr int N = run_of<T>;
	return i + e / N * threads() * N + e % N;
}
template <typename T, typename F> DEVICE void each_chunk(const row<T>& r, int begin, int end, F f) {
	constexpr int N = run_of<T>, RUNS = CHUNK / N;
	const bool aligned = aligned16(r.x + begin);
	for (int i = begin + thread() * N; i < end; i += threads() * CHUNK) {
		float x[CHUNK];
		if (aligned && id<T>(i, CHUNK - 1) < end) {
			vec16 v[RUNS];
			UNROLL for (int j = 0; j < RUNS; j++) v[j] = load16(r.x + id<T>(i, j * N));
			UNROLL for (int j = 0; j < RUNS; j++) unpack_run(x + j * N, r.x, v[j]);
		} else {
			UNROLL for (int e = 0; e < CHUNK; e++) x[e] = id<T>(i, e) < end ? to_float(r.x[id<T>(i, e)]) : 0.0f;
		}
		f(x, i, id<T>(i, CHUNK - 1) < end);
	}
}

// range is the keys from first to last.
struct range {
	unsigned first, last;
};

// each_inside calls f(x, id) with the tokens at [begin, end) that have a key in the
// range. What few lanes do the others wait for: so each goes through its own list.
template <typename T, typename F> DEVICE void each_inside(const row<T>& r, range k, int begin, int end, F f) {
	each_chunk(r, begin, end, [&](const float* x, int i, bool all) {
		unsigned in = 0;
		UNROLL for (int e = 0; e < CHUNK; e++) in |= unsigned(key_of(x[e]) - k.first <= k.last - k.first) << e;
		if (!all) {
			UNROLL for (int e = 0; e < CHUNK; e++) in &= ~(unsigned(id<T>(i, e) >= end) << e);
		}
		for (; in; in &= in - 1) {
			int at = id<T>(i, __builtin_ctz(in));
			f(to_float(r.x[at]), at);
		}
	});
}

// bins cuts a range into BINS, from the largest key down: they are equally wide,
// but for what is left for the last one; or equal in keys, which always gets on.
struct bins {
	float high, inverse; // the largest logit, and 1/width
	unsigned last;
	int shift; // of keys; −1: by logits
};

// bin_of does not grow with the key, x being its value, as it rounds every step in
// one direction. NaN and −Inf are in the last bin.
DEVICE int bin_of(const bins& b, float x, unsigned key) {
	if (b.shift >= 0) return int((b.last - key) >> b.shift);
	return int(float_bits(f_min(f_fma(b.high - x, b.inverse, whole_bits), whole_bits + (BINS - 1))) & (BINS - 1));
}

// bins_of are the bins for a range: the first ones of all tokens, in which pass 0
// is, then ever wider ones while the range has no finite end; if it has, those
// that share it out.
template <typename T> DEVICE bins bins_of(const row<T>& r, range k, int pass) {
	const float infinite = bits_float(0x7f800000u);
	bins b = {value_of(k.last), r.inverse, k.last, -1};
	if (pass == 0) return b;
	float width = b.high - value_of(k.first);
	bool on = pass < 6;
	if (f_abs(width) < infinite) {
		b.inverse = (BINS - 1) / width;
	} else {
		b.inverse /= pass == 1 ? 8 : 64;
		on = pass < 3 && f_abs(b.high) < infinite;
	}
	if (on && b.inverse > 0 && b.inverse < infinite) return b;
	b.shift = 0;
	while ((k.last - k.first) >> b.shift >= BINS) b.shift++;
	return b;
}

// first_not is the first key of a range for which f is false, the one after the
// range if there is none; with growing keys f turns false once. The lanes of a
// warp try 32 at a time.
template <typename F> DEVICE unsigned first_not(range k, F f) {
	unsigned long long low = k.first, high = k.last + 1ull;
	while (low < high) {
		unsigned long long step = (high - low + 31) / 32, at = low + lane() * step;
		int passed = __builtin_popcount(ballot(at < high && f(unsigned(at))));
		if (passed == 0) break;
		unsigned long long next = low + passed * step;
		low = next - step + 1;
		high = next < high ? next : high;
	}
	return unsigned(low);
}

// A column is what a thread counts alone, without atomics: a number for each bin,
// neighbours in shared memory being those of neighbouring threads. It holds a mass
// in 50 bits, the count above: enough for most tokens.
constexpr int most = 1008;
constexpr mass one = 1ull << 50;

DEVICE void clear(mass* columns) {
	UNROLL for (int b = 0; b < BINS; b++) columns[b * threads() + thread()] = 0;
}

// add_columns puts the sums of all columns to a tally, one warp a bin.
DEVICE void add_columns(tally& to, const mass* columns, bool fresh) {
	sync();
	for (int b = warp(); b < BINS; b += threads() / 32) {
		int count = 0;
		mass m = 0;
		for (int i = lane(); i < threads(); i += 32) {
			mass v = columns[b * threads() + i];
			count += int(v >> 50);
			m += v & (one - 1);
		}
		add_lanes(count, m);
		if (lane() == 0) {
			to.counts[b] = fresh ? count : to.counts[b] + count;
			to.masses[b] = fresh ? m : to.masses[b] + m;
		}
	}
	sync();
}

// split counts the tokens of a range in bins, into s.split.
template <typename T> DEVICE void split(const row<T>& r, range k, const bins& b, shared& s, mass* columns) {
	for (int begin = 0, end; begin < r.vocab; begin = end) {
		end = r.vocab - begin > most * threads() ? begin + most * threads() : r.vocab;
		clear(columns);
		each_inside(r, k, begin, end, [&](float x, int) { columns[bin_of(b, x, key_of(x)) * threads() + thread()] += one + mass_of(r, x); });
		add_columns(s.split, columns, begin == 0);
	}
}
