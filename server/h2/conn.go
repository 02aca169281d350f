package h2

// conn.go is the loop of a connection, its timers and its end.
//
//	greeted -> preface read -> frames ... -> drain: GOAWAY(2^31-1), PING -> GOAWAY(last) -> no stream left -> closed
//	                                      -> failed: GOAWAY(code) -> closed
//	                                      -> lost

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

const (
	// idleInput is what a connection reads into until a frame needs more: most of
	// many connections are idle.
	idleInput     = 1 << 10
	inputBytesMax = headerSize + frameBytesMax
	// Bytes of request bodies that a client may send ahead of their readers.
	streamWindow, connWindow = 1 << 20, 4 << 20
	// closedMax is how many closed streams are remembered: enough to tell late
	// frames from wrong ones (RFC 9113 5.1).
	closedMax = 128
	// drainGrace is how long a client may take to answer the PING of a drain.
	drainGrace = time.Second
	// newcomerGrace is how long one that comes during a drain may take to make a first
	// request, which is answered with GOAWAY beside it. Told before, some clients fail
	// that request instead of going elsewhere with it.
	newcomerGrace = 5 * time.Second
)

// Stages of a drain.
type drainStage uint8

const (
	drainNot   drainStage = iota
	drainAsked            // by Drain
	drainTold             // GOAWAY(2^31-1) is on its way
	drainFinal            // GOAWAY with the last stream is
)

type conn struct {
	engine *Engine
	door   *gate.Door
	nc     net.Conn
	bottom net.Conn    // below TLS; closing it never waits
	cork   gate.Corker // the same, where it is one
	tls    *tls.ConnectionState
	client netip.AddrPort
	altSvc []byte // as a field line in HPACK
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // guards what follows
	now     time.Time  // when the loop last read
	writers sync.WaitGroup
	room    sync.Cond // something was written, or nothing more will be

	// Reading.
	small     [idleInput]byte
	large     *[inputBytesMax]byte // from the pool, nil while small serves
	in        []byte               // small or large
	from, to  int                  // unread bytes
	armed     time.Time            // read deadline that is set
	late      bool                 // that has passed, and is still set
	partialBy time.Time            // a partial frame or header block must be whole by then
	dataLeft  int                  // bytes of a DATA frame that are still to come
	padLeft   int                  // and of its padding
	dataTo    *stream              // nil: nobody wants them
	dataEnd   bool                 // END_STREAM
	greeted   bool                 // the first SETTINGS frame has come

	// Header blocks.
	hpack    decoder
	text     []byte // of decoded strings
	header   header
	block    []byte // collected, where CONTINUATION frames follow
	blockOf  uint32 // the stream that it is for, 0: none is open
	blockEnd bool   // END_STREAM
	selfDep  bool   // it depends on itself
	extra    int    // CONTINUATION frames so far
	fields   []cache.Field

	// Writing.
	out     *output
	writing bool  // somebody is
	watch   watch // over writes
	broken  bool  // nothing can be written any more
	why     error // streams fail with, once it is

	// Flow control.
	window        int64  // we may send
	initialWindow int64  // of each new stream
	received      int64  // the client may send
	credit        int64  // to be given back to it
	tableUpdate   bool   // the next header block begins with a table size update (RFC 7541 4.2)
	noPriorities  uint32 // SETTINGS_NO_RFC7540_PRIORITIES + 1 once said

	// Streams.
	streams    map[uint32]*stream
	spare      *stream // to be used again, linked by after; streams of handlers are not
	schedule   schedule
	parked     int               // of streams: hits that wait for windows
	orphans    int               // handlers at work whose streams are gone
	streamMax  int               // as announced
	lastID     uint32            // the highest that the client has used
	answeredID uint32            // the highest that was taken up
	closed     [closedMax]uint32 // id<<1 | 1 where we reset it
	closedAt   int
	hints      [8]hint // PRIORITY_UPDATE ahead of the request
	hintAt     int
	requests   int
	floods     budgets

	// Life.
	drain     drainStage
	newcomer  bool // came during a drain, and has made no request yet
	drainBy   time.Time
	idleSince time.Time
	checkAt   time.Time // parked streams are looked at
	failed    bool      // GOAWAY with an error is on its way
}

