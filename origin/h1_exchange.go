package origin

// h1_exchange.go is a request over HTTP/1.1 and its answer, in the goroutine of
// whoever asks: there is one more only while a body is sent that is longer than a
// few kilobytes, or that nobody knows the length of.
//
//	encoded -> connection -> sent -> header -> body -> connection back, or closed
//	              ^            |
//	              +------------+  (it was closed while it rested: once more, if replayable)
//
// Each wait has a deadline on the connection. The end of the caller's context, and
// Close during a Read, cut the connection, which ends the wait.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	wire "edgecdn/internal/h1"
)

const (
	h1Bytes = 8 << 10
	// bodyHeld is the longest body that is read before a connection is taken, and
	// leaves with the header in one write: who sends slowly holds none then.
	bodyHeld = 4 << 10
	// fieldsMax bounds the field lines of a response, and of its trailers.
	fieldsMax = 256
	// replaysMax bounds how often a request meets a connection that has been closed.
	replaysMax = 3
	// sectionKept bounds the room for a header that is left to the next request.
	sectionKept = 4 << 10
	// continueWait is how long we wait for 100 (Continue) where it was asked for.
	continueWait = time.Second
)

// h1Room is what an exchange works in.
type h1Room struct {
	out    []byte // the request
	in     [h1Bytes]byte
	fields [64]Field
}

var h1Rooms = sync.Pool{New: func() any { return &h1Room{out: make([]byte, 0, h1Bytes)} }}

// h1Client is a sender that speaks HTTP/1.1.
type h1Client struct {
	cfg   *Config // with defaults
	stats *Stats
	base  string // path of the origin's URL, without a slash at its end
	pool  h1Pool
}

func newH1Client(cfg *Config, base *url.URL, stats *Stats, dial func(ctx context.Context, client string) (*h1Conn, error)) *h1Client {
	return &h1Client{
		cfg: cfg, stats: stats, base: strings.TrimSuffix(base.EscapedPath(), "/"),
		pool: h1Pool{cfg: cfg, stats: stats, dial: dial},
	}
}

func (c *h1Client) retire() { c.pool.retire() }

type h1Exchange struct {
	client  *h1Client
	request message
	start   time.Time
	last    time.Time // the end of the whole; zero: none
	resp    http.Response
	fields  []Field // of resp
	room    *h1Room
	in      []byte // the room's, or a larger one for a long header
	r, w    int    // in[r:w] has been read and not been used
	head    wire.Response
	upload  *h1Upload // nil where the request went out whole
	unwatch func() bool
	watcher watcher // in the place of unwatch
	stop    func()  // interrupt
	over    bool    // and nobody else knows of it
	section []byte  // room for the header

	reading sync.Mutex // held by Read; guards what follows
	framing int64      // as wire.Response.Body says
	left    int64      // of a body with a length
	chunks  wire.Chunks
	err     error // sticky
	closed  atomic.Bool

	guard       sync.Mutex // guards what follows; held for moments
	conn        *h1Conn
	interrupted bool
	answered    bool  // the final header is here
	uploadErr   error // why the request did not go out whole
	uploadCut   bool  // and that is why the connection was cut
}

// roundTrip sends m and returns the response, without a map of its fields, when its
// header is here.
func (c *h1Client) roundTrip(m message) (*http.Response, []Field, error) {
	x := m.link
	if x == nil {
		x = new(h1Exchange)
	}
	x.client, x.request, x.start = c, m, time.Now()
	if c.cfg.Timeout > 0 {
		x.last = x.start.Add(c.cfg.Timeout)
	}
	c.stats.Active.Add(1)
	x.room = h1Rooms.Get().(*h1Room)
	x.in = x.room.in[:]
	length := bodyLength(m.Request)
	if err := x.prepare(length); err != nil {
		closeBody(m.Request)
		x.finish(false)
		return nil, nil, unsent(err)
	}
	if length > bodyHeld || length < 0 {
		x.upload = newH1Upload(x, length)
	}
	if err := x.send(); err != nil {
		x.finish(false)
		return nil, nil, err
	}
	return &x.resp, x.fields, nil
}

