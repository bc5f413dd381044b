// Sample draws one token from each row of logits, a block to the row.
//
// The order of drawing is that of descending logits, ties by lower id; no row is
// ever sorted. Every logit has a key, an integer with the same order, and every
// token a mass, its probability relative to the likeliest as a whole number of
// 2⁻⁴⁰. Whole numbers add up to the same sum in any order, so a row's result does
// not depend on threads or other rows, and counting and drawing cannot disagree.
// A truncation keeps a beginning of the order, of which only the mass matters; a
// draw looks for the token at which so much mass is reached (reach).
#include "kernel.h"

typedef unsigned long long mass;

constexpr mass whole = 1ull << 40; // of the likeliest token
constexpr int few = 256;           // as many candidates are ranked at once

// request is what a row asks for; sample.go has the same in Go.
struct request {
	double top_p, min_p, u; // top_p 0, min_p 0: off
	float scale;            // 1/temperature
	int greedy, top_k;      // top_k 0: off
	int ban, bans;          // which must not be drawn: bans[ban] …, so many, none twice
	int alternatives, at;   // how many, and where the first goes
	int unused;
};

// result is what the host makes the row's log-probabilities of.
struct result {
	int id;              // −1 if all are banned
	float x;             // its logit
	float top;           // the largest logit
	float sum, weighted; // Σ e and Σ e·y with y = scale·(x−top), e = exp y
	int unused;          // alternatives follow the results at a multiple of 8
};

struct alternative {
	int id;
	float x;
};

// key_of is an integer that orders as x does; NaN comes before −Inf, and both
// zeros are one.
DEVICE unsigned key_of(float x) {
	if (f_isnan(x)) return 0;
	unsigned u = x == 0 ? 0 : float_bits(x);
	return u >> 31 ? ~u : u | 0x80000000u;
}
// value_of is the inverse of key_of.
DEVICE float value_of(unsigned key) { return bits_float(key >> 31 ? key & 0x7fffffffu : ~key); }

// shared is what the threads of a block share.
struct shared {
	mass masses[32];
	mass found_mass;
	int counts[32];
	float floats[32];
	int found_count, found_id, listed;
	unsigned found_key;
	unsigned keys[few];
	int ids[few];
	mass weights[few];
};

DEVICE mass shfl_xor(mass v, int mask) {
	return mass(shfl_xor(unsigned(v >> 32), mask)) << 32 | shfl_xor(unsigned(v), mask);
}

// add_up is the sum over the block of a count and a mass, for all threads.
DEVICE void add_up(int& count, mass& m, shared& s) {
	UNROLL for (int d = 16; d; d >>= 1) {
		count += shfl_xor(count, d);
		m += shfl_xor(m, d);
	}
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
	const unsigned* banned; // a bit for each id, or null
	unsigned top;           // key of the likeliest that is not banned
};

template <typename T> DEVICE unsigned key_at(const row<T>& r, int i) { return key_of(to_float(r.x[i])); }
template <typename T> DEVICE bool allowed(const row<T>& r, int i) {
	return !r.banned || !(r.banned[i >> 5] >> (i & 31) & 1);
}

// mass_of is the mass of the tokens with this key.
template <typename T> DEVICE mass mass_of(const row<T>& r, unsigned key) {
	if (key == r.top) return whole; // also where it is infinite
	if (key == 0) return 0;
	return mass(f_exp(r.scale * (value_of(key) - value_of(r.top))) * float(whole));
}

// above counts the tokens whose key is more than limit, and their mass.
template <typename T> DEVICE void above(const row<T>& r, unsigned limit, int& count, mass& m, shared& s) {
	count = 0, m = 0;
#pragma unroll 4
	for (int i = thread(); i < r.vocab; i += threads()) {
		unsigned key = key_at(r, i);
		if (key > limit && allowed(r, i)) {
			count++;
			m += mass_of(r, key);
		}
	}
	add_up(count, m, s);
}

// goal says when a beginning of the order is enough: it has so many tokens, and
// such a mass.
struct goal {
	int count;
	mass least;
};

DEVICE bool enough(const goal& g, int count, mass m) { return count >= g.count && m >= g.least; }

// cut is the first token in the order at which a goal is reached.
struct cut {
	unsigned key;
	int id;
	mass kept; // the mass up to it, its own included
};

