// Modules and launches. A module's text is the PTX that the driver would compile;
// its kernels are those of the same names that this library was built with, if
// their parameters agree.
#include <memory>

#include "driver.h"

struct CUfunc_st {
	const emu::Kernel* kernel;
	CUmodule module;
	int max_shared;
	bool asked = false; // max_shared was set
};

struct CUmod_st {
	std::map<std::string, std::vector<int>> entries; // kernel → bytes of each parameter
	std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};

namespace emu {

// parse finds the kernels of a PTX text: ".entry name(" and, up to ")", one
// ".param .type" for each parameter.
static bool parse(const char* text, CUmod_st* m) {
	if (!strstr(text, ".version ") || !strstr(text, ".target sm_")) return false;
	const std::string ptx = text, entry = ".entry ", param = ".param .";
	for (size_t p = 0; (p = ptx.find(entry, p)) != std::string::npos;) {
		p += entry.size();
		size_t open = ptx.find('(', p), end = ptx.find(')', p);
		if (open == std::string::npos || end == std::string::npos) return false;
		auto& sizes = m->entries[ptx.substr(p, open - p)];
		for (size_t q = open; (q = ptx.find(param, q)) < end;) {
			q += param.size() + 1; // over the letter of the type
			sizes.push_back(atoi(ptx.c_str() + q) / 8);
		}
		p = end;
	}
	return true;
}

static bool live_function(CUfunction f) {
	for (CUmodule m : state.modules)
		for (auto& [name, g] : m->functions)
			if (g.get() == f) return true;
	return false;
}

static CUresult load(CUmodule* module, const char* text) {
	auto m = std::make_unique<CUmod_st>();
	if (!text || !parse(text, m.get())) {
		state.last_fault = "a module that is no PTX";
		return CUDA_ERROR_INVALID_PTX;
	}
	for (auto& [name, sizes] : m->entries) {
		const Kernel* k = find_kernel(name);
		if (!k) continue; // reported when it is asked for
		bool same = k->params == int(sizes.size());
		for (int i = 0; same && i < k->params; i++) same = k->sizes[i] == sizes[i];
		if (!same) {
			state.last_fault = "kernel " + name + ": the PTX has other parameters than the source";
			return CUDA_ERROR_INVALID_PTX;
		}
	}
	state.modules.insert(*module = m.release());
	return CUDA_SUCCESS;
}

// Args are the parameters of a launch, packed as the driver packs them.
struct Args {
	std::vector<unsigned char> bytes;
	std::vector<size_t> offsets;
	explicit Args(const Kernel* k) {
		size_t n = 0;
		for (int i = 0; i < k->params; i++) {
			size_t size = k->sizes[i];
			n = (n + size - 1) / size * size;
			offsets.push_back(n);
			n += size;
		}
		bytes.resize(n);
	}
};

static Fault execute(const Kernel* k, Launch l, Args args) {
	std::vector<void*> pointers;
	for (int i = 0; i < k->params; i++) {
		pointers.push_back(&args.bytes[args.offsets[i]]);
		uintptr_t p = 0;
		if (k->pointers[i]) memcpy(&p, pointers[i], sizeof p);
		if (p && !find_allocation(p))
			return {illegal_address, std::string("kernel ") + k->name + ": parameter " + std::to_string(i) + " points where no memory is allocated"};
	}
	l.args = pointers.data();
	Fault f = run(l);
	return f.code ? f : check_guards((std::string("kernel ") + k->name).c_str());
}

} // namespace emu

using namespace emu;

EMU_EXPORT CUresult cuModuleLoadData(CUmodule* m, const void* image) {
	EMU_ENTER(cuModuleLoadData, context | not_capturing);
	return load(m, static_cast<const char*>(image));
}

EMU_EXPORT CUresult cuModuleLoadDataEx(CUmodule* m, const void* image, unsigned, CUjit_option*, void**) {
	EMU_ENTER(cuModuleLoadDataEx, context | not_capturing);
	return load(m, static_cast<const char*>(image));
}

EMU_EXPORT CUresult cuModuleUnload(CUmodule m) {
	EMU_ENTER(cuModuleUnload, context | not_capturing);
	if (!live(state.modules, m)) return CUDA_ERROR_INVALID_HANDLE;
	CUresult e = finish_all();
	state.modules.erase(m);
	delete m;
	return e;
}

