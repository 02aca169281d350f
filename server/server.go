package server

// server.go is the life of the engines: checked and loaded, bound, running,
// draining, gone.
//
//	New -> Listen -> Run ----------------- ctx done -> draining -> cut -> returns
//	                  Apply (any number of times)

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/route"
)

// cutGrace is how long handlers may take to notice that they have been cut.
const cutGrace = 5 * time.Second

// Seam is what lies behind the engines. All but Draining must be set; all may be
// called from many goroutines at once.
type Seam struct {
	// Match returns the route for a host (cache.Request.Host) and target, or one
	// of route's errors.
	Match func(host, target string) (*route.Route, error)
	// Judge says whether the request may be asked. It must not block.
	Judge func(r *route.Route, method string, client netip.Addr) access.Verdict
	// Lookup answers GET and HEAD without a body at once, or not at all. It must
	// not block.
	Lookup func(*cache.Request) (cache.Hit, bool)
	// Handler answers everything else. The cache.Request is in the context; it
	// may be kept as long as the *http.Request. The ResponseWriter takes
	// http.ResponseController, io.ReaderFrom, and Hijack over HTTP/1.1. To break
	// a response off visibly, panic with http.ErrAbortHandler.
	Handler http.Handler
	// Draining is called once, before the first listener closes, so that
	// readiness can be withdrawn. It may block for as long as that takes to be seen.
	Draining func()
}

// engine speaks the protocols of one socket. The three of today stand on
// net/http and http3.
type engine interface {
	// serve accepts and serves until shutdown; it returns nil then.
	serve() error
	// shutdown stops accepting, tells clients so, and waits for what is under way
	// or for ctx, at which it cuts the rest. No connection is left when it returns.
	shutdown(ctx context.Context) error
}

// Server is the front of a node. Its methods may be called from any goroutine.
type Server struct {
	config Config // as started
	seam   Seam
	log    *slog.Logger
	stats  Stats

	live      atomic.Pointer[live]
	draining  atomic.Bool
	exchanges sync.Pool
	inflight  inflight
	hijacks   hijacks
	accessLog *accessLog

	requests context.Context // of all requests; ends when a drain cuts them
	cut      context.CancelFunc

	mu      sync.Mutex // guards what follows
	doors   []*door
	engines []engine
}

// live is what Apply can change. Immutable.
type live struct {
	config       Config
	limits       Limits
	certificates *certificates
}

// door is one configured address.
type door struct {
	server   *Server
	scheme   string
	listener string   // the address as bound
	altSvc   []string // field value for responses, nil for none
	key      string   // of the configuration, for errors
}

// New checks the configuration and loads certificates. It opens no socket and
// starts nothing.
func New(config Config, seam Seam, log *slog.Logger) (*Server, error) {
	if seam.Match == nil || seam.Judge == nil || seam.Lookup == nil || seam.Handler == nil {
		return nil, errors.New("server: the seam lacks a function")
	}
	s := &Server{config: config.WithDefaults(), seam: seam, log: log}
	next, err := s.prepare(config)
	if err != nil {
		return nil, err
	}
	s.live.Store(next)
	s.exchanges.New = func() any { return new(exchange) }
	s.inflight.init()
	s.hijacks.init()
	s.accessLog, err = newAccessLog(s.config.AccessLog, &s.stats, log)
	if err != nil {
		return nil, err
	}
	s.requests, s.cut = context.WithCancel(context.Background())
	return s, nil
}

