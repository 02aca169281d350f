package h2

// request.go takes a decoded header to the gate and answers inline what can be:
// hits and short replies. What the client's windows do not let through is parked.

import (
	"context"
	"net/http"
	"strings"
	"time"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

// request begins the request whose header has just been decoded.
func (c *conn) request(id uint32) {
	h := &c.header
	h.judge(c.blockEnd)
	switch {
	case c.selfDep:
		c.reset(id, codeProtocol, "a stream that depends on itself")
		return
	case h.problem != "" && !h.over:
		c.engine.stats.Malformed.Add(1)
		c.reset(id, codeProtocol, h.problem)
		return
	case len(c.streams)+c.orphans >= c.streamMax:
		// Handlers whose streams the client has reset count until they return.
		if !c.flooded(floodReset) {
			c.engine.stats.Refused.Add(1)
			c.tell(id, codeRefused)
		}
		return
	}
	c.floods.grant(floodWindow, windowGrant)
	if c.requests++; c.requests >= c.door.Limits().ConnectionRequests && c.drain == drainNot {
		c.engine.stats.Exhausted.Add(1)
		c.goAway()
	} else if c.newcomer {
		c.goAway()
	}
	x := c.exchange(h)
	switch c.decide(x, h) {
	case gate.SendHit:
		c.sendHit(id, x)
	case gate.SendReply:
		c.sendReply(id, x)
	case gate.Handle:
		c.handle(id, x)
	}
}

// exchange hands the header over. Its strings stay the connection's.
func (c *conn) exchange(h *header) *gate.Exchange {
	x := c.door.Begin(cache.HTTP2)
	r := &x.Request
	if h.cookies > 1 {
		c.text = h.joinCookies(c.text)
	}
	r.Method, r.Target, r.Client, r.HasBody = h.method, h.path, c.client, !c.blockEnd
	r.Authority = h.authority
	if h.pseudo&sawAuthority == 0 {
		r.Authority = h.host
	} else {
		x.OtherHost = h.host
	}
	r.Fields = append(r.Fields, h.fields...)
	x.ContentLength, x.TLS = h.length, c.tls
	x.HeaderBytes = h.size + len(r.Authority)
	return x
}

func (c *conn) decide(x *gate.Exchange, h *header) gate.Decision {
	switch {
	case h.over: // refused for its size
	case h.protocol != "":
		return x.Refuse(http.StatusNotImplemented, "extended CONNECT is not served")
	case h.demands: // RFC 9110 10.1.1
		return x.Refuse(http.StatusExpectationFailed, "only 100-continue can be expected")
	case h.method != http.MethodConnect && !strings.EqualFold(h.scheme, x.Request.Scheme):
		x.Request.Host = x.Request.Authority
		return x.Refuse(http.StatusMisdirectedRequest, "the target's scheme is not the connection's")
	}
	return x.Decide()
}

// beginBlock appends the place of a frame header and what must precede fields.
func (c *conn) beginBlock() (b []byte, start int) {
	b = c.begin()
	start = len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if c.tableUpdate {
		c.tableUpdate = false
		b = append(b, 0x20) // to 0
	}
	return b, start
}

func (c *conn) sendHit(id uint32, x *gate.Exchange) {
	b, start := c.beginBlock()
	if block := x.Hit.Block(cache.HTTP2); block != nil {
		b = append(b, block...)
		c.fields = x.Hit.AppendTail(c.fields[:0])
	} else {
		b = appendStatus(b, x.Hit.Status)
		c.fields = x.Hit.AppendFields(c.fields[:0])
	}
	for i := range c.fields {
		b = appendPlain(b, c.fields[i].Name, c.fields[i].Value)
	}
	b = c.appendOurs(b, x)
	var body []byte
	if x.Request.Method != http.MethodHead {
		body = x.Hit.Body()
	}
	if c.answer(id, x, b, start, body) {
		x.Hit.Release()
		x.End()
		return
	}
	s := c.park(id, x, body)
	s.hit = true
	c.engine.stats.Parked.Add(1)
}

func (c *conn) sendReply(id uint32, x *gate.Exchange) {
	b, start := c.beginBlock()
	b = Encode(b, x.Reply.Status, x.Reply.Fields)
	b = appendPlain(b, "date", c.now.UTC().Format(http.TimeFormat))
	b = c.appendOurs(b, x)
	body := []byte(x.Reply.Body)
	if c.answer(id, x, b, start, body) {
		x.End()
		return
	}
	c.park(id, x, body)
}

// appendOurs appends the fields that every response of ours has.
func (c *conn) appendOurs(b []byte, x *gate.Exchange) []byte {
	b = append(b, c.altSvc...)
	if hsts := x.HSTS(); hsts != "" {
		b = appendPlain(b, "strict-transport-security", hsts)
	}
	return b
}

// answer appends a whole response, its header block being b from start on. It
// reports false where only the header has been sent: the body has to wait for
// windows or for others.
func (c *conn) answer(id uint32, x *gate.Exchange, b []byte, start int, body []byte) bool {
	flags := byte(0)
	if len(body) == 0 {
		flags = flagEndStream
	}
	b = sealHeaders(b, start, id, flags)
	if len(b)+len(body) > inlineBytes && len(body) <= inlineBytes {
		c.commit(b)
		c.flush() // one write each is better than a goroutine for all
		b = c.begin()
	}
	n := int64(len(body))
	if n > min(inlineBytes, c.window, c.initialWindow) || n > 0 && (c.schedule.before(c.header.prio) || len(b)+len(body) > pendingBytesMax) {
		c.commit(b)
		return false
	}
	for rest := body; len(rest) > 0; {
		part := rest[:min(len(rest), frameBytesMax)]
		if rest = rest[len(part):]; len(rest) == 0 {
			flags = flagEndStream
		}
		b = append(appendHeader(b, len(part), kindData, flags, id), part...)
	}
	c.window -= n
	c.floods.grant(floodWindow, len(body)/windowGrantBytes*windowGrant)
	x.Written = n
	if c.idleSince = c.now; !x.Request.HasBody {
		c.remember(id, false)
	} else { // the rest of the request is of no use (RFC 9113 8.1)
		b = appendRST(b, id, codeNo)
		c.remember(id, true)
	}
	c.commit(b)
	return true
}

// park keeps a response until windows open. Nothing of it may point into what the
// next header block overwrites.
func (c *conn) park(id uint32, x *gate.Exchange, body []byte) *stream {
	x.Own()
	s := c.newStream(id, x)
	s.parked, s.data, s.last, s.total, s.since = true, body, true, int64(len(body)), c.now
	if c.parked == 0 {
		c.checkAt = c.now.Add(c.door.Limits().StallTimeout / stallChecks)
	}
	c.parked++
	c.offer(s)
	return s
}

// stallChecks is how often parked responses are looked at in a stall timeout.
const stallChecks = 4

// checkParked cuts responses whose client takes too little.
func (c *conn) checkParked(limits *gate.Limits) {
	c.checkAt = c.now.Add(limits.StallTimeout / stallChecks)
	for id, s := range c.streams {
		if !s.parked {
			continue
		}
		waited := c.now.Sub(s.since)
		s.since = c.now
		if s.pace.slow(waited, limits.StallTimeout, int64(limits.MinRate)) {
			c.engine.stats.Stalled.Add(1)
			c.door.Stats().Stalled.Add(1)
			c.drop(s, errStalled)
			c.tell(id, codeCalm)
		}
	}
}

// handle gives a request to the handler, in a goroutine of its own.
func (c *conn) handle(id uint32, x *gate.Exchange) {
	s := c.newStream(id, x)
	s.expects = c.header.expects
	s.cond.L = &c.mu
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(c.ctx)
	go s.serve(ctx)
}

// newStream opens a stream for a response that is not sent at once.
func (c *conn) newStream(id uint32, x *gate.Exchange) *stream {
	s := c.spare
	if s != nil {
		c.spare = s.after
		*s = stream{}
	} else {
		s = new(stream)
	}
	s.c, s.id, s.x, s.window, s.prio = c, id, x, c.initialWindow, c.header.prio
	s.quota, s.length, s.received = streamWindow, c.header.length, c.blockEnd
	if c.hintAt > 0 {
		s.prio = c.hinted(id, s.prio)
	}
	c.streams[id] = s
	return s
}

// tell resets a stream for reasons of our own.
func (c *conn) tell(id uint32, reason code) {
	c.remember(id, true)
	c.commit(appendRST(c.begin(), id, reason))
}

// emptied is called when all the data of a stream has been framed, and whether
// with END_STREAM.
func (s *stream) emptied(end bool) {
	if end {
		s.ended()
	} else {
		s.cond.Broadcast()
	}
}

// ended is called when END_STREAM is among what is pending. A client that has not
// sent all of its request hears that the rest is of no use (RFC 9113 8.1).
func (s *stream) ended() {
	c := s.c
	s.sent = true
	c.drop(s, nil)
	if s.received {
		c.remember(s.id, false)
	} else {
		c.tell(s.id, codeNo)
	}
}

// drop ends what is known of an open stream. err nil: its response is complete.
func (c *conn) drop(s *stream, err error) {
	c.schedule.remove(s)
	delete(c.streams, s.id)
	if c.dataTo == s {
		c.dataTo = nil
	}
	if c.idle() {
		c.idleSince = time.Now()
	}
	if !s.parked {
		if err == nil {
			err = http.ErrBodyReadAfterClose
		}
		c.orphans++ // until the handler returns
		s.fail(err)
		if c.idle() {
			c.arm() // the loop waits without a deadline
		}
		return
	}
	c.parked--
	s.x.Written, s.x.Aborted = s.total-int64(len(s.data)), err != nil
	if s.hit {
		s.x.Hit.Release()
	}
	s.x.End()
	s.data, s.x = nil, nil
	s.after, c.spare = c.spare, s
}
