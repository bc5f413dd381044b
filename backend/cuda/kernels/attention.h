// attention.h is what the attention kernels share: what the host's work lists
// (../attention_plan.go) say, and how rows of keys and queries come into shared
// memory.
//
// # Rows
//
// The query heads that read one key head are taken together. Row m of a Seq's
// matrix of queries for a key head is query m/group, head m%group of the group:
// so a tile is full for short Seqs too, and a tile of keys is read for all of
// them. Each warp owns 16 or 32 rows of its block's tile. What a row computes
// depends on its own numbers and on where its tiles of keys begin, which its Seq
// alone decides: not on the other rows of the block.
//
// # Bytes and flops
//
// A tile of queries (64 rows) against a tile of keys (64) of dimension 128 is
// 2.1 Mflop for 32 KiB that come from L2: 64 flops to the byte, enough for
// about 350 Tflop/s at 5.5 TB/s; a tile of 128 rows has twice that. While a tile
// is computed the next one is under way (cp.async, two stages). Rows in shared
// memory are padded by 16 bytes: the eight rows of an ldmatrix then lie in different
// banks. No kernel takes more than 99 KiB, which cards of compute capability 8.6
// and 8.9 have.
#pragma once
#include "kernel.h"

constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

DEVICE float minus_infinity() { return bits_float(0xff800000u); }
DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE int most(int a, int b) { return a > b ? a : b; }

// The big kernels' blocks are (key head, place in the work list). Blocks start in the
// order of their first index, then of the second, and the lists have what takes longest
// first: so no long one of a late key head is left for the end. (The other way round the
// kernel of the keys took half as long again, at 8 key heads and 8 Seqs of 1,024.)
DEVICE int key_head() { return block_x(); }
DEVICE int key_heads() { return grid_x(); }
DEVICE int work_index() { return block_y(); }

// Item is the work of one block for key head key_head(): a tile of rows against
// the keys at positions [from, to). Its row m is row m0+m of the queries from q
// on, whose first is at position pos; with table ≥ 0, of the queries that the
// table lists from there on. No rows: nothing to do.
struct Item {
	int q, pos, m0, rows, table, piece, from, to;
};

DEVICE Item item_at(const int* items, int i) {
	vec16 a = load16(items + 8 * i), b = load16(items + 8 * i + 4);
	return {int(a.x), int(a.y), int(a.z), int(a.w), int(b.x), int(b.y), int(b.z), int(b.w)};
}

// Heads is the shape of the call; the key heads are key_heads().
struct Heads {
	int query, dim, window;
	int wide; // all rows are multiples of 16 bytes, at addresses that are
	float scale;
	int group;        // query heads per key head
	unsigned inverse; // ⌊(2³²−1)/group⌋
};

DEVICE Heads heads_of(int query, int dim, int window, int wide, float scale) {
	const int group = query / key_heads();
	return {query, dim, window, wide, scale, group, 0xffffffffu / unsigned(group)};
}

// Place is where row m of a matrix of queries comes from: query m/group, head
// m%group of the group. The GPU has no division, and one for each row takes longer
// than to load it. As inverse ≥ 2³²/group − 1, the upper half of m·inverse is the
// quotient or one less.
struct Place {
	int query, head;
};

DEVICE Place place_of(int m, const Heads& h) {
	const int query = int((unsigned long long)unsigned(m) * h.inverse >> 32), head = m - query * h.group;
	return head < h.group ? Place{query, head} : Place{query + 1, head - h.group};
}

// Row is a query head of a query: element 0 of it is at (at·dim) in q and out, it
// is at position pos, sees the keys at [from, to) of the item, and its partial sums
// are row slot.
struct Row {
	long long at, slot;
	int pos, from, to;
};

// row_of is row m of an item. One that is not there sees nothing and is not to
// be stored: its at and pos are −1.
DEVICE Row row_of(const Item& item, const int* table, int m, const Heads& h) {
	if (m >= item.rows) return {-1, -1, -1, 0, 0};
	const Place at = place_of(item.m0 + m, h);
	int head = key_head() * h.group + at.head;
	int q = item.q + at.query, pos = item.pos + at.query, slot = 0;
	if (item.table >= 0) {
		const int* t = table + 4 * (item.table + at.query);
		q = t[0], pos = t[1], slot = t[2];
	}
	return {(long long)q * h.query + head, (long long)slot * h.query + head, pos,
	        h.window > 0 ? most(0, pos - h.window + 1) : 0, least(pos + 1, item.to)};
}

// Sight is what the rows of a warp together see: no row sees a key outside
// [first, last), and each sees all of [all, any).
struct Sight {
	int first, last, all, any;
};

