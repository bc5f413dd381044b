package server

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"nrt/web/wire"
)

// /v1 is for programs, as clients of OpenAI's API speak it:
//
//	GET  /v1/models            what can be asked                           v1.go
//	GET  /v1/models/{model}    one of them, or 404                         v1.go
//	POST /v1/chat/completions  a question: chain of reasoning and answer   v1_chat.go
//	POST /v1/completions       a text that goes on                         v1_text.go
//	POST /v1/score             what chains are worth, as "nrt score"       v1_score.go
//
// A request's fields are checked by name (v1_fields.go): one that would change
// the answer in a way the server cannot do is refused, never passed over. Then it
// waits in the queue of all readers, its address standing for the reader. Tokens
// become text in v1_speak.go, and a stream of events in v1_stream.go.
//
// An answer is a function of the request and its seed, to the byte: created is 0
// and the id a hash. Texts draw a seed where the request has none, and the answer
// names it.

// mostBody is the largest body of a request in bytes.
const mostBody = 1 << 20

// problem is an error as /v1 answers it.
type problem struct {
	status      int
	kind        string
	param, code string // "" for none
	text        string
	retry       float64 // seconds until it is worth another try; 0 says nothing
}

func (p *problem) Error() string { return p.text }

// The kinds of problems.
const (
	kindRequest = "invalid_request_error"
	kindToken   = "authentication_error"
	kindRate    = "rate_limit_error"
	kindServer  = "server_error"
)

// badField is what is wrong with a field.
func badField(param, format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, kind: kindRequest, param: param, text: param + ": " + fmt.Sprintf(format, args...)}
}

// tooLong refuses what the model has no room for.
func tooLong(param, format string, args ...any) *problem {
	p := badField(param, format, args...)
	p.code = "context_length_exceeded"
	return p
}

// shorten is err, as the field param's where there is no memory to read what that holds.
func shorten(param string, err error) error {
	var f *failure
	if errors.As(err, &f) && f.code == wire.CodeTooLong {
		return tooLong(param, "%s", f.text)
	}
	return err
}

var errStopping = &problem{status: http.StatusServiceUnavailable, kind: kindServer, code: "stopping", text: "the server is stopping; it may be back in a moment", retry: 5}

// MarshalJSON is the body of the answer.
func (p *problem) MarshalJSON() ([]byte, error) {
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	b := body{Message: clip(p.text, 1<<10), Type: p.kind}
	if p.param != "" {
		param := clip(p.param, 200)
		b.Param = &param
	}
	if p.code != "" {
		b.Code = &p.code
	}
	return json.Marshal(map[string]body{"error": b})
}

// api is one request to /v1.
type api struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	out   *http.ResponseController
	under string // the address that the reader has

	body   []byte
	fields fields
	model  *model

	ctx   context.Context // ends when the reader leaves or the server stops
	abort context.CancelCauseFunc
}

// v1 makes a handler of serve, which answers or says why not. Every request is
// counted by endpoint and result.
func (s *Server) v1(endpoint string, serve func(a *api) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := &api{s: s, w: w, r: r, out: http.NewResponseController(w), under: s.reader(r)}
		a.ctx, a.abort = context.WithCancelCause(r.Context())
		defer a.abort(nil)
		defer context.AfterFunc(s.ctx, func() { a.abort(errNotRunning) })()
		err := error(&problem{status: http.StatusUnauthorized, kind: kindToken, code: "invalid_api_key",
			text: "a token is needed, as Authorization: Bearer …: it is in the address that the server printed when it started"})
		if s.permitted(r) {
			err = serve(a)
		}
		result := a.result(err)
		s.metrics.programs.WithLabelValues(endpoint, result).Inc()
		if result == "left" { // who has only stopped sending must not take what came, or nothing, for an answer
			panic(http.ErrAbortHandler)
		}
	}
}

// result answers with the error, if there is one, and names how it went. A reader
// who left hears nothing.
func (a *api) result(err error) string {
	if err == nil {
		return "done"
	}
	p := a.problem(err)
	if a.r.Context().Err() != nil || errors.Is(context.Cause(a.ctx), errLeft) || errors.Is(err, errCut) {
		return "left"
	}
	if !errors.Is(err, errTold) {
		a.fail(p)
	}
	switch {
	case p.status == http.StatusTooManyRequests:
		return "busy"
	case p.status == http.StatusServiceUnavailable:
		return "stopping"
	case p.status < http.StatusInternalServerError:
		return "refused"
	}
	return "failed"
}

