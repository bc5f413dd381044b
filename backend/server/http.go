package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nrt/web/wire"
)

// Handler is the server's HTTP side.
//
//	GET  /                   the page; readable without scripts and without the token
//	GET  /static/{file}      its files
//	GET  /worker.js          its service worker, which keeps both for when there is no server
//	GET  /ws                 the websocket; package wire says what is spoken      token
//	GET  /vocab/{vocab}      a tokenizer for the browser, backend/token's Compact token
//	GET  /api/status         what the server is and whether the token is needed
//	GET  /api/models         models that can be asked                            token
//	GET  /api/examples       held-out questions of the small world, with answers token
//	GET  /api/runs           training runs                                       token
//	GET  /api/runs/{run}     one of them, with all its values                    token
//	     /v1/…               for programs; v1.go says what is spoken             token
//	GET  /healthz, /readyz   it lives; it can answer
//	GET  /metrics            for Prometheus                                      token
//
// The page needs its client, which "make wasm" puts among the files that are built in;
// /v1 does not. The page stands at the root of its host and names its files from there;
// /v1 may stand under a prefix that http.StripPrefix takes off. The websocket needs a
// ResponseWriter that http.ResponseController can hijack, and a stream of /v1 one that it
// can flush, to come as it is computed.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /static/{file...}", s.serveStatic)
	mux.HandleFunc("GET /worker.js", s.serveWorker)
	mux.HandleFunc("GET /ws", s.guard(s.serveSocket))
	mux.HandleFunc("GET /vocab/{vocab}", s.guard(s.serveVocab))
	mux.HandleFunc("GET /api/status", s.serveStatus)
	mux.HandleFunc("GET /api/models", s.guard(s.serveModels))
	mux.HandleFunc("GET /api/examples", s.guard(s.serveExamples))
	mux.HandleFunc("GET /api/runs", s.guard(s.serveRuns))
	mux.HandleFunc("GET /api/runs/{run...}", s.guard(s.serveRun))
	mux.HandleFunc("GET /v1/models", s.v1("models", s.v1Models))
	mux.HandleFunc("GET /v1/models/{model...}", s.v1("models", s.v1Model))
	mux.HandleFunc("POST /v1/chat/completions", s.v1("chat", s.v1Chat))
	mux.HandleFunc("POST /v1/completions", s.v1("completions", s.v1Text))
	mux.HandleFunc("POST /v1/score", s.v1("score", s.v1Score))
	mux.HandleFunc("/v1/", s.v1("none", s.v1None))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { s.text(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /metrics", s.guard(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP))
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/static/icon.svg", http.StatusFound)
	})
	return s.count(mux, s.secure(mux))
}

// Serve answers on l until ctx ends, then closes the server in order.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second, // bodies are small; websockets and /v1 set their own
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	select {
	case err := <-failed:
		return errors.Join(err, s.Close())
	case <-ctx.Done():
	}
	err := s.Close()
	wait, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if h.Shutdown(wait) != nil { // a slow download, say: no reason to call the end a failed one
		err = errors.Join(err, h.Close())
	}
	if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// count counts requests by route, and turns a panic into a 500 and a log line.
func (s *Server) count(mux *http.ServeMux, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, route := mux.Handler(r)
		if route == "" {
			route = "none"
		}
		rec := &recorder{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					s.metrics.requests.WithLabelValues(route, strconv.Itoa(rec.code)).Inc()
					panic(p)
				}
				s.log.Error("panic", "route", route, "error", fmt.Sprint(p), "stack", string(debug.Stack()))
				if !rec.wrote {
					s.deny(rec, r, http.StatusInternalServerError, "the server made a mistake; its log says which")
				}
			}
			s.metrics.requests.WithLabelValues(route, strconv.Itoa(rec.code)).Inc()
		}()
		next.ServeHTTP(rec, r)
	})
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	code  int
	wrote bool
}

func (r *recorder) WriteHeader(code int) {
	if !r.wrote {
		r.code, r.wrote = code, true
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(p)
}

// Hijack lets the websocket take the connection over.
func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, b, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("this connection cannot become a websocket: %w", err)
	}
	r.code, r.wrote = http.StatusSwitchingProtocols, true
	return c, b, nil
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// refuse answers with a reason, as JSON.
func (s *Server) refuse(w http.ResponseWriter, status int, reason string) {
	s.encode(w, status, map[string]string{"error": reason})
}

// json answers with a value.
func (s *Server) json(w http.ResponseWriter, v any) { s.encode(w, http.StatusOK, v) }

func (s *Server) encode(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer not sent", "error", err)
	}
}

func (s *Server) text(w http.ResponseWriter, t string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if _, err := w.Write([]byte(t)); err != nil {
		s.log.Debug("answer not sent", "error", err)
	}
}

// serveReady says whether a question would be taken: the server is not stopping
// and its first model can be read.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := s.running(); err != nil {
		s.refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if _, _, err := s.hub.first().vocab.open(); err != nil {
		s.refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	s.text(w, "ready\n")
}

// status is what anyone may know.
type status struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	Token    string `json:"token"` // "none" asked for, "needed", or "known"
	Training bool   `json:"training"`
	Readers  int    `json:"readers"`
	Queue    int    `json:"queue"`
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	st := status{Version: s.o.Version, Protocol: wire.Version, Token: "none", Training: s.runs != nil}
	if s.o.Token != "" {
		st.Token = "needed"
		if s.permitted(r) {
			st.Token = "known"
		}
	}
	s.mu.Lock()
	st.Readers = s.conns
	s.mu.Unlock()
	_, st.Queue = s.sched.load()
	s.json(w, st)
}

func (s *Server) serveModels(w http.ResponseWriter, _ *http.Request) { s.json(w, s.models()) }

// example is a question to start from.
type example struct {
	Family   string `json:"family"`
	Question string `json:"question"`
	Plain    string `json:"plain"` // the same in everyday English
	Answer   string `json:"answer"`
}

func (s *Server) serveExamples(w http.ResponseWriter, _ *http.Request) { s.json(w, s.page.examples) }

// serveVocab is /vocab/{vocab}: the name changes with the bytes.
func (s *Server) serveVocab(w http.ResponseWriter, r *http.Request) {
	v := s.hub.findVocab(r.PathValue("vocab"))
	if v == nil {
		s.refuse(w, http.StatusNotFound, "no such vocabulary")
		return
	}
	compact, err := v.compact()
	if err != nil {
		s.refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	compact.serve(w, r, s.o.Token == "")
}

func (s *Server) serveRuns(w http.ResponseWriter, _ *http.Request) {
	s.json(w, s.states(nil))
}

// runReport is a run with all its values.
type runReport struct {
	State wire.State   `json:"state"`
	Steps []wire.Point `json:"steps"`
	Evals []wire.Point `json:"evals"`
}

func (s *Server) serveRun(w http.ResponseWriter, r *http.Request) {
	var rep runReport
	saved, ok := s.savedRun(r.PathValue("run")), false
	if saved != nil {
		rep, ok = saved.now(), true
	} else if s.runs != nil {
		rep, ok = s.runs.report(r.PathValue("run"))
	}
	if ok {
		s.json(w, rep)
		return
	}
	s.refuse(w, http.StatusNotFound, "no such run")
}
