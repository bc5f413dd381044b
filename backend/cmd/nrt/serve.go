package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"nrt/backend/device"
	"nrt/backend/server"
	"nrt/backend/token"
	"nrt/trainer/run"
	"nrt/trainer/world"
	"nrt/trainer/world/models"
	"nrt/web/wire"
)

// serveFlags are what serve was asked.
type serveFlags struct {
	addr    string
	models  []string
	show    []string
	state   string
	token   string
	hosts   []string
	on      deviceFlags
	weights formatFlag
	limits  server.Limits
	proxies []string
	format  string
	noTrain bool
	verbose bool
}

func serveCommand() *command {
	s := serveFlags{addr: "127.0.0.1:8080"}
	return &command{
		name: "serve", group: groupWatch, short: "serve the page: chains stream, words earn, runs train",
		args: "[--addr HOST:PORT] [--model M]…",
		long: `
Serves the page on this machine alone and prints its address. Without --model it
offers the built-in models; with it, these first, the built-in ones after them.
--show-run adds a training run: its curves, and the models that it keeps, to be
read and asked step by step (nrt train --keep 0 keeps all that it saves). While
another process trains it the page follows within seconds, from before its first
step on.

Listening on any other address asks readers for a token: it is part of the
address that is printed. If readers reach it by a host name, give that name with
--host; numeric addresses need none. Behind a proxy on this machine it asks for
none, whoever comes: give one with --token.

A browser that has shown the page opens it again when the server is away, with
what it had at first; a new version shows as soon as its server answers.

Programs ask it over HTTP, as OpenAI's clients do, at /v1, and score chains there.

Training runs that readers start live in the folder --state, and go on when the
server is started again.`,
		examples: []string{
			"nrt serve",
			"nrt serve --addr 127.0.0.1:9000 --model runs/gsm8k/final",
			"nrt serve --show-run runs/gsm8k",
			"nrt serve --addr 0.0.0.0:8080 --host teach.example.org --slots 8",
		},
		bind: func(f *flags) func(*env) error {
			f.text(&s.addr, "addr", "HOST:PORT", "where to listen; port 0 takes a free one")
			f.texts(&s.models, "model", "M", "a Hugging Face folder or a built-in name; may be given several times")
			f.texts(&s.show, "show-run", "DIR", "the output folder of a training run; may be given several times")
			f.text(&s.state, "state", "DIR", "folder of the training runs; empty is the user's own")
			f.toggle(&s.noTrain, "no-train", "do not let readers train")
			f.text(&s.token, "token", "T", "what readers must know; empty makes one up where one is needed")
			f.texts(&s.hosts, "host", "NAME", "a name that the server goes by; may be given several times\nthe first is printed in place of localhost")
			s.weights = formatFlag{device.AsStored}
			f.value(&s.weights, "weights", "F", weightsUsage)
			f.text(&s.format, "format", "NAME", "how questions are laid out to a model whose chat template is none of the known ones")
			s.on.bind(f)
			f.amount(&s.limits.Slots, "slots", "N", "questions that compute at once; 0 is 4\none of a model of more than 50 million parameters")
			f.amount(&s.limits.Queue, "queue", "N", "questions that may wait; 0 is 64")
			f.amount(&s.limits.QueueEach, "queue-each", "N", "of one reader of the page; 0 is 4")
			f.amount(&s.limits.Burst, "burst", "N", "requests of one address to /v1 at once, which may all wait; 0 is 30")
			f.amount(&s.limits.Conns, "readers", "N", "readers connected at once; 0 is 512")
			f.amount(&s.limits.ConnsEach, "readers-each", "N", "from one address; 0 is 128")
			f.texts(&s.proxies, "trusted-proxy", "A", "an address or network whose X-Forwarded-For names readers' addresses, and whose\nX-Forwarded-Proto says whether they came by https; may be given several times")
			f.amount(&s.limits.Chain, "max-chain", "N", "longest chain in tokens; 0 is 512")
			f.amount(&s.limits.Runs, "runs", "N", "runs that train at once; 0 is 2")
			f.amount(&s.limits.KeepRuns, "keep-runs", "N", "runs kept, at most half of which one reader may have under way; the oldest that\nhas ended is removed beyond; 0 is 20")
			f.toggle(&s.verbose, "verbose", "log more")
			return func(e *env) error {
				if n := s.limits.Chain; n > wire.MaxChain {
					return usagef("--max-chain: want 0 to %d, have %d", wire.MaxChain, n)
				}
				if s.format != "" && !slices.Contains(token.FormatNames(), s.format) {
					return usagef("--format: want one of %s, have %q", strings.Join(token.FormatNames(), ", "), s.format)
				}
				return s.run(e)
			}
		},
	}
}

