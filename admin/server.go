package admin

// The listener and the table of what it answers.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// What this listener bears: it serves few clients, so that bounds can be tight.
const (
	headerBytesMax = 16 << 10
	bodyBytesMax   = 4 << 20 // 10,000 URLs of 400 bytes
	connectionsMax = 256
	scrapesMax     = 4 // at the same time
	headerTimeout  = 5 * time.Second
	// messageTimeout bounds reading and writing alike: net/http cancels a request
	// that is being answered when its read timeout passes, and profiles take long.
	messageTimeout = 2 * time.Minute
	idleTimeout    = time.Minute
	stopTimeout    = 5 * time.Second
)

// Sources are what the listener shows, filled in by main. All must be set and
// may be called from many goroutines at once.
type Sources struct {
	// Data is the directory where the token is made if none is configured.
	Data string
	// NotReady returns why the node does not want traffic; none: it does.
	NotReady func() []string
	// Status of the node; NotReady and UptimeSeconds are filled in here.
	Status func() Status
	// Origins returns the configured origins, none while the node starts.
	Origins func() []Origin
	// Config returns the configuration in force as something that encodes to
	// JSON, secrets masked.
	Config func() (any, error)
	// Reload reads the configuration again and returns when it is in force, or
	// why it is not.
	Reload func(context.Context) error
	// Drain has clients told to go elsewhere or, with false, takes that back; an
	// error says why that cannot be now.
	Drain func(drain bool) error
	// Release lifts the fence of a node that has not caught up; an error says why that
	// cannot be. May be nil: there is no fence.
	Release func() error
	// Samples gives every metric of the node.
	Samples func(emit func(Sample))
	// Locate tells which nodes DNS gives to a client at an address or network for a
	// name, "" for any, and why. An error says what is wrong with the question.
	Locate func(client, name string) (any, error)
	// Nodes are those of the cluster.
	Nodes func() NodeList
	// Change does what an operator says of a node or a site; an error says why it
	// cannot be done.
	Change func(NodeChange) error
	// Revoked tells the other nodes of a token that was revoked here, by its hash.
	Revoked func(hash, name string) error
	// Texts keeps TXT records of a while; nil where the node answers no DNS.
	Texts func() Texts
	// Purges forgets what operators name; nil while the node starts.
	Purges func() Purges
}

// Stats counts what happened on the listener since the start.
type Stats struct {
	Requests           atomic.Uint64 // requests of all kinds
	HostRefused        atomic.Uint64 // Host was not one of ours
	AuthFailures       atomic.Uint64 // no token came, or one that is wrong, revoked or expired
	Forbidden          atomic.Uint64 // the token may not do what it asked for
	TokenLimited       atomic.Uint64 // a token was used too often
	RateLimited        atomic.Uint64 // refused unseen after too many such failures
	FailuresFull       atomic.Uint64 // failures from more addresses than are told apart
	ConnectionsRefused atomic.Uint64 // closed at once: too many were open
	PurgesAccepted     atomic.Uint64 // purges that were made, by API and by method
	PurgesRefused      atomic.Uint64 // purges that were refused, by API and by method, once a token was shown
	Watchers           atomic.Int64  // streams of events that are open
	WatchersRefused    atomic.Uint64 // streams refused: too many were open
	AuditErrors        atomic.Uint64 // lines that are missing in the audit log
}

// live is what Apply replaces.
type live struct {
	hosts       map[string]bool
	credentials []*credential
}

// Server is the operators' side of a node.
type Server struct {
	cfg      Config
	src      Sources
	log      *slog.Logger
	live     atomic.Pointer[live]
	failures failures // on the admin listener
	purgers  failures // of PURGE on public listeners, so that they do not shut operators out
	revoked  *revoked
	audit    *audit
	bodies   chan struct{} // slots for purges that are read
	watchers chan struct{} // slots for streams of events
	stats    Stats
	http     *http.Server
	listener net.Listener
}

