// attention.h is what the attention kernels share: what the host's work lists
// (../attention_plan.go) say, and how rows of keys and queries come into shared
// memory.
//
// # Rows
//
// The query heads that read one key head are taken together. Row m of a Seq's
// matrix of queries for a key head is query m/group, head m%group of the group:
// so a tile is full for short Seqs too, and a tile of keys is read for all of
// them. Each warp owns 16 rows of its block's tile. What a row computes depends
// on its own numbers and on where its tiles of keys begin, which its Seq alone
// decides: not on the other rows of the block.
//
// # Bytes and flops
//
// A tile of queries (64 rows) against a tile of keys (64) of dimension 128 is
// 2.1 Mflop for 32 KiB that come from L2: 64 flops to the byte, enough for
// about 350 Tflop/s at 5.5 TB/s. While a tile is computed the next one is under
// way (cp.async, two stages). Rows in shared memory are padded by 16 bytes: the
// eight rows of an ldmatrix then lie in different banks. No kernel takes more
// than 99 KiB, which cards of compute capability 8.6 and 8.9 have.
#pragma once
#include "kernel.h"

constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

DEVICE float minus_infinity() { return bits_float(0xff800000u); }
DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE int most(int a, int b) { return a > b ? a : b; }

// Item is the work of one block for key head block_y(): a tile of rows against
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

// Heads is the shape of the call; the key heads are grid_y().
struct Heads {
	int query, dim, window;
	int wide; // all rows are multiples of 16 bytes, at addresses that are
	float scale;
};

// Row is a query head of a query: element 0 of it is at (at·dim) in q and out,
// it sees the keys at [from, to) of the item, and its partial sums are row slot.
struct Row {
	long long at, slot;
	int from, to;
};

// row_of is row m of an item. One that is not there sees nothing and is not to
// be stored: its at is −1.
DEVICE Row row_of(const Item& item, const int* table, int m, const Heads& h) {
	if (m >= item.rows) return {-1, -1, 0, 0};
	int group = h.query / grid_y(), i = (item.m0 + m) / group;
	int head = block_y() * group + (item.m0 + m) % group;
	int q = item.q + i, pos = item.pos + i, slot = 0;
	if (item.table >= 0) {
		const int* t = table + 4 * (item.table + i);
		q = t[0], pos = t[1], slot = t[2];
	}
	return {(long long)q * h.query + head, (long long)slot * h.query + head,
	        h.window > 0 ? most(0, pos - h.window + 1) : 0, least(pos + 1, item.to)};
}

// Sight is what the rows of a warp together see: no row sees a key outside
// [first, last), and each sees all of [all, any).
struct Sight {
	int first, last, all, any;
};

// sight_of joins the rows that the lanes of a warp have, two or more each: the
// least and the most of their from and to.
DEVICE Sight sight_of(int least_from, int most_from, int least_to, int most_to) {
	Sight s{least_from, most_to, most_from, least_to};
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
	const long long width = grid_y() * h.dim;
	auto reach = [&](int p) {
		while (p >= keys.end) {
			keys.piece += 2;
			keys.end = keys.piece[0], keys.shift = keys.piece[1];
		}
	};
	reach(k0);
	if (h.wide && THREADS % CHUNKS == 0 && k0 + COUNT <= least(keys.end, keys.to)) { // the usual case
		int r = thread() / CHUNKS, c = thread() % CHUNKS * N;
		long long from = (k0 + r + keys.shift) * width + block_y() * h.dim + c;
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
			if (exist > 0) from = (p + keys.shift) * width + block_y() * h.dim + c;
		}
		load_chunk(ks + r * PITCH + c, k + from, exist, h.wide);
		load_chunk(vs + r * PITCH + c, v + from, exist, h.wide);
	}
}

// KeyTile is the work of one block of the dk, dv kernels for key head block_y():
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
	const int group = h.query / grid_y();
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

// Query is what a query row's gradient needs: lse in powers of two, delta, and the
// position; one that is not there is at −1 and sees nothing.
struct Query {
	float lse, delta;
	int pos;
};

DEVICE Query query_of(const Queries& w, int m, const float* lse, const float* delta, const Heads& h) {
	m += w.m;
	if (m >= w.end) return {0, 0, -1};
	int group = h.query / grid_y(), i = m / group;
	long long at = (long long)(w.q + i) * h.query + block_y() * group + m % group;
	return {lse[at] * log2_e, delta[at], w.pos + i};
}

// load_queries loads the tile's rows of q and dout.
template <typename T, int D, int PITCH, int TILE, int THREADS>
DEVICE void load_queries(T* qs, T* ds, const T* q, const T* dout, const Queries& w, const Heads& h) {
	constexpr int N = 16 / sizeof(T), CHUNKS = D / N;
	const int group = h.query / grid_y();
	for (int i = thread(); i < TILE * CHUNKS; i += THREADS) {
		int r = i / CHUNKS, c = i % CHUNKS * N, m = w.m + r;
		int exist = m < w.end ? h.dim - c : 0;
		long long from = exist > 0 ? ((long long)(w.q + m / group) * h.query + block_y() * group + m % group) * h.dim + c : 0;
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
		long long from = exist > 0 ? ((long long)(row + r) * grid_y() + block_y()) * h.dim + c : 0;
		load_chunk(ks + r * PITCH + c, k + from, exist, h.wide);
		load_chunk(vs + r * PITCH + c, v + from, exist, h.wide);
	}
}
