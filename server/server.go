package server

// server.go is the life of the engines: checked and loaded, bound, running,
// draining, gone.
//
//	New -> Listen -> Run ----------------- ctx done -> draining -> cut -> returns
//	                  Apply (any number of times)

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"

	"edgecdn/cache"
	"edgecdn/route"
	"edgecdn/server/gate"
	"edgecdn/server/h1"
	"edgecdn/server/h2"
	"edgecdn/server/h3"
)

// cutGrace is how long handlers may take to notice that they have been cut.
const cutGrace = 5 * time.Second

// Seam is what lies behind the engines.
type Seam struct {
	gate.Seam
	// Draining, if set, is called once, before the first listener closes, so that
	// readiness can be withdrawn. It may block for as long as that takes to be seen.
	Draining func()
	// ClientCA returns the client_ca of the host that a name (in lower case, ""
	// for none) in a TLS handshake leads to, "" for none: one of
	// Config.ClientCAs. nil: no host has one. It must not block.
	ClientCA func(serverName string) string
	// ACMEStorage keeps accounts and certificates of tls.acme, and the locks of
	// who asks for them. nil: files under the data directory, for this node alone.
	ACMEStorage certmagic.Storage
	// Proofs keeps the TXT records of tls.acme's challenge by DNS. nil: there is no
	// such challenge, and no wildcard.
	Proofs Proofs
}

// Encoders makes the header blocks that the engines send hits with, for
// cache.Preparer.
func Encoders() [3]cache.Encoder { return [3]cache.Encoder{h1.Encode, h2.Encode, h3.Encode} }

// FileEncoders makes those that go with bodies out of files, for Config.PrepareOnDisk
// of the store: only HTTP/1.1 has such hits.
func FileEncoders() [3]cache.Encoder { return [3]cache.Encoder{h1.Encode} }

// Stats counts since start, what all protocols share and what each has to itself.
type Stats struct {
	Gate *gate.Stats
	H1   *h1.Stats
	H2   *h2.Stats
	H3   *h3.Stats
	TLS  *TLSStats
}

// engine speaks the protocols of one socket.
type engine interface {
	// serve accepts and serves until shutdown; it returns nil then.
	serve() error
	// drain tells clients to go elsewhere, those to come too, and serves them until
	// they do; resume takes it back for those that have not been told.
	drain()
	resume()
	// shutdown stops accepting, tells clients so, and waits for what is under way
	// or for ctx, at which it cuts the rest. No connection is left when it returns.
	shutdown(ctx context.Context) error
}

// Server is the front of a node. Its methods may be called from any goroutine.
type Server struct {
	config   Config // as started
	gate     *gate.Gate
	stats    Stats
	bounds   *bounds
	announce func() // of the drain
	// hostClientCA is Seam.ClientCA.
	hostClientCA func(serverName string) string
	log          *slog.Logger

	live     atomic.Pointer[live]
	draining atomic.Bool

	changing      sync.Mutex // held by whoever replaces live; guards what follows
	tickets       [][32]byte // keys of session tickets, the first seals
	ticketsShared bool       // they come from outside

	acme        atomic.Pointer[acmeClient] // nil: not at work
	acmeStorage certmagic.Storage          // Seam.ACMEStorage
	proofs      Proofs                     // Seam.Proofs
	acmeChanged chan struct{}              // holds one: look at the configuration

	mu      sync.Mutex  // guards what follows
	leaving *time.Timer // until clients are told; nil while the node is to serve
	left    time.Time   // when leaving began
	doors   []*gate.Door
	engines []engine
}

// live is what Apply can change, limits apart, which gate has. Immutable.
type live struct {
	trust        route.Addresses // proxies
	trustUnix    bool
	config       Config
	certificates *certificates // nil where there is no https
	ways         handshakes
	authorities  map[string]*clientAuthority // by file, those of Config.ClientCAs
	acmeRoots    *x509.CertPool              // of tls.acme.ca_root
}