// prepare does everything that can fail about a configuration.
func (s *Server) prepare(config Config) (*live, error) {
	var problems []error
	config.Validate(func(path, problem string) { problems = append(problems, fmt.Errorf("server: %s: %s", path, problem)) })
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	config = config.WithDefaults()
	config.Data = s.config.Data
	next := &live{config: config, limits: config.Limits}
	if len(config.HTTPS) > 0 {
		var err error
		if next.certificates, err = loadCertificates(config, s.log); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// Check reports why Apply would refuse a configuration. It changes nothing.
func (s *Server) Check(config Config) error {
	_, err := s.checked(config)
	return err
}

// Apply makes a configuration hold for what comes: certificates for new
// handshakes, limits for new requests. Addresses, the access log and the limits
// that the standard engines fix at start cannot change; then it is an error and
// nothing is applied.
func (s *Server) Apply(config Config) error {
	next, err := s.checked(config)
	if err != nil {
		return err
	}
	s.live.Store(next)
	return nil
}

func (s *Server) checked(config Config) (*live, error) {
	next, err := s.prepare(config)
	if err != nil {
		return nil, err
	}
	if key := s.config.unchangeable(&next.config); key != "" {
		return nil, fmt.Errorf("server: %s cannot change while the node runs: restart it", key)
	}
	return next, nil
}

// Stats returns the counters.
func (s *Server) Stats() *Stats { return &s.stats }

// IsDraining reports whether the server is stopping: readiness is off then.
func (s *Server) IsDraining() bool { return s.draining.Load() }

// Reopen closes the access log file and opens it anew, for those who move it away.
func (s *Server) Reopen() { s.accessLog.reopen() }

// Addresses returns what was bound, in the order of the configuration: http,
// then https. It is empty before Listen.
func (s *Server) Addresses() (http, https []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.doors {
		if d.scheme == "http" {
			http = append(http, d.listener)
		} else {
			https = append(https, d.listener)
		}
	}
	return http, https
}

// Run serves until ctx is done, then drains: readiness goes off, listeners
// close, clients are told, requests under way finish within limits.drain_timeout,
// and what is left then is cut. It returns when all of its goroutines are gone.
// It calls Listen if that has not been done. Run it once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	failed := make(chan error, len(s.engines))
	var serving, helping sync.WaitGroup
	for _, e := range s.engines {
		serving.Go(func() {
			if err := e.serve(); err != nil {
				failed <- err
			}
		})
	}
	helpers, stop := context.WithCancel(context.Background())
	helping.Go(func() { s.accessLog.run(helpers) })
	helping.Go(func() { s.keepCertificates(helpers) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.draining.Store(true)
	if s.seam.Draining != nil {
		s.seam.Draining()
	}
	err = errors.Join(err, s.drain())
	serving.Wait()
	stop()
	helping.Wait()
	return err
}

// drain ends every request, politely for limits.drain_timeout.
func (s *Server) drain() error {
	timeout := s.live.Load().limits.DrainTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	stopCut := context.AfterFunc(ctx, func() {
		s.log.Warn("drain took too long, requests are cut", "requests", s.inflight.total(), "after", timeout)
		s.cut()
		s.hijacks.closeAll()
	})
	defer stopCut()
	errs := make([]error, len(s.engines))
	var stopping sync.WaitGroup
	for i, e := range s.engines {
		stopping.Go(func() { errs[i] = e.shutdown(ctx) })
	}
	stopping.Wait()
	if !s.inflight.wait(ctx) {
		late, cancel := context.WithTimeout(context.Background(), cutGrace)
		defer cancel()
		if !s.inflight.wait(late) {
			errs = append(errs, fmt.Errorf("server: %d handlers did not end when they were cut", s.inflight.total()))
		}
	}
	s.cut()
	return errors.Join(errs...)
}

// inflight counts exchanges by protocol and lets a drain wait for their end.
type inflight struct {
	counts [protocols]atomic.Int64
	left   [protocols]chan struct{} // of one: the count went to 0
}

func (f *inflight) init() {
	for i := range f.left {
		f.left[i] = make(chan struct{}, 1)
	}
}

func protocolIndex(major int) int { return min(max(major, 1), protocols) - 1 }

func (f *inflight) enter(major int) { f.counts[protocolIndex(major)].Add(1) }

func (f *inflight) leave(major int) {
	i := protocolIndex(major)
	if f.counts[i].Add(-1) == 0 {
		f.wake(i)
	}
}

func (f *inflight) wake(i int) {
	select {
	case f.left[i] <- struct{}{}:
	default:
	}
}

func (f *inflight) total() (n int64) {
	for i := range f.counts {
		n += f.counts[i].Load()
	}
	return n
}

// wait reports whether all exchanges ended before ctx did.
func (f *inflight) wait(ctx context.Context) bool {
	for i := range f.counts {
		if !f.waitFor(ctx, i) {
			return false
		}
	}
	return true
}

// waitFor waits for one protocol.
func (f *inflight) waitFor(ctx context.Context, i int) bool {
	for f.counts[i].Load() > 0 {
		select {
		case <-f.left[i]:
		case <-ctx.Done():
			return f.counts[i].Load() == 0
		}
	}
	f.wake(i) // others may wait too
	return true
}

// hijacks holds the connections that handlers have taken over. Their number is
// bounded by limits.handlers.
type hijacks struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	shut  bool
}

func (h *hijacks) init() { h.conns = map[net.Conn]struct{}{} }

func (h *hijacks) add(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns[c] = struct{}{}
	if h.shut {
		_ = c.Close() // the drain is over; its handler will see
	}
}

func (h *hijacks) remove(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}

func (h *hijacks) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shut = true
	for c := range h.conns {
		_ = c.Close() // already broken is as good
	}
}