// tied finds the id of token number n (from 0) among those with the key. Each
// thread counts a stretch of the row.
template <typename T> DEVICE int tied(const row<T>& r, unsigned key, int n, shared& s) {
	int each = (r.vocab + threads() - 1) / threads();
	int begin = thread() * each, end = begin + each < r.vocab ? begin + each : r.vocab;
	int count = 0;
	for (int i = begin; i < end; i++) count += key_at(r, i) == key && allowed(r, i);
	int before = count; // becomes the count of all threads up to this one
	UNROLL for (int d = 1; d < 32; d <<= 1) {
		int o = shfl(before, (lane() - d) & 31);
		if (lane() >= d) before += o;
	}
	if (lane() == 31) s.counts[warp()] = before;
	sync();
	before -= count;
	for (int i = 0; i < warp(); i++) before += s.counts[i];
	if (before <= n && n < before + count) {
		n -= before;
		for (int i = begin; i < end; i++) {
			if (key_at(r, i) == key && allowed(r, i) && n-- == 0) s.found_id = i;
		}
	}
	sync();
	int id = s.found_id;
	sync();
	return id;
}

// reach finds the first token at which g is reached; all tokens together do. It
// halves the range of keys until few tokens are in it, and ranks those. Near the
// likeliest token the range is halved in logits, which is where the mass is.
template <typename T> DEVICE cut reach(const row<T>& r, int all, const goal& g, shared& s) {
	// Tokens with a key > high are not enough, those > low are. Key 0 is NaN's:
	// the tokens "> low" are then all.
	long long low = -1, high = r.top;
	int count_low = all, count_high = 0;
	mass mass_high = 0;
	float step = 1.0f / r.scale;
	for (int pass = 0; count_low - count_high > few && high - low > 1; pass++) {
		long long middle = low + (high - low) / 2;
		if (pass < 24) {
			float at = low < 0 ? value_of(r.top) - step : value_of(low) + (value_of(high) - value_of(low)) / 2;
			long long k = key_of(at);
			step *= 2;
			if (k > low && k < high) middle = k;
		}
		int count;
		mass m;
		above(r, unsigned(middle), count, m, s);
		if (enough(g, count, m)) {
			low = middle, count_low = count;
		} else {
			high = middle, count_high = count, mass_high = m;
		}
	}
	if (count_low - count_high > few) { // all of one key
		mass each = mass_of(r, unsigned(high));
		int n = g.count - count_high;
		int ties = count_low - count_high;
		if (g.least > mass_high) {
			mass lacking = g.least - mass_high;
			mass by_mass = each ? (lacking + each - 1) / each : mass(ties);
			if (by_mass > mass(n < 0 ? 0 : n)) n = by_mass < mass(ties) ? int(by_mass) : ties;
		}
		if (n < 1) n = 1;
		return {unsigned(high), tied(r, unsigned(high), n - 1, s), mass_high + n * each};
	}
	if (thread() == 0) {
		s.listed = 0;
		s.found_id = -1;
	}
	sync();
	for (int i = thread(); i < r.vocab; i += threads()) {
		long long key = key_at(r, i);
		if (key > low && key <= high && allowed(r, i)) {
			int n = atomic_add(&s.listed, 1);
			s.keys[n] = unsigned(key);
			s.ids[n] = i;
			s.weights[n] = mass_of(r, unsigned(key));
		}
	}
	sync();
	for (int t = thread(); t < s.listed; t += threads()) {
		unsigned key = s.keys[t];
		int id = s.ids[t], n = count_high;
		mass m = mass_high;
		for (int i = 0; i < s.listed; i++) {
			if (s.keys[i] > key || (s.keys[i] == key && s.ids[i] < id)) {
				n++;
				m += s.weights[i];
			}
		}
		mass with = m + s.weights[t];
		if (!enough(g, n, m) && enough(g, n + 1, with)) { // one token alone
			s.found_key = key;
			s.found_id = id;
			s.found_mass = with;
		}
	}
	sync();
	cut c = {s.found_key, s.found_id, s.found_mass};
	sync();
	return c;
}

// share is the mass that is a share of m.
DEVICE mass share(double of, mass m) { return mass(of * double(m)); }

// likely is the mass of the tokens that have the share of the likeliest's or more.
template <typename T> DEVICE mass likely(const row<T>& r, double of, shared& s) {
	int count = 0;
	mass m = 0;
	for (int i = thread(); i < r.vocab; i += threads()) {
		mass p = mass_of(r, key_at(r, i));
		if (double(p) >= of * double(whole) && allowed(r, i)) m += p;
	}
	add_up(count, m, s);
	return m;
}

