package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"nrt/backend/engine"
)

// metrics are what /metrics shows, in a registry of the server's own.
type metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec // HTTP, by pattern and status
	messages  *prometheus.CounterVec // of readers, by type
	asks      *prometheus.CounterVec // by result
	scores    *prometheus.CounterVec // by result
	resamples *prometheus.CounterVec // by result
	programs  *prometheus.CounterVec // requests to /v1, by endpoint and result
	tokens    *prometheus.CounterVec // sent, by part
	dropped   *prometheus.CounterVec // connections, by reason
	byPart    map[engine.Part]prometheus.Counter
	steps     *prometheus.CounterVec // of training, by method
	bad       prometheus.Counter
	resumed   prometheus.Counter

	queued     prometheus.Histogram // seconds before a slot
	first      prometheus.Histogram // seconds from question to first token
	seconds    prometheus.Histogram // of computing a question
	scoring    prometheus.Histogram // seconds of computing what-ifs
	resampling prometheus.Histogram // seconds of writing chains afresh
	delay      prometheus.Histogram // seconds from event to socket
}

// count counts a streamed token.
func (m *metrics) count(p engine.Part) {
	if c := m.byPart[p]; c != nil {
		c.Inc()
	}
}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		m.registry.MustRegister(h)
		return h
	}
	gauge := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	m.requests = counter("nrt_http_requests_total", "HTTP requests by route and status.", "route", "code")
	m.messages = counter("nrt_messages_total", "Messages of readers by type.", "type")
	m.asks = counter("nrt_asks_total", "Questions by how they ended: done, cancelled, left, busy, failed.", "result")
	m.scores = counter("nrt_scores_total", "What-ifs by how they ended, as questions do.", "result")
	m.resamples = counter("nrt_resamples_total", "Chains written afresh by how that ended, as questions do.", "result")
	m.programs = counter("nrt_v1_requests_total", "Requests to /v1 by endpoint and how they ended: done, refused, busy, left, stopping, failed.", "endpoint", "result")
	m.tokens = counter("nrt_tokens_total", "Tokens streamed to readers by part.", "part")
	m.byPart = map[engine.Part]prometheus.Counter{}
	for p, name := range parts {
		m.byPart[p] = m.tokens.WithLabelValues(string(name))
	}
	m.dropped = counter("nrt_dropped_total", "Connections dropped by reason: slow (fell behind), stalled (took nothing).", "reason")
	m.steps = counter("nrt_train_steps_total", "Training steps by method.", "method")
	m.bad = counter("nrt_bad_messages_total", "Messages that could not be read.").WithLabelValues()
	m.resumed = counter("nrt_resumed_total", "Connections that went on with a session.").WithLabelValues()
	m.queued = histogram("nrt_queue_seconds", "Time a question or a score waited for a slot.", prometheus.ExponentialBuckets(0.001, 4, 9))
	m.first = histogram("nrt_first_token_seconds", "Time from question to first token.", prometheus.ExponentialBuckets(0.001, 2, 14))
	m.seconds = histogram("nrt_ask_seconds", "Time a question computed.", prometheus.ExponentialBuckets(0.01, 2, 14))
	m.scoring = histogram("nrt_score_seconds", "Time a score of what-ifs computed.", prometheus.ExponentialBuckets(0.001, 2, 14))
	m.resampling = histogram("nrt_resample_seconds", "Time that writing a chain afresh computed.", prometheus.ExponentialBuckets(0.001, 2, 14))
	m.delay = histogram("nrt_frame_delay_seconds", "Time from a frame's oldest event to its socket.", prometheus.ExponentialBuckets(0.001, 2, 14))
	gauge("nrt_connections", "Open websockets.", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(s.conns)
	})
	gauge("nrt_sessions", "Readers, those who may come back included.", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.sessions))
	})
	gauge("nrt_slots_busy", "Questions and scores that compute.", func() float64 { busy, _ := s.sched.load(); return float64(busy) })
	gauge("nrt_queue_length", "Questions and scores that wait.", func() float64 { _, n := s.sched.load(); return float64(n) })
	gauge("nrt_train_running", "Training runs at work.", func() float64 {
		if s.runs == nil {
			return 0
		}
		return float64(s.runs.busy())
	})
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}
