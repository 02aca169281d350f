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
	listener net.Listener
	live     *atomic.Pointer[live]
	warned   atomic.Int64 // when a refusal was last in the log, in Unix seconds
	tls      *tls.Config  // nil: in the clear
	tlsStats *TLSStats
	h1       *h1.Engine
	h2       *h2.Engine

	closing chan struct{}
	served  chan struct{}  // closed when serve has returned
	serving sync.WaitGroup // connections

	mu        sync.Mutex
	beginning map[*conn]struct{} // of which no engine knows; nil once shut
}

func (s *Server) newTCPEngine(d *gate.Door, key string, ln net.Listener, tlsConfig *tls.Config) *tcpEngine {
	return &tcpEngine{door: d, bounds: s.bounds, live: &s.live, key: key, listener: ln, tls: tlsConfig, tlsStats: s.stats.TLS,
		h1: h1.New(d, s.stats.H1), h2: h2.New(d, s.stats.H2),
		closing: make(chan struct{}), served: make(chan struct{}), beginning: map[*conn]struct{}{}}
}

func (e *tcpEngine) serve() error {
	defer close(e.served)
	pause := time.Duration(0)
	for {
		nc, err := e.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			e.admit(nc)
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

// admit gives a connection its place within the bounds, and has it served. Where
// there is none it is reset: nobody waits for an answer, and nothing is left of it
// here. What a trusted proxy brings is somebody else's, who is known later.
func (e *tcpEngine) admit(nc net.Conn) {
	c := &conn{Conn: nc, stats: e.door.Stats()}
	p, ok := e.bounds.enter()
	if !ok {
		c.reset()
		return
	}
	c.proxied = e.live.Load().trusts(nc)
	if !c.proxied && !e.place(p, addrOf(nc)) {
		p.leave()
		c.reset()
		return
	}
	e.serving.Go(func() {
		serve := e.welcome(c, p)
		if serve == nil {
			p.leave()
			return
		}
		// On a stack of its own: a handshake has grown this one, and an idle
		// connection would keep it so.
		e.serving.Go(func() {
			defer p.leave()
			serve()
		})
	})
}

// place counts a connection as its client's.
func (e *tcpEngine) place(p *pass, client netip.Addr) bool {
	return p.identify(client) && (e.tls == nil || p.shake(true))
}

// addrOf returns the address of a connection's client.
func addrOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// welcome finds out what a connection speaks; the result serves it to its end, nil
// where there is nothing to serve.
func (e *tcpEngine) welcome(c *conn, p *pass) func() {
	e.setStall(c.Conn)
	if !e.begin(c) {
		_ = c.Close() // the node stops
		return nil
	}
	secure, clear2 := e.greet(c, p)
	e.begun(c)
	p.shaken()
	switch {
	case secure == nil && e.tls != nil, c.broken:
		_ = c.Close() // nothing was agreed on
		return nil
	case clear2:
		c.count(cache.HTTP2)
		return func() { e.h2.ServeConn(c, nil) }
	case e.tls == nil:
		c.count(cache.HTTP1)
		return func() { e.h1.ServeConn(c, nil) }
	}
	state := secure.ConnectionState()
	if state.NegotiatedProtocol == acmez.ACMETLS1Protocol {
		_ = secure.Close() // the handshake was all that was wanted
		return nil
	}
	if state.DidResume {
		e.tlsStats.Resumed.Add(1)
	}
	if state.NegotiatedProtocol == "h2" {
		c.count(cache.HTTP2)
		return func() { e.h2.ServeConn(secure, &state) }
	}
	c.count(cache.HTTP1)
	return func() { e.h1.ServeConn(secure, &state) }
}

// begin notes a connection that no engine has yet, so that a shutdown finds it.
func (e *tcpEngine) begin(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.beginning == nil {
		return false
	}
	e.beginning[c] = struct{}{}
	return true
}

func (e *tcpEngine) begun(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.beginning, c)
}

// greet learns, within bounds of time, whose connection this is and what is spoken
// on it. Where that fails there is no TLS connection, or c is broken.
func (e *tcpEngine) greet(c *conn, p *pass) (secure *tls.Conn, clear2 bool) {
	live := e.live.Load()
	peek := len(live.trust) > 0 || live.trustUnix || live.config.H2C && e.tls == nil
	if !peek && e.tls == nil {
		return nil, false
	}
	_ = c.SetDeadline(time.Now().Add(min(e.door.Limits().HeaderTimeout, handshakeMax))) // fails as what follows does
	if len(live.trust) > 0 || live.trustUnix {
		if err := e.unwrap(c, p); err != nil {
			c.broken = true
			return nil, false
		}
	}
	if e.tls != nil {
		secure = tls.Server(c, e.tls)
		if secure.Handshake() != nil {
			e.door.Stats().HandshakesFailed.Add(1)
			return nil, false
		}
	} else if live.config.H2C {
		at, err := c.begins(h2Preface)
		clear2, c.broken = at == 0, err != nil
	}
	if c.SetDeadline(time.Time{}) != nil {
		c.broken = true
	}
	return secure, clear2
}

// h2Preface begins HTTP/2 with prior knowledge (RFC 9113 3.3, 3.4).
const h2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// setStall has the kernel end a connection whose client has not acknowledged, or
// has let no window open, for limits.stall_timeout; any progress starts it anew,
// and silence of ours does not count. No timer of ours is as exact: the socket's
// buffer hides what the client takes.
func (e *tcpEngine) setStall(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
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
	<-e.served // from here on no connection is added to those that are waited for
	e.mu.Lock()
	for c := range e.beginning {
		_ = c.Close() // its handshake fails, and is counted
	}
	e.beginning = nil
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

// conn is a connection that is counted while it is open.
type conn struct {
	net.Conn
	stats   *gate.Stats
	proto   atomic.Int32   // cache.Proto once counted, -1 once closed
	proxied bool           // begins with a PROXY header
	client  netip.AddrPort // that it names; zero: that of the connection itself
	ahead   []byte         // read, and not taken yet
	broken  bool           // while it was greeted
	cork    cork
}

func (c *conn) count(p cache.Proto) {
	if c.proto.CompareAndSwap(0, int32(p)) {
		c.stats.ConnectionsOpen[p-1].Add(1)
		c.stats.ConnectionsAccepted[p-1].Add(1)
	}
}

// NetConn returns the connection below, as that of tls.Conn does.
func (c *conn) NetConn() net.Conn { return c.Conn }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr {
	if c.client.IsValid() {
		return net.TCPAddrFromAddrPort(c.client)
	}
	return c.Conn.RemoteAddr()
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Ahead gives away what has been read ahead, for those who read from the
// connection below.
func (c *conn) Ahead() []byte {
	ahead := c.ahead
	c.ahead = nil
	return ahead
}

// aheadMax is how much is read at a time to see what a connection begins with.
const aheadMax = 64

// begins returns which of the patterns, none of which begins another, the
// connection begins with; -1 for none. It takes nothing.
func (c *conn) begins(patterns ...string) (int, error) {
	for {
		possible := false
		for i, pattern := range patterns {
			n := min(len(c.ahead), len(pattern))
			if string(c.ahead[:n]) != pattern[:n] {
				continue
			}
			if n == len(pattern) {
				return i, nil
			}
			possible = true
		}
		if !possible {
			return -1, nil
		}
		b := make([]byte, aheadMax)
		n, err := c.Conn.Read(b)
		c.ahead = append(c.ahead, b[:n]...)
		if n == 0 && err != nil {
			return -1, err
		}
	}
}

// CloseWrite says that nothing more will come.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset closes the connection without a goodbye.
func (c *conn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // where it fails it is closed already
	}
	_ = c.Close()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	if p := c.proto.Swap(-1); p > 0 {
		c.stats.ConnectionsOpen[p-1].Add(-1)
	}
	return c.Conn.Close()
}
