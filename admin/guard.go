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

type actorKey struct{}

// actor returns the name of the token that the request showed.
func actor(r *http.Request) string {
	name, _ := r.Context().Value(actorKey{}).(string)
	return name
}

// checkToken lets those in who show a token, and slows those who guess.
func (s *Server) checkToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, now := clientAddr(r), time.Now()
		if wait := s.failures.blocked(client, now); wait > 0 {
			s.stats.RateLimited.Add(1)
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			writeProblem(w, http.StatusTooManyRequests, "too many requests without a valid token came from this address: wait, then send the right one")
			return
		}
		token, sent := bearer(r)
		if name, ok := identify(s.live.Load().credentials, token); sent && ok {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), actorKey{}, name)))
			return
		}
		s.stats.AuthFailures.Add(1)
		if s.failures.add(client, now) {
			s.stats.FailuresFull.Add(1)
		}
		// RFC 6750 3: no error code where no token came.
		if !sent {
			w.Header().Set("WWW-Authenticate", `Bearer realm="edge"`)
			writeProblem(w, http.StatusUnauthorized, "send the token in Authorization: Bearer TOKEN")
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="edge", error="invalid_token"`)
		writeProblem(w, http.StatusUnauthorized, "this token is not known here")
	})
}

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
