package browsertest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// program is the program under test.
func program(t testing.TB) string {
	t.Helper()
	name := os.Getenv("NRT")
	if name == "" {
		name = filepath.Join("..", "..", "bin", "nrt")
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abs); err != nil {
		t.Fatalf("%v: `make build` makes it", err)
	}
	return abs
}

// server is one run of `nrt serve`.
type server struct {
	t     testing.TB
	addr  string
	state string
	args  []string
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
	mu    sync.Mutex
	log   []string
}

// serve starts the program on a free port and waits until it is ready. It ends
// with the test.
func serve(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{t: t, addr: "127.0.0.1:0", state: t.TempDir(), args: args}
	s.start()
	t.Cleanup(func() {
		s.stop(syscall.SIGTERM)
		if t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Logf("the server said:\n%s", strings.Join(s.log, "\n"))
		}
	})
	return s
}

func (s *server) url() string { return "http://" + s.addr + "/" }

// start runs the program, at the address it had before if it had one.
func (s *server) start() {
	s.t.Helper()
	args := append([]string{"serve", "--addr", s.addr, "--state", s.state}, s.args...)
	s.cmd = exec.Command(program(s.t), args...)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.done = make(chan struct{})
	go func(done chan struct{}, cmd *exec.Cmd) {
		s.keep(out)
		_ = cmd.Wait()
		close(done)
	}(s.done, s.cmd)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		for _, line := range s.log {
			if at, ok := strings.CutPrefix(line, "http://"); ok {
				s.addr, _, _ = strings.Cut(at, "/") // without the token
			}
		}
		s.mu.Unlock()
		if res, err := http.Get(s.url() + "readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-s.done:
			s.t.Fatalf("the server ended: %s", strings.Join(s.log, "\n"))
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("the server is not ready after %v", patience)
		}
	}
}

func (s *server) keep(out io.Reader) {
	for in := bufio.NewScanner(out); in.Scan(); {
		s.mu.Lock()
		s.log = append(s.log, in.Text())
		s.mu.Unlock()
	}
}

// stop ends the program and waits for it.
func (s *server) stop(sig syscall.Signal) {
	s.t.Helper()
	select {
	case <-s.done:
		return
	default:
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Errorf("the server did not end %v after %v", patience, sig)
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// proxy stands between browser and server, so that a test can cut connections
// as a bad network does.
type proxy struct {
	net.Listener
	to    string
	gate  sync.RWMutex // held: nothing comes from the server
	mu    sync.Mutex
	conns map[net.Conn]bool
	count int // connections that there were
	down  bool
}

// behindProxy opens a live page whose way to its server can be cut.
func behindProxy(t testing.TB, v view) (*tab, *proxy) {
	t.Helper()
	s := serve(t)
	b := open(t, v)
	b.expectAway()
	p := newProxy(t, s.addr)
	b.load(p.url())
	b.until("connected", live)
	return b, p
}

// newProxy forwards to addr.
func newProxy(t testing.TB, addr string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: addr, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { p.Close(); p.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.forward(c)
		}
	}()
	return p
}

func (p *proxy) url() string { return fmt.Sprintf("http://%s/", p.Addr()) }

func (p *proxy) forward(in net.Conn) {
	defer in.Close()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		p.mu.Unlock()
		return
	}
	p.conns[in], p.conns[out] = true, true
	p.count++
	p.mu.Unlock()
	defer out.Close()
	go func() { _, _ = io.Copy(out, in); out.Close() }()
	_, _ = io.Copy(gated{in, &p.gate}, out)
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

// gated writes while its gate is not held.
type gated struct {
	io.Writer
	gate *sync.RWMutex
}

func (g gated) Write(b []byte) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Writer.Write(b)
}

// made is how many connections there were so far.
func (p *proxy) made() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// cut ends every open connection.
func (p *proxy) cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.conns) / 2
	for c := range p.conns {
		c.Close()
	}
	return n
}

// refuse makes the proxy drop new connections, or accept them again.
func (p *proxy) refuse(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}