// prepare writes the request, with its body if that is short.
func (x *h1Exchange) prepare(length int64) error {
	out, bad := appendHead(x.room.out[:0], &x.request, x.client.base, length)
	if bad != nil {
		return bad
	}
	if 0 < length && length <= bodyHeld {
		at := len(out)
		out = append(out, make([]byte, length)...)
		if _, err := io.ReadFull(x.request.Body, out[at:]); err != nil {
			return x.ofCaller(errorf(KindRequest, "read the request's body: %w", err))
		}
		closeBody(x.request.Request)
	}
	x.room.out = out
	return nil
}

// ofCaller returns what an error is where the caller has ended the request.
func (x *h1Exchange) ofCaller(err error) error {
	ctx := x.request.Context()
	switch {
	case canceled(ctx):
		return canceledError()
	case ctx.Err() != nil:
		return &Error{Kind: KindResponseTimeout, Err: ctx.Err()}
	case !x.last.IsZero() && !time.Now().Before(x.last):
		return errorf(KindResponseTimeout, "not done within %v: %w", x.client.cfg.Timeout, err)
	}
	return err
}

// send gives the request to connections until one has an answer.
func (x *h1Exchange) send() error {
	fresh := false
	for replays := 0; ; replays++ {
		c, err := x.connect(fresh)
		if err != nil {
			if x.upload != nil {
				x.upload.close()
			}
			return unsent(err)
		}
		reused := c.used
		sent, err := x.exchange(c)
		if err == nil {
			return nil
		}
		stale := errors.Is(err, errStale)
		again := stale || reused && x.w == 0 && ended(err) && x.upload == nil && bodyLength(x.request.Request) == 0 && x.request.replayable()
		if again && replays < replaysMax && x.detach(false) {
			fresh = replays > 0 || !stale // others have most likely gone with it
			if !stale {
				x.client.stats.Repeated.Add(1)
			}
			continue
		}
		err = x.explain(err)
		if sent == 0 {
			err = unsent(err)
		}
		return err
	}
}

// ended says whether an error is that of a connection that the other side closed.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// connect takes a connection and lets the end of the context cut it.
func (x *h1Exchange) connect(fresh bool) (*h1Conn, error) {
	ctx := x.request.Context()
	if !x.last.IsZero() {
		within, stop := context.WithDeadline(ctx, x.last)
		defer stop()
		ctx = within
	}
	c, err := x.client.pool.get(ctx, x.proxied(), fresh)
	if err != nil {
		err = x.ofCaller(err)
		if e := (*Error)(nil); !errors.As(err, &e) && !errors.Is(err, context.Canceled) {
			err = &Error{Kind: connectKind(err), Err: err}
		}
		return nil, err
	}
	x.guard.Lock()
	x.conn = c
	x.guard.Unlock()
	x.watch(x.request.Context())
	return c, nil
}

// watcher is a context that calls stop when it ends, as context.AfterFunc would but
// without an allocation: one at a time, else Watch returns false. Unwatch says whether it
// has not been called and will not be.
type watcher interface {
	Watch(stop func()) bool
	Unwatch() bool
}

// watch lets the end of ctx interrupt the exchange.
func (x *h1Exchange) watch(ctx context.Context) {
	if x.unwatch != nil || x.watcher != nil || ctx.Done() == nil {
		return
	}
	if x.stop == nil {
		x.stop = x.interrupt
	}
	if w, ok := ctx.(watcher); ok && w.Watch(x.stop) {
		x.watcher = w
		return
	}
	x.unwatch = context.AfterFunc(ctx, x.stop)
}

// alone ends that, and says whether nobody interrupts the exchange any more.
func (x *h1Exchange) alone() bool {
	switch {
	case x.watcher != nil:
		return x.watcher.Unwatch()
	case x.unwatch != nil:
		return x.unwatch()
	}
	return true
}

// proxied is the address that the connection's PROXY header tells.
func (x *h1Exchange) proxied() string {
	if x.client.cfg.ProxyProtocol == "" {
		return ""
	}
	return x.request.RemoteAddr
}

