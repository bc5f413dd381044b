// Devices, contexts, errors, and what tests may ask of the emulator: emu_….
#include <cstdio>
#include <cstdlib>

#include <dlfcn.h>

#include "driver.h"

namespace emu {

State state;
int mutant; // mutated kernels declare and read it
std::recursive_mutex Call::lock;
static thread_local Context* current;

static const struct {
	CUresult code;
	const char *name, *text;
} errors[] = {
#define E(code, text) {code, #code, text}
    E(CUDA_SUCCESS, "no error"),
    E(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    E(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    E(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    E(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    E(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    E(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    E(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    E(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
    E(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    E(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    E(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    E(CUDA_ERROR_NOT_READY, "device not ready"),
    E(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    E(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    E(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    E(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    E(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    E(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    E(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    E(CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"),
    E(CUDA_ERROR_UNKNOWN, "unknown error"),
#undef E
};

// The environment sets what tests cannot set before the program starts:
// NRT_EMU_SEED, NRT_EMU_DEVICES, NRT_EMU_MEMORY (bytes), NRT_EMU_FAIL, a list
// name:call:code,…, and NRT_EMU_MUTANT, which fault that was put into the kernels
// is at work.
static void read_environment() {
	if (const char* s = getenv("NRT_EMU_SEED")) seed = strtoull(s, nullptr, 10);
	if (const char* s = getenv("NRT_EMU_MUTANT")) mutant = atoi(s);
	if (const char* s = getenv("NRT_EMU_DEVICES")) state.devices = atoi(s);
	if (const char* s = getenv("NRT_EMU_MEMORY")) state.memory = strtoull(s, nullptr, 10);
	const char* s = getenv("NRT_EMU_FAIL");
	char name[128];
	long call;
	int code, length;
	while (s && sscanf(s, "%127[^:]:%ld:%d%n", name, &call, &code, &length) == 3) {
		state.failing[name].push_back({call, CUresult(code)});
		s += length;
		if (*s++ != ',') break;
	}
}
static const bool environment_read = (read_environment(), true);

Call::Call(const char* name, int need) : held(lock), error(CUDA_SUCCESS) {
	long n = ++state.calls[name];
	auto f = state.failing.find(name);
	if (f != state.failing.end())
		for (auto& [call, code] : f->second)
			if (call == n) {
				error = code;
				return;
			}
	if (need & (started | context) && !state.started)
		error = CUDA_ERROR_NOT_INITIALIZED;
	else if (need & context && !current)
		error = CUDA_ERROR_INVALID_CONTEXT;
	else if (need & context && state.sticky.code)
		error = CUresult(state.sticky.code);
	else if (need & not_capturing)
		for (Stream* s : state.streams)
			if (s->capture && s->mode != CU_STREAM_CAPTURE_MODE_RELAXED) {
				s->spoilt = true;
				error = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
			}
}

CUresult stick(const Fault& f) {
	if (f.code && !state.sticky.code) {
		state.sticky = f;
		state.last_fault = f.text;
		state.queue.clear();
		for (Event* e : state.events) e->pending = 0;
		fprintf(stderr, "emulator: %s\n", f.text.c_str());
	}
	return CUresult(state.sticky.code);
}

static bool device_ok(CUdevice d) { return d >= 0 && d < state.devices; }

} // namespace emu

using namespace emu;

EMU_EXPORT CUresult cuInit(unsigned flags) {
	EMU_ENTER(cuInit, nothing);
	if (flags) return CUDA_ERROR_INVALID_VALUE;
	if (state.devices == 0) return CUDA_ERROR_NO_DEVICE;
	state.started = true;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDriverGetVersion(int* version) {
	EMU_ENTER(cuDriverGetVersion, nothing);
	*version = 12040;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuGetErrorName(CUresult code, const char** name) {
	EMU_ENTER(cuGetErrorName, nothing);
	for (auto& e : errors)
		if (e.code == code) {
			*name = e.name;
			return CUDA_SUCCESS;
		}
	*name = nullptr;
	return CUDA_ERROR_INVALID_VALUE;
}

EMU_EXPORT CUresult cuGetErrorString(CUresult code, const char** text) {
	EMU_ENTER(cuGetErrorString, nothing);
	for (auto& e : errors)
		if (e.code == code) {
			*text = e.text;
			return CUDA_SUCCESS;
		}
	*text = nullptr;
	return CUDA_ERROR_INVALID_VALUE;
}

EMU_EXPORT CUresult cuDeviceGetCount(int* n) {
	EMU_ENTER(cuDeviceGetCount, started);
	*n = state.devices;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDeviceGet(CUdevice* d, int ordinal) {
	EMU_ENTER(cuDeviceGet, started);
	if (!device_ok(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
	*d = ordinal;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice d) {
	EMU_ENTER(cuDeviceGetName, started);
	if (!device_ok(d)) return CUDA_ERROR_INVALID_DEVICE;
	snprintf(name, length, "NRT emulator %d", d);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDeviceGetUuid(CUuuid* id, CUdevice d) {
	EMU_ENTER(cuDeviceGetUuid, started);
	if (!device_ok(d)) return CUDA_ERROR_INVALID_DEVICE;
	memcpy(id->bytes, "NRT emulator   ", 16);
	id->bytes[15] = char(d);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDeviceTotalMem(size_t* n, CUdevice d) {
	EMU_ENTER(cuDeviceTotalMem, started);
	if (!device_ok(d)) return CUDA_ERROR_INVALID_DEVICE;
	*n = state.memory;
	return CUDA_SUCCESS;
}

// Those of the smallest GPU that the kernels are for: compute capability 8.6.
EMU_EXPORT CUresult cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice d) {
	EMU_ENTER(cuDeviceGetAttribute, started);
	if (!device_ok(d)) return CUDA_ERROR_INVALID_DEVICE;
	switch (int(a)) {
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: *v = 1024; break;
	case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: *v = 64; break;
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: *v = 0x7fffffff; break;
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
	case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: *v = 65535; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *v = shared_default; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *v = shared_most; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *v = 100 << 10; break;
	case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: *v = 64 << 10; break;
	case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *v = 32; break;
	case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
	case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: *v = 65536; break;
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: *v = 1000000; break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = 4; break;
	case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: *v = 1536; break;
	case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *v = 4 << 20; break;
	case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *v = 1000000; break;
	case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *v = 256; break;
	case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
	case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
	case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
	case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *v = 1; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = 8; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = 6; break;
	case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID: *v = d; break;
	default: *v = 0;
	}
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* c, CUdevice d) {
	EMU_ENTER(cuDevicePrimaryCtxRetain, started);
	if (!device_ok(d)) return CUDA_ERROR_INVALID_DEVICE;
	state.primary[d].device = d;
	state.primary[d].users++;
	*c = reinterpret_cast<CUcontext>(&state.primary[d]);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice d) {
	EMU_ENTER(cuDevicePrimaryCtxRelease, started);
	if (!device_ok(d)) return CUDA_ERROR_INVALID_DEVICE;
	if (state.primary[d].users == 0) return CUDA_ERROR_INVALID_CONTEXT;
	finish_all();
	state.primary[d].users--;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuDevicePrimaryCtxSetFlags(CUdevice d, unsigned) {
	EMU_ENTER(cuDevicePrimaryCtxSetFlags, started);
	return device_ok(d) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EMU_EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice d, unsigned* flags, int* active) {
	EMU_ENTER(cuDevicePrimaryCtxGetState, started);
	if (!device_ok(d)) return CUDA_ERROR_INVALID_DEVICE;
	*flags = 0;
	*active = state.primary[d].users > 0;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuCtxSetCurrent(CUcontext c) {
	EMU_ENTER(cuCtxSetCurrent, started);
	auto want = reinterpret_cast<Context*>(c);
	if (want && (want < state.primary || want >= state.primary + 16 || !want->users)) return CUDA_ERROR_INVALID_CONTEXT;
	current = want;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuCtxGetCurrent(CUcontext* c) {
	EMU_ENTER(cuCtxGetCurrent, started);
	*c = reinterpret_cast<CUcontext>(current);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuCtxGetDevice(CUdevice* d) {
	EMU_ENTER(cuCtxGetDevice, context);
	*d = current->device;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuCtxSynchronize() {
	EMU_ENTER(cuCtxSynchronize, context | not_capturing);
	return finish_all();
}

// There is no profiler; tests count the calls.
EMU_EXPORT CUresult cuProfilerStart() {
	EMU_ENTER(cuProfilerStart, context);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuProfilerStop() {
	EMU_ENTER(cuProfilerStop, context);
	return CUDA_SUCCESS;
}

// cuGetProcAddress_v2 finds a function by its name without the suffix of a
// version, the newest first.
EMU_EXPORT CUresult cuGetProcAddress_v2(const char* name, void** f, int, cuuint64_t, int* status) {
	EMU_ENTER(cuGetProcAddress_v2, nothing);
	Dl_info me;
	*f = nullptr;
	if (dladdr(reinterpret_cast<void*>(cuInit), &me))
		if (void* lib = dlopen(me.dli_fname, RTLD_NOW | RTLD_NOLOAD)) {
			for (const char* suffix : {"_v3", "_v2", ""})
				if (!*f) *f = dlsym(lib, (std::string(name) + suffix).c_str());
			dlclose(lib);
		}
	if (status) *status = *f ? 0 : 1;
	return *f ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

EMU_EXPORT CUresult cuGetProcAddress(const char* name, void** f, int version, cuuint64_t flags) {
	return cuGetProcAddress_v2(name, f, version, flags, nullptr);
}

// emu_seed chooses the order of threads and blocks from now on.
EMU_EXPORT void emu_seed(unsigned long long s) { seed = s; }

// emu_fail makes the nth call from now of a function return an error.
EMU_EXPORT void emu_fail(const char* name, long nth, int code) {
	Call call("emu_fail", nothing);
	state.failing[name].push_back({state.calls[name] + nth, CUresult(code)});
}

// emu_calls is how often a function was called.
EMU_EXPORT long emu_calls(const char* name) {
	Call call("emu_calls", nothing);
	return state.calls[name];
}

// emu_live is how many objects of a kind exist: device, host, stream, event,
// module, graph, exec, pool or context; "" for all, "bytes" for device memory, "kept" for
// what pools have beside it.
EMU_EXPORT long emu_live(const char* kind) {
	Call call("emu_live", nothing);
	long contexts = 0;
	for (Context& c : state.primary) contexts += c.users;
	const std::pair<const char*, long> counts[] = {
	    {"device", state.allocations.size()}, {"host", state.pinned.size()}, {"stream", state.streams.size()},
	    {"event", state.events.size()},       {"module", state.modules.size()}, {"graph", state.graphs.size()},
	    {"exec", state.execs.size()},         {"pool", state.pools.size()},  {"context", contexts},
	};
	long n = 0;
	for (auto& [name, count] : counts)
		if (!*kind || !strcmp(kind, name)) n += count;
	if (!strcmp(kind, "bytes")) n = state.used;
	if (!strcmp(kind, "kept"))
		for (Pool* p : state.pools) n += p->kept;
	return n;
}

// emu_memory sets how many bytes of memory the device has.
EMU_EXPORT void emu_memory(size_t bytes) {
	Call call("emu_memory", nothing);
	state.memory = bytes;
}

// emu_fault copies the text of the last failure of the device.
EMU_EXPORT void emu_fault(char* text, size_t n) {
	Call call("emu_fault", nothing);
	snprintf(text, n, "%s", state.last_fault.c_str());
}

// emu_reset takes back failures, those of the device and those asked for.
EMU_EXPORT void emu_reset() {
	Call call("emu_reset", nothing);
	state.sticky = {};
	state.last_fault.clear();
	state.failing.clear();
	state.queue.clear();
}
