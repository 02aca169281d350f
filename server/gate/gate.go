// Package gate is what the protocol engines share: the walk of one request from
// its header to the last byte of its answer, as far as it is the same whatever
// wire it came over.
//
//	engine: reads a header into Exchange.Request          Door.Begin
//	gate:   target, host, route, access, Lookup           Exchange.Decide
//	engine: sends a hit or a short reply inline           SendHit, SendReply
//	  or    gives it a goroutine that may block           Handle: Exchange.Serve(Stream)
//	gate:   counts and logs it                            Exchange.End
//
// An engine knows framing, connections and their limits; gate knows routes,
// handlers, http.ResponseWriter and the access log. Neither knows caching.
package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/route"
)

// Seam is what lies behind the engines. All must be set; all may be called from
// many goroutines at once.
type Seam struct {
	// Match returns the route for a host (cache.Request.Host) and target, or one
	// of route's errors.
	Match func(host, target string) (*route.Route, error)
	// Judge says whether the request may be asked. It must not block.
	Judge func(r *route.Route, method string, client netip.Addr) access.Verdict
	// Proven says whether a TLS connection's client has shown a certificate of the
	// authority that the request's host wants (route.Route.ClientCA). It is asked
	// only where one is wanted, and must not block.
	Proven func(clientCA string, state *tls.ConnectionState) bool
	// Challenge answers requests in the clear under ChallengePath for tokens that we
	// have asked for; false for all others. It must not block.
	Challenge func(host, target string) (string, bool)
	// Lookup answers GET and HEAD without a body at once, or not at all. It must
	// not block.
	Lookup func(*cache.Request) (cache.Hit, bool)
	// Handler answers everything else. The cache.Request is in the context; it
	// may be kept as long as the *http.Request. The ResponseWriter takes
	// http.ResponseController, io.ReaderFrom, and Hijack over HTTP/1.1. To break
	// a response off visibly, panic with http.ErrAbortHandler.
	Handler http.Handler
	// Bare says that Handler looks neither at the header nor at the URL of an
	// *http.Request that it gets for a request without a body, so that none need be
	// made: it has the cache.Request. May be nil.
	Bare func(*cache.Request) bool
}

// ChallengePath is where those who issue certificates look for proof (RFC 8555 8.3).
const ChallengePath = "/.well-known/acme-challenge/"

// Gate is shared by all listeners of a server. Its methods may be called from
// any goroutine.
type Gate struct {
	seam   Seam
	log    *slog.Logger
	stats  Stats
	limits atomic.Pointer[Limits]
	lines  *accessLog
	pool   sync.Pool // of *Exchange

	inflight inflight
	requests context.Context // of all requests; ends with Cut
	cut      context.CancelFunc
}

// Door is one listener as its engines see it. Immutable once requests come.
type Door struct {
	*Gate
	// Scheme is "http" or "https".
	Scheme string
	// Listener is the address as bound.
	Listener string
	// AltSvc is the value of that field in every response, "" for none.
	AltSvc string
}

// New checks the seam and opens the access log. It starts nothing.
func New(seam Seam, limits Limits, lines AccessLog, log *slog.Logger) (*Gate, error) {
	if seam.Match == nil || seam.Judge == nil || seam.Lookup == nil || seam.Handler == nil {
		return nil, errors.New("server: the seam lacks a function")
	}
	g := &Gate{seam: seam, log: log}
	limits = limits.WithDefaults()
	g.limits.Store(&limits)
	g.pool.New = func() any { return new(Exchange) }
	g.inflight.init()
	g.requests, g.cut = context.WithCancel(context.Background())
	var err error
	g.lines, err = newAccessLog(lines, &g.stats, log)
	return g, err
}

// Limits returns those in force. They are replaced whole by SetLimits: engines
// ask for each connection or request and keep no copy.
func (g *Gate) Limits() *Limits { return g.limits.Load() }

// SetLimits puts limits in force, zeros as their defaults.
func (g *Gate) SetLimits(limits Limits) {
	limits = limits.WithDefaults()
	g.limits.Store(&limits)
}

// Stats returns the counters.
func (g *Gate) Stats() *Stats { return &g.stats }

// Log returns the log for what concerns connections rather than requests.
func (g *Gate) Log() *slog.Logger { return g.log }

// Run writes the access log until ctx is done.
func (g *Gate) Run(ctx context.Context) { g.lines.run(ctx) }

// Reopen closes the access log file and opens it anew.
func (g *Gate) Reopen() { g.lines.reopen() }

// Requests is the context that those of requests are made of. It ends with Cut.
func (g *Gate) Requests() context.Context { return g.requests }

// Cut ends the context of all requests. Engines close what is left.
func (g *Gate) Cut() { g.cut() }

// Wait returns when no exchange is under way or ctx has ended, and how many are.
func (g *Gate) Wait(ctx context.Context) int64 {
	g.inflight.wait(ctx)
	return g.inflight.total()
}

// Inflight returns how many exchanges are under way.
func (g *Gate) Inflight() int64 { return g.inflight.total() }
