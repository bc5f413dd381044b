package server

import (
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"nrt/templates"
	"nrt/web"
	"nrt/web/view"
	"nrt/web/wire"
)

// Baked is the file of saved examples among the static files.
const Baked = "baked.json"

// mostExamples of the small world are offered to start from.
const mostExamples = 28

// page is what the page shows before anything is asked.
type page struct {
	baked     []view.Example
	raw       json.RawMessage   // the same, as the client reads it
	state     view.State        // the first of them, open
	fragments map[string]string // of it
	examples  []example         // of the small world
	lessons   []view.Lesson
	worker    *asset // the service worker of this build
}

func newPage(s *Server) (*page, error) {
	p := &page{raw: json.RawMessage("[]"), examples: []example{}}
	raw, err := web.Read(Baked)
	switch {
	case err == nil:
		if p.baked, err = view.ReadExamples(raw); err != nil {
			return nil, fmt.Errorf("%s: %w", Baked, err)
		}
		p.raw = raw
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	p.state = view.New(p.baked)
	p.fragments, p.lessons = view.Fragments(&p.state), view.Lessons(p.baked)
	if s.o.World != nil {
		for _, item := range s.o.World.HeldOut(mostExamples, 1) {
			plain, _ := s.o.World.Plain(item.Question)
			p.examples = append(p.examples, example{Family: item.Family, Question: item.Question, Plain: plain, Answer: item.Answer})
		}
	}
	b, err := newBuild(p.shell(s, s.hub.list()))
	if err != nil {
		return nil, err
	}
	if p.worker, err = newWorker(b); err != nil {
		return nil, fmt.Errorf("%s: %w", workerName, err)
	}
	return p, nil
}

// shell is what the template needs, but for the nonce. A reader who may know no models
// still sees which one wrote the example.
func (p *page) shell(s *Server, models []wire.Model) templates.Page {
	t := templates.Page{
		Fragments: p.fragments, Boot: p.raw, WASMSize: s.static.wasm, Asset: web.URL, Lessons: p.lessons,
		Choice: view.DefaultChoice(), MaxChain: s.o.Chain,
	}
	for _, e := range p.baked {
		t.Examples = append(t.Examples, templates.Option{Value: e.Name, Label: e.Title})
	}
	if len(models) > 0 { // names are for those who have the token
		t.Model, t.Base = models[0].Name, p.state.ModelLabel(s.o.Train.Base)
	}
	if len(p.baked) > 0 {
		t.Example, t.Model = p.baked[0].Name, p.baked[0].Ask.Model
		if models == nil {
			models = []wire.Model{{Name: t.Model}}
		}
	}
	state := p.state
	state.Models = models
	for _, m := range state.ModelMenu() {
		t.Models = append(t.Models, templates.Option{Value: m.Name, Label: state.ModelLabel(m.Name)})
	}
	return t
}

// servePage is the page: readable as it comes, whatever the client does then.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if s.admit(w, r) {
		return
	}
	nonce := rand.Text()    // for this page alone
	var models []wire.Model // what is served is told to those alone who may ask it
	if s.permitted(r) {
		models = s.models()
	}
	p := s.page.shell(s, models)
	p.Nonce = nonce
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy(nonce, r.Host))
	h.Set("Vary", "Accept-Encoding")
	var out io.Writer = w
	var z *gzip.Writer
	if accepts(r, "gzip") {
		h.Set("Content-Encoding", "gzip")
		z = gzip.NewWriter(w)
		out = z
	}
	err := templates.Shell(p).Render(r.Context(), out)
	if z != nil {
		err = errors.Join(err, z.Close())
	}
	if err != nil {
		s.log.Debug("page not sent", "error", err)
	}
}