// A lane joins its rows with and_row, from none_seen on; sight_of joins the lanes.
DEVICE Sight none_seen() { return {0x7fffffff, 0, 0, 0x7fffffff}; }
DEVICE Sight and_row(const Sight& s, const Row& row) {
	return {least(s.first, row.from), most(s.last, row.to), most(s.all, row.from), least(s.any, row.to)};
}
DEVICE Sight sight_of(Sight s) {
	UNROLL for (int m = 16; m; m >>= 1) {
		s.first = least(s.first, shfl_xor(s.first, m));
		s.last = most(s.last, shfl_xor(s.last, m));
		s.all = most(s.all, shfl_xor(s.all, m));
		s.any = least(s.any, shfl_xor(s.any, m));
	}
	return s;
}

// load_chunk moves 16 bytes of a row to shared memory, of which so many elements
// exist; the others become zero. to is aligned, from is if wide.
template <typename T> DEVICE void load_chunk(T* to, const T* from, int exist, bool wide) {
	if (wide) {
		cp_async16(to, from, exist > 0);
		return;
	}
	UNROLL for (int i = 0; i < int(16 / sizeof(T)); i++) to[i] = i < exist ? from[i] : T{};
}

// load_rows loads the rows of an item from x (and from y) into tiles of rows of
// D elements, PITCH apart; y may be null.
template <typename T, int D, int PITCH, int ROWS, int THREADS>
DEVICE void load_rows(T* xs, T* ys, const T* x, const T* y, const Item& item, const int* table, const Heads& h) {
	constexpr int N = 16 / sizeof(T), CHUNKS = D / N;
	for (int i = thread(); i < ROWS * CHUNKS; i += THREADS) {
		int r = i / CHUNKS, c = i % CHUNKS * N;
		long long at = row_of(item, table, r, h).at;
		int exist = at < 0 ? 0 : h.dim - c;
		long long from = exist > 0 ? at * h.dim + c : 0;
		load_chunk(xs + r * PITCH + c, x + from, exist, h.wide);
		if (y) load_chunk(ys + r * PITCH + c, y + from, exist, h.wide);
	}
}

// Keys finds the rows of k and v at ascending positions. A piece is a run of
// rows: pieces lists where each ends and what to add to a position in it.
struct Keys {
	const int* piece;
	int end, shift, to; // of the piece; of the item
};

DEVICE Keys keys_of(const Item& item, const int* pieces) {
	const int* p = pieces + 2 * item.piece;
	return {p, p[0], p[1], item.to};
}

// load_keys loads COUNT keys and values from position k0 on; those past the
// item's end are zero. Its calls go forward.
template <typename T, int D, int PITCH, int COUNT, int THREADS>
DEVICE void load_keys(T* ks, T* vs, const T* k, const T* v, Keys& keys, int k0, const Heads& h) {
	constexpr int N = 16 / sizeof(T), CHUNKS = D / N, STEP = THREADS / CHUNKS > 0 ? THREADS / CHUNKS : 1;
	const long long width = key_heads() * h.dim;
	auto reach = [&](int p) {
		while (p >= keys.end) {
			keys.piece += 2;
			keys.end = keys.piece[0], keys.shift = keys.piece[1];
		}
	};
	reach(k0);
	if (h.wide && THREADS % CHUNKS == 0 && k0 + COUNT <= least(keys.end, keys.to)) { // the usual case
		int r = thread() / CHUNKS, c = thread() % CHUNKS * N;
		long long from = (k0 + r + keys.shift) * width + key_head() * h.dim + c;
		UNROLL for (int j = 0; j < COUNT; j += STEP) {
			cp_async16(ks + (r + j) * PITCH + c, k + from + j * width, c < h.dim);
			cp_async16(vs + (r + j) * PITCH + c, v + from + j * width, c < h.dim);
		}
		return;
	}
	for (int i = thread(); i < COUNT * CHUNKS; i += THREADS) {
		int r = i / CHUNKS, c = i % CHUNKS * N, p = k0 + r, exist = 0;
		long long from = 0;
		if (p < keys.to) {
			reach(p);
			exist = h.dim - c;
			if (exist > 0) from = (p + keys.shift) * width + key_head() * h.dim + c;
		}
		load_chunk(ks + r * PITCH + c, k + from, exist, h.wide);
		load_chunk(vs + r * PITCH + c, v + from, exist, h.wide);
	}
}

// KeyTile is the work of one block of the dk, dv kernels for key head key_head():
// keys are rows [row, row+n) of k and v, seen by the Seqs that entries [entry,
// end) name. slot ≥ 0 is where its sums go; −1: onto dk and dv. None: no work.
struct KeyTile {
	int row, n, entry, end, slot;
};

DEVICE KeyTile key_tile_at(const int* tiles, int i) {
	vec16 a = load16(tiles + 8 * i);
	return {int(a.x), int(a.y), int(a.z), int(a.w), tiles[8 * i + 4]};
}