// problem is any error as the reader is told it.
func (a *api) problem(err error) *problem {
	var p *problem
	var f *failure
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, errNotRunning), errors.Is(context.Cause(a.ctx), errNotRunning):
		return errStopping
	case errors.Is(err, errQueueFull):
		return &problem{status: http.StatusTooManyRequests, kind: kindRate, code: "queue_full", retry: a.s.sched.retry(), text: errQueueFull.Error()}
	case errors.Is(err, errTooMany):
		return &problem{status: http.StatusTooManyRequests, kind: kindRate, code: "queue_full", retry: a.s.sched.retry(),
			text: fmt.Sprintf("%d of your questions are waiting already", a.s.o.Burst)}
	case errors.As(err, &f) && f.code == wire.CodeBusy:
		return &problem{status: http.StatusServiceUnavailable, kind: kindServer, code: "busy", retry: max(1, a.s.sched.retry()), text: f.text}
	case errors.As(err, &f) && f.code == wire.CodeNoModel:
		return &problem{status: http.StatusNotFound, kind: kindRequest, param: "model", code: "model_not_found", text: f.text + ": GET /v1/models lists those that are"}
	}
	if a.ctx.Err() == nil {
		a.s.log.Error("request", "path", a.r.URL.Path, "error", err)
	}
	return &problem{status: http.StatusInternalServerError, kind: kindServer, text: err.Error()}
}

func (a *api) fail(p *problem) {
	if p.retry > 0 {
		a.w.Header().Set("Retry-After", strconv.Itoa(int(max(1, math.Ceil(p.retry)))))
	}
	if p.status == http.StatusUnauthorized {
		a.w.Header().Set("WWW-Authenticate", `Bearer realm="nrt"`)
	}
	a.answer(p.status, p)
}

// answer sends a value as JSON. What readers have not taken of it is bounded as events
// are: beyond Limits.StreamBytes an answer has Limits.WriteWithin to leave, however long
// it is.
func (a *api) answer(status int, v any) {
	body, err := encodeFlat(v)
	if err != nil {
		a.s.log.Error("answer", "path", a.r.URL.Path, "error", err)
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	held, n := &a.s.streams.held, len(body)
	defer held.Add(int64(-n))
	if held.Add(int64(n)) > a.s.streams.most {
		n = 0
	}
	a.patience(n)
	a.w.Header().Set("Content-Type", "application/json")
	a.w.Header().Set("Cache-Control", "no-store")
	a.w.WriteHeader(status)
	if _, err := a.w.Write(append(body, '\n')); err != nil {
		a.s.log.Debug("answer not sent", "error", err)
	}
}

// patience gives the next n bytes their time; what was asked may have computed for
// longer than an ordinary answer may take. Where there are no deadlines none is
// set.
func (a *api) patience(n int) {
	_ = a.out.SetWriteDeadline(time.Now().Add(a.s.o.WriteWithin).Add(atPace(n)))
}

// deny refuses a request before its handler, in the form that the path has.
func (s *Server) deny(w http.ResponseWriter, r *http.Request, status int, reason string) {
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		s.refuse(w, status, reason)
		return
	}
	kind := kindRequest
	if status >= http.StatusInternalServerError {
		kind = kindServer
	}
	(&api{s: s, w: w, r: r, out: http.NewResponseController(w)}).fail(&problem{status: status, kind: kind, text: reason})
}

// v1None answers for paths and methods that /v1 does not have.
func (s *Server) v1None(a *api) error {
	allow := map[string]string{"/v1/models": http.MethodGet, "/v1/chat/completions": http.MethodPost, "/v1/completions": http.MethodPost, "/v1/score": http.MethodPost}
	method := allow[a.r.URL.Path]
	if strings.HasPrefix(a.r.URL.Path, "/v1/models/") {
		method = http.MethodGet
	}
	if method != "" {
		a.w.Header().Set("Allow", method)
		return &problem{status: http.StatusMethodNotAllowed, kind: kindRequest, text: a.r.URL.Path + " takes " + method}
	}
	return &problem{status: http.StatusNotFound, kind: kindRequest, code: "unknown_url", text: "there is no " + clip(a.r.URL.Path, 200) + " here"}
}

