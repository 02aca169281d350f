package h3

// conn.go is one connection: it takes requests, says GOAWAY, and bounds what the
// peer can make it do.
//
//	serving -> draining (GOAWAY for any request to come is not yet final)
//	        -> final (GOAWAY with the first request refused) -> closed
//
// A connection goes that way when the engine drains, when it has been idle, and
// when it has had its number of requests.

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

const (
	// patience is how long the connection's own goroutine waits for the bytes of
	// a request that has begun to arrive, before another one takes over.
	patience = time.Millisecond
	// noiseFree is how many frames and streams without meaning a connection may
	// send, noisePerRequest how many more with each request.
	noiseFree, noisePerRequest = 1000, 8
	// resetsFree is how many requests may be cancelled before it counts whether
	// that is more than half of them.
	resetsFree = 200
	// goawayAny says that no request is refused yet (RFC 9114 5.2).
	goawayAny = 1<<62 - 4
)

type conn struct {
	engine *Engine
	quic   *quic.Conn
	work   sync.WaitGroup // goroutines of this connection

	early      bool                 // the handshake was not complete when last looked
	tls        *tls.ConnectionState // once it is; the accepting goroutine's
	control    *quic.SendStream     // ours
	lastActive atomic.Int64         // unix nanoseconds: a request began or ended
	noise      atomic.Int64
	resets     atomic.Int64
	failed     atomic.Bool
	sectionMax atomic.Uint64 // of the client's SETTINGS_MAX_FIELD_SECTION_SIZE, and one; 0: none

	// seen has a bit for each of the peer's critical streams; unistream.go.
	seen atomic.Uint32

	mu       sync.Mutex
	next     quic.StreamID // above all requests taken; guarded by mu
	requests int64         // taken; guarded by mu, as is all below
	active   int64         // under way
	phase    phase
	newcomer bool // came during a drain, and has made no request yet
	timer    *time.Timer
	closed   bool
	lasting  map[quic.StreamID]*quic.Stream // those with a goroutine, for PRIORITY_UPDATE
	// priorities of requests not yet made, at most limits.streams.
	priorities map[quic.StreamID]priority
}

type phase uint8

const (
	phaseServing phase = iota
	phaseDraining
	phaseFinal
)

func newConn(e *Engine, q *quic.Conn) *conn {
	c := &conn{engine: e, quic: q, early: true, lasting: map[quic.StreamID]*quic.Stream{}}
	c.lastActive.Store(time.Now().UnixNano())
	return c
}

// serve runs the connection to its end.
func (c *conn) serve() {
	stats := c.engine.door.Stats()
	stats.ConnectionsAccepted[cache.HTTP3-1].Add(1)
	stats.ConnectionsOpen[cache.HTTP3-1].Add(1)
	defer stats.ConnectionsOpen[cache.HTTP3-1].Add(-1)
	if err := c.greet(); err != nil {
		c.fail(err)
		return
	}
	c.mu.Lock()
	c.newcomer = c.engine.drains()
	wait := c.limits().IdleTimeout
	if c.newcomer {
		wait = newcomerGrace
	}
	c.timer = time.AfterFunc(wait, c.tick)
	c.mu.Unlock()
	c.work.Go(c.acceptUni)
	for {
		// The context is the connection's own: AcceptStream ends with it.
		s, err := c.quic.AcceptStream(context.Background())
		if err != nil {
			break
		}
		c.take(s)
	}
	c.mu.Lock()
	c.closed = true
	c.timer.Stop()
	c.mu.Unlock()
	c.work.Wait()
}

// greet opens the control stream with our settings (RFC 9114 6.2.1). There are no
// QPACK streams of ours: nothing would ever be said on them (RFC 9204 4.2).
func (c *conn) greet() error {
	s, err := c.quic.OpenUniStream()
	if err != nil {
		return violation(codeStreamCreationError, "no control stream can be opened")
	}
	c.control = s
	var settings []byte
	for _, pair := range [...][2]uint64{
		{settingTableCapacity, 0},
		{settingMaxFieldSectionSize, uint64(c.limits().HeaderBytes)},
		{settingBlockedStreams, 0},
		{settingExtendedConnect, 1},
		{settingGrease, 0},
	} {
		settings = quicvarint.Append(quicvarint.Append(settings, pair[0]), pair[1])
	}
	b := quicvarint.Append([]byte{streamControl, frameSettings}, uint64(len(settings)))
	c.say(append(b, settings...))
	return nil
}

// say writes on the control stream. So few bytes never wait for the peer's
// windows: quic-go holds them. A failure is the connection's end, noticed elsewhere.
func (c *conn) say(b []byte) { _, _ = c.control.Write(b) }

func (c *conn) goaway(id quic.StreamID) {
	b := quicvarint.Append([]byte{frameGoaway}, uint64(quicvarint.Len(uint64(id))))
	c.say(quicvarint.Append(b, uint64(id)))
}

