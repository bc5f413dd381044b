package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"nrt/web/wire"
)

// owned says hello under a secret of the browser's, as in a new session.
func (r *rig) owned(secret string) *client {
	r.t.Helper()
	c := r.dial()
	c.say(&wire.Hello{Owner: secret})
	c.welcome = expect[*wire.Welcome](c)
	return c
}

// TestRunsBelongToWhoStartedThem: others watch a run and do not handle it, neither
// while it trains nor after the server starts again; its reader does, in any session.
func TestRunsBelongToWhoStartedThem(t *testing.T) {
	dir := t.TempDir()
	r := trainer(t, dir)
	c, other := r.owned("secret"), r.owned("another")
	c.say(short(500))
	if st := expect[*wire.State](c); !st.Mine {
		t.Errorf("who starts a run hears %+v", st)
	}
	if st := until(other, "run1", wire.StatusRunning); st.Mine {
		t.Errorf("another reader hears %+v", st)
	}
	refused := func(who *client) {
		t.Helper()
		for _, m := range []wire.Message{&wire.TrainPause{Run: "run1"}, &wire.TrainStop{Run: "run1"}, &wire.TrainResume{Run: "run1"}} {
			who.say(m)
			if f := expect[*wire.Failed](who); f.Code != wire.CodeForbidden {
				t.Errorf("%s by another reader: %+v", m.Type(), f)
			}
		}
	}
	refused(other)
	refused(r.reader(nil)) // without a secret the session itself is the owner
	other.say(&wire.Watch{Run: "run1"})
	expect[*wire.Step](other)
	c.ws.Close()
	c = r.owned("secret")
	if len(c.welcome.Runs) != 1 || !c.welcome.Runs[0].Mine {
		t.Errorf("a new session of the same browser hears %+v", c.welcome.Runs)
	}
	c.say(&wire.TrainPause{Run: "run1"})
	until(c, "run1", wire.StatusPaused)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.ReadFile(filepath.Join(dir, "runs", "run1", "run.json"))
	if err != nil || strings.Contains(string(info), `"secret"`) {
		t.Errorf("run.json tells the secret: %v\n%s", err, info)
	}

	r = trainer(t, dir)
	other = r.owned("another")
	if len(other.welcome.Runs) != 1 || other.welcome.Runs[0].Mine {
		t.Errorf("after a restart another reader hears %+v", other.welcome.Runs)
	}
	refused(other)
	c = r.owned("secret")
	c.say(&wire.TrainStop{Run: "run1"})
	if st := until(c, "run1", wire.StatusStopped); !st.Mine {
		t.Errorf("have %+v", st)
	}
}

// TestTokenHolderStopsAnyRun: a program that brings the token itself may; a page,
// whose token is a cookie, may not.
func TestTokenHolderStopsAnyRun(t *testing.T) {
	r := trainer(t, t.TempDir(), func(o *Options) { o.Token = "letmein" })
	dial := func(head http.Header) *client {
		ws, resp, err := websocket.DefaultDialer.Dial(r.url(), head)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		t.Cleanup(func() { ws.Close() })
		c := &client{t: t, ws: ws}
		c.say(&wire.Hello{})
		c.welcome = expect[*wire.Welcome](c)
		return c
	}
	page := http.Header{"Cookie": {r.cookie("letmein")}}
	c, other, keeper := dial(page), dial(page), dial(http.Header{"Authorization": {"Bearer letmein"}})
	c.say(short(500))
	until(c, "run1", wire.StatusRunning)
	other.say(&wire.TrainStop{Run: "run1"})
	if f := expect[*wire.Failed](other); f.Code != wire.CodeForbidden {
		t.Errorf("another page: %+v", f)
	}
	keeper.say(&wire.TrainStop{Run: "run1"})
	until(keeper, "run1", wire.StatusStopped)
}

// TestAbandonedPausedRunGoes: a paused run whose reader is gone does not keep
// everybody else from training.
func TestAbandonedPausedRunGoes(t *testing.T) {
	r := trainer(t, t.TempDir())
	r.o.KeepRuns = 1
	c := r.owned("secret")
	c.say(short(500))
	until(c, "run1", wire.StatusRunning)
	c.say(&wire.TrainPause{Run: "run1"})
	until(c, "run1", wire.StatusPaused)
	other := r.owned("another")
	other.say(short(1))
	if f := expect[*wire.Failed](other); f.Code != wire.CodeBusy || !strings.Contains(f.Message, "try again when one has ended") { // it has none to stop
		t.Fatalf("beside a paused run whose reader is here: %+v", f)
	}
	x := r.session(c.welcome.Session)
	x.close()
	other.say(short(1))
	until(other, "run2", wire.StatusDone)
}
