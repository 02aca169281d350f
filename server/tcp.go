package server

// tcp.go accepts TCP connections, shakes hands where TLS is wanted, and gives
// each connection to the engine of the protocol that was agreed on.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	"golang.org/x/sys/unix"

	"edgecdn/cache"
	"edgecdn/server/gate"
	"edgecdn/server/h1"
	"edgecdn/server/h2"
)

// handshakeMax bounds a TLS handshake, whatever limits.header_timeout allows.
const handshakeMax = 10 * time.Second

// acceptPauseMax bounds how long accepting rests when the system has no file
// descriptors or memory left for a connection.
const acceptPauseMax = time.Second

type tcpEngine struct {
	door     *gate.Door
	bounds   *bounds
	key      string // of the configuration, for errors
	listener *net.TCPListener
	tls      *tls.Config // nil: in the clear
	tlsStats *TLSStats
	h1       *h1.Engine
	h2       *h2.Engine

	closing chan struct{}
	serving sync.WaitGroup // connections

	mu      sync.Mutex
	shaking map[*conn]struct{} // hands; nil once shut
}

func (s *Server) newTCPEngine(d *gate.Door, key string, ln *net.TCPListener, tlsConfig *tls.Config) *tcpEngine {
	return &tcpEngine{door: d, bounds: s.bounds, key: key, listener: ln, tls: tlsConfig, tlsStats: s.stats.TLS,
		h1: h1.New(d, s.stats.H1), h2: h2.New(d, s.stats.H2),
		closing: make(chan struct{}), shaking: map[*conn]struct{}{}}
}

func (e *tcpEngine) serve() error {
	pause := time.Duration(0)
	for {
		tcp, err := e.listener.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			if p := e.admit(tcp); p != nil {
				e.serving.Go(func() { e.run(tcp, p) })
			}
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) && !errors.Is(err, unix.ENOBUFS) &&
			!errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ECONNABORTED):
			return fmt.Errorf("server: %s %s: %w", e.key, e.door.Listener, err)
		}
		e.door.Stats().AcceptFailures.Add(1)
		if pause = min(max(2*pause, 5*time.Millisecond), acceptPauseMax); pause == acceptPauseMax {
			e.door.Log().Warn("cannot accept connections: raise the limit of open files", "listener", e.door.Listener, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-e.closing:
			return nil
		}
	}
}

// admit gives a connection its place within the bounds; nil where there is none,
// and the connection is reset then: nobody waits for an answer, and nothing is left
// of it here.
func (e *tcpEngine) admit(tcp *net.TCPConn) *pass {
	p, ok := e.bounds.enter()
	if ok && p.identify(addrOf(tcp)) && (e.tls == nil || p.shake(true)) {
		return p
	}
	if ok {
		p.leave()
	}
	_ = tcp.SetLinger(0) // where it fails it is closed already
	_ = tcp.Close()
	return nil
}

// addrOf returns the address of a connection's client.
func addrOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// run serves one connection to its end.
func (e *tcpEngine) run(tcp *net.TCPConn, p *pass) {
	defer p.leave()
	e.setStall(tcp)
	c := &conn{TCPConn: tcp, stats: e.door.Stats()}
	if e.tls == nil {
		c.count(cache.HTTP1)
		e.h1.ServeConn(c, nil)
		return
	}
	secure, ok := e.shake(c)
	p.shaken()
	if !ok {
		e.door.Stats().HandshakesFailed.Add(1)
		_ = c.Close() // nothing was agreed on
		return
	}
	state := secure.ConnectionState()
	if state.NegotiatedProtocol == acmez.ACMETLS1Protocol {
		_ = secure.Close() // the handshake was all that was wanted
		return
	}
	if state.DidResume {
		e.tlsStats.Resumed.Add(1)
	}
	if state.NegotiatedProtocol == "h2" {
		c.count(cache.HTTP2)
		e.h2.ServeConn(secure, &state)
		return
	}
	c.count(cache.HTTP1)
	e.h1.ServeConn(secure, &state)
}

// setStall has the kernel end a connection whose client has not acknowledged, or
// has let no window open, for limits.stall_timeout; any progress starts it anew,
// and silence of ours does not count. No timer of ours is as exact: the socket's
// buffer hides what the client takes.
func (e *tcpEngine) setStall(tcp *net.TCPConn) {
	stall := e.door.Limits().StallTimeout
	raw, err := tcp.SyscallConn()
	if err != nil {
		return // closed already
	}
	_ = raw.Control(func(fd uintptr) {
		// Where the kernel refuses, keep-alive probes still find dead peers.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(max(stall/time.Millisecond, 1)))
	})
}

// shake makes a TLS connection of c within bounds of time.
func (e *tcpEngine) shake(c *conn) (*tls.Conn, bool) {
	e.mu.Lock()
	if e.shaking == nil {
		e.mu.Unlock()
		return nil, false
	}
	e.shaking[c] = struct{}{}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.shaking, c)
	}()
	secure := tls.Server(c, e.tls)
	_ = c.SetDeadline(time.Now().Add(min(e.door.Limits().HeaderTimeout, handshakeMax))) // fails as the handshake does
	if err := secure.Handshake(); err != nil {
		return nil, false
	}
	return secure, c.SetDeadline(time.Time{}) == nil
}

func (e *tcpEngine) drain() {
	e.h1.Drain()
	e.h2.Drain()
}

func (e *tcpEngine) resume() {
	e.h1.Resume()
	e.h2.Resume()
}

// shutdown ends all connections: those that shake hands at once, the others as
// their protocol does.
func (e *tcpEngine) shutdown(ctx context.Context) error {
	close(e.closing)
	err := e.listener.Close()
	e.mu.Lock()
	for c := range e.shaking {
		_ = c.Close() // its handshake fails, and is counted
	}
	e.shaking = nil
	e.mu.Unlock()
	e.drain()
	gone := make(chan struct{})
	go func() {
		e.serving.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		e.h1.Cut()
		e.h2.Cut()
		select {
		case <-gone:
		case <-time.After(cutGrace):
			// Handlers that do not end hold their connections; drain reports them.
		}
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("server: close %s %s: %w", e.key, e.door.Listener, err)
	}
	return nil
}

// conn is a TCP connection that is counted while it is open. It keeps the
// methods of TCPConn, so that the kernel can still copy from files.
type conn struct {
	*net.TCPConn
	stats *gate.Stats
	proto atomic.Int32 // cache.Proto once counted, -1 once closed
	cork  cork
}

func (c *conn) count(p cache.Proto) {
	if c.proto.CompareAndSwap(0, int32(p)) {
		c.stats.ConnectionsOpen[p-1].Add(1)
		c.stats.ConnectionsAccepted[p-1].Add(1)
	}
}

// NetConn returns the connection below, as that of tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.TCPConn }

// Close implements net.Conn.
func (c *conn) Close() error {
	if p := c.proto.Swap(-1); p > 0 {
		c.stats.ConnectionsOpen[p-1].Add(-1)
	}
	return c.TCPConn.Close()
}
