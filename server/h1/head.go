package h1

// head.go takes a request from its first byte to what becomes of it.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"edgecdn/cache"
	"edgecdn/internal/authority"
	"edgecdn/server/gate"

	wire "edgecdn/internal/h1"
)

// next serves one request; false: the connection is to be closed.
func (c *conn) next() bool {
	if c.await() != nil {
		return false
	}
	c.requests++
	limits := c.engine.door.Limits()
	head, fault, err := c.head(limits)
	if err != nil {
		return false
	}
	x := c.engine.door.Begin(cache.HTTP1)
	c.exchange = x
	x.Request.Client, x.TLS, x.HeaderBytes = c.client, c.tls, len(head)
	if fault != (refusal{}) {
		c.refuse(x, fault)
		return false
	}
	if c.r < c.w {
		c.engine.stats.Pipelined.Add(1)
	}
	return c.serve(x, head, limits)
}

// refusal is why a head is answered with an error, after which the connection is
// closed: what follows may not be what it seems (RFC 9112 9.6).
type refusal struct {
	status int
	reason string
}

func (c *conn) refuse(x *gate.Exchange, f refusal) {
	x.Request.Host = x.Request.Authority // for the log
	stats := c.engine.door.Stats()
	switch f.status {
	case http.StatusRequestHeaderFieldsTooLarge:
		stats.HeadersRefused.Add(1)
	case http.StatusRequestURITooLong:
		c.engine.stats.LinesTooLong.Add(1)
	case http.StatusRequestTimeout:
		c.engine.stats.HeaderTimeouts.Add(1)
	case http.StatusExpectationFailed:
		c.engine.stats.ExpectationsFailed.Add(1)
	default:
		stats.Malformed.Add(1)
	}
	x.Refuse(f.status, f.reason)
	x.Reply.Close = true
	c.sendReply(x)
}

func faultRefusal(f wire.Fault) refusal { return refusal{f.Status(), f.Error()} }

// head returns a whole head, which is then no longer in the buffer though its
// bytes are, or what is wrong with what came instead.
func (c *conn) head(limits *gate.Limits) (head []byte, f refusal, err error) {
	most := int(limits.HeaderBytes)
	var by time.Time
	blank, from := false, 0 // from: offset of the last line's start behind r
	for {
		in := c.in[c.r:c.w]
		if !blank && len(in) >= 2 && in[0] == '\r' && in[1] == '\n' {
			blank = true // one empty line before a request is let pass (RFC 9112 2.2)
			c.r += 2
			continue
		}
		if len(in) > 0 && (in[0] != '\r' || len(in) >= 2) {
			if f = earlyFault(in); f.status != 0 {
				c.noteEarly(in)
				return nil, f, nil
			}
			end, next, fault := wire.SectionEnd(in, from)
			switch {
			case fault != 0:
				return nil, faultRefusal(fault), nil
			case end > most || end == 0 && len(in) > most:
				return nil, tooLong(in, limits), nil
			case end > 0:
				c.r += end
				return in[:end:end], refusal{}, nil
			}
			from = next
		}
		if by.IsZero() {
			by = time.Now().Add(limits.HeaderTimeout)
		}
		switch err = c.more(most+1, by); {
		case errors.Is(err, errTooLong):
			return nil, tooLong(c.in[c.r:c.w], limits), nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, refusal{http.StatusRequestTimeout, "the header did not arrive within " + limits.HeaderTimeout.String()}, nil
		case err != nil:
			return nil, refusal{}, err
		}
	}
}

// earlyFault knows from the first bytes that no head will come.
func earlyFault(in []byte) refusal {
	switch c := in[0]; {
	case c == 0x16:
		return refusal{http.StatusBadRequest, "this port speaks HTTP without TLS; use https with the port for it"}
	case c == '\r' || c == '\n':
		return faultRefusal(wire.FaultStartLine)
	}
	return refusal{}
}

func (c *conn) noteEarly(in []byte) {
	if in[0] == 0x16 {
		c.engine.stats.TLSInClear.Add(1)
	}
}

// tooLong says which part is.
func tooLong(in []byte, limits *gate.Limits) refusal {
	if !strings.Contains(string(in[:min(len(in), int(limits.HeaderBytes))]), "\n") {
		return refusal{http.StatusRequestURITooLong, "the request line is longer than " + limits.HeaderBytes.String()}
	}
	return refusal{http.StatusRequestHeaderFieldsTooLarge, "the header is longer than " + limits.HeaderBytes.String()}
}