// New checks the configuration and loads certificates. It opens no socket and
// starts nothing.
func New(config Config, seam Seam, log *slog.Logger) (*Server, error) {
	s := &Server{config: config.WithDefaults(), announce: seam.Draining, hostClientCA: seam.ClientCA, log: log,
		tickets: [][32]byte{newTicketKey()}, acmeStorage: seam.ACMEStorage, proofs: seam.Proofs, acmeChanged: make(chan struct{}, 1)}
	next, err := s.prepare(config)
	if err != nil {
		return nil, err
	}
	s.install(next)
	seam.Proven, seam.Challenge = s.proven, s.httpChallenge
	s.gate, err = gate.New(seam.Seam, config.Limits, s.config.AccessLog, log)
	if err != nil {
		return nil, err
	}
	s.bounds = newBounds(s.gate)
	s.stats = Stats{Gate: s.gate.Stats(), H1: new(h1.Stats), H2: new(h2.Stats), H3: new(h3.Stats), TLS: new(TLSStats)}
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
	authorities, err := loadClientAuthorities(config.ClientCAs)
	if err != nil {
		return nil, err
	}
	next := &live{config: config, ways: s.newHandshakes(authorities), authorities: authorities}
	if len(config.TLS.ACME.Names) > 0 && config.Data == "" && s.acmeStorage == nil {
		return nil, errors.New("server: tls.acme has names and there is no data directory to keep their certificates in: configure one")
	}
	if s.proofs == nil && slices.ContainsFunc(config.TLS.ACME.Names, config.TLS.ACME.byDNS) {
		return nil, errors.New("server: tls.acme has names to prove by DNS and there is no DNS of ours")
	}
	if next.acmeRoots, err = config.TLS.ACME.loadRoots(); err != nil {
		return nil, err
	}
	networks, unix := config.ProxyProtocol.networks()
	next.trust, next.trustUnix = route.NewAddresses(networks), unix
	if len(config.HTTPS) > 0 {
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
// that are told to clients when they connect cannot change; then it is an error
// and nothing is applied.
func (s *Server) Apply(config Config) error {
	next, err := s.checked(config)
	if err != nil {
		return err
	}
	s.changing.Lock()
	s.install(next)
	s.changing.Unlock()
	select {
	case s.acmeChanged <- struct{}{}:
	default: // a look is due anyway
	}
	s.gate.SetLimits(next.config.Limits)
	return nil
}

// install puts next in force, with the keys of tickets that hold now.
func (s *Server) install(next *live) {
	next.ways.setTicketKeys(s.tickets)
	s.live.Store(next)
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
func (s *Server) Stats() Stats { return s.stats }

// IsDraining reports whether the server is stopping: readiness is off then.
func (s *Server) IsDraining() bool { return s.draining.Load() }

// Reopen closes the access log file and opens it anew, for those who move it away.
func (s *Server) Reopen() { s.gate.Reopen() }

// Addresses returns what was bound, in the order of the configuration: http,
// then https. It is empty before Listen.
func (s *Server) Addresses() (http, https []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.doors {
		if d.Scheme == "http" {
			http = append(http, d.Listener)
		} else {
			https = append(https, d.Listener)
		}
	}
	return http, https
}

// Run serves until ctx is done, then drains: readiness goes off, and after
// limits.drain_delay listeners close, clients are told, requests under way finish within limits.drain_timeout,
// and what is left then is cut. It returns when all of its goroutines are gone.
// It calls Listen if that has not been done. Run it once.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	helpers, stop := context.WithCancel(context.Background())
	defer stop()
	s.followACME(helpers)
	failed := make(chan error, len(s.engines))
	var serving, helping sync.WaitGroup
	for _, e := range s.engines {
		serving.Go(func() {
			if err := e.serve(); err != nil {
				failed <- err
			}
		})
	}
	helping.Go(func() { s.gate.Run(helpers) })
	helping.Go(func() { s.keepTLS(helpers) })
	helping.Go(func() { s.runACME(helpers) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.draining.Store(true)
	if s.announce != nil {
		s.announce()
	}
	s.linger(err)
	err = errors.Join(err, s.drain())
	serving.Wait()
	stop()
	helping.Wait()
	return err
}

// Leave has clients told to go elsewhere, limits.drain_delay from now; the node
// goes on serving those who come. Readiness is to be withdrawn before.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving != nil {
		return
	}
	s.left = time.Now()
	s.leaving = time.AfterFunc(s.gate.Limits().DrainDelay, s.tell)
}

// tell has the engines tell their clients, unless Return was called meanwhile.
func (s *Server) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == nil {
		return
	}
	for _, e := range s.engines {
		e.drain()
	}
}

// Return takes Leave back. Clients that have been told still go.
func (s *Server) Return() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == nil || s.draining.Load() {
		return
	}
	s.leaving.Stop()
	s.leaving = nil
	for _, e := range s.engines {
		e.resume()
	}
}

// linger waits limits.drain_delay before a drain, or what is left of it since
// Leave. A node of which a part has failed does not wait.
func (s *Server) linger(failure error) {
	s.mu.Lock()
	delay := s.gate.Limits().DrainDelay
	if s.leaving != nil {
		s.leaving.Stop()
		delay -= time.Since(s.left)
	}
	s.mu.Unlock()
	if failure == nil && delay > 0 {
		<-time.After(delay)
	}
}

// drain ends every request, politely for limits.drain_timeout.
func (s *Server) drain() error {
	timeout := s.gate.Limits().DrainTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	told := make(chan struct{})
	stopCut := context.AfterFunc(ctx, func() {
		defer close(told)
		s.log.Warn("drain took too long, requests are cut", "requests", s.gate.Inflight(), "after", timeout)
		s.gate.Cut()
	})
	defer func() {
		if !stopCut() {
			<-told
		}
	}()
	errs := make([]error, len(s.engines))
	var stopping sync.WaitGroup
	for i, e := range s.engines {
		stopping.Go(func() { errs[i] = e.shutdown(ctx) })
	}
	stopping.Wait()
	if s.gate.Wait(ctx) > 0 {
		late, cancel := context.WithTimeout(context.Background(), cutGrace)
		defer cancel()
		if n := s.gate.Wait(late); n > 0 {
			errs = append(errs, fmt.Errorf("server: %d handlers did not end when they were cut", n))
		}
	}
	s.gate.Cut()
	return errors.Join(errs...)
}
