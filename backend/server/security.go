package server

import (
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// cookie names what holds the token after the first visit. To browsers all ports of a
// computer are one: two servers on it must not take each other's cookie.
func cookie(r *http.Request) string {
	_, port, _ := net.SplitHostPort(r.Host) // none where that is the usual one
	return "nrt_token" + port
}

// Loopback tells whether an address to listen on is reached from this machine
// alone.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// secure wraps the routes: Host and Origin first, then the headers that every
// answer has.
func (s *Server) secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if !s.knownHost(r.Host) {
			s.deny(w, r, http.StatusMisdirectedRequest, fmt.Sprintf("this server does not go by the name %q; name it with --host", clip(r.Host, 100)))
			return
		}
		if !sameOrigin(r) {
			reason := "requests from other sites are not answered"
			if site := r.Header.Get("Origin"); site != "" {
				reason += fmt.Sprintf(": this one is of %q and asks %q; a proxy in between must hand on the header Host", clip(site, 100), clip(r.Host, 100))
			}
			s.deny(w, r, http.StatusForbidden, reason)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knownHost refuses names that the server does not go by, so that no other name
// can be pointed at this machine (DNS rebinding). Addresses name nothing.
func (s *Server) knownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" { // a proxy that looks whether the server lives; browsers name whom they ask
		return true
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	if ip := net.ParseIP(host); ip != nil {
		// Without a token only the machine itself is served.
		return s.o.Token != "" || ip.IsLoopback()
	}
	for _, name := range s.o.Hosts {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}

// sameOrigin refuses what another site's page sends. Programs send no Origin.
func sameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		// A link to the page from elsewhere is fine; anything else is not.
		return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Origin") == ""
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, r.Host)
}

// manages tells whether a program asks that brought the token itself, as a page
// cannot do for its websocket: it may handle every reader's training runs.
func (s *Server) manages(r *http.Request) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && s.o.Token != "" && s.isToken(strings.TrimLeft(given, " "))
}

// permitted tells whether the request knows the token. A site beside this one can give
// browsers another cookie of its name, which may come first.
func (s *Server) permitted(r *http.Request) bool {
	if s.o.Token == "" {
		return true
	}
	if s.manages(r) {
		return true
	}
	return slices.ContainsFunc(r.CookiesNamed(cookie(r)), func(c *http.Cookie) bool { return s.isToken(c.Value) })
}

func (s *Server) isToken(given string) bool {
	return subtle.ConstantTimeCompare([]byte(given), []byte(s.o.Token)) == 1
}

// guard asks for the token before anything that computes or tells about it.
func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.permitted(r) {
			next(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="nrt"`)
		s.refuse(w, http.StatusUnauthorized, "a token is needed: open the address that the server printed when it started")
	}
}

// admit takes the token of /?token=… into a cookie and out of the address, where
// it would end up in histories. It reports whether it has answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	q := r.URL.Query()
	given := q.Get("token")
	if given == "" || s.o.Token == "" {
		return false
	}
	if !s.isToken(given) {
		s.refuse(w, http.StatusForbidden, "this is not the token that the server printed when it started")
		return true
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookie(r), Value: s.o.Token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: s.encrypted(r), MaxAge: int((30 * 24 * time.Hour).Seconds()),
	})
	q.Del("token")
	to := url.URL{Path: "/", RawQuery: q.Encode()}
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
	return true
}

// encrypted tells whether the reader came by TLS: to this server, or, as a proxy that is
// trusted says, to the first one.
func (s *Server) encrypted(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || s.proxy(r.RemoteAddr) && strings.EqualFold(strings.TrimSpace(first), "https")
}

// policy is the page's Content-Security-Policy. Styles of single elements carry
// computed colours and heights; scripts run only with the nonce.
func policy(nonce, host string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self' 'nonce-" + nonce + "' 'wasm-unsafe-eval'",
		"style-src 'self' 'nonce-" + nonce + "'",
		"style-src-attr 'unsafe-inline'",
		"img-src 'self' data:",
		"font-src 'self'",
		"connect-src 'self' ws://" + host + " wss://" + host,
		"worker-src 'self'",
		"base-uri 'none'",
		"form-action 'self'",
		"frame-ancestors 'none'",
	}, "; ")
}
