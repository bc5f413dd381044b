// Streams, events and graphs.
#include <chrono>

#include "driver.h"

namespace emu {

Stream* Stream::queue() const { return flags & CU_STREAM_NON_BLOCKING ? const_cast<Stream*>(this) : &state.default_stream; }

static Stream* stream_of(CUstream s) {
	if (!s || reinterpret_cast<uintptr_t>(s) <= 2) return &state.default_stream; // 1 and 2 name default streams too
	auto p = reinterpret_cast<Stream*>(s);
	return live(state.streams, p) ? p : nullptr;
}

CUresult put(CUstream stream, std::function<Fault()> run, uint64_t* number) {
	Stream* s = stream_of(stream);
	if (!s) return CUDA_ERROR_INVALID_HANDLE;
	if (s->spoilt) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	if (s->capture) {
		s->capture->ops.push_back(std::move(run));
		return CUDA_SUCCESS;
	}
	state.queue.push_back({++state.ops, s->queue(), std::move(run)});
	if (number) *number = state.ops;
	return CUDA_SUCCESS;
}

// advance does what is on a queue up to an operation, in order; null for all queues.
static CUresult advance(Stream* queue, uint64_t number = UINT64_MAX) {
	for (;;) {
		auto i = state.queue.begin();
		while (i != state.queue.end() && queue && i->queue != queue) ++i;
		if (i == state.queue.end() || i->number > number) return CUresult(state.sticky.code);
		Op op = std::move(*i);
		state.queue.erase(i);
		if (stick(op.run()) != CUDA_SUCCESS) return CUresult(state.sticky.code);
	}
}

CUresult finish(CUstream stream) {
	Stream* s = stream_of(stream);
	return s ? advance(s->queue()) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult finish_all() { return advance(nullptr); }

// step does one operation of a queue: who asks again and again whether something
// is ready must see it become so.
static void step(Stream* queue) {
	for (Op& op : state.queue)
		if (op.queue == queue) {
			advance(queue, op.number);
			return;
		}
}

static double now() {
	return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static bool has_work(Stream* queue) {
	for (Op& op : state.queue)
		if (op.queue == queue) return true;
	return false;
}

} // namespace emu

using namespace emu;

EMU_EXPORT CUresult cuStreamCreateWithPriority(CUstream* s, unsigned flags, int) {
	EMU_ENTER(cuStreamCreateWithPriority, context);
	Stream* p = new Stream;
	p->flags = flags;
	state.streams.insert(p);
	*s = reinterpret_cast<CUstream>(p);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuStreamCreate(CUstream* s, unsigned flags) {
	EMU_ENTER(cuStreamCreate, context);
	return cuStreamCreateWithPriority(s, flags, 0);
}

EMU_EXPORT CUresult cuStreamDestroy(CUstream s) {
	EMU_ENTER(cuStreamDestroy, context);
	Stream* p = stream_of(s);
	if (!p || p == &state.default_stream) return CUDA_ERROR_INVALID_HANDLE;
	CUresult e = finish(s);
	for (Event* v : state.events)
		if (v->stream == p) v->stream = nullptr;
	if (p->capture) {
		state.graphs.erase(p->capture);
		delete p->capture;
	}
	state.streams.erase(p);
	delete p;
	return e;
}

EMU_EXPORT CUresult cuStreamSynchronize(CUstream s) {
	EMU_ENTER(cuStreamSynchronize, context);
	Stream* p = stream_of(s);
	if (!p) return CUDA_ERROR_INVALID_HANDLE;
	if (p->capture) {
		p->spoilt = true;
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	return finish(s);
}

EMU_EXPORT CUresult cuStreamQuery(CUstream s) {
	EMU_ENTER(cuStreamQuery, context);
	Stream* p = stream_of(s);
	if (!p) return CUDA_ERROR_INVALID_HANDLE;
	if (p->capture) {
		p->spoilt = true;
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	step(p->queue());
	if (state.sticky.code) return CUresult(state.sticky.code);
	return has_work(p->queue()) ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuStreamWaitEvent(CUstream s, CUevent e, unsigned) {
	EMU_ENTER(cuStreamWaitEvent, context);
	auto v = reinterpret_cast<Event*>(e);
	if (!live(state.events, v)) return CUDA_ERROR_INVALID_HANDLE;
	if (!v->pending) return CUDA_SUCCESS;
	Stream* other = v->stream->queue();
	uint64_t number = v->pending;
	return put(s, [=]() -> Fault {
		advance(other, number);
		return {};
	});
}

// Libraries that tests put beside the driver have their work done through this.
EMU_EXPORT CUresult cuLaunchHostFunc(CUstream s, void (*f)(void*), void* data) {
	EMU_ENTER(cuLaunchHostFunc, context);
	return put(s, [=]() -> Fault {
		f(data);
		return {};
	});
}

EMU_EXPORT CUresult cuEventCreate(CUevent* e, unsigned flags) {
	EMU_ENTER(cuEventCreate, context);
	Event* v = new Event{flags};
	state.events.insert(v);
	*e = reinterpret_cast<CUevent>(v);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuEventDestroy(CUevent e) {
	EMU_ENTER(cuEventDestroy, context);
	auto v = reinterpret_cast<Event*>(e);
	if (!live(state.events, v)) return CUDA_ERROR_INVALID_HANDLE;
	state.events.erase(v);
	delete v;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuEventRecord(CUevent e, CUstream s) {
	EMU_ENTER(cuEventRecord, context);
	auto v = reinterpret_cast<Event*>(e);
	Stream* p = stream_of(s);
	if (!p || !live(state.events, v)) return CUDA_ERROR_INVALID_HANDLE;
	v->stream = p;
	uint64_t number = 0;
	CUresult r = put(
	    s,
	    [v, at = state.ops + 1]() -> Fault {
		    if (live(state.events, v) && v->pending == at) {
			    v->pending = 0;
			    v->time = now();
		    }
		    return {};
	    },
	    &number);
	v->pending = number;
	return r;
}

EMU_EXPORT CUresult cuEventQuery(CUevent e) {
	EMU_ENTER(cuEventQuery, context);
	auto v = reinterpret_cast<Event*>(e);
	if (!live(state.events, v)) return CUDA_ERROR_INVALID_HANDLE;
	if (v->stream && v->stream->capture) return CUDA_ERROR_CAPTURED_EVENT;
	if (v->pending) step(v->stream->queue());
	if (state.sticky.code) return CUresult(state.sticky.code);
	return v->pending ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuEventSynchronize(CUevent e) {
	EMU_ENTER(cuEventSynchronize, context);
	auto v = reinterpret_cast<Event*>(e);
	if (!live(state.events, v)) return CUDA_ERROR_INVALID_HANDLE;
	if (v->stream && v->stream->capture) return CUDA_ERROR_CAPTURED_EVENT;
	return v->pending ? advance(v->stream->queue(), v->pending) : CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuEventElapsedTime(float* ms, CUevent from, CUevent to) {
	EMU_ENTER(cuEventElapsedTime, context);
	auto a = reinterpret_cast<Event*>(from), b = reinterpret_cast<Event*>(to);
	if (!live(state.events, a) || !live(state.events, b) || (a->flags | b->flags) & CU_EVENT_DISABLE_TIMING || !a->stream || !b->stream)
		return CUDA_ERROR_INVALID_HANDLE;
	if (a->pending || b->pending) return CUDA_ERROR_NOT_READY;
	*ms = float(b->time - a->time);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuStreamBeginCapture(CUstream s, CUstreamCaptureMode mode) {
	EMU_ENTER(cuStreamBeginCapture, context);
	Stream* p = stream_of(s);
	if (!p) return CUDA_ERROR_INVALID_HANDLE;
	if (p == &state.default_stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	if (p->capture) return CUDA_ERROR_ILLEGAL_STATE;
	p->capture = new Graph;
	state.graphs.insert(p->capture);
	p->mode = mode;
	p->spoilt = false;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuStreamEndCapture(CUstream s, CUgraph* g) {
	EMU_ENTER(cuStreamEndCapture, context);
	Stream* p = stream_of(s);
	if (!p) return CUDA_ERROR_INVALID_HANDLE;
	if (!p->capture) return CUDA_ERROR_ILLEGAL_STATE;
	Graph* made = p->capture;
	p->capture = nullptr;
	*g = nullptr;
	if (p->spoilt) {
		p->spoilt = false;
		state.graphs.erase(made);
		delete made;
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	}
	*g = reinterpret_cast<CUgraph>(made);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuStreamIsCapturing(CUstream s, int* status) {
	EMU_ENTER(cuStreamIsCapturing, context);
	Stream* p = stream_of(s);
	if (!p) return CUDA_ERROR_INVALID_HANDLE;
	*status = p->capture ? p->spoilt ? 2 : 1 : 0;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec* x, CUgraph g, unsigned long long) {
	EMU_ENTER(cuGraphInstantiateWithFlags, context);
	auto from = reinterpret_cast<Graph*>(g);
	if (!live(state.graphs, from)) return CUDA_ERROR_INVALID_HANDLE;
	Graph* p = new Graph(*from);
	state.execs.insert(p);
	*x = reinterpret_cast<CUgraphExec>(p);
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuGraphLaunch(CUgraphExec x, CUstream s) {
	EMU_ENTER(cuGraphLaunch, context);
	auto p = reinterpret_cast<Graph*>(x);
	if (!live(state.execs, p)) return CUDA_ERROR_INVALID_HANDLE;
	for (auto& op : p->ops) {
		CUresult e = put(s, op);
		if (e != CUDA_SUCCESS) return e;
	}
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuGraphExecDestroy(CUgraphExec x) {
	EMU_ENTER(cuGraphExecDestroy, context);
	auto p = reinterpret_cast<Graph*>(x);
	if (!live(state.execs, p)) return CUDA_ERROR_INVALID_HANDLE;
	state.execs.erase(p);
	delete p;
	return CUDA_SUCCESS;
}

EMU_EXPORT CUresult cuGraphDestroy(CUgraph g) {
	EMU_ENTER(cuGraphDestroy, context);
	auto p = reinterpret_cast<Graph*>(g);
	if (!live(state.graphs, p)) return CUDA_ERROR_INVALID_HANDLE;
	state.graphs.erase(p);
	delete p;
	return CUDA_SUCCESS;
}
