package admin

// Who is let in: the Host is one of ours, and a token is shown.

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// checkHost refuses requests whose Host is not one of ours. A web page may point
// a name of its own at this address (DNS rebinding) and have its reader's browser
// ask us, but it cannot choose what the browser writes in Host.
func (s *Server) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.stats.Requests.Add(1)
		if !s.hostAllowed(r) {
			s.stats.HostRefused.Add(1)
			writeProblem(w, http.StatusMisdirectedRequest, fmt.Sprintf("Host %.80q is not one of this listener's: add it to admin.hosts if it is meant", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) hostAllowed(r *http.Request) bool {
	name := hostname(r.Host)
	switch name {
	case "":
		return false
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	if s.live.Load().hosts[name] {
		return true
	}
	// The address that the connection came in on: it is what a wildcard listener
	// is reached by, and no name can be made to look like it.
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return false
	}
	at, err := netip.ParseAddrPort(local.String())
	asked, errAsked := netip.ParseAddr(name)
	return err == nil && errAsked == nil && at.Addr().Unmap().WithZone("") == asked.Unmap().WithZone("")
}

type credentialKey struct{}

func withCredential(ctx context.Context, c *credential) context.Context {
	return context.WithValue(ctx, credentialKey{}, c)
}

// credentialOf returns the credential that the request was let in with.
func credentialOf(r *http.Request) *credential {
	c, _ := r.Context().Value(credentialKey{}).(*credential)
	return c
}

// checkToken lets those in who show a token, and slows those who guess.
func (s *Server) checkToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := s.authenticate(w, r, &s.failures); c != nil {
			next.ServeHTTP(w, r.WithContext(withCredential(r.Context(), c)))
		}
	})
}

// authenticate returns the credential of the token that the request shows, or
// answers and returns nil.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request, failed *failures) *credential {
	client, now := clientAddr(r), time.Now()
	if wait := failed.blocked(client, now); wait > 0 {
		s.stats.RateLimited.Add(1)
		retryAfter(w, wait)
		writeProblem(w, http.StatusTooManyRequests, "too many requests without a valid token came from this address: wait, then send the right one")
		return nil
	}
	token, sent := bearer(r)
	refusal := "send the token in Authorization: Bearer TOKEN"
	if sent {
		c := identify(s.live.Load().credentials, token)
		if refusal = s.invalid(c, now); refusal == "" {
			return c
		}
	}
	s.stats.AuthFailures.Add(1)
	if failed.add(client, now) {
		s.stats.FailuresFull.Add(1)
	}
	// RFC 6750 3: no error code where no token came.
	challenge := `Bearer realm="edge"`
	if sent {
		challenge += `, error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	writeProblem(w, http.StatusUnauthorized, refusal)
	return nil
}

// invalid says why a credential is not let in; "" when it is.
func (s *Server) invalid(c *credential, now time.Time) string {
	if c == nil {
		return "this token is not known here"
	}
	if _, is := s.revoked.at(c.hash); is {
		return "this token is revoked"
	}
	if c.expired(now) {
		return "this token has expired"
	}
	return ""
}

// authorize reports whether the request's token has one of the scopes and has
// not been used too often; else it answers.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, c *credential, anyOf ...Scope) bool {
	if !c.may(anyOf) {
		s.forbid(w, anyOf, fmt.Sprintf("the token %s has no scope %s", c.name, joinScopes(anyOf, " or ")))
		if changes(r.Method) {
			s.audit.note(c, r, "not looked at", http.StatusForbidden, "no scope "+joinScopes(anyOf, " or "))
		}
		return false
	}
	return s.spend(w, c, 1)
}

// forbid answers 403 (RFC 6750 3.1).
func (s *Server) forbid(w http.ResponseWriter, wanted []Scope, detail string) {
	s.stats.Forbidden.Add(1)
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="edge", error="insufficient_scope", scope="%s"`, joinScopes(wanted, " ")))
	writeProblem(w, http.StatusForbidden, detail)
}

// spend takes cost from what the token may use, or answers 429.
func (s *Server) spend(w http.ResponseWriter, c *credential, cost int) bool {
	wait := c.use.take(cost, time.Now())
	if wait > 0 {
		s.stats.TokenLimited.Add(1)
		retryAfter(w, wait)
		writeProblem(w, http.StatusTooManyRequests, fmt.Sprintf("the token %s is used too often: wait, and name more targets in one request", c.name))
	}
	return wait == 0
}

func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
}

func changes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// bearer returns the token of the one Authorization field (RFC 6750 2.1).
func bearer(r *http.Request) (string, bool) {
	fields := r.Header["Authorization"]
	if len(fields) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

func clientAddr(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // all of unknown origin are one
	}
	return at.Addr()
}
