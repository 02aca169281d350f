package h1

// conn.go is a connection's input: its buffer, which it holds only while there is
// something in it, and the waits for more.

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"edgecdn/server/gate"

	wire "edgecdn/internal/h1"
)

// The states of a connection, as Drain sees them.
const (
	fresh   int32 = iota // waits for its first request
	idle                 // waits for another
	busy                 // has begun one
	leaving              // is to be closed
)

type conn struct {
	engine *Engine
	nc     net.Conn
	tcp    *net.TCPConn    // below nc, nil if there is none
	socket syscall.RawConn // of tcp
	raw    syscall.RawConn // the same where nc is in the clear, else nil
	tls    *tls.ConnectionState
	cork   gate.Corker // below TLS, nil if there is none
	client netip.AddrPort
	state  atomic.Int32

	room  *inRoom // what in is, unless it had to grow
	in    []byte  // nil while nothing has been read
	r, w  int     // in[r:w] waits to be used
	one   [1]byte // to wait with where nc is not bare
	readN int     // of readRaw
	readE error
	fill  func(fd uintptr) bool // readRaw
	until time.Time             // our read deadline, zero for none
	reads deadline
	got   pace

	outRoom *outRoom
	out     []byte // waits to be written, of outRoom's bytes
	vector  [2][]byte
	iovecs  [2]unix.Iovec // of vector, for the kernel
	writeN  int           // of writeRaw
	writeE  error
	empty   func(fd uintptr) bool // writeRaw
	writes  deadline
	guard   guard
	passed  atomic.Uint64 // bytes that the system took, where no socket says what the client did

	request  wire.Request
	exchange *gate.Exchange // under way, nil for none
	requests int
	closing  bool // after what is under way
	broken   bool // what is written does not arrive, or must not
	reset    bool // close so that the client cannot take it for an end
	lingers  bool // the client may still be sending
	gone     bool // the client has said that it sends no more
	taken    bool // by a handler

	requestsCtx *requestsContext // of requests without a body; nil before the first
	endRequests context.CancelFunc
	look        *time.Timer // of watch; nil before the first
	looking     sync.Mutex  // guards watched, and its state
	watched     *watch
}

func newConn(e *Engine, nc net.Conn, state *tls.ConnectionState) *conn {
	c := &conn{engine: e, nc: nc, tcp: bareTCP(nc), tls: state, client: clientOf(nc)}
	if over, ok := nc.(*tls.Conn); ok {
		c.cork, _ = over.NetConn().(gate.Corker)
	}
	c.reads.set, c.writes.set = nc.SetReadDeadline, nc.SetWriteDeadline
	c.guard.c = c
	if c.tcp != nil {
		c.socket, _ = c.tcp.SyscallConn() // fails where it is closed, which reading shows
	}
	if a, ok := nc.(interface{ Ahead() []byte }); ok {
		if ahead := a.Ahead(); len(ahead) > 0 { // always less than fits
			c.hold()
			c.w = copy(c.in, ahead)
			c.state.Store(busy)
		}
	}
	if state == nil && c.socket != nil {
		c.raw, c.fill, c.empty = c.socket, c.readRaw, c.writeRaw
	}
	return c
}

// end ends the exchange.
func (c *conn) end(x *gate.Exchange) {
	c.exchange = nil
	x.End()
}

// requestContext returns a context that ends with the connection, for requests that
// nobody can read from any more when their handler has returned: one for all of them.
func (c *conn) requestContext() (context.Context, context.CancelFunc) {
	if c.requestsCtx == nil || c.requestsCtx.Err() != nil { // a half-closed one may have asked for more before
		c.requestsCtx, c.endRequests = newRequestsContext(c.engine.door.Requests())
	}
	return c.requestsCtx, c.endRequests
}

// drain asks an idle connection to close. It runs on another goroutine.
func (c *conn) drain() {
	if c.state.CompareAndSwap(idle, leaving) {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes it; already closed is as good
	} else if c.state.Load() == fresh {
		_ = c.nc.SetReadDeadline(time.Now().Add(drainGrace))
	}
}

func (c *conn) cut() {
	c.state.Store(leaving)
	if c.tcp != nil {
		_ = c.tcp.SetLinger(0) // what has not been taken by now is not to be
		_ = c.tcp.Close()      // not nc: TLS would wait to say goodbye
		return
	}
	_ = c.nc.Close()
}

var (
	errIdle    = errors.New("h1: idle for too long, or draining")
	errTooLong = errors.New("h1: header too long")
)

