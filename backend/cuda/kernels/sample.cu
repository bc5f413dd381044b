// Sample draws one token from each row of logits.
//
// The order of drawing is that of descending logits, ties by lower id; no row is
// ever sorted. Every logit has a key, an integer with the same order, and every
// token a mass, its probability relative to the likeliest as a whole number of
// 2⁻⁴⁰. Whole numbers add up to the same sum in any order, so a row's result does
// not depend on threads or other rows, and counting and drawing cannot disagree.
// A truncation keeps a beginning of the order, of which only the mass matters; a
// draw looks for the token at which so much mass is reached (reach).
//
// # Passes
//
// Three kernels follow one another. sample_top finds each part's largest logit,
// sample_sum adds up each part and puts its tokens into 16 bins by their logits,
// both with a block for each part of each row, so that one row too keeps many
// multiprocessors busy. sample_draw has a block for each row: it joins the parts,
// picks the bin in which a goal is reached, splits that into 16 again while more
// than 256 tokens are in it, and ranks the rest. So a row is read by
//
//	sample_top, sample_sum          once each
//	sample_draw, a trained model    once: the bins are one nat wide, and those with
//	                                the mass have few tokens
//	a random model, 128,256 logits  three times: 128,256 → some 28,000 in a bin →
//	of a normal distribution        1,900 → 130, which are ranked; whatever the
//	                                spread, as bins cover it all where it is small
//	all logits equal                twice, to see that they are and to count along the
//	                                ids
//
// for the draw, and as often, less the first two, for each of top-k, top-p and the
// alternatives; min-p reads it once. Where there is a pass, the instructions on each
// logit are the time, not the memory: one on each of 128,256 logits is 0.6 µs of a
// multiprocessor. So passes of sample_draw first mark which tokens are in their
// range, eight instructions each, and do the rest for those alone.
#include "sample.h"

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

// tied finds the id of token number n (from 0) among those with the key: the warps
// count a stretch each, then all share out the one that has it.
template <typename T> DEVICE int tied(const row<T>& r, unsigned key, int n, shared& s) {
	const int warps = threads() / 32;
	int begin = 0, end = r.vocab;
	for (;;) {
		int each = ((end - begin + warps - 1) / warps + 31) / 32 * 32;
		int from = begin + warp() * each, to = end - from > each ? from + each : end;
		int count = 0;
#pragma unroll 4
		for (int i = from + lane(); i < to; i += 32) count += key_of(to_float(r.x[i])) == key;
		mass none = 0;
		add_lanes(count, none);
		if (lane() == 0) s.counts[warp()] = count;
		sync();
		int w = 0;
		for (; w < warps - 1 && n >= s.counts[w]; w++) n -= s.counts[w];
		sync();
		begin += w * each;
		end = end - begin > each ? begin + each : end;
		if (each <= 32) break;
	}
	int i = begin + lane();
	bool is = i < end && key_of(to_float(r.x[i])) == key;
	int before = __builtin_popcount(ballot(is) & ((1u << lane()) - 1));
	return begin + __builtin_ctz(ballot(is && before == n));
}

// extent is the range from the smallest to the largest key of the tokens in k.
template <typename T> DEVICE range extent(const row<T>& r, range k, shared& s) {
	mass last = 0, first = 0; // the latter inverted
	each_inside(r, k, 0, r.vocab, [&](float x, int) {
		unsigned key = key_of(x);
		last = key > last ? key : last;
		first = ~key > first ? ~key : first;
	});
	last = largest(last, s);
	return {~unsigned(largest(first, s)), unsigned(last)};
}