func newConn(e *Engine, nc net.Conn, state *tls.ConnectionState) *conn {
	c := &conn{
		engine: e, door: e.door, nc: nc, bottom: nc, tls: state,
		window: windowDefault, initialWindow: windowDefault, received: connWindow,
		streams: map[uint32]*stream{}, streamMax: e.door.Limits().Streams,
	}
	c.ctx, c.cancel = context.WithCancel(e.door.Requests())
	c.room.L, c.why = &c.mu, errLost
	if over, ok := nc.(interface{ NetConn() net.Conn }); ok {
		c.bottom = over.NetConn()
		c.cork, _ = c.bottom.(gate.Corker)
	}
	c.watch.raw = rawConn(c.bottom)
	c.in = c.small[:]
	c.now = time.Now()
	c.idleSince = c.now
	if addr, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		p := addr.AddrPort()
		c.client = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	if e.door.AltSvc != "" {
		c.altSvc = appendField(nil, "alt-svc", e.door.AltSvc)
	}
	return c
}

func (c *conn) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.greet()
	if c.tls != nil && c.tls.Version < tls.VersionTLS12 { // RFC 9113 9.2
		c.fail(codeInadequateCrypt, "TLS is older than 1.2")
	}
	if c.readPreface() {
		for c.step() {
		}
	}
	c.finish()
}

func (c *conn) readPreface() bool {
	for have := 0; !c.failed; {
		for ; have < len(preface) && have < c.to; have++ {
			if c.in[have] != preface[have] {
				c.fail(codeProtocol, "no preface")
				return false
			}
		}
		if have == len(preface) {
			c.from = have
			c.partialBy = time.Time{}
			return true
		}
		if !c.read(len(preface)) {
			return false
		}
	}
	return false
}

// step takes the next frame, or the part of a DATA frame that is here. It reports
// false when the connection has ended.
func (c *conn) step() bool {
	if c.failed || c.broken {
		return false
	}
	if c.pending() >= inlineBytes {
		c.flush()
		if !c.waitRoom() {
			return false
		}
	}
	have := c.in[c.from:c.to]
	if c.dataLeft+c.padLeft > 0 {
		if len(have) == 0 {
			return c.read(min(c.dataLeft+c.padLeft, inputBytesMax))
		}
		c.from += c.takeData(have)
		return true
	}
	if len(have) < headerSize {
		return c.read(headerSize)
	}
	h := parseHeader(have)
	need := headerSize + h.length
	switch {
	case h.length > frameBytesMax:
		c.fail(codeFrameSize, "a frame is too large")
		return false
	case h.kind == kindData:
		need = headerSize
		if h.has(flagPadded) && h.length > 0 {
			need++
		}
	}
	if len(have) < need {
		return c.read(need)
	}
	c.from += need
	c.frame(&h, have[headerSize:need])
	if c.blockOf == 0 {
		c.partialBy = time.Time{}
	}
	return true
}

// read sends what is pending and reads until need bytes are there or something
// happens. It reports false when the connection has ended.
func (c *conn) read(need int) bool {
	c.flush()
	if c.broken || c.finished() {
		return false
	}
	c.makeSpace(need)
	partial := c.from < c.to || c.blockOf != 0 || !c.greeted
	if partial && c.partialBy.IsZero() && c.dataLeft+c.padLeft == 0 {
		c.partialBy = c.now.Add(c.door.Limits().HeaderTimeout)
	}
	c.arm()
	c.mu.Unlock()
	n, err := c.nc.Read(c.in[c.to:])
	c.mu.Lock()
	c.now = time.Now()
	c.to += n
	switch {
	case err != nil && errors.Is(err, os.ErrDeadlineExceeded):
		c.armed, c.late = time.Time{}, true
		return c.tick()
	case err != nil && n == 0:
		c.lose(errLost)
		return false
	}
	if due := c.due(); !due.IsZero() && !c.now.Before(due) {
		return c.tick()
	}
	return true
}

// makeSpace lets need bytes from c.from on be read into one piece.
func (c *conn) makeSpace(need int) {
	have := c.to - c.from
	switch {
	case have == 0 && need <= idleInput && c.large != nil:
		c.engine.inputs.Put(c.large)
		c.large, c.in = nil, c.small[:]
	case c.large == nil && (need > idleInput || c.to == idleInput && have > 0):
		c.large = c.engine.inputs.Get().(*[inputBytesMax]byte)
		copy(c.large[:], c.in[c.from:c.to])
		c.in = c.large[:]
	case c.from > 0:
		copy(c.in, c.in[c.from:c.to])
	}
	c.from, c.to = 0, have
}

// due is when the loop must look around even if nothing comes; the zero time is
// never.
func (c *conn) due() time.Time {
	var t time.Time
	sooner := func(u time.Time) {
		if !u.IsZero() && (t.IsZero() || u.Before(t)) {
			t = u
		}
	}
	sooner(c.partialBy)
	if c.drain == drainTold {
		sooner(c.drainBy)
	}
	if c.newcomer {
		sooner(c.newcomerBy())
	}
	if c.parked > 0 {
		sooner(c.checkAt)
	}
	if c.idle() {
		sooner(c.idleSince.Add(c.door.Limits().IdleTimeout))
	}
	return t
}