EMU_EXPORT CUresult cuModuleGetFunction(CUfunction* f, CUmodule m, const char* name) {
	EMU_ENTER(cuModuleGetFunction, context);
	if (!live(state.modules, m)) return CUDA_ERROR_INVALID_HANDLE;
	const Kernel* k = find_kernel(name);
	if (!k || !m->entries.count(name)) return CUDA_ERROR_NOT_FOUND;
	auto& slot = m->functions[name];
	if (!slot) slot.reset(new CUfunc_st{k, m, shared_default});
	*f = slot.get();
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuModuleGetGlobal(CUdeviceptr*, size_t*, CUmodule m, const char*) {
	EMU_ENTER(cuModuleGetGlobal, context);
	return live(state.modules, m) ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_INVALID_HANDLE; // kernels have no global variables
}

EMU_EXPORT CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) {
	EMU_ENTER(cuFuncSetAttribute, context);
	if (!live_function(f)) return CUDA_ERROR_INVALID_HANDLE;
	if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return int(a) == 9 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; // 9 prefers a share of the cache
	if (v < 0 || v > shared_most) return CUDA_ERROR_INVALID_VALUE;
	f->max_shared = v;
	f->asked = true;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuFuncGetAttribute(int* v, CUfunction_attribute a, CUfunction f) {
	EMU_ENTER(cuFuncGetAttribute, context);
	if (!live_function(f)) return CUDA_ERROR_INVALID_HANDLE;
	switch (int(a)) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = f->kernel->max_threads; break;
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *v = f->max_shared; break;
	case CU_FUNC_ATTRIBUTE_NUM_REGS: *v = 32; break;
	case CU_FUNC_ATTRIBUTE_PTX_VERSION:
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *v = 80; break;
	default: *v = 0;
	}
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuFuncSetCacheConfig(CUfunction f, CUfunc_cache) {
	EMU_ENTER(cuFuncSetCacheConfig, context);
	return live_function(f) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EMU_EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction f, int threads, size_t) {
	EMU_ENTER(cuOccupancyMaxActiveBlocksPerMultiprocessor, context);
	if (!live_function(f) || threads <= 0) return CUDA_ERROR_INVALID_VALUE;
	*blocks = threads > 1024 ? 0 : 1536 / threads;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                   CUstream s, void** params, void** extra) {
	EMU_ENTER(cuLaunchKernel, context);
	if (!f || !live_function(f)) return CUDA_ERROR_INVALID_HANDLE;
	const Kernel* k = f->kernel;
	auto refuse = [&](const std::string& why, CUresult e = CUDA_ERROR_INVALID_VALUE) {
		state.last_fault = std::string("launch of ") + k->name + ": " + why;
		return e;
	};
	if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535)
		return refuse("a grid of " + std::to_string(gx) + "×" + std::to_string(gy) + "×" + std::to_string(gz) + " blocks");
	if (!bx || !by || !bz || uint64_t(bx) * by * bz > unsigned(k->max_threads))
		return refuse(std::to_string(bx) + "×" + std::to_string(by) + "×" + std::to_string(bz) + " threads, want 1 to " + std::to_string(k->max_threads));
	if (by != 1 || bz != 1 || bx % 32) return refuse("want blocks of one dimension and whole warps, have " + std::to_string(bx) + " threads");
	if (shared > unsigned(f->max_shared)) return refuse(std::to_string(shared) + " bytes of dynamic shared memory, the function may have " + std::to_string(f->max_shared));
	Args args(k);
	if (extra) {
		const unsigned char* packed = nullptr;
		size_t size = 0;
		for (; *extra != CU_LAUNCH_PARAM_END; extra += 2)
			if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER)
				packed = static_cast<unsigned char*>(extra[1]);
			else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE)
				size = *static_cast<size_t*>(extra[1]);
			else
				return refuse("an unknown tag in extra");
		if (params || !packed || size != args.bytes.size())
			return refuse("a parameter buffer of " + std::to_string(size) + " bytes, want " + std::to_string(args.bytes.size()));
		args.bytes.assign(packed, packed + size);
	} else {
		if (k->params && !params) return refuse("no parameters");
		for (int i = 0; i < k->params; i++) memcpy(&args.bytes[args.offsets[i]], params[i], k->sizes[i]);
	}
	Launch l = {k, {int(gx), int(gy), int(gz)}, int(bx), int(shared), f->asked, nullptr};
	return put(s, [k, l, args] { return execute(k, l, args); });
}
