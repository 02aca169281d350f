// Package h2 is the engine for HTTP/2 (RFC 9113): one loop a connection that
// reads frames and answers hits inline, from header blocks made beforehand.
//
//	frame.go static.go decode.go encode.go   bytes: frames and HPACK, nothing allocated
//	header.go priority.go flood.go           judges: what is malformed, who goes first, what is too much
//	conn.go                                  the loop, its timers and its end
//	dispatch.go control.go                   what each frame does
//	request.go                               from a header block to a decision of the gate
//	output.go watch.go                       what waits to be written, who writes it, whether the client takes it
//	stream.go body.go                        gate.Stream: responses and request bodies of handlers
//
// Who runs: the loop of a connection; one goroutine for each request that goes to
// the handler; and, while more is pending than one write should take, a writer.
// conn.mu guards all of a connection's state. The loop holds it except where it
// reads from or writes to the network; whoever writes has taken the pending bytes
// out first. No lock of others is taken under it but those of the gate's log.
package h2

import (
	"crypto/tls"
	"net"
	"sync"

	"edgecdn/server/gate"
)

// Engine serves HTTP/2 on the connections of one listener. Its methods may be
// called from any goroutine.
type Engine struct {
	door    *gate.Door
	stats   *Stats
	outputs sync.Pool // of *output
	inputs  sync.Pool // of *[inputBytesMax]byte
	chunks  sync.Pool // of *chunk

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	cut      bool
}

// New returns an engine. door may still change until the first connection comes.
func New(door *gate.Door, stats *Stats) *Engine {
	e := &Engine{door: door, stats: stats, conns: map[*conn]struct{}{}}
	e.outputs.New = func() any { return &output{b: make([]byte, 0, outputBytes)} }
	e.inputs.New = func() any { return new([inputBytesMax]byte) }
	e.chunks.New = func() any { return new(chunk) }
	return e
}

// ServeConn serves a connection from the client's preface until it ends, and
// closes it. nc is a *tls.Conn after its handshake, with its state, or a
// connection in the clear with nil. Handlers whose requests the end of the
// connection cut may still run when it returns; gate.Wait waits for them.
func (e *Engine) ServeConn(nc net.Conn, state *tls.ConnectionState) {
	c := newConn(e, nc, state)
	if !e.enter(c) {
		_ = nc.Close() // nobody was promised anything
		return
	}
	defer e.leave(c)
	c.run()
}

// Drain has all connections, those to come included, tell their clients to send
// no more requests. They end when what is under way is answered.
func (e *Engine) Drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining = true
	for c := range e.conns {
		c.requestDrain()
	}
}

// Resume takes Drain back for connections that have not been told.
func (e *Engine) Resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.draining = false
}

// Cut closes all connections, those to come included.
func (e *Engine) Cut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cut = true
	for c := range e.conns {
		_ = c.bottom.Close() // its loop will see
	}
}

func (e *Engine) enter(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cut {
		return false
	}
	e.conns[c] = struct{}{}
	if e.draining {
		c.newcomer = true
	}
	return true
}

func (e *Engine) leave(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
}
