package h3

// request.go takes a request from its stream to its answer, in stages. The
// connection's goroutine goes as far as it can without waiting, which for most is
// to the end; where a stage would wait, the rest gets a goroutine of its own.

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/quic-go/quic-go"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

const (
	// bufferBytes is what is read of a request at once; most headers fit.
	bufferBytes = 2 << 10
	// bufferKept is the largest buffer that is used again.
	bufferKept = 32 << 10
	// blockSlack is what QPACK may add to a header of the longest kind.
	blockSlack = 512
	// ignoredBytesMax is the longest unknown frame that is passed over.
	ignoredBytesMax = 64 << 10
)

// errAgain says that a stage would wait.
var errAgain = errors.New("h3: would wait")

type stage uint8

const (
	stageHeader stage = iota // the field section is to be read
	stageBody                // it is to be learnt whether a body follows
	stageDecide
	stageSend   // hit or reply
	stageHandle // by the handler
	stageDone
)

// request is one exchange on its stream. It belongs to one goroutine at a time
// until the handler is called; stream.go says what holds then.
type request struct {
	conn   *conn
	stream *quic.Stream
	id     quic.StreamID
	stage  stage
	begun  time.Time
	x      *gate.Exchange
	head   header

	input
	priority priority
	urged    bool          // priority is not the default
	lasting  bool          // has a goroutine of its own
	out      []byte        // what is to be sent, up to rest
	rest     []byte        // of a hit's body
	composed bool          // out and rest are made
	curt     bool          // the header was too long for the client: no body follows
	copied   int64         // bytes of the body in out
	hit      bool          // x.Hit is to be released
	fields   []cache.Field // scratch
	handled  bool          // the handler was called
	general
}

func (r *request) begin(c *conn, s *quic.Stream, now time.Time) {
	buf, text, fields, out := r.buf, r.head.text, r.fields, r.out
	*r = request{conn: c, stream: s, id: s.StreamID(), begun: now, fields: fields[:0], out: out[:0], priority: priorityDefault}
	r.input = input{stream: s, buf: buf, need: -1}
	r.head.text = text[:0]
}

// serve is called on the connection's goroutine.
func (r *request) serve() {
	_ = r.stream.SetReadDeadline(r.begun.Add(patience)) // nil always
	err := r.advance(false)
	if err != errAgain {
		r.done(err)
		return
	}
	if r.x != nil {
		r.x.Own() // for the buffers that it points into are read into again
	}
	r.lasting = true
	r.conn.last(r, func() {
		if r.stage == stageHeader {
			_ = r.stream.SetReadDeadline(r.begun.Add(r.conn.limits().HeaderTimeout))
		}
		r.done(r.advance(true))
	})
}

// advance goes on with the request to its end, or until it would wait.
func (r *request) advance(wait bool) (err error) {
	for err == nil && r.stage != stageDone {
		switch r.stage {
		case stageHeader:
			err = r.readHeader(wait)
		case stageBody:
			err = r.awaitBody(wait)
		case stageDecide:
			r.decide()
		case stageSend:
			err = r.send(wait)
		case stageHandle:
			if !wait {
				return errAgain
			}
			err = r.handle()
		}
	}
	return err
}

// readHeader reads up to and with the field section of the request (RFC 9114 4.1).
func (r *request) readHeader(wait bool) error {
	limits := r.conn.limits()
	for first := true; ; first = false {
		block, err := r.headers(r.conn, int(limits.HeaderBytes)+blockSlack)
		switch {
		case err == errTooLong:
			r.understand(nil, limits)
			r.x.HeaderBytes = int(limits.HeaderBytes) + 1
			r.stage = stageDecide // 431
			return nil
		case err == nil:
			return r.understand(block, limits)
		case err != errAgain:
			return err
		}
		if r.ended == io.EOF && r.clean() {
			return &streamError{codeRequestIncomplete, "the stream ended before a header"} // RFC 9114 4.1
		}
		if err := r.truncated(); err != nil {
			return err
		}
		if !wait && !first {
			return errAgain
		}
		if err := r.fill(r.stream.Read); err != nil {
			if !wait && errors.Is(err, os.ErrDeadlineExceeded) {
				return errAgain
			}
			return err
		}
	}
}

