// The emulator's side of the CUDA driver API: what its files share.
//
// Work is deferred, as on a GPU: what is put on a stream is done when somebody
// waits for it, and not before. Memory that is used without waiting therefore
// shows what it held before.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "../../driver/include/cuda.h"
#include "run.h"

#define EMU_EXPORT extern "C" __attribute__((visibility("default")))
#define EMU_TEXT1(x) #x
#define EMU_TEXT(x) EMU_TEXT1(x) // of the exported symbol: cuda.h renames with macros

namespace emu {

// What a call needs before it may do anything.
enum Need {
	nothing = 0,
	started = 1,        // cuInit
	context = 2,        // a current context, in which nothing has failed
	not_capturing = 4,  // no stream under capture that this call could disturb
};

// Call counts a call, holds the lock, and has the error that it must return.
class Call {
	static std::recursive_mutex lock;
	std::lock_guard<std::recursive_mutex> held;

public:
	CUresult error;
	Call(const char* name, int need);
};

#define EMU_ENTER(name, need)                     \
	emu::Call call(EMU_TEXT(name), need);         \
	if (call.error != CUDA_SUCCESS) return call.error

struct Graph;

// Stream holds what was put on it. Streams that are not CU_STREAM_NON_BLOCKING
// wait for one another through the default stream, so all of them are one queue.
struct Stream {
	unsigned flags = 0;
	Graph* capture = nullptr;
	CUstreamCaptureMode mode{};
	bool spoilt = false;
	Stream* queue() const;
};

struct Event {
	unsigned flags;
	Stream* stream = nullptr; // where it was recorded
	uint64_t pending = 0;     // the operation that completes it, 0 for none
	double time = 0;          // milliseconds
};

struct Op {
	uint64_t number;
	Stream* queue;
	std::function<Fault()> run;
};

struct Graph {
	std::vector<std::function<Fault()>> ops;
};

struct Context {
	int device;
	int users = 0;
};

struct Pool {
	cuuint64_t threshold = 0;
	size_t used = 0, kept = 0; // bytes that are given, and that were and stay the pool's
};

// State is the whole driver.
struct State {
	bool started = false;
	int devices = 1;
	size_t memory = size_t(8) << 30, used = 0; // bytes of device memory
	Fault sticky;                              // what failed on the device: nothing works from then on
	std::string last_fault;
	std::map<uintptr_t, Allocation> allocations;
	std::map<uintptr_t, size_t> pinned;        // host memory
	std::set<Stream*> streams;
	std::set<Event*> events;
	std::set<Graph*> graphs, execs;
	std::set<CUmodule> modules;
	std::set<Pool*> pools;
	std::deque<Op> queue;
	uint64_t ops = 0;                          // put on streams so far
	Stream default_stream;
	std::map<std::string, long> calls;
	std::map<std::string, std::vector<std::pair<long, CUresult>>> failing; // at which call of it
	Context primary[16];
	Pool default_pool[16];
};
extern State state;

// put gives an operation to a stream, or to the graph that the stream records.
CUresult put(CUstream stream, std::function<Fault()> run, uint64_t* number = nullptr);

// finish does all that is on a stream; finish_all on every one. They return the
// error that the device has after it.
CUresult finish(CUstream stream);
CUresult finish_all();

// stick records a failure of the device.
CUresult stick(const Fault& f);

// What an operation on [p, p+n) of device memory fails with, if not all of it is.
Fault out_of_bounds(const char* what, CUdeviceptr p, size_t n);

// check_guards finds writes beside allocations.
Fault check_guards(const char* what);

bool is_pinned(const void* p);

template <typename T> bool live(const std::set<T*>& all, const void* handle) {
	return all.count(static_cast<T*>(const_cast<void*>(handle))) != 0;
}

} // namespace emu
