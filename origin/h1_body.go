package origin

// h1_body.go reads the body of an answer, and is the connection after 101.

import (
	"errors"
	"io"
	"net/http"
	"time"

	wire "edgecdn/internal/h1"
)

var errClosed = errors.New("origin: the response's body is closed")

// Read implements io.Reader: it ends well with io.EOF, or with an *Error.
func (x *h1Exchange) Read(p []byte) (int, error) {
	x.reading.Lock()
	defer x.reading.Unlock()
	switch {
	case x.err != nil:
		return 0, x.err
	case x.closed.Load():
		return 0, errClosed
	case len(p) == 0:
		return 0, nil
	}
	n, err := x.readBody(p)
	if err == nil {
		return n, nil
	}
	x.err = err
	switch {
	case err == io.EOF:
		x.finish(x.persistent())
	case x.closed.Load():
		x.err = errClosed
		x.finish(false)
	default:
		x.err = x.explain(err)
		x.finish(false)
	}
	return n, x.err
}

// Close gives the rest of the body up, if there is any.
func (x *h1Exchange) Close() error {
	if x.closed.Swap(true) {
		return nil
	}
	if !x.reading.TryLock() {
		x.interrupt() // wakes a Read
		x.reading.Lock()
	}
	defer x.reading.Unlock()
	if x.err == nil {
		x.err = errClosed
	}
	x.finish(false)
	return nil
}

// take reads bytes of the body: what is buffered first, a large piece past the
// buffer.
func (x *h1Exchange) take(p []byte) (n int, err error) {
	if x.r == x.w {
		x.waitBody()
		if len(p) >= len(x.in)/2 {
			n, err = x.conn.nc.Read(p)
			if n > 0 {
				err = nil
			}
			return n, err
		}
		x.r, x.w = 0, 0
		if _, err := x.more(); err != nil {
			return 0, err
		}
	}
	n = copy(p, x.in[x.r:x.w])
	x.r += n
	return n, nil
}

func (x *h1Exchange) waitBody() { x.conn.waitRead(x.client.cfg.StallTimeout, time.Now(), x.last) }

func (x *h1Exchange) readBody(p []byte) (n int, err error) {
	switch x.framing {
	case wire.Chunked:
		return x.readChunks(p)
	case wire.ToClose:
		return x.take(p) // io.EOF is the end; TLS tells a cut from it
	}
	n, err = x.take(p[:min(int64(len(p)), x.left)])
	x.left -= int64(n)
	switch {
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	case err == nil && x.left == 0:
		return n, io.EOF
	}
	return n, err
}

// readChunks fills p with what is there, and waits only for the first byte.
func (x *h1Exchange) readChunks(p []byte) (n int, err error) {
	for {
		switch left := x.chunks.Left(); {
		case left > 0 && n < len(p) && (n == 0 || x.r < x.w):
			m, err := x.take(p[n:min(int64(len(p)), int64(n)+left)])
			x.chunks.Took(m)
			n += m
			if err != nil {
				return n, cutShort(err)
			}
			continue
		case left > 0:
			return n, nil
		case x.chunks.Last():
			if n > 0 && !x.trailersHere() {
				return n, nil
			}
			return n, x.readTrailers()
		case x.r == x.w && n > 0:
			return n, nil
		case x.r == x.w:
			x.waitBody()
			x.r, x.w = 0, 0
			if _, err := x.more(); err != nil {
				return n, cutShort(err)
			}
		}
		m, fault := x.chunks.Framing(x.in[x.r:x.w])
		x.r += m
		if fault != 0 {
			return n, fault
		}
	}
}

// cutShort is the error of a body whose end was not told.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (x *h1Exchange) trailersHere() bool {
	end, _, fault := wire.SectionEnd(x.in[x.r:x.w], 0)
	return end > 0 || fault != 0
}

// readTrailers reads the trailer section; io.EOF is its end and that of the body.
func (x *h1Exchange) readTrailers() error {
	for from := x.r; ; {
		end, next, fault := wire.SectionEnd(x.in[:x.w], from)
		if fault != 0 {
			return fault
		}
		if end > 0 {
			section := append([]byte(nil), x.in[x.r:end]...)
			x.r = end
			return x.takeTrailers(section)
		}
		x.waitBody()
		moved, err := x.more()
		if err != nil {
			if err == io.EOF && x.r < x.w {
				return errorf(KindTransferCoding, "the connection ended in the middle of the trailers")
			}
			return cutShort(err)
		}
		from = next - moved
	}
}

func (x *h1Exchange) takeTrailers(section []byte) error {
	if len(section) == 2 {
		return io.EOF
	}
	var facts wire.Facts
	fields, fault := wire.AppendFields(x.room.fields[:0], section, fieldsMax, &facts)
	if fault == wire.FaultFields {
		fault = wire.FaultTrailer
	}
	if fault != 0 {
		return fault
	}
	for _, f := range fields {
		if !wire.TrailerField(f.Name) {
			continue
		}
		if x.resp.Trailer == nil {
			x.resp.Trailer = http.Header{}
		}
		name := wire.Canonical(f.Name)
		x.resp.Trailer[name] = append(x.resp.Trailer[name], f.Value)
	}
	return io.EOF
}

// switchProtocols hands the connection over after 101.
func (x *h1Exchange) switchProtocols() error {
	if firstOf(x.request.fields, "upgrade") == "" || x.upload != nil {
		return errorf(KindUpgrade, "the origin switched protocols without being asked")
	}
	if !x.alone() {
		return errInterrupted
	}
	x.conn.waitRead(0, time.Time{}, time.Time{})
	x.conn.waitWrite(0, time.Time{}, time.Time{})
	t := &h1Tunnel{x: x, conn: x.conn}
	if x.r < x.w {
		t.ahead = append(t.ahead, x.in[x.r:x.w]...)
	}
	x.resp.Body, x.resp.ContentLength = t, -1
	room := x.room
	x.in, x.room = nil, nil
	h1Rooms.Put(room)
	return nil
}

var errInterrupted = errors.New("origin: interrupted")

// h1Tunnel is the connection behind a 101, from here on the caller's own.
type h1Tunnel struct {
	x     *h1Exchange
	conn  *h1Conn
	ahead []byte // came with the header
}

// Read implements io.Reader.
func (t *h1Tunnel) Read(p []byte) (int, error) {
	if len(t.ahead) > 0 {
		n := copy(p, t.ahead)
		t.ahead = t.ahead[n:]
		return n, nil
	}
	return t.conn.nc.Read(p)
}

// Write implements io.Writer.
func (t *h1Tunnel) Write(p []byte) (int, error) { return t.conn.nc.Write(p) }

// CloseWrite says that nothing more will be written.
func (t *h1Tunnel) CloseWrite() error {
	if half, ok := t.conn.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection.
func (t *h1Tunnel) Close() error {
	if t.x.closed.Swap(true) {
		return nil
	}
	t.x.detach(false)
	t.x.client.stats.Active.Add(-1)
	return nil
}