func (c *conn) idle() bool { return len(c.streams) == 0 }

// arm sets the read deadline. Setting it costs, so one that comes early is kept:
// then the loop looks around in vain, and sets the next.
func (c *conn) arm() {
	t := c.due()
	switch {
	case c.drain == drainAsked:
		t = time.Unix(1, 0)
	case t.IsZero():
		if c.late { // else every Read would end at once
			c.late = false
			_ = c.nc.SetReadDeadline(t) // as below
		}
		return
	case !c.armed.IsZero() && !c.armed.After(t) && c.armed.Sub(c.now) > t.Sub(c.now)/2:
		return
	}
	c.armed, c.late = t, false
	_ = c.nc.SetReadDeadline(t) // where it fails, so does the Read
}

// wake has the loop look around.
func (c *conn) wake() {
	c.armed = time.Unix(1, 0)
	_ = c.nc.SetReadDeadline(c.armed) // where it fails, the Read has failed
}

// tick looks at everything that may be due.
func (c *conn) tick() bool {
	limits := c.door.Limits()
	reached := func(t time.Time) bool { return !t.IsZero() && !c.now.Before(t) }
	switch {
	case reached(c.partialBy):
		c.engine.stats.HeaderTimeouts.Add(1)
		c.end(codeCalm, "a header or frame did not become whole in time")
		return false
	case c.idle() && reached(c.idleSince.Add(limits.IdleTimeout)):
		c.engine.stats.Idle.Add(1)
		c.end(codeNo, "")
		return false
	}
	if c.parked > 0 && reached(c.checkAt) {
		c.checkParked(limits)
	}
	switch {
	case c.drain == drainAsked, c.newcomer && reached(c.newcomerBy()):
		c.goAway()
	case c.drain == drainTold && reached(c.drainBy):
		c.goAwayFinally()
	}
	return true
}

// requestDrain is Drain for one connection.
func (c *conn) requestDrain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drain == drainNot {
		c.drain = drainAsked
		c.wake()
	}
}

// newcomerBy is until when a first request is waited for.
func (c *conn) newcomerBy() time.Time { return c.idleSince.Add(newcomerGrace) }

// finished says whether a drained connection has nothing left to do.
func (c *conn) finished() bool { return c.drain == drainFinal && c.idle() && c.orphans == 0 }

// end says goodbye; fail does because of an error of the client's.
func (c *conn) end(reason code, why string) {
	if c.failed || c.broken {
		return
	}
	c.failed = true
	c.commit(appendGoAway(c.begin(), c.answeredID, reason))
	if why != "" {
		c.door.Log().Debug("HTTP/2 connection ended", "client", c.client, "reason", why)
	}
}

func (c *conn) fail(reason code, why string) {
	if !c.failed && !c.broken {
		c.engine.stats.ConnectionErrors.Add(1)
	}
	c.end(reason, why)
}

// flooded ends the connection when a budget is spent. It reports true then.
func (c *conn) flooded(kind int) bool {
	if c.floods.spend(kind, c.now) {
		return false
	}
	if !c.failed {
		c.engine.stats.Floods[kind].Add(1)
	}
	c.end(codeCalm, "flood: "+FloodNames[kind])
	return true
}

// lose notes that the connection is gone.
func (c *conn) lose(why error) {
	if c.broken {
		return
	}
	c.broken, c.why = true, why
	c.cancel()
	c.room.Broadcast()
	c.wake()
}

// finish ends what is under way, sends the last bytes and closes. A client that was
// served to the end may take its time with them; others get a moment.
func (c *conn) finish() {
	if c.finished() {
		c.settle()
	}
	c.cancel()
	for _, s := range c.streams {
		c.drop(s, c.why)
	}
	cut := time.AfterFunc(2*lingerTime, func() { _ = c.bottom.Close() })
	c.settle()
	if !c.broken {
		c.mu.Unlock()
		c.linger()
		c.mu.Lock()
	}
	cut.Stop()
	if c.watch.timer != nil {
		c.watch.timer.Stop()
	}
	c.broken = true
	c.room.Broadcast()
	_ = c.nc.Close() // Cut may have
	if c.large != nil {
		c.engine.inputs.Put(c.large)
		c.large = nil
	}
	c.mu.Unlock()
	c.writers.Wait()
	c.mu.Lock()
}

// settle waits until nothing is pending.
func (c *conn) settle() {
	for !c.broken && (c.writing || c.pending() > 0) {
		if c.writing {
			c.room.Wait()
		} else {
			c.flush()
		}
	}
}
