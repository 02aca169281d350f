package h1

// stream.go is a connection as the handler's side sees it: gate.Stream.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/cache"
	"edgecdn/server/gate"

	wire "edgecdn/internal/h1"
)

var (
	_ gate.Stream   = (*stream)(nil)
	_ gate.Hijacker = (*stream)(nil)
	_ gate.Copier   = (*stream)(nil)
)

// stream is one exchange on the general path. One with a body serves no other:
// transports may read from it long after.
type stream struct {
	c      *conn
	x      *gate.Exchange
	http10 bool

	reading sync.Mutex  // held by Read; guards body
	over    atomic.Bool // the handler has returned
	failed  atomic.Bool // the body never ends
	body    body
	watch   watch

	writing  sync.Mutex  // guards the connection's output, and what follows
	expected atomic.Bool // 100 (Continue) is, and nothing has been sent
	headed   bool
	chunked  bool
	toClose  bool // the end of the connection ends the response
	ended    bool
}

func (s *stream) begin(c *conn, x *gate.Exchange, length int64, gone context.CancelFunc) {
	*s = stream{c: c, x: x, http10: x.HTTP10, body: newBody(c, length)}
	s.watch.c, s.watch.gone, s.body.over = c, gone, &s.over
	s.expected.Store(c.request.Continue && !s.http10 && length != 0)
	if s.body.ended {
		s.watch.start()
	}
}

// finish ends what the handler may have left behind, and reports whether the
// connection may be used again.
func (s *stream) finish() bool {
	c := s.c
	s.writing.Lock() // a transport that begins to read has said 100 by now, or never will
	s.over.Store(true)
	s.writing.Unlock()
	if !s.reading.TryLock() {
		c.reads.setOurs(time.Unix(1, 0)) // wakes a transport that reads on
		s.reading.Lock()
	}
	defer s.reading.Unlock()
	s.watch.stop()
	if c.taken {
		return false
	}
	c.reads.clear()
	c.writes.clear()
	if !s.body.ended && (s.body.err != nil || c.closing) {
		c.closing, c.lingers = true, true
	}
	return s.ended && !c.broken
}

// Read implements gate.Stream.
func (s *stream) Read(p []byte) (int, error) {
	if s.expected.Load() {
		s.sendContinue()
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	if s.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	was := s.body.ended
	n, err := s.body.read(p)
	if s.over.Load() && (err == errInterrupted || err == os.ErrDeadlineExceeded) {
		s.body.err = nil // what is left can still be read away
		return n, http.ErrBodyReadAfterClose
	}
	if s.body.err != nil {
		s.failed.Store(true)
	}
	if s.body.ended && !was {
		s.watch.start()
	}
	return n, err
}

func (s *stream) sendContinue() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.expected.Swap(false) && !s.over.Load() { // else the connection is another's
		s.c.buffer()
		s.c.out = append(s.c.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
		_ = s.c.flush() // writes that follow fail too
	}
}

// Trailers implements gate.Stream.
func (s *stream) Trailers() []cache.Field {
	s.reading.Lock()
	defer s.reading.Unlock()
	return s.body.trailers
}

// Inform implements gate.Stream.
func (s *stream) Inform(status int, fields []cache.Field) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.http10 || s.headed {
		return nil // RFC 9110 15.2
	}
	if status == http.StatusContinue {
		s.expected.Store(false)
	}
	s.c.buffer()
	s.c.out = append(Encode(s.c.out, status, fields), '\r', '\n')
	return s.c.flush()
}

// Head implements gate.Stream.
func (s *stream) Head(status int, fields []cache.Field, h gate.Framing) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.c
	s.headed = true
	if s.expected.Swap(false) {
		c.closing = true // the client may or may not send the body (RFC 9110 10.1.1)
	}
	if !h.Bodyless && h.Length < 0 {
		s.chunked = !s.http10
		s.toClose = s.http10
	}
	if h.Close || s.toClose {
		c.closing = true
	}
	if c.engine.draining.Load() || s.failed.Load() {
		c.closing, c.lingers = true, true
	}
	c.buffer()
	c.out = Encode(c.out, status, fields)
	c.out = appendFraming(c.out, h.Length, s.chunked)
	c.out = append(c.appendConnection(c.out, s.x), '\r', '\n')
	return nil
}

// Write implements gate.Stream.
func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	c := s.c
	c.buffer()
	if s.chunked {
		c.out = wire.AppendChunk(c.out, len(p))
	}
	if len(p) <= cap(c.out)-len(c.out)-2 {
		c.out = append(c.out, p...)
	} else if err := c.send(p); err != nil {
		return 0, err
	}
	if s.chunked {
		c.out = append(c.out, '\r', '\n')
	}
	return len(p), nil
}

// Flush implements gate.Stream.
func (s *stream) Flush() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.c.flush()
}

// End implements gate.Stream.
func (s *stream) End(trailers []cache.Field) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.c
	if s.chunked {
		c.buffer()
		c.out = append(c.out, "0\r\n"...)
		for _, f := range trailers {
			c.out = wire.AppendField(c.out, f.Name, f.Value)
		}
		c.out = append(c.out, '\r', '\n')
	}
	s.ended = true
	return c.flush()
}

// Abort implements gate.Stream.
func (s *stream) Abort() {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.c
	c.broken, c.closing = true, true
	c.reset = c.reset || s.toClose && s.headed // a plain end would look like the response's
	c.lingers = !c.reset
}

// SetReadDeadline implements gate.Stream.
func (s *stream) SetReadDeadline(t time.Time) error {
	if s.over.Load() {
		return net.ErrClosed
	}
	return s.c.reads.setUser(t)
}

// SetWriteDeadline implements gate.Stream.
func (s *stream) SetWriteDeadline(t time.Time) error {
	if s.over.Load() {
		return net.ErrClosed
	}
	return s.c.writes.setUser(t)
}

var errReading = errors.New("h1: hijack while the body is being read")

// Hijack implements gate.Hijacker.
func (s *stream) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !s.reading.TryLock() {
		return nil, nil, errReading
	}
	defer s.reading.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.c
	if c.taken {
		return nil, nil, http.ErrHijacked
	}
	s.watch.stop()
	if err := c.flush(); err != nil {
		return nil, nil, err
	}
	c.taken, c.closing = true, true
	c.engine.stats.Hijacked.Add(1)
	s.over.Store(true)
	c.reads.clear()
	c.writes.clear()
	c.readBy(time.Time{})
	ahead := bytes.Clone(c.in[c.r:c.w])
	c.release()
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(ahead), c.nc), max(4<<10, len(ahead)))
	_, _ = r.Peek(len(ahead)) // so that Buffered says how much there is
	return c.nc, bufio.NewReadWriter(r, bufio.NewWriter(c.nc)), nil
}

// ReadFrom implements gate.Copier: where the connection is bare the kernel may
// copy. Only the kernel's own timeout judges the client meanwhile.
func (s *stream) ReadFrom(r io.Reader) (int64, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.c
	if err := c.flush(); err != nil {
		return 0, err
	}
	if c.raw == nil {
		return io.CopyBuffer(sender{c}, r, make([]byte, outBytes))
	}
	n, err := c.tcp.ReadFrom(r)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

// sender is the connection as an io.Writer.
type sender struct{ c *conn }

func (s sender) Write(p []byte) (int, error) {
	if err := s.c.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Direct implements gate.Copier.
func (s *stream) Direct(send func(*net.TCPConn) (int64, error)) (n int64, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.c.direct(send)
}
