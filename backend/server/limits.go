package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a reader may ask: so many questions at once, then so many a second. An
// arrow key held on the training slider stays within it.
const (
	askBurst = 30
	askRate  = 5
)

// bucket is a token bucket: burst at once, then so many a second.
type bucket struct {
	burst, perSecond float64
	have             float64
	at               time.Time
}

func newBucket(burst, perSecond float64) bucket {
	return bucket{burst: burst, perSecond: perSecond, have: burst}
}

// take takes one, or says in how many seconds there is one.
func (b *bucket) take(now time.Time) (retry float64, ok bool) {
	if !b.at.IsZero() {
		b.have = min(b.burst, b.have+now.Sub(b.at).Seconds()*b.perSecond)
	}
	b.at = now
	if b.have < 1 {
		return (1 - b.have) / b.perSecond, false
	}
	b.have--
	return 0, true
}

// mostAddresses is how many addresses have an allowance of their own at once.
const mostAddresses = 4096

// allowances are those of all who come from an address, by that.
type allowances struct {
	burst float64 // of each

	mu sync.Mutex
	of map[string]*bucket
}

// take is bucket.take of an address. Beyond mostAddresses the one that asked
// longest ago is forgotten.
func (a *allowances) take(under string, now time.Time) (retry float64, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.of[under]
	if b == nil {
		if len(a.of) >= mostAddresses {
			oldest := ""
			for name, x := range a.of {
				if oldest == "" || x.at.Before(a.of[oldest].at) {
					oldest = name
				}
			}
			delete(a.of, oldest)
		}
		fresh := newBucket(a.burst, askRate)
		b = &fresh
		if a.of == nil {
			a.of = map[string]*bucket{}
		}
		a.of[under] = b
	}
	return b.take(now)
}

// reader is the address that a request comes from. What a proxy that is trusted says
// of it counts: the last address in X-Forwarded-For that is no such proxy itself.
// What others write there is theirs to make up.
func (s *Server) reader(r *http.Request) string {
	at := r.RemoteAddr
	chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(chain) - 1; i >= 0 && s.proxy(at); i-- {
		next := strings.TrimSpace(chain[i])
		if _, ok := ipOf(next); !ok {
			break
		}
		at = next
	}
	return address(at)
}

// proxy tells whether an address is one of a trusted proxy.
func (s *Server) proxy(remote string) bool {
	ip, ok := ipOf(remote)
	return ok && slices.ContainsFunc(s.o.Proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// ipOf is the address in "address" or "address:port".
func ipOf(remote string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = strings.Trim(remote, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return ip.Unmap().WithZone(""), err == nil
}

// address is whom a remote address stands for. A network of version 6 gives
// everyone a whole /64, which counts as one.
func address(remote string) string {
	ip, ok := ipOf(remote)
	if !ok {
		return remote
	}
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
