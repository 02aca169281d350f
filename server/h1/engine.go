// Package h1 is the engine for HTTP/1.1 and 1.0: connections, framing and their
// limits, on one goroutine a connection. What is the same on every wire is
// server/gate's.
//
//	ServeConn: wait -> head -> answered inline ------------> wait ... close
//	                        -> handler over a stream --------^
//
// An idle connection holds no buffer. A head is parsed where it was read; strings
// of a request point there until it is answered or owned. A hit is answered in the
// connection's goroutine with one write and without an allocation; answers to
// pipelined requests leave together, in order.
package h1

import (
	"crypto/tls"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

// Engine serves the connections of one listener. Its methods may be called from
// any goroutine.
type Engine struct {
	door    *gate.Door
	stats   *Stats
	ins     sync.Pool // of *inRoom
	outs    sync.Pool // of *outRoom
	streams sync.Pool // of *stream, of requests without a body
	date    atomic.Pointer[date]

	draining atomic.Bool
	mu       sync.Mutex // guards what follows
	conns    map[*conn]struct{}
	cut      bool
}

const (
	// inBytes is the room that a request's head usually needs; longer ones get
	// more until they are answered.
	inBytes = 4 << 10
	// outBytes is held back at most before it is written. What does not fit in
	// goes out beside it, in the same write.
	outBytes = 16 << 10
	// drainGrace is how long a connection that has asked nothing yet may still
	// begin to when the node stops.
	drainGrace = time.Second
)

type inRoom [inBytes]byte

type outRoom struct {
	bytes  [outBytes]byte
	fields [32]cache.Field // scratch
}

// date is the value of Date for one second.
type date struct {
	second int64
	text   string
}

// New returns an engine for a listener. It starts nothing.
func New(door *gate.Door, stats *Stats) *Engine {
	e := &Engine{door: door, stats: stats, conns: map[*conn]struct{}{}}
	e.ins.New = func() any { return new(inRoom) }
	e.streams.New = func() any { return new(stream) }
	e.outs.New = func() any { return new(outRoom) }
	e.date.Store(&date{})
	return e
}

// ServeConn serves a connection until its end and closes it. c is a
// *net.TCPConn, with state nil, or a *tls.Conn after its handshake, or wraps one of
// the two: then a method NetConn() net.Conn gives what is below, and a method
// Ahead() []byte what has been read of it already.
func (e *Engine) ServeConn(c net.Conn, state *tls.ConnectionState) {
	k := newConn(e, c, state)
	if !e.enter(k) {
		_ = c.Close() // nothing was read or sent
		return
	}
	defer e.leave(k)
	defer func() {
		if p := recover(); p != nil { // a mistake of ours must not end the node
			e.door.Stats().Panics.Add(1)
			e.door.Log().Error("connection panicked", "panic", p, "client", k.client, "stack", string(debug.Stack()))
			k.broken = true
			if x := k.exchange; x != nil {
				x.Aborted = true
				k.end(x)
			}
		}
		k.close()
	}()
	for k.next() {
	}
}

func (e *Engine) enter(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cut {
		return false
	}
	e.conns[c] = struct{}{}
	return true
}

func (e *Engine) leave(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}

// Drain closes idle connections, and has others close after the answer to the
// request that is under way. It does not wait.
func (e *Engine) Drain() {
	e.draining.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		c.drain()
	}
}

// Resume takes Drain back for connections that have not been told.
func (e *Engine) Resume() { e.draining.Store(false) }

// Cut closes all connections, also those that handlers have taken over. The
// requests' contexts are gate.Gate's.
func (e *Engine) Cut() {
	e.draining.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cut = true
	for c := range e.conns {
		c.cut()
	}
}

// now returns the value of Date.
func (e *Engine) now() string {
	t := time.Now()
	d := e.date.Load()
	if second := t.Unix(); second != d.second {
		d = &date{second, t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
		e.date.Store(d)
	}
	return d.text
}

// bareTCP returns the TCP connection below c, nil where there is none.
func bareTCP(c net.Conn) *net.TCPConn {
	for {
		switch below := c.(type) {
		case *net.TCPConn:
			return below
		case interface{ NetConn() net.Conn }:
			c = below.NetConn()
		default:
			return nil
		}
	}
}

func clientOf(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