func (s *serveFlags) run(e *env) (err error) {
	if _, _, err := net.SplitHostPort(s.addr); err != nil {
		return usagef("--addr: want HOST:PORT, have %q", s.addr)
	}
	for _, name := range s.hosts {
		if strings.ContainsAny(name, ":/") && net.ParseIP(name) == nil {
			return usagef("--host: want a name or address alone, such as teach.example.org, have %q", name)
		}
	}
	level := slog.LevelInfo
	if s.verbose {
		level = slog.LevelDebug
	}
	o := server.Options{
		Version: version, World: world.New(worldSeed), Log: slog.New(slog.NewTextHandler(e.err, &slog.HandlerOptions{Level: level})),
		Format: s.format, Token: s.token, Hosts: s.hosts, Limits: s.limits,
	}
	if o.Saved, err = savedRuns(); err != nil {
		return err
	}
	shownRuns, shown, err := e.shownRuns(s.show, time.Now())
	if err != nil {
		return err
	}
	o.Saved = append(o.Saved, shownRuns...)
	if o.Models, o.Train.Base, err = s.sources(e, shown); err != nil {
		return err
	}
	if most := o.MostRuns(); o.KeepRuns > most {
		return usagef("--keep-runs: want 0 to %d beside %d models, have %d", most, len(o.Models), o.KeepRuns)
	}
	if o.Proxies, err = networks(s.proxies); err != nil {
		return err
	}
	devices, err := s.devices(e, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, devices()) }()
	if !s.noTrain {
		if o.Train.Dir, err = s.stateDir(e); err != nil {
			return err
		}
	}
	if host, _, _ := net.SplitHostPort(s.addr); host != "" {
		o.Hosts = append(o.Hosts, host)
	}
	if name, err := os.Hostname(); err == nil {
		o.Hosts = append(o.Hosts, name)
	}
	if o.Token == "" && !server.Loopback(s.addr) {
		o.Token = rand.Text()
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	srv, err := server.New(o)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	fmt.Fprintln(e.out, s.address(e, listener.Addr(), o.Token))
	if err := e.out.Flush(); err != nil {
		return errors.Join(err, listener.Close(), srv.Close())
	}
	signal.Ignore(syscall.SIGPIPE) // of "nrt serve … | less" the second may be left first
	return srv.Serve(e.ctx, listener)
}

