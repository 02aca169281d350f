package admin

// The table of what the listener answers, and to whom.

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// methodPurge is what caches have in place of a standard.
const methodPurge = "PURGE"

// receiptScopes is a table: of these one lets a token see receipts, its own at least.
var receiptScopes = []Scope{ScopeRead, ScopePurge, ScopePurgeAll}

// endpoint is a method on a path.
type endpoint struct {
	method string // HEAD goes with GET
	path   string // a pattern of http.ServeMux
	// scopes of which a token needs one. None, with open unset: no token gets in.
	scopes []Scope
	open   bool // for everybody, without a token
	handle http.HandlerFunc
}

// endpoints is everything but PURGE.
func (s *Server) endpoints() []endpoint {
	read := []Scope{ScopeRead}
	purge := []Scope{ScopePurge, ScopePurgeAll}
	config := []Scope{ScopeConfig}
	drain := []Scope{ScopeDrain}
	dns := []Scope{ScopeDNS}
	metrics := promhttp.HandlerFor(newRegistry(s.src.Samples), promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		MaxRequestsInFlight: scrapesMax,
	}).ServeHTTP
	return []endpoint{
		{method: "GET", path: "/healthz", open: true, handle: s.health},
		{method: "GET", path: "/readyz", open: true, handle: s.ready},
		{method: "GET", path: "/metrics", scopes: read, handle: metrics},
		{method: "GET", path: "/v1/openapi.json", scopes: read, handle: s.openapi},
		{method: "GET", path: "/v1/status", scopes: read, handle: s.status},
		{method: "GET", path: "/v1/locate", scopes: read, handle: s.locate},
		{method: "GET", path: "/v1/origins", scopes: read, handle: s.origins},
		{method: "GET", path: "/v1/nodes", scopes: read, handle: s.listNodes},
		{method: "POST", path: "/v1/nodes", scopes: drain, handle: s.changeNodes},
		{method: "GET", path: "/v1/dns/txt", scopes: dns, handle: s.listTexts},
		{method: "PUT", path: "/v1/dns/txt/{name}", scopes: dns, handle: s.putText},
		{method: "DELETE", path: "/v1/dns/txt/{name}", scopes: dns, handle: s.deleteText},
		{method: "GET", path: "/v1/config", scopes: read, handle: s.config},
		{method: "POST", path: "/v1/reload", scopes: config, handle: s.reload},
		{method: "POST", path: "/v1/drain", scopes: drain, handle: s.drain(true)},
		{method: "POST", path: "/v1/undrain", scopes: drain, handle: s.drain(false)},
		{method: "POST", path: "/v1/release", scopes: drain, handle: s.release},
		{method: "GET", path: "/v1/tokens", scopes: config, handle: s.listTokens},
		{method: "DELETE", path: "/v1/tokens/{name}", scopes: config, handle: s.revokeToken},
		{method: "POST", path: "/v1/purges", scopes: purge, handle: s.postPurge},
		{method: "GET", path: "/v1/purges", scopes: receiptScopes, handle: s.listPurges},
		{method: "GET", path: "/v1/purges/{id}", scopes: receiptScopes, handle: s.getPurge},
		{method: "GET", path: "/v1/purges/events", scopes: receiptScopes, handle: s.watchPurges},
		{method: "GET", path: "/debug/pprof/", scopes: read, handle: pprof.Index},
		{method: "GET", path: "/debug/pprof/cmdline", scopes: read, handle: pprof.Cmdline},
		{method: "GET", path: "/debug/pprof/profile", scopes: read, handle: pprof.Profile},
		{method: "GET", path: "/debug/pprof/symbol", scopes: read, handle: pprof.Symbol},
		{method: "GET", path: "/debug/pprof/trace", scopes: read, handle: pprof.Trace},
	}
}

// handler answers by the table. Only what is open is answered without a token; a
// path that nobody added wants one as well.
func (s *Server) handler() http.Handler {
	open, closed := http.NewServeMux(), http.NewServeMux()
	byPath := map[string][]endpoint{}
	for _, e := range s.endpoints() {
		byPath[e.path] = append(byPath[e.path], e)
	}
	for path, methods := range byPath {
		mux := closed
		if methods[0].open {
			mux = open
		}
		mux.Handle(path, s.choose(methods))
	}
	open.Handle("/", s.checkToken(closed))
	closed.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, http.StatusNotFound, fmt.Sprintf("nothing is at %.80q", r.URL.Path))
	})
	guarded := s.checkHost(open)
	purge := s.checkToken(http.HandlerFunc(s.purgeMethod))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		r.Body = http.MaxBytesReader(w, r.Body, bodyBytesMax)
		if r.Method == methodPurge {
			// Its Host is that of what is purged. No browser sends the method
			// without asking first (Fetch 4.8), and none has the token.
			s.stats.Requests.Add(1)
			purge.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// choose picks the endpoint of a path by method, and asks whether the token may.
func (s *Server) choose(methods []endpoint) http.Handler {
	var allowed []string
	for _, e := range methods {
		if allowed = append(allowed, e.method); e.method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	allow := strings.Join(allowed, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		i := slices.IndexFunc(methods, func(e endpoint) bool { return e.method == method })
		if i < 0 {
			w.Header().Set("Allow", allow)
			writeProblem(w, http.StatusMethodNotAllowed, "use "+allow+" here")
			return
		}
		if e := methods[i]; e.open || s.authorize(w, r, credentialOf(r), e.scopes...) {
			e.handle(w, r)
		}
	})
}