// serve answers a request whose head is whole.
func (c *conn) serve(x *gate.Exchange, head []byte, limits *gate.Limits) bool {
	r, req := &c.request, &x.Request
	var fault wire.Fault
	req.Fields, fault = wire.ReadRequest(r, req.Fields, head, limits.HeaderFields)
	req.Method, req.Target, req.Authority = r.Method, r.Target, r.Host
	x.HTTP10 = r.Minor == 0
	if fault != 0 {
		c.refuse(x, faultRefusal(fault))
		return false
	}
	length, fault := r.Body()
	if fault != 0 {
		c.refuse(x, faultRefusal(fault))
		return false
	}
	if f := c.judge(req); f.status != 0 {
		c.refuse(x, f)
		return false
	}
	req.HasBody, req.FromFile = length != 0, c.raw != nil
	x.ContentLength = length
	c.settleClose(r, limits)
	switch x.Decide() {
	case gate.SendHit:
		c.sendHit(x)
		return !c.closing
	case gate.SendReply:
		return c.reply(x, length)
	}
	return c.handle(x, length)
}

// settleClose decides whether the connection ends with this request.
func (c *conn) settleClose(r *wire.Request, limits *gate.Limits) {
	switch {
	case !r.Persistent(r.Minor), r.Method == http.MethodConnect: // what follows may be the tunnel's
		c.closing = true
		c.lingers = r.Method == http.MethodConnect
	case c.requests >= limits.ConnectionRequests:
		c.engine.stats.Spent.Add(1)
		c.closing, c.lingers = true, true
	case c.engine.draining.Load():
		c.closing, c.lingers = true, true
	}
}

// judge refuses what the wire form allows and nobody means.
func (c *conn) judge(req *cache.Request) refusal {
	r := &c.request
	switch {
	case r.Expects:
		if r.Minor > 0 {
			return refusal{http.StatusExpectationFailed, "only 100-continue can be expected"} // RFC 9110 10.1.1
		}
	case r.Hosts == 1 && r.Target[0] != '/' && r.Method != http.MethodConnect:
		// The target's host is used, but no other may be malformed (RFC 9112 3.2).
		if _, ok := authority.Parse(r.Host, req.Scheme); !ok {
			return faultRefusal(wire.FaultHost)
		}
	}
	dropUpgrade(req, r.Upgrade && r.Minor > 0)
	return refusal{}
}

// dropUpgrade takes away offers of protocols that nobody here would switch to,
// such as h2c, and those that HTTP/1.0 cannot make (RFC 9110 7.8): the request is
// one like any other then.
func dropUpgrade(req *cache.Request, offered bool) {
	value, ok := req.Field("upgrade")
	if !ok || offered && strings.EqualFold(value, "websocket") {
		return
	}
	kept := req.Fields[:0]
	for _, f := range req.Fields {
		if f.Name != "upgrade" && f.Name != "http2-settings" {
			kept = append(kept, f)
		}
	}
	req.Fields = kept
}

// reply sends a short answer and reads away the body of the request, if it is
// worth it.
func (c *conn) reply(x *gate.Exchange, length int64) bool {
	if length == 0 {
		c.sendReply(x)
		return !c.closing
	}
	b := newBody(c, length)
	if c.request.Continue || b.left > leftoverMax {
		x.Reply.Close = true // the client need not send it (RFC 9110 10.1.1)
	}
	c.sendReply(x)
	return !c.closing && c.flush() == nil && c.leftover(&b)
}

// handle has the handler answer.
func (c *conn) handle(x *gate.Exchange, length int64) bool {
	if c.flush() != nil { // answers before this one must not wait for it
		x.Aborted = true
		c.end(x)
		return false
	}
	if c.r == c.w {
		c.release()
	}
	var s *stream
	var ctx context.Context
	var cancel context.CancelFunc
	if length == 0 {
		s = c.engine.streams.Get().(*stream)
		ctx, cancel = c.requestContext()
	} else {
		s = new(stream)
		ctx, cancel = context.WithCancel(c.engine.door.Requests())
		defer cancel()
	}
	s.begin(c, x, length, cancel)
	x.Serve(ctx, s)
	open := s.finish()
	c.end(x)
	if c.taken {
		c.engine.stats.Hijacked.Add(-1)
	}
	open = open && !c.closing && c.leftover(&s.body)
	if length == 0 && open { // else it may have been taken, or worse
		*s = stream{}
		c.engine.streams.Put(s)
	}
	return open
}

// leftover reads away what is left of a body that nobody wants, so that the
// connection can be used again.
func (c *conn) leftover(b *body) bool {
	if b.ended {
		return true
	}
	room := make([]byte, 8<<10)
	b.over, b.by = nil, time.Now().Add(c.engine.door.Limits().HeaderTimeout)
	for total := 0; ; {
		n, err := b.read(room)
		if total += n; err == io.EOF {
			return true
		}
		if err != nil || total > leftoverMax {
			c.engine.stats.BodiesUnread.Add(1)
			c.lingers = true
			return false
		}
	}
}

// leftoverMax is how much of a body that nobody wants is read.
const leftoverMax = 256 << 10