// networks are addresses, each a network of one, and networks.
func networks(list []string) (out []netip.Prefix, err error) {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				return nil, usagef("--trusted-proxy: want an address or a network such as 10.0.0.0/8, have %q", text)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// address is what a reader opens. Where that is only right on this computer, and others
// could connect, it says what they open.
func (s *serveFlags) address(e *env, listens net.Addr, token string) string {
	host, port, err := net.SplitHostPort(listens.String())
	if err != nil {
		return listens.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host = "localhost"; len(s.hosts) > 0 {
			host = s.hosts[0]
		} else {
			fmt.Fprintln(e.err, "nrt: others open this computer's name or address in your network in place of localhost: --host NAME prints that to hand out")
		}
	}
	at := "http://" + net.JoinHostPort(host, port) + "/"
	switch {
	case token != "":
		at += "?token=" + url.QueryEscape(token)
	case len(s.hosts)+len(s.proxies) > 0: // others are meant to come, by way of this computer
		fmt.Fprintln(e.err, "nrt: no token is asked for, as only this computer reaches --addr: all whom a proxy on it lets in can ask and train; --token T asks them for one")
	}
	return at
}

// sources are the models served, the default first, and the one that training
// starts from. Those of runs that are shown stand after the ones that --model names.
func (s *serveFlags) sources(e *env, shown []server.Source) (list []server.Source, base string, err error) {
	seen := map[string]bool{}
	add := func(src server.Source) {
		if !seen[src.Name] {
			seen[src.Name] = true
			list = append(list, src)
		}
	}
	for _, name := range s.models {
		if b := e.builtin(name); b != nil {
			add(b.source())
			continue
		}
		files, err := e.modelFiles(name)
		if err != nil {
			return nil, "", err
		}
		here := func(src server.Source) bool { return sameFolder(src.Files, files) }
		if i := slices.IndexFunc(shown, here); i >= 0 {
			add(shown[i]) // as the run that is shown calls it
			continue
		}
		if slices.ContainsFunc(list, here) {
			continue
		}
		called, err := filepath.Abs(name)
		if err != nil {
			return nil, "", err
		}
		for _, try := range []string{name, shortName(name)} { // the shortest that is free
			if !seen[try] && e.builtin(try) == nil && !slices.ContainsFunc(shown, func(src server.Source) bool { return src.Name == try }) {
				called = try
			}
		}
		add(server.Source{Name: called, Files: files, World: e.kin(files) != nil})
	}
	for _, src := range shown {
		add(src)
	}
	if b := e.builtin(defaultModel); b != nil {
		add(b.source())
	}
	for _, b := range e.builtins {
		add(b.source())
	}
	if len(list) == 0 {
		return nil, "", usagef("--model: there are no built-in models, so name one")
	}
	base = list[0].Name
	if b := e.builtin("world:base"); b != nil && len(s.models) == 0 {
		base = b.Name
	}
	return list, base, nil
}

// sameFolder tells whether two models lie in one folder on the disk.
func sameFolder(a, b fs.FS) bool {
	x, err := fs.Stat(a, ".")
	if err != nil {
		return false
	}
	y, err := fs.Stat(b, ".")
	return err == nil && os.SameFile(x, y)
}

// source is a built-in model for a server.
func (b *builtin) source() server.Source {
	return server.Source{Name: b.Name, About: b.About, Files: b.Files, World: true}
}

// shortName is what readers call a folder's model: they need not know where it
// lies. A checkpoint is named with its run.
func shortName(folder string) string {
	dir, name := path.Split(filepath.ToSlash(filepath.Clean(folder)))
	if dir = path.Base(dir); (name == "final" || strings.HasPrefix(name, "checkpoint-")) && dir != "." && dir != "/" {
		return dir + "/" + name
	}
	return name
}

// savedRuns is how the embedded models were trained, for the page's curves.
func savedRuns() ([]server.SavedRun, error) {
	list, err := models.Runs()
	if err != nil {
		return nil, err
	}
	var out []server.SavedRun
	for _, r := range list {
		method, mode, _ := strings.Cut(r.Method, ":")
		x := server.SavedRun{State: wire.State{
			Run: r.Name, Method: method, Mode: mode, Status: wire.StatusDone, Step: r.Steps, Of: r.Steps, Data: "questions of the small world",
		}}
		for _, v := range r.Metrics {
			x.Metrics = append(x.Metrics, run.Values(v))
		}
		for _, k := range r.Kept {
			x.State.Checkpoints = append(x.State.Checkpoints, wire.Checkpoint{Step: k.Step, Model: k.Model})
			x.Evals = append(x.Evals, wire.Point{Step: k.Step, Values: map[string]float64{
				wire.ValueAccuracy: k.Accuracy, wire.ValueLow: k.Low, wire.ValueHigh: k.High,
			}})
		}
		out = append(out, x)
	}
	return out, nil
}

// devices are one for readers and one for training: on the CPU another one with
// half the threads, so that a run leaves room for readers. A card takes turns.
func (s *serveFlags) devices(e *env, o *server.Options) (closeAll func() error, err error) {
	if s.on.threads == 0 {
		s.on.threads = runtime.GOMAXPROCS(0)
	}
	dev, err := e.compute(s.on)
	if err != nil {
		return nil, err
	}
	o.Device, o.Free, o.Weights = dev, dev.room, s.weights.on(dev)
	o.IdleBytes = max(512<<20, dev.free()/2) // to read billions of parameters again takes long
	if s.noTrain {
		return dev.Close, nil
	}
	if dev.kind != "cpu" {
		o.Train.Device, o.Train.Free, o.Train.On, o.Train.Type = dev, dev.room, dev.kind, dev.dtype
		return dev.Close, nil
	}
	train, err := e.onCPU(deviceFlags{dtype: s.on.dtype, threads: max(1, s.on.threads/2)})
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	o.Train.Device, o.Train.Free, o.Train.On, o.Train.Type = train, train.room, train.kind, train.dtype
	return func() error { return errors.Join(dev.Close(), train.Close()) }, nil
}

// stateDir is where training runs live.
func (s *serveFlags) stateDir(e *env) (string, error) {
	if s.state != "" {
		return s.state, nil
	}
	if dir := e.getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "nrt"), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("--state: there is no folder of the user's own (%w): name one, or give --no-train", err)
	}
	return filepath.Join(dir, "nrt"), nil
}
