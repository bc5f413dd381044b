// Device memory, pinned host memory, copies and fills.
#include <algorithm>
#include <cstdlib>

#include "driver.h"

namespace emu {

#ifdef __SANITIZE_ADDRESS__
enum { guard = 0 }; // AddressSanitizer has its own
#else
enum { guard = 256 };
#endif
enum { guard_byte = 0xa5 };

static unsigned char* at(uintptr_t p) { return reinterpret_cast<unsigned char*>(p); }

static size_t available() {
	size_t taken = state.used;
	for (Pool* p : state.pools) taken += p->kept;
	return state.memory < taken ? 0 : state.memory - taken;
}

static Allocation* allocate(size_t size, Pool* pool) {
	size_t again = pool ? std::min(size, pool->kept) : 0;
	if (size - again > available()) return nullptr;
	void* p;
	if (posix_memalign(&p, 256, size + 2 * guard)) return nullptr;
	uintptr_t base = reinterpret_cast<uintptr_t>(p) + guard;
	memset(at(base - guard), guard_byte, guard);
	memset(at(base + size), guard_byte, guard);
	garbage(at(base), size);
	state.used += size;
	if (pool) pool->used += size, pool->kept -= again;
	return &(state.allocations[base] = {base, size, pool, nullptr});
}

static void release(const Allocation& a) {
	state.used -= a.size;
	if (auto p = static_cast<Pool*>(a.pool)) {
		p->used -= a.size;
		p->kept = std::min(p->kept + a.size, size_t(p->threshold));
	}
	garbage(at(a.base), a.size);
	free(a.shadow);
	free(at(a.base - guard));
	state.allocations.erase(a.base);
}

Allocation* find_allocation(uintptr_t p) {
	auto i = state.allocations.upper_bound(p);
	if (i == state.allocations.begin()) return nullptr;
	Allocation* a = &(--i)->second;
	return p <= a->base + a->size ? a : nullptr;
}

Fault out_of_bounds(const char* what, CUdeviceptr p, size_t n) {
	Allocation* a = find_allocation(p);
	if (n == 0 || (a && n <= a->base + a->size - p)) return {};
	char text[256];
	if (a)
		snprintf(text, sizeof text, "%s of %zu bytes at byte %zu of an allocation of %zu", what, n, size_t(p - a->base), a->size);
	else
		snprintf(text, sizeof text, "%s of %zu bytes at %#llx, where no memory is allocated", what, n, p);
	return {illegal_address, text};
}

static Fault check_guard(const char* what, const Allocation& a) {
	for (size_t i = 0; i < guard; i++)
		for (unsigned char* g : {at(a.base + a.size + i), at(a.base - 1 - i)})
			if (*g != guard_byte) {
				char text[256];
				bool after = g >= at(a.base);
				snprintf(text, sizeof text, "%s: a write %zu bytes %s an allocation of %zu bytes", what, i + 1, after ? "past the end of" : "before", a.size);
				memset(at(a.base - guard), guard_byte, guard); // reported once
				memset(at(a.base + a.size), guard_byte, guard);
				return {illegal_address, text};
			}
	return {};
}

Fault check_guards(const char* what) {
	for (auto& [base, a] : state.allocations) {
		Fault f = check_guard(what, a);
		if (f.code) return f;
	}
	return {};
}

bool is_pinned(const void* p) {
	uintptr_t u = reinterpret_cast<uintptr_t>(p);
	auto i = state.pinned.upper_bound(u);
	return i != state.pinned.begin() && u < (--i)->first + i->second;
}

// copy moves bytes when its turn comes; device says which side is device memory.
static Fault copy(uintptr_t to, uintptr_t from, size_t n, bool to_device, bool from_device) {
	Fault f;
	if (to_device) f = out_of_bounds("a copy to device memory", to, n);
	if (from_device && !f.code) f = out_of_bounds("a copy from device memory", from, n);
	if (!f.code && n) memmove(at(to), at(from), n);
	return f;
}

static CUresult fill(CUdeviceptr p, unsigned value, size_t n, int width, CUstream s) {
	return put(s, [=]() -> Fault {
		Fault f = out_of_bounds("a fill", p, n * width);
		if (f.code) return f;
		for (size_t i = 0; i < n; i++) memcpy(at(p + i * width), &value, width);
		return {};
	});
}

static CUresult to_device_async(CUdeviceptr to, const void* from, size_t n, CUstream s) {
	if (is_pinned(from)) return put(s, [=] { return copy(to, uintptr_t(from), n, true, false); });
	auto p = static_cast<const char*>(from);
	std::vector<char> staged(p, p + n); // other memory may be used again after the call
	return put(s, [=] { return copy(to, uintptr_t(staged.data()), n, true, false); });
}

static CUresult from_device_async(void* to, CUdeviceptr from, size_t n, CUstream s) {
	CUresult e = put(s, [=] { return copy(uintptr_t(to), from, n, false, true); });
	if (e == CUDA_SUCCESS && !is_pinned(to)) e = finish(s); // such a copy is done when the call returns
	return e;
}

} // namespace emu

