package h1

// answer.go sends what needs no handler: hits and short replies.

import (
	"errors"
	"strconv"
	"sync"

	"edgecdn/cache"
	"edgecdn/server/gate"

	wire "edgecdn/internal/h1"
)

// Encode appends the start of a header section: status line and field lines. It
// is a cache.Encoder.
func Encode(b []byte, status int, fields []cache.Field) []byte {
	b = wire.AppendStatus(b, status)
	for _, f := range fields {
		b = wire.AppendField(b, f.Name, f.Value)
	}
	return b
}

// sendHit answers from memory: header and body in one write.
func (c *conn) sendHit(x *gate.Exchange) {
	hit := &x.Hit
	c.buffer()
	fields := c.outRoom.fields[:0]
	if block := hit.Block(cache.HTTP1); block != nil {
		c.out = append(c.out, block...)
		fields = hit.AppendTail(fields)
	} else {
		c.out = wire.AppendStatus(c.out, hit.Status)
		fields = hit.AppendFields(fields)
	}
	for i := range fields {
		c.out = wire.AppendField(c.out, fields[i].Name, fields[i].Value)
		fields[i] = cache.Field{}
	}
	c.endHeader(x)
	switch {
	case x.Request.Method == "HEAD":
		c.hand(x, nil)
	case hit.InFile():
		c.sendFile(x)
	default:
		body := hit.Body()
		c.hand(x, body)
		x.Written = int64(len(body))
	}
	hit.Release()
	c.end(x)
}

// sendFile sends a hit whose body is in a file: by the kernel, as far as that can.
func (c *conn) sendFile(x *gate.Exchange) {
	hit := &x.Hit
	if c.send(nil) != nil {
		x.Aborted = true
		return
	}
	sent, err := hit.SendNow(c.raw, 0)
	if err == nil && sent < hit.Length {
		var n int64
		n, err = c.guard.write(func() (int64, error) { return hit.SendTo(c.tcp, sent) })
		sent += n
	}
	if errors.Is(err, errors.ErrUnsupported) {
		sent, err = c.copyFile(hit, sent)
	}
	x.Written = sent
	if err != nil {
		c.fail(err)
		x.Aborted, c.lingers = true, !c.reset // cut, so that the client sees it
	}
}

// copyFile reads and writes what the kernel cannot send, from sent on.
func (c *conn) copyFile(hit *cache.Hit, sent int64) (int64, error) {
	buffer := fileBuffers.Get().(*[fileBytes]byte)
	defer fileBuffers.Put(buffer)
	for sent < hit.Length {
		n, err := hit.ReadAt(buffer[:], sent)
		if n == 0 {
			return sent, err
		}
		if err := c.send(buffer[:n]); err != nil {
			return sent, err
		}
		sent += int64(n)
	}
	return sent, nil
}

// fileBuffers is a table of room, not of state. Blocks under one checksum are as long.
var fileBuffers = sync.Pool{New: func() any { return new([fileBytes]byte) }}

const fileBytes = 64 << 10

// hand sends an answer's body after what is held, or holds it back: for what is
// put before it by the next request of a pipeline, which is here already.
func (c *conn) hand(x *gate.Exchange, body []byte) {
	if len(body) <= cap(c.out)-len(c.out) {
		c.out = append(c.out, body...)
		if c.r < c.w && !c.closing && len(c.out) < outBytes/2 {
			return
		}
		body = nil
	}
	if c.send(body) != nil {
		x.Aborted = true
	}
}

// sendReply sends a short answer of the edge's own.
func (c *conn) sendReply(x *gate.Exchange) {
	c.buffer()
	reply := &x.Reply
	if reply.Close {
		c.closing, c.lingers = true, true
	}
	c.out = Encode(c.out, reply.Status, reply.Fields)
	c.out = wire.AppendField(c.out, "date", c.engine.now())
	c.endHeader(x)
	c.out = append(c.out, reply.Body...)
	x.Written = int64(len(reply.Body))
	c.hand(x, nil)
	c.end(x)
}

// endHeader appends the fields that are the connection's and the listener's, and
// the empty line.
func (c *conn) endHeader(x *gate.Exchange) {
	if alt := c.engine.door.AltSvc; alt != "" {
		c.out = wire.AppendField(c.out, "alt-svc", alt)
	}
	if hsts := x.HSTS(); hsts != "" {
		c.out = wire.AppendField(c.out, "strict-transport-security", hsts)
	}
	c.out = c.appendConnection(c.out, x)
	c.out = append(c.out, '\r', '\n')
}

func (c *conn) appendConnection(b []byte, x *gate.Exchange) []byte {
	switch {
	case c.closing:
		return append(b, "Connection: close\r\n"...)
	case x.HTTP10:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// appendFraming appends what says how a body ends.
func appendFraming(b []byte, length int64, chunked bool) []byte {
	switch {
	case length >= 0:
		b = append(b, "Content-Length: "...)
		return append(strconv.AppendInt(b, length, 10), '\r', '\n')
	case chunked:
		return append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return b
}