// reach finds the first token at which g is reached; all tokens together do, and are
// counted in s.first. It goes from bin to bin until few tokens are in one, and ranks
// those. Where a bin has most of them again they may be equal, or far from its ends:
// extent tells.
template <typename T> DEVICE cut reach(const row<T>& r, const goal& g, shared& s, mass* columns) {
	range k = {0, r.top};
	int before = 0, count = r.vocab; // tokens before the range, and in it
	mass mass_before = 0;
	for (int pass = 0; count > few && k.first < k.last; pass++) {
		bins b = bins_of(r, k, pass);
		if (pass > 0) split(r, k, b, s, columns);
		const tally& t = pass > 0 ? s.split : s.first;
		int n = 0;
		for (; n < BINS - 1 && !enough(g, before + t.counts[n], mass_before + t.masses[n]); n++) {
			before += t.counts[n];
			mass_before += t.masses[n];
		}
		const bool stuck = t.counts[n] > count / 2;
		count = t.counts[n];
		unsigned first = first_not(k, [&](unsigned key) { return bin_of(b, value_of(key), key) > n; });
		k = {first, first_not({first, k.last}, [&](unsigned key) { return bin_of(b, value_of(key), key) >= n; }) - 1};
		if (stuck && count > few && k.first < k.last) k = extent(r, k, s);
	}
	if (count > few) { // all of one key
		mass each = mass_of(r, value_of(k.last));
		int n = g.count - before;
		if (g.least > mass_before) {
			mass lacking = g.least - mass_before;
			mass by_mass = each ? (lacking + each - 1) / each : mass(count);
			if (by_mass > mass(n < 0 ? 0 : n)) n = by_mass < mass(count) ? int(by_mass) : count;
		}
		if (n < 1) n = 1;
		return {k.last, tied(r, k.last, n - 1, s), mass_before + n * each};
	}
	if (thread() == 0) {
		s.listed = 0;
		s.found_id = -1;
	}
	sync();
	each_inside(r, k, 0, r.vocab, [&](float x, int id) {
		int n = atomic_add(&s.listed, 1);
		if (n >= few) return; // there are count of them
		s.keys[n] = key_of(x);
		s.ids[n] = id;
		s.weights[n] = mass_of(r, x);
	});
	sync();
	for (int t = thread(); t < count; t += threads()) {
		unsigned key = s.keys[t];
		int id = s.ids[t], n = before;
		mass m = mass_before;
		for (int i = 0; i < count; i++) {
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
	unsigned first = first_not({0, r.top}, [&](unsigned key) { return double(mass_of(r, value_of(key))) < of * double(whole); });
	if (first > r.top) return 0;
	int count = 0;
	mass m = 0;
	each_inside(r, {first, r.top}, 0, r.vocab, [&](float x, int) { m += mass_of(r, x); });
	add_up(count, m, s);
	return m;
}

// list writes the tokens up to c, in no order; the host sorts them.
template <typename T> DEVICE void list(alternative* to, const row<T>& r, const cut& c, shared& s) {
	if (thread() == 0) s.listed = 0;
	sync();
	each_inside(r, {c.key, r.top}, 0, r.vocab, [&](float x, int id) {
		if (key_of(x) > c.key || id <= c.id) to[atomic_add(&s.listed, 1)] = {id, x};
	});
}

// row_at is row i of a call.
template <typename T> DEVICE row<T> row_at(const T* logits, const request& q, int i, int vocab) {
	return {logits + (long long)i * vocab, vocab, q.scale, 0, 0, 0};
}

// tops joins what sample_top found in the parts of a row.
struct tops {
	mass best;
	float bottom;
};
DEVICE tops tops_of(const part* of, int parts, shared& s) {
	tops t = {0, bits_float(0x7f800000u)};
	for (int i = thread(); i < parts; i += threads()) {
		t.best = of[i].best > t.best ? of[i].best : t.best;
		t.bottom = f_min(of[i].bottom, t.bottom);
	}
	return {largest(t.best, s), -block_max(-t.bottom, s.floats)};
}

// top: block (row, part).
template <typename T> DEVICE void top(part* out, const T* logits, const request* requests, int vocab, shared& s) {
	const row<T> r = row_at(logits, requests[block_x()], block_x(), vocab);
	const int begin = block_y() * PART, end = vocab - begin > PART ? begin + PART : vocab;
	mass best = 0;
	float bottom = bits_float(0x7f800000u);
	each_chunk(r, begin, end, [&](const float* x, int i, bool all) {
		UNROLL for (int e = 0; e < CHUNK; e++) {
			int at = id<T>(i, e);
			if (!all && at >= end) continue;
			mass place = place_of(x[e], at);
			bottom = f_min(x[e], bottom);
			best = place > best ? place : best;
		}
	});
	best = largest(best, s);
	bottom = -block_max(-bottom, s.floats);
	if (thread()) return;
	part& to = out[(long long)block_x() * grid_y() + block_y()];
	to.best = best, to.bottom = bottom;
}

// sum: block (row, part).
template <typename T>
DEVICE void sum(part* parts, const T* logits, const request* requests, int vocab, shared& s, mass* columns) {
	part* of = parts + (long long)block_x() * grid_y();
	row<T> r = row_at(logits, requests[block_x()], block_x(), vocab);
	const int begin = block_y() * PART, end = vocab - begin > PART ? begin + PART : vocab;
	const tops t = tops_of(of, grid_y(), s);
	likeliest(r, t.best, t.bottom);
	const bins b = bins_of(r, {0, r.top}, 0);
	clear(columns);
	float sum = 0, weighted = 0;
	auto add = [&](float x) {
		float y = r.scale * (x - r.high), e = f_exp_below(y);
		sum += e;
		if (e > 0) weighted = f_fma(e, y, weighted);
		return e;
	};
	auto count = [&](float x, mass m) { columns[bin_of(b, x, key_of(x)) * threads() + thread()] += one + m; };
	each_chunk(r, begin, end, [&](const float* x, int i, bool all) {
		if (all) {
			UNROLL for (int e = 0; e < CHUNK; e++) count(x[e], mass_of(r, x[e], add(x[e])));
			return;
		}
		UNROLL for (int e = 0; e < CHUNK; e++) {
			if (id<T>(i, e) < end) count(x[e], mass_of(r, x[e], add(x[e])));
		}
	});
	part& to = of[block_y()];
	add_columns(to.bins, columns, true);
	sum = block_sum(sum, s.floats);
	weighted = block_sum(weighted, s.floats);
	if (thread() == 0) to.sum = sum, to.weighted = weighted;
}

// draw: block row.
template <typename T>
DEVICE void draw(unsigned char* out, const part* parts, const T* logits, const request* requests, int rows, int vocab, shared& s,
                 mass* columns) {
	const int count = (vocab + PART - 1) / PART;
	const request q = requests[block_x()];
	const part* of = parts + (long long)block_x() * count;
	row<T> r = row_at(logits, q, block_x(), vocab);
	const tops t = tops_of(of, count, s);
	likeliest(r, t.best, t.bottom);
	result res = {int(~unsigned(t.best)), 0, r.high, 0, 0, 0};
	for (int i = thread(); i < count; i += threads()) {
		res.sum += of[i].sum;
		res.weighted += of[i].weighted;
	}
	res.sum = block_sum(res.sum, s.floats);
	res.weighted = block_sum(res.weighted, s.floats);
	for (int b = warp(); b < BINS; b += threads() / 32) {
		int n = 0;
		mass m = 0;
		for (int i = lane(); i < count; i += 32) {
			n += of[i].bins.counts[b];
			m += of[i].bins.masses[b];
		}
		add_lanes(n, m);
		if (lane() == 0) s.first.counts[b] = n, s.first.masses[b] = m;
	}
	sync();
	mass kept = 0;
	for (int b = 0; b < BINS; b++) kept += s.first.masses[b];

	// Each stage but greedy drawing looks for a place in the order.
	enum { top_k, top_p, draw, alternatives, stages };
	for (int stage = q.greedy ? alternatives : top_k; stage < stages; stage++) {
		goal g = {1, 0};
		if (stage == top_k) {
			if (q.top_k <= 0 || q.top_k >= vocab) continue;
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
			res.x = to_float(r.x[res.id]);
			if (thread() == 0) reinterpret_cast<result*>(out)[block_x()] = res;
			if (q.alternatives <= 0) return;
			g.count = q.alternatives;
		}
		cut c = reach(r, g, s, columns);
		if (stage == draw) {
			res.id = c.id;
		} else if (stage == alternatives) {
			list(reinterpret_cast<alternative*>(out + rows * sizeof(result)) + q.at, r, c, s);
		} else {
			kept = c.kept;
		}
	}
}

#define SAMPLE(suffix, T)                                                                                                      \
	KERNEL_OF(256, sample_top_##suffix, (part* parts, const T* logits, const request* requests, int vocab)) {                 \
		SHARED(shared, s, 1);                                                                                                 \
		top(parts, logits, requests, vocab, s[0]);                                                                            \
	}                                                                                                                         \
	KERNEL_OF(256, sample_sum_##suffix, (part* parts, const T* logits, const request* requests, int vocab)) {                 \
		SHARED(shared, s, 1);                                                                                                 \
		DYNAMIC_SHARED(mass, columns);                                                                                        \
		sum(parts, logits, requests, vocab, s[0], columns);                                                                   \
	}                                                                                                                         \
	KERNEL_OF(512, sample_draw_##suffix, (unsigned char* out, const part* parts, const T* logits, const request* requests,    \
	                                      int rows, int vocab)) {                                                             \
		SHARED(shared, s, 1);                                                                                                 \
		DYNAMIC_SHARED(mass, columns);                                                                                        \
		draw(out, parts, logits, requests, rows, vocab, s[0], columns);                                                       \
	}
SAMPLE(f32, float)
SAMPLE(bf16, bf16)
