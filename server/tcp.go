package server

// tcp.go serves HTTP/1.1 and HTTP/2 with net/http.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"edgecdn/cache"
)

type tcpEngine struct {
	door     *door
	listener *tcpListener
	http     *http.Server
}

func newTCPEngine(d *door, ln *net.TCPListener, tlsConfig *tls.Config) *tcpEngine {
	s, limits := d.server, d.server.live.Load().limits
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(tlsConfig != nil)
	e := &tcpEngine{door: d, listener: &tcpListener{TCPListener: ln, server: s, clear: tlsConfig == nil}}
	e.http = &http.Server{
		Handler:           d,
		TLSConfig:         tlsConfig,
		Protocols:         &protocols,
		ReadHeaderTimeout: limits.HeaderTimeout,
		IdleTimeout:       limits.IdleTimeout,
		// net/http adds 4096 for HTTP/1.1 and 320 for HTTP/2; serve refuses what
		// is between.
		MaxHeaderBytes: int(limits.HeaderBytes),
		// OPTIONS * is the origin's to answer.
		DisableGeneralOptionsHandler: true,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: limits.Streams},
		BaseContext:                  func(net.Listener) context.Context { return s.requests },
		ConnContext:                  connContext,
		ConnState:                    e.note,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if tlsConfig != nil {
		// Guards HTTP/2 streams from birth, so that small responses need no timer
		// of their own: a client that opens no window holds its stream for so long
		// and no longer. Lifted or moved on for everything else: see exchange.go.
		e.http.WriteTimeout = limits.StallTimeout
	}
	return e
}

func (e *tcpEngine) serve() error {
	var err error
	if e.http.TLSConfig != nil {
		err = e.http.ServeTLS(e.listener, "", "")
	} else {
		err = e.http.Serve(e.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("server: %s %s: %w", e.door.key, e.door.listener, err)
}

func (e *tcpEngine) shutdown(ctx context.Context) error {
	err := e.http.Shutdown(ctx)
	if ctx.Err() != nil { // what is left is cut
		err = e.http.Close()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("server: close %s %s: %w", e.door.key, e.door.listener, err)
	}
	return nil
}

// note learns from net/http when a connection's protocol is known.
func (e *tcpEngine) note(c net.Conn, state http.ConnState) {
	if state != http.StateActive {
		return
	}
	if t, ok := c.(*tls.Conn); ok {
		inner, _ := t.NetConn().(*conn)
		if inner == nil || inner.proto.Load() != 0 {
			return
		}
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			inner.count(cache.HTTP2)
		} else {
			inner.count(cache.HTTP1)
		}
	}
}

type connKey struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns the connection of an HTTP/1.1 or HTTP/2 request, or nil.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// tcpListener counts connections and has the kernel cut clients that take
// nothing.
type tcpListener struct {
	*net.TCPListener
	server *Server
	clear  bool
}

func (l *tcpListener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	// With TCP_USER_TIMEOUT the kernel ends a connection whose client has not
	// acknowledged, or has let no window open, for so long; any progress starts
	// it anew, and silence of ours does not count. No timer of ours is as exact:
	// the socket's buffer hides what the client takes.
	stall := l.server.live.Load().limits.StallTimeout
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			// Where the kernel refuses, keep-alive probes still find dead peers.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(max(stall/time.Millisecond, 1)))
		})
	}
	c := &conn{TCPConn: tcp, stats: &l.server.stats}
	if l.clear {
		c.count(cache.HTTP1)
	}
	return c, nil
}

// conn is a TCP connection that is counted while it is open. It keeps the
// methods of TCPConn, so that the kernel can still copy from files.
type conn struct {
	*net.TCPConn
	stats *Stats
	proto atomic.Int32 // cache.Proto once counted, -1 once closed
	// leftover is set while what is read is the rest of a body that nobody wants.
	// When that does not come in time the connection has ended: net/http would go
	// on to read a next request out of the middle of the body.
	leftover, ended atomic.Bool
}

func (c *conn) Read(p []byte) (int, error) {
	if c.ended.Load() {
		return 0, io.EOF
	}
	n, err := c.TCPConn.Read(p)
	if err != nil && c.leftover.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		c.ended.Store(true)
	}
	return n, err
}

func (c *conn) count(p cache.Proto) {
	if c.proto.CompareAndSwap(0, int32(p)) {
		c.stats.ConnectionsOpen[p-1].Add(1)
		c.stats.ConnectionsAccepted[p-1].Add(1)
	}
}

func (c *conn) Close() error {
	if p := c.proto.Swap(-1); p > 0 {
		c.stats.ConnectionsOpen[p-1].Add(-1)
	}
	return c.TCPConn.Close()
}