using namespace emu;

EMU_EXPORT CUresult cuMemGetInfo(size_t* free, size_t* total) {
	EMU_ENTER(cuMemGetInfo, context);
	*total = state.memory;
	*free = available();
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemAlloc(CUdeviceptr* p, size_t n) {
	EMU_ENTER(cuMemAlloc, context | not_capturing);
	if (n == 0) return CUDA_ERROR_INVALID_VALUE;
	Allocation* a = allocate(n, nullptr);
	if (!a) return CUDA_ERROR_OUT_OF_MEMORY;
	*p = a->base;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemFree(CUdeviceptr p) {
	EMU_ENTER(cuMemFree, context | not_capturing);
	if (p == 0) return CUDA_SUCCESS;
	CUresult e = finish_all();
	if (e != CUDA_SUCCESS) return e;
	auto i = state.allocations.find(p);
	if (i == state.allocations.end()) return CUDA_ERROR_INVALID_VALUE;
	Fault f = check_guard("cuMemFree", i->second);
	release(i->second);
	return stick(f);
}

static CUresult allocate_from(Pool* pool, CUdeviceptr* p, size_t n, CUstream s) {
	if (n == 0) return CUDA_ERROR_INVALID_VALUE;
	Allocation* a = allocate(n, pool);
	if (!a && finish_all() == CUDA_SUCCESS) a = allocate(n, pool); // what streams still have to free
	if (!a) return CUDA_ERROR_OUT_OF_MEMORY;
	*p = a->base;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemAllocAsync(CUdeviceptr* p, size_t n, CUstream s) {
	EMU_ENTER(cuMemAllocAsync, context | not_capturing);
	return allocate_from(&state.default_pool[0], p, n, s);
}

EMU_EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr* p, size_t n, CUmemoryPool pool, CUstream s) {
	EMU_ENTER(cuMemAllocFromPoolAsync, context | not_capturing);
	auto from = reinterpret_cast<Pool*>(pool);
	if (!live(state.pools, from) && (from < state.default_pool || from >= state.default_pool + 16)) return CUDA_ERROR_INVALID_VALUE;
	return allocate_from(from, p, n, s);
}

EMU_EXPORT CUresult cuMemFreeAsync(CUdeviceptr p, CUstream s) {
	EMU_ENTER(cuMemFreeAsync, context | not_capturing);
	if (p == 0) return CUDA_SUCCESS;
	if (!state.allocations.count(p)) return CUDA_ERROR_INVALID_VALUE;
	return put(s, [=]() -> Fault {
		auto i = state.allocations.find(p);
		if (i == state.allocations.end()) return {illegal_address, "cuMemFreeAsync of memory that was freed before"};
		Fault f = check_guard("cuMemFreeAsync", i->second);
		release(i->second);
		return f;
	});
}

EMU_EXPORT CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice d) {
	EMU_ENTER(cuDeviceGetDefaultMemPool, started);
	if (d < 0 || d >= state.devices) return CUDA_ERROR_INVALID_DEVICE;
	*pool = reinterpret_cast<CUmemoryPool>(&state.default_pool[d]);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* props) {
	EMU_ENTER(cuMemPoolCreate, started);
	if (props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED || props->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_INVALID_VALUE;
	if (props->location.id < 0 || props->location.id >= state.devices) return CUDA_ERROR_INVALID_DEVICE;
	Pool* p = new Pool;
	state.pools.insert(p);
	*pool = reinterpret_cast<CUmemoryPool>(p);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemPoolDestroy(CUmemoryPool pool) {
	EMU_ENTER(cuMemPoolDestroy, started);
	auto p = reinterpret_cast<Pool*>(pool);
	if (!live(state.pools, p)) return CUDA_ERROR_INVALID_VALUE;
	finish_all();
	for (auto& [base, a] : state.allocations)
		if (a.pool == p) a.pool = nullptr;
	state.pools.erase(p);
	delete p;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute a, void* v) {
	EMU_ENTER(cuMemPoolSetAttribute, started);
	if (a != CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) return CUDA_ERROR_INVALID_VALUE;
	reinterpret_cast<Pool*>(pool)->threshold = *static_cast<cuuint64_t*>(v);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute a, void* v) {
	EMU_ENTER(cuMemPoolGetAttribute, started);
	auto p = reinterpret_cast<Pool*>(pool);
	auto to = static_cast<cuuint64_t*>(v);
	switch (a) {
	case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: *to = p->threshold; break;
	case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: *to = p->used + p->kept; break;
	case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: *to = p->used; break;
	default: return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) {
	EMU_ENTER(cuMemPoolTrimTo, started);
	auto p = reinterpret_cast<Pool*>(pool);
	p->kept = std::min(p->kept, keep < p->used ? 0 : keep - p->used);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemGetAddressRange(CUdeviceptr* base, size_t* n, CUdeviceptr p) {
	EMU_ENTER(cuMemGetAddressRange, context);
	Allocation* a = find_allocation(p);
	if (!a || p == a->base + a->size) return CUDA_ERROR_NOT_FOUND;
	if (base) *base = a->base;
	if (n) *n = a->size;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemHostAlloc(void** p, size_t n, unsigned) {
	EMU_ENTER(cuMemHostAlloc, context | not_capturing);
	if (n == 0) return CUDA_ERROR_INVALID_VALUE;
	if (posix_memalign(p, 4096, n)) return CUDA_ERROR_OUT_OF_MEMORY;
	garbage(*p, n);
	state.pinned[reinterpret_cast<uintptr_t>(*p)] = n;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuMemFreeHost(void* p) {
	EMU_ENTER(cuMemFreeHost, context | not_capturing);
	CUresult e = finish_all();
	if (!state.pinned.erase(reinterpret_cast<uintptr_t>(p))) return CUDA_ERROR_INVALID_VALUE;
	free(p);
	return e;
}

EMU_EXPORT CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t n) {
	EMU_ENTER(cuMemcpyHtoD, context | not_capturing);
	finish(nullptr);
	return stick(copy(to, uintptr_t(from), n, true, false));
}

EMU_EXPORT CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t n) {
	EMU_ENTER(cuMemcpyDtoH, context | not_capturing);
	if (finish(nullptr) != CUDA_SUCCESS) return CUresult(state.sticky.code);
	return stick(copy(uintptr_t(to), from, n, false, true));
}

EMU_EXPORT CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t n) {
	EMU_ENTER(cuMemcpyDtoD, context | not_capturing);
	if (finish(nullptr) != CUDA_SUCCESS) return CUresult(state.sticky.code);
	return stick(copy(to, from, n, true, true));
}

EMU_EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t n, CUstream s) {
	EMU_ENTER(cuMemcpyHtoDAsync, context);
	return to_device_async(to, from, n, s);
}

EMU_EXPORT CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t n, CUstream s) {
	EMU_ENTER(cuMemcpyDtoHAsync, context);
	return from_device_async(to, from, n, s);
}

EMU_EXPORT CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
	EMU_ENTER(cuMemcpyDtoDAsync, context);
	return put(s, [=] { return copy(to, from, n, true, true); });
}

EMU_EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
	EMU_ENTER(cuMemcpyAsync, context);
	bool a = find_allocation(to), b = find_allocation(from);
	if (a && !b) return to_device_async(to, at(from), n, s);
	if (b && !a) return from_device_async(at(to), from, n, s);
	return put(s, [=] { return copy(to, from, n, true, true); });
}

EMU_EXPORT CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t n) {
	EMU_ENTER(cuMemcpy, context | not_capturing);
	if (finish(nullptr) != CUDA_SUCCESS) return CUresult(state.sticky.code);
	bool a = find_allocation(to), b = find_allocation(from);
	return stick(copy(to, from, n, a || !b, b || !a));
}

#define EMU_FILL(name, type, width)                                    \
	EMU_EXPORT CUresult name(CUdeviceptr p, type v, size_t n) {          \
		EMU_ENTER(name, context | not_capturing);                        \
		CUresult e = fill(p, v, n, width, nullptr);                      \
		return e == CUDA_SUCCESS ? finish(nullptr) : e;                  \
	}                                                                  \
	EMU_EXPORT CUresult name##Async(CUdeviceptr p, type v, size_t n, CUstream s) { \
		EMU_ENTER(name##Async, context);                                 \
		return fill(p, v, n, width, s);                                  \
	}
EMU_FILL(cuMemsetD8, unsigned char, 1)
EMU_FILL(cuMemsetD16, unsigned short, 2)
EMU_FILL(cuMemsetD32, unsigned, 4)