// take serves a new request stream.
func (c *conn) take(s *quic.Stream) {
	now := time.Now()
	c.lastActive.Store(now.UnixNano())
	id := s.StreamID()
	c.mu.Lock()
	if c.phase == phaseFinal {
		c.mu.Unlock()
		// Nothing has been done about it (RFC 9114 5.2).
		c.engine.stats.Rejected.Add(1)
		s.CancelRead(codeRequestRejected)
		s.CancelWrite(codeRequestRejected)
		return
	}
	c.next = id + 4
	c.requests++
	c.active++
	full, newcomer := c.requests == int64(c.limits().ConnectionRequests), c.newcomer
	p, prioritised := c.priorities[id]
	delete(c.priorities, id)
	c.mu.Unlock()
	if full {
		c.engine.stats.RequestsMax.Add(1)
	}
	if full || newcomer {
		c.drain()
	}
	r := c.engine.pool.Get().(*request)
	r.begin(c, s, now)
	if prioritised {
		r.priority, r.urged = p, true // outweighs the field (RFC 9218 7)
	}
	r.serve()
}

// drain begins the end: requests on their way are taken for a while.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.timer != nil && c.phase == phaseServing {
		c.drainLocked()
	}
}

func (c *conn) drainLocked() {
	c.phase, c.newcomer = phaseDraining, false
	c.timer.Reset(goawayGrace)
	c.goaway(goawayAny)
}

// tick is called by the timer.
func (c *conn) tick() {
	idle := c.limits().IdleTimeout
	c.mu.Lock()
	defer c.mu.Unlock()
	quiet := time.Since(time.Unix(0, c.lastActive.Load()))
	switch {
	case c.closed:
	case c.phase == phaseFinal:
		if c.active == 0 {
			c.work.Go(func() { c.close(codeNoError, "") })
		}
	case c.phase == phaseDraining:
		c.finalLocked(quiet)
	case c.newcomer:
		c.drainLocked()
	case c.active > 0:
		c.timer.Reset(idle)
	case quiet < idle:
		c.timer.Reset(idle - quiet)
	default:
		c.engine.stats.IdleClosed.Add(1)
		c.finalLocked(quiet)
	}
}

// finalLocked refuses all further requests.
func (c *conn) finalLocked(quiet time.Duration) {
	c.phase = phaseFinal
	c.goaway(c.next)
	if c.active == 0 {
		c.timer.Reset(max(linger-quiet, 0))
	}
}

// finish is called when nothing more will be done for a request.
func (c *conn) finish(id quic.StreamID, lasting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active--
	if lasting {
		c.lastActive.Store(time.Now().UnixNano())
		delete(c.lasting, id)
	}
	if c.active == 0 && c.phase == phaseFinal && !c.closed {
		c.timer.Reset(linger)
	}
}

// last gives a request a goroutine of its own.
func (c *conn) last(r *request, f func()) {
	c.mu.Lock()
	c.lasting[r.id] = r.stream
	c.mu.Unlock()
	c.work.Go(f)
}

// heard is called for each frame, stream or instruction that means nothing.
func (c *conn) heard() error {
	c.engine.stats.Ignored.Add(1)
	return c.bear(&c.noise, "too much that means nothing")
}

// bear counts what costs us and brings a peer no further.
func (c *conn) bear(count *atomic.Int64, reason string) error {
	n := count.Add(1)
	if n <= noiseFree {
		return nil
	}
	c.mu.Lock()
	requests := c.requests
	c.mu.Unlock()
	if n <= noiseFree+noisePerRequest*requests {
		return nil
	}
	return violation(codeExcessiveLoad, reason)
}

// cancelled counts a request that the client has reset. Opening and resetting
// costs the client less than us (as CVE-2023-44487 in HTTP/2).
func (c *conn) cancelled() error {
	c.engine.stats.Resets.Add(1)
	n := c.resets.Add(1)
	if n <= resetsFree {
		return nil
	}
	c.mu.Lock()
	requests := c.requests
	c.mu.Unlock()
	if n <= requests/2 {
		return nil
	}
	return violation(codeExcessiveLoad, "more than half of the requests are cancelled")
}

// fail ends the connection if err says so. It reports whether it did.
func (c *conn) fail(err error) bool {
	var broken *connectionError
	if !errors.As(err, &broken) {
		return false
	}
	if !c.failed.CompareAndSwap(false, true) {
		return true // by another goroutine
	}
	c.engine.stats.ConnectionErrors.Add(1)
	if broken.code == codeExcessiveLoad {
		c.engine.stats.Excessive.Add(1)
	}
	c.engine.door.Log().Debug("HTTP/3 connection closed", "client", c.quic.RemoteAddr(), "reason", broken.reason, "code", uint64(broken.code))
	c.close(broken.code, broken.reason)
	return true
}

func (c *conn) close(code quic.ApplicationErrorCode, reason string) {
	_ = c.quic.CloseWithError(code, reason) // nil always
}

func (c *conn) limits() *gate.Limits { return c.engine.door.Limits() }

// client returns the client's address as it is now: it may change (RFC 9000 9).
func (c *conn) client() netip.AddrPort {
	udp, ok := c.quic.RemoteAddr().(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	a := udp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// handshake returns the state of TLS, and whether the peer could still be
// replaying another's bytes (RFC 8446 8): until the handshake is complete, all
// that comes is early data.
func (c *conn) handshake() (state *tls.ConnectionState, early bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.early {
		select {
		case <-c.quic.HandshakeComplete():
			c.early = false
		default:
		}
		s := c.quic.ConnectionState().TLS
		c.tls = &s
	}
	return c.tls, c.early
}
