// Package h3 is the engine for HTTP/3 (RFC 9114) on the connections and streams
// of quic-go. One goroutine a connection accepts requests, reads them and answers
// hits; whatever could wait for the client or for a handler gets a goroutine of
// its own. The parts:
//
//	conn.go      a connection: requests, GOAWAY, idle, what it may cost
//	unistream.go the peer's control and QPACK streams
//	request.go   a request from its stream to what becomes of it
//	header.go    its field section, judged
//	answer.go    hits and short replies
//	stream.go    gate.Stream: bodies, trailers, deadlines
//	qpack.go     field sections on the wire
package h3

import (
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"edgecdn/server/gate"
)

const (
	// linger is how long a connection without requests stays open for the last
	// bytes to arrive, when its client does not close it.
	linger = 2 * time.Second
	// goawayGrace is how long requests that crossed the first GOAWAY are taken.
	goawayGrace = 200 * time.Millisecond
	// newcomerGrace is how long a connection that comes during a drain may take to
	// make a first request, which is answered with GOAWAY beside it. Told before, some
	// clients fail that request instead of going elsewhere with it.
	newcomerGrace = 5 * time.Second
)

// Engine serves the HTTP/3 connections of one listener. Its methods may be called
// from any goroutine.
type Engine struct {
	door  *gate.Door
	stats *Stats
	// altSvc is the field of that name, encoded.
	altSvc []byte
	pool   sync.Pool // of *request

	mu       sync.Mutex
	conns    map[*conn]struct{} // guarded by mu
	draining bool               // guarded by mu
}

// New returns an engine for a listener. It starts nothing.
func New(door *gate.Door, stats *Stats) *Engine {
	e := &Engine{door: door, stats: stats, conns: map[*conn]struct{}{}}
	if door.AltSvc != "" {
		e.altSvc = appendField(nil, "alt-svc", door.AltSvc)
	}
	e.pool.New = func() any { return &request{input: input{buf: make([]byte, bufferBytes)}} }
	return e
}

// ServeConn serves a connection, whose handshake may still be under way, until it
// ends and everything that was started for it is gone.
func (e *Engine) ServeConn(q *quic.Conn) {
	c := newConn(e, q)
	e.mu.Lock()
	e.conns[c] = struct{}{}
	e.mu.Unlock()
	c.serve()
	e.mu.Lock()
	delete(e.conns, c)
	e.mu.Unlock()
}

// Drain tells all clients to go elsewhere. Requests under way finish; connections
// are closed when none is left. It does not wait.
func (e *Engine) Drain() {
	for _, c := range e.begun() {
		c.drain()
	}
}

// Resume takes Drain back for connections that have not been told.
func (e *Engine) Resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining = false
}

// Cut closes all connections at once.
func (e *Engine) Cut() {
	var closing sync.WaitGroup
	for _, c := range e.begun() {
		closing.Go(func() { c.close(codeNoError, "") })
	}
	closing.Wait()
}

// begun returns the connections there are, and has those to come drained with
// their first request.
func (e *Engine) begun() []*conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining = true
	all := make([]*conn, 0, len(e.conns))
	for c := range e.conns {
		all = append(all, c)
	}
	return all
}

func (e *Engine) drains() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.draining
}