// Queries walks the tiles of TILE query rows that see one of the keys, Seq by Seq.
// An entry has the Seq's first query and the position of that, what to add to a
// row of k for its position in the Seq, and which rows m of the Seq count. Tiles
// begin at multiples of TILE from the Seq's first: so the sums do not depend on
// how the keys were cut into tiles.
struct Queries {
	const int* entry;
	int left;                // entries, this one included
	int q, pos, shift, m, end; // of this entry; the tile is rows m… of the Seq, up to end
	int first, last;         // key rows
};

template <int TILE> DEVICE void open_entry(Queries& w, const Heads& h) {
	const int group = h.group;
	for (; w.left > 0; w.left--, w.entry += 8) {
		w.q = w.entry[0], w.pos = w.entry[1], w.shift = w.entry[2];
		w.m = most(w.entry[3], most(0, w.first + w.shift - w.pos) * group / TILE * TILE);
		w.end = w.entry[4];
		if (h.window > 0) w.end = least(w.end, (w.last + w.shift + h.window - w.pos) * group);
		if (w.m < w.end) return;
	}
}

template <int TILE> DEVICE Queries queries_of(const KeyTile& t, const int* entries, const Heads& h) {
	Queries w{entries + 8 * t.entry, t.end - t.entry, 0, 0, 0, 0, 0, t.row, t.row + t.n - 1};
	open_entry<TILE>(w, h);
	return w;
}

template <int TILE> DEVICE void next_queries(Queries& w, const Heads& h) {
	w.m += TILE;
	if (w.m < w.end) return;
	w.left--;
	w.entry += 8;
	open_entry<TILE>(w, h);
}

// Query is what a query row's gradient needs: lse, delta, and the position; one that
// is not there is at −1 and sees nothing.
struct alignas(16) Query {
	float lse, delta;
	int pos;
};

DEVICE Query query_of(const Queries& w, int m, const float* lse, const float* delta, const Heads& h) {
	m += w.m;
	if (m >= w.end) return {0, 0, -1};
	const Place from = place_of(m, h);
	long long at = (long long)(w.q + from.query) * h.query + key_head() * h.group + from.head;
	return {lse[at], delta[at], w.pos + from.query}; // as loaded: nobody waits for it yet
}

// load_queries loads the tile's rows of q and dout.
template <typename T, int D, int PITCH, int TILE, int THREADS>
DEVICE void load_queries(T* qs, T* ds, const T* q, const T* dout, const Queries& w, const Heads& h) {
	constexpr int N = 16 / sizeof(T), CHUNKS = D / N, STEP = THREADS / CHUNKS > 0 ? THREADS / CHUNKS : 1;
	auto at = [&](int m, int c) {
		const Place from = place_of(m, h);
		return ((long long)(w.q + from.query) * h.query + key_head() * h.group + from.head) * h.dim + c;
	};
	if (h.wide && THREADS % CHUNKS == 0 && TILE % STEP == 0) { // the usual case
		const int r = thread() / CHUNKS, c = thread() % CHUNKS * N;
		UNROLL for (int j = 0; j < TILE; j += STEP) {
			const int m = w.m + r + j;
			const bool exists = m < w.end && c < h.dim;
			const long long from = at(least(m, w.end - 1), c);
			cp_async16(qs + (r + j) * PITCH + c, q + from, exists);
			cp_async16(ds + (r + j) * PITCH + c, dout + from, exists);
		}
		return;
	}
	for (int i = thread(); i < TILE * CHUNKS; i += THREADS) {
		int r = i / CHUNKS, c = i % CHUNKS * N, m = w.m + r;
		int exist = m < w.end ? h.dim - c : 0;
		long long from = exist > 0 ? at(m, c) : 0;
		load_chunk(qs + r * PITCH + c, q + from, exist, h.wide);
		load_chunk(ds + r * PITCH + c, dout + from, exist, h.wide);
	}
}

// load_tile loads n of ROWS rows of k and v from a row on; the others are zero.
template <typename T, int D, int PITCH, int ROWS, int THREADS>
DEVICE void load_tile(T* ks, T* vs, const T* k, const T* v, int row, int n, const Heads& h) {
	constexpr int N = 16 / sizeof(T), CHUNKS = D / N;
	for (int i = thread(); i < ROWS * CHUNKS; i += THREADS) {
		int r = i / CHUNKS, c = i % CHUNKS * N, exist = r < n ? h.dim - c : 0;
		long long from = exist > 0 ? ((long long)(row + r) * key_heads() + key_head()) * h.dim + c : 0;
		load_chunk(ks + r * PITCH + c, k + from, exist, h.wide);
		load_chunk(vs + r * PITCH + c, v + from, exist, h.wide);
	}
}