// understand makes an exchange of the field section, nil for one that was too
// long to read.
func (r *request) understand(block []byte, limits *gate.Limits) error {
	r.x = r.conn.engine.door.Begin(cache.HTTP3)
	x := r.x
	x.Request.Client = r.conn.client()
	x.TLS, x.Request.EarlyData = r.conn.handshake()
	if block == nil {
		return nil
	}
	if err := r.head.read(block, x, limits); err != nil {
		return err
	}
	if r.head.priority != "" && !r.urged {
		r.priority, r.urged = parsePriority(r.head.priority), true
	}
	x.ContentLength = r.head.length
	r.stage = stageDecide
	switch {
	case r.head.over:
	case r.head.demands: // RFC 9110 10.1.1
		x.Refuse(http.StatusExpectationFailed, "only 100-continue can be expected")
		r.stage = stageSend
	case r.head.elsewhere:
		x.Refuse(http.StatusMisdirectedRequest, "requests of this scheme are not served here")
		r.stage = stageSend
	case r.ended == io.EOF && r.clean():
		x.ContentLength = 0
		if r.head.length > 0 {
			return malformed("the body is shorter than content-length")
		}
	case r.head.length == 0:
	case r.head.length < 0 && usuallyEmpty(x.Request.Method):
		r.stage = stageBody
	default:
		x.Request.HasBody = true
	}
	return nil
}

// usuallyEmpty lists the methods whose requests seldom have bodies. The header
// does not say: for these it is worth waiting for the end of the stream, which
// comes with it; others may want an answer before they send the first byte.
func usuallyEmpty(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "DELETE", "TRACE":
		return true
	}
	return false
}

// awaitBody waits for the first byte of a body or for the end of the request.
func (r *request) awaitBody(wait bool) error {
	if !wait && r.ended == nil {
		return errAgain
	}
	_ = r.stream.SetReadDeadline(time.Now().Add(r.conn.limits().StallTimeout))
	has, err := r.peek()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.conn.engine.door.Stats().Stalled.Add(1)
		r.x.Refuse(http.StatusRequestTimeout, "the request did not end")
		r.stage = stageSend
		return nil
	}
	if r.x.Request.HasBody = has; !has {
		r.x.ContentLength = 0
	}
	r.stage = stageDecide
	return err
}

func (r *request) decide() {
	switch r.x.Decide() {
	case gate.SendHit:
		r.hit = true
		r.stage = stageSend
	case gate.SendReply:
		r.stage = stageSend
	case gate.Handle:
		r.stage = stageHandle
	}
}

// done ends the exchange and, where err says so, the stream or the connection.
func (r *request) done(err error) {
	if r.hit {
		r.x.Hit.Release()
	}
	switch {
	case err != nil:
		r.give(err)
	case r.handled || r.ended == nil:
		// What is left of the request is of no use (RFC 9114 4.1). Where nothing is
		// left, this does nothing.
		r.stream.CancelRead(codeNoError)
	}
	c, id, lasting := r.conn, r.id, r.lasting
	if r.x != nil {
		if err != nil {
			r.x.Aborted = true
			r.x.Status = cmp.Or(r.x.Status, http.StatusBadRequest)
		}
		r.x.End()
	}
	c.finish(id, lasting) // before it is used again: until then a PRIORITY_UPDATE finds it
	if !r.handled {
		// Of what a handler has seen, a transport may still be reading.
		c.engine.recycle(r)
	}
}

// give tells the peer what was wrong.
func (r *request) give(err error) {
	code := r.judge(err)
	r.stream.CancelRead(code)
	r.stream.CancelWrite(code)
}

// judge counts an error and returns the code that the stream ends with. Errors of
// the connection end that.
func (r *request) judge(err error) quic.StreamErrorCode {
	c := r.conn
	code := quic.StreamErrorCode(codeRequestCancelled)
	var wrong *streamError
	var reset *quic.StreamError
	switch {
	case c.fail(err):
	case errors.As(err, &wrong):
		code = wrong.code
		c.engine.stats.StreamErrors.Add(1)
		if code == codeMessageError {
			c.engine.door.Stats().Malformed.Add(1)
		}
		c.fail(c.cancelled())
	case errors.As(err, &reset):
		if reset.Remote {
			c.fail(c.cancelled())
		}
	case errors.Is(err, os.ErrDeadlineExceeded) && r.stage == stageHeader:
		code = codeRequestIncomplete
		c.engine.stats.HeaderTimeouts.Add(1)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.engine.door.Stats().Stalled.Add(1)
	}
	return code
}

func (e *Engine) recycle(r *request) {
	if len(r.buf) > bufferKept || cap(r.out) > bufferKept || cap(r.head.text) > bufferKept {
		return
	}
	r.conn, r.stream, r.x, r.rest = nil, nil, nil, nil
	r.input.stream = nil
	clear(r.fields[:cap(r.fields)])
	e.pool.Put(r)
}