// New makes a server. It makes the token under the data directory if none is
// configured and none is there, and logs where.
func New(cfg Config, src Sources, log *slog.Logger) (*Server, error) {
	s := &Server{
		cfg: cfg.WithDefaults(), src: src, log: log,
		bodies: make(chan struct{}, bodiesMax), watchers: make(chan struct{}, watchersMax),
	}
	s.audit = newAudit(src.Data, log, &s.stats.AuditErrors)
	var err error
	if s.revoked, err = openRevoked(src.Data); err != nil {
		return nil, err
	}
	if err := s.Apply(cfg); err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       messageTimeout,
		WriteTimeout:      messageTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Check tells whether Apply would take the configuration, and changes nothing.
func (s *Server) Check(cfg Config) error {
	cfg = cfg.WithDefaults()
	var problems []error
	cfg.Validate(func(path, problem string) {
		problems = append(problems, fmt.Errorf("admin.%s: %s", path, problem))
	})
	if cfg.Listen != s.cfg.Listen || cfg.Public != s.cfg.Public {
		problems = append(problems, fmt.Errorf("admin.listen: changes from %s to %s only with a restart", s.cfg.Listen, cfg.Listen))
	}
	return errors.Join(problems...)
}

// Apply replaces the hosts and tokens that are let in. On an error the old ones stay.
func (s *Server) Apply(cfg Config) error {
	if err := s.Check(cfg); err != nil {
		return err
	}
	next := &live{hosts: make(map[string]bool)}
	for _, host := range cfg.Hosts {
		next.hosts[hostname(host)] = true
	}
	if s.cfg.Listen != off {
		host, _, err := net.SplitHostPort(s.cfg.Listen)
		if err != nil {
			return fmt.Errorf("admin: listen address: %w", err)
		}
		if addr, err := netip.ParseAddr(host); err != nil || !addr.IsUnspecified() {
			next.hosts[hostname(host)] = true
		}
	}
	var made string
	var err error
	if next.credentials, made, err = credentials(cfg.WithDefaults(), s.src.Data); err != nil {
		return err
	}
	if made != "" {
		s.log.Info("admin: token made, as none is configured", "file", made)
	}
	s.keepUse(next)
	s.live.Store(next)
	return nil
}

// keepUse carries over how much the tokens have been used: a reload forgives nothing.
func (s *Server) keepUse(next *live) {
	last := s.live.Load()
	if last == nil {
		return
	}
	for _, c := range next.credentials {
		for _, old := range last.credentials {
			if old.hash == c.hash {
				c.use = old.use
			}
		}
	}
}

// Listen opens the listener. It does nothing where it is configured off.
func (s *Server) Listen() error {
	if s.cfg.Listen == off {
		return nil
	}
	ln, err := net.Listen("tcp", s.cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("admin: something already listens on %s: stop it, or choose another address with admin.listen or --admin: %w", s.cfg.Listen, err)
	}
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	s.listener = &boundListener{Listener: ln, slots: make(chan struct{}, connectionsMax), refused: &s.stats.ConnectionsRefused}
	return nil
}

// Addr returns the address that Listen opened, "" if none is open.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Stats returns the counters; they may be read at any time.
func (s *Server) Stats() *Stats { return &s.stats }

// Run serves until ctx ends, then gives requests in flight a few seconds.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	// Requests end with the server: a profile under way is cut to what it has.
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("admin: serve: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := s.http.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-served
	if err != nil {
		return fmt.Errorf("admin: stop: %w", err)
	}
	return nil
}

// boundListener closes connections over the bound at once instead of letting
// them wait for those that are open.
type boundListener struct {
	net.Listener
	slots   chan struct{}
	refused *atomic.Uint64
}

func (l *boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &boundConn{Conn: conn, slots: l.slots}, nil
		default:
			l.refused.Add(1)
			conn.Close()
		}
	}
}

// boundConn gives its slot back when it is closed, once.
type boundConn struct {
	net.Conn
	slots  chan struct{}
	closed atomic.Bool
}

func (c *boundConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		<-c.slots
	}
	return c.Conn.Close()
}