// list writes the tokens up to c, in no order; the host sorts them.
template <typename T> DEVICE void list(alternative* to, const row<T>& r, const cut& c, shared& s) {
	if (thread() == 0) s.listed = 0;
	sync();
	for (int i = thread(); i < r.vocab; i += threads()) {
		unsigned key = key_at(r, i);
		if (key > c.key || (key == c.key && i <= c.id)) to[atomic_add(&s.listed, 1)] = {i, to_float(r.x[i])};
	}
}

template <typename T>
DEVICE void sample(unsigned char* out, const T* logits, const request* requests, const int* bans, int rows, int vocab,
                   shared& s, unsigned* bits) {
	if (block_x() >= rows) return;
	const request q = requests[block_x()];
	row<T> r = {logits + (long long)block_x() * vocab, vocab, q.scale, nullptr, 0};
	if (q.bans > 0) {
		for (int i = thread(); i < (vocab + 31) / 32; i += threads()) bits[i] = 0;
		sync();
		for (int i = thread(); i < q.bans; i += threads()) {
			int id = bans[q.ban + i];
			atomic_add(reinterpret_cast<int*>(&bits[id >> 5]), 1 << (id & 31)); // no id stands twice
		}
		sync();
		r.banned = bits;
	}
	result res = {-1, 0, 0, 0, 0, 0};

	// The likeliest token, of all and of the allowed: key above, ~id below, so
	// that of equals the lower id is the larger.
	mass best = 0, first = 0;
#pragma unroll 4
	for (int i = thread(); i < vocab; i += threads()) {
		mass k = mass(key_at(r, i)) << 32 | unsigned(~i);
		best = k > best ? k : best;
		if (allowed(r, i)) first = k > first ? k : first;
	}
	best = largest(best, s);
	first = largest(first, s);
	unsigned top = unsigned(best >> 32);
	res.top = value_of(top);
	r.top = unsigned(first >> 32);

	float sum = 0, weighted = 0;
	int all = 0;
	mass kept = 0;
	for (int i = thread(); i < vocab; i += threads()) {
		float x = to_float(r.x[i]);
		float y = q.scale * (x - res.top), e = f_exp(y);
		sum += e;
		if (e > 0) weighted = f_fma(e, y, weighted);
		if (allowed(r, i)) {
			all++;
			kept += mass_of(r, key_of(x));
		}
	}
	res.sum = block_sum(sum, s.floats);
	res.weighted = block_sum(weighted, s.floats);
	add_up(all, kept, s);

	// Each stage but greedy drawing looks for a place in the order.
	enum { top_k, top_p, draw, alternatives, stages };
	if (all > 0 && q.greedy) res.id = int(~unsigned(first));
	for (int stage = all > 0 && !q.greedy ? top_k : alternatives; stage < stages; stage++) {
		goal g = {1, 0};
		if (stage == top_k) {
			if (q.top_k <= 0 || q.top_k >= all) continue;
			g.count = q.top_k;
		} else if (stage == top_p) {
			if (!(q.top_p > 0)) continue;
			g.least = share(q.top_p, kept);
		} else if (stage == draw) {
			if (q.min_p > 0) {
				mass m = likely(r, q.min_p, s);
				kept = m < kept ? m : kept;
			}
			g.least = share(q.u, kept) + 1; // more than the share u
			if (g.least > kept) g.least = kept;
		} else {
			if (res.id >= 0) res.x = to_float(r.x[res.id]);
			if (thread() == 0) reinterpret_cast<result*>(out)[block_x()] = res;
			if (q.alternatives <= 0) return;
			g.count = q.alternatives; // of all tokens, banned or not
			r.banned = nullptr;
			r.top = top;
			all = vocab;
		}
		cut c = reach(r, all, g, s);
		if (stage == draw) {
			res.id = c.id;
		} else if (stage == alternatives) {
			list(reinterpret_cast<alternative*>(out + rows * sizeof(result)) + q.at, r, c, s);
		} else {
			kept = c.kept;
		}
	}
}

KERNEL_OF(1024, sample_f32, (unsigned char* out, const float* logits, const request* requests, const int* bans, int rows, int vocab)) {
	SHARED(shared, s, 1);
	DYNAMIC_SHARED(unsigned, bits);
	sample(out, logits, requests, bans, rows, vocab, s[0], bits);
}
KERNEL_OF(1024, sample_bf16, (unsigned char* out, const bf16* logits, const request* requests, const int* bans, int rows, int vocab)) {
	SHARED(shared, s, 1);
	DYNAMIC_SHARED(unsigned, bits);
	sample(out, logits, requests, bans, rows, vocab, s[0], bits);
}