// await waits for the first byte of a request.
func (c *conn) await() error {
	if c.r < c.w {
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.release()
	if c.gone {
		return io.EOF
	}
	if c.requests > 0 {
		c.state.Store(idle)
	}
	if c.engine.draining.Load() && c.requests > 0 {
		return errIdle
	}
	limits := c.engine.door.Limits()
	patience := limits.IdleTimeout
	if c.requests == 0 { // who connects has something to say
		patience = min(patience, limits.HeaderTimeout)
	}
	c.idleUntil(patience)
	if c.state.Load() == leaving { // before the deadline was set, which would have hidden it
		return errIdle
	}
	c.engine.stats.Idle.Add(1)
	err := c.read()
	c.engine.stats.Idle.Add(-1)
	if c.requests == 0 {
		c.state.CompareAndSwap(fresh, busy)
	} else if !c.state.CompareAndSwap(idle, busy) && err == nil {
		return errIdle // drained at this moment; the client asks again elsewhere
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if !c.engine.draining.Load() {
			c.engine.stats.IdleTimeouts.Add(1)
		}
		return errIdle
	}
	return err
}

// idleUntil lets the next read wait for d, or up to an eighth less: a deadline is
// set seldom this way.
func (c *conn) idleUntil(d time.Duration) {
	now := time.Now()
	if left := c.until.Sub(now); left > d || left < d-d/8 {
		c.readBy(now.Add(d))
	}
	if c.requests == 0 && c.engine.draining.Load() {
		c.readBy(now.Add(drainGrace))
	}
}

func (c *conn) readBy(t time.Time) {
	c.until = t
	c.reads.setOurs(t)
}

// read reads once into the buffer, behind what is there. It is for one goroutine
// at a time.
func (c *conn) read() error {
	if c.raw != nil {
		c.readN, c.readE = 0, nil
		if err := c.raw.Read(c.fill); err != nil {
			return err
		}
		return c.took(c.readN, c.readE)
	}
	if c.in == nil {
		n, err := c.nc.Read(c.one[:])
		if n == 0 {
			return c.took(0, err)
		}
		c.hold()
		c.in[0], c.w = c.one[0], 1
		return nil
	}
	n, err := c.nc.Read(c.in[c.w:])
	return c.took(n, err)
}

func (c *conn) took(n int, err error) error {
	c.w += n
	switch {
	case n > 0:
		return nil
	case err == nil:
		return io.EOF
	}
	return err
}

// readRaw reads without waiting; false asks to be called again when there is
// something. Nothing is held meanwhile.
func (c *conn) readRaw(fd uintptr) bool {
	c.hold()
	for {
		n, err := wire.ReadNow(int(fd), c.in[c.w:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if c.w == 0 {
				c.release()
			}
			return false
		case err != nil:
			c.readE = os.NewSyscallError("read", err)
		}
		c.readN = max(n, 0)
		return true
	}
}

// hold takes a buffer if there is none.
func (c *conn) hold() {
	if c.in == nil {
		c.room = c.engine.ins.Get().(*inRoom)
		c.in, c.r, c.w = c.room[:], 0, 0
	}
}

// release gives an empty buffer back.
func (c *conn) release() {
	if c.room != nil {
		c.engine.ins.Put(c.room)
	}
	c.room, c.in, c.r, c.w = nil, nil, 0, 0
}

// makeRoom makes some behind what is in the buffer, which may have up to most
// bytes. Nothing may point into it.
func (c *conn) makeRoom(most int) error {
	switch {
	case c.r == c.w:
		c.r, c.w = 0, 0
	case c.w < len(c.in):
	case c.r > 0:
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	case len(c.in) >= most:
		return errTooLong
	default:
		larger := make([]byte, min(2*len(c.in), most))
		copy(larger, c.in[:c.w])
		w := c.w
		c.release()
		c.in, c.w = larger, w
	}
	return nil
}

// more reads once for whoever has begun a head, or trailers, and must have its
// end by then.
func (c *conn) more(most int, by time.Time) error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.makeRoom(most); err != nil {
		return err
	}
	if c.until != by {
		c.readBy(by)
	}
	return c.read()
}

// pace judges whether a peer keeps limits.min_rate, over limits.stall_timeout of
// waiting for it at a time.
type pace struct {
	waited time.Duration
	moved  int64
}

// note reports whether n bytes in d are enough.
func (p *pace) note(n int64, d time.Duration, limits *gate.Limits) bool {
	p.waited += d
	p.moved += n
	if p.waited < limits.StallTimeout {
		return true
	}
	enough := float64(p.moved) >= float64(limits.MinRate)*p.waited.Seconds()
	*p = pace{}
	return enough
}

// deadline is the earlier one of ours and of a handler's.
type deadline struct {
	set  func(time.Time) error
	mu   sync.Mutex
	ours time.Time
	user time.Time
}

func (d *deadline) setOurs(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ours = t
	_ = d.apply() // of a closed connection: reading and writing say it
}

func (d *deadline) setUser(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.user = t
	return d.apply()
}

func (d *deadline) apply() error {
	if d.user.IsZero() || !d.ours.IsZero() && d.ours.Before(d.user) {
		return d.set(d.ours)
	}
	return d.set(d.user)
}

// clear forgets what a handler has set.
func (d *deadline) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.user.IsZero() {
		d.user = time.Time{}
		_ = d.apply() // as above
	}
}