// interrupt cuts the exchange's connection, on any goroutine.
func (x *h1Exchange) interrupt() {
	x.guard.Lock()
	defer x.guard.Unlock()
	x.interrupted = true
	if x.conn != nil {
		x.conn.cut()
	}
}

// exchange sends the request on c and reads the header of what comes back.
func (x *h1Exchange) exchange(c *h1Conn) (sent int, err error) {
	cfg := x.client.cfg
	x.guard.Lock()
	if x.interrupted {
		c.cut()
	}
	x.guard.Unlock()
	x.r, x.w = 0, 0
	now := time.Now() // a connection may have been waited for
	c.waitWrite(cfg.StallTimeout, now, x.last)
	if x.upload == nil {
		c.waitRead(cfg.HeaderTimeout, now, x.last)
		x.w, sent, err = c.ask(x.room.out, x.in)
	} else if c.used && !c.fresh() {
		err = errStale
	} else {
		c.waitRead(0, now, x.last)
		x.upload.begin(c)
		x.w, err = c.nc.Read(x.in)
		sent = 1
	}
	if err != nil && x.w == 0 {
		return sent, err
	}
	return sent, x.answer()
}

// detach takes the exchange off its connection, which goes back to the pool if it
// can be used again; false: the exchange was interrupted.
func (x *h1Exchange) detach(reusable bool) bool {
	x.guard.Lock()
	c := x.conn
	x.conn = nil
	going := !x.interrupted
	x.guard.Unlock()
	if c == nil {
		return going
	}
	if reusable && going {
		x.client.pool.put(c)
	} else {
		x.client.pool.drop(c)
	}
	return going
}

// finish ends the exchange. It is called once its last byte has been read, or when
// it is given up.
func (x *h1Exchange) finish(reusable bool) {
	if x.room == nil {
		return
	}
	x.over = x.alone() && x.upload == nil
	if x.upload != nil && !x.upload.over(reusable) {
		reusable = false
	}
	x.detach(reusable)
	room := x.room
	x.room, x.in = nil, nil
	if cap(room.out) <= 2*(h1Bytes+bodyHeld) && (x.upload == nil || x.upload.idle()) {
		h1Rooms.Put(room)
	}
	x.client.stats.Active.Add(-1)
}

// explain says what an error on a standing connection means, before the header or
// in the body.
func (x *h1Exchange) explain(err error) error {
	x.guard.Lock()
	uploadErr, answered := x.uploadErr, x.answered
	if answered && !x.uploadCut {
		uploadErr = nil
	}
	x.guard.Unlock()
	cfg := x.client.cfg
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	if uploadErr != nil {
		return x.ofCaller(uploadErr)
	}
	if mine := x.ofCaller(err); mine != err {
		return mine
	}
	if fault := wire.Fault(0); errors.As(err, &fault) {
		return &Error{Kind: faultKind(fault), Err: err}
	}
	if !timeout(err) {
		if answered {
			return &Error{Kind: bodyKind(err), Err: err}
		}
		if x.w > 0 && (err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF)) {
			return errorf(KindProtocol, "the connection ended in the middle of the header: %w", err)
		}
		return &Error{Kind: headerKind(err), Err: err}
	}
	switch {
	case answered:
		return errorf(KindReadTimeout, "the response stood still for %v", cfg.StallTimeout)
	case errors.Is(err, errWrite):
		return errorf(KindWriteTimeout, "nothing of the request was taken for %v", cfg.StallTimeout)
	}
	return errorf(KindResponseTimeout, "no response within %v", cfg.HeaderTimeout)
}

// errWrite marks errors of writing.
var errWrite = errors.New("write to the origin")

// faultKind is the kind of what the parser refuses.
func faultKind(f wire.Fault) Kind {
	switch f {
	case wire.FaultFields:
		return KindHeaderSize
	case wire.FaultCoding, wire.FaultCodingUnknown, wire.FaultChunk, wire.FaultChunkExtension, wire.FaultTrailer:
		return KindTransferCoding
	}
	return KindProtocol
}

// canceledError is that of a request which its caller gave up.
func canceledError() error { return fmt.Errorf("origin: %w", context.Canceled) }