// v1Entry is a model in the list.
type v1Entry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int    `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// v1Models lists what can be asked.
func (s *Server) v1Models(a *api) error {
	list := []v1Entry{}
	for _, m := range s.models() {
		list = append(list, v1Entry{ID: m.Name, Object: "model", OwnedBy: "nrt"})
	}
	a.answer(http.StatusOK, struct {
		Object string    `json:"object"`
		Data   []v1Entry `json:"data"`
	}{"list", list})
	return nil
}

// v1Model is one entry of the list.
func (s *Server) v1Model(a *api) error {
	name := a.r.PathValue("model")
	err := a.find(name)
	if err == nil {
		a.answer(http.StatusOK, v1Entry{ID: name, Object: "model", OwnedBy: "nrt"})
	}
	return err
}

// read takes from the reader's allowance, whatever is asked: to take a body apart is
// work too. Then it does so; a body is an object of at most mostBody bytes.
func (a *api) read() error {
	if retry, ok := a.s.rates.take(a.under, a.s.o.now()); !ok {
		return &problem{status: http.StatusTooManyRequests, kind: kindRate, code: "rate_limit_exceeded", retry: retry,
			text: fmt.Sprintf("too many requests; the next one can be made in %.0f s", math.Ceil(retry))}
	}
	refuse := func(status int, format string, args ...any) error {
		return &problem{status: status, kind: kindRequest, text: fmt.Sprintf(format, args...)}
	}
	if kind, _, err := mime.ParseMediaType(a.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "Content-Type: want application/json")
	}
	var err error
	var large *http.MaxBytesError
	switch a.body, err = io.ReadAll(http.MaxBytesReader(a.w, a.r.Body, mostBody)); {
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", mostBody)
	case err != nil:
		return refuse(http.StatusBadRequest, "the body could not be read: %v", err)
	case !utf8.Valid(a.body):
		return refuse(http.StatusBadRequest, "the body is not UTF-8")
	}
	// The body has its time to come; from now on the connection is read only to
	// notice that the reader leaves.
	_ = a.out.SetReadDeadline(time.Time{})
	if err := json.Unmarshal(a.body, &a.fields.raw); err != nil || a.fields.raw == nil {
		if err == nil || !errors.As(err, new(*json.SyntaxError)) {
			return refuse(http.StatusBadRequest, "the body: want a JSON object")
		}
		return refuse(http.StatusBadRequest, "the body is no JSON: %v", err)
	}
	return nil
}

// find looks the model up.
func (a *api) find(model string) error {
	if a.model = a.s.hub.find(model); a.model == nil {
		return failed(wire.CodeNoModel, "%s", a.s.unknown(model))
	}
	return nil
}

// compute waits for a slot and a replica of the model and lets work use it. The
// server's end waits until it returns, soon after the context ends.
func (a *api) compute(work func(ctx context.Context, r *replica) error) error {
	s := a.s
	s.mu.Lock()
	if s.serving.Err() != nil {
		s.mu.Unlock()
		return errNotRunning
	}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()
	place, err := s.sched.enter(&ticket{reader: a.under, from: a.under, room: a.model.room}, s.o.Burst)
	if err != nil {
		return err
	}
	asked := time.Now()
	release, err := s.sched.wait(a.ctx, place, nil)
	if err != nil {
		return err
	}
	s.metrics.queued.Observe(time.Since(asked).Seconds())
	return s.use(a.ctx, a.model, release, func(r *replica) error { return work(a.ctx, r) })
}

// name is the answer's id: the same for the same request and seed.
func (a *api) name(prefix string, seed uint64) string {
	sum := sha256.New()
	sum.Write([]byte(a.r.URL.Path + "\n"))
	sum.Write(a.body)
	sum.Write(binary.LittleEndian.AppendUint64(nil, seed))
	return prefix + hex.EncodeToString(sum.Sum(nil)[:12])
}
