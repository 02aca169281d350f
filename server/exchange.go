package server

// exchange.go is one request and its response: the record that the engine owns
// and the http.ResponseWriter that handlers get. It watches status, bytes and
// time, keeps net/http from adding what nobody set, and arms the deadlines that
// cut clients who take nothing.

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"edgecdn/cache"
)

// pieceBytes is how much is written at once where deadlines are set for each
// write: a client on a slow line must show progress within a piece.
const pieceBytes = 64 << 10

// never is a deadline that nobody lives to see. HTTP/2 streams of net/http must
// keep the timer that they were born with: arming one that was cleared can
// happen after the stream's end, and would reset it a second time.
const never = 100 * 365 * 24 * time.Hour

type deadlines interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

type exchange struct {
	door *door
	rw   http.ResponseWriter
	r    *http.Request
	req  cache.Request

	start     time.Time
	firstByte time.Duration // from start to the final header
	status    int           // final status; 0 before it is known
	written   int64         // body bytes
	length    int64         // declared by Content-Length, -1 if not
	general   bool          // the handler was called; others may still know this exchange
	hijacked  bool
	aborted   bool
	took      net.Conn // the hijacked connection

	body   requestBody
	fields []cache.Field // scratch for the fields of a hit
	entry  record        // of the access log
	line   []byte        // scratch for its line
}

// exchanges is reset field by field, so that the slices in it keep their room.
func (x *exchange) reset(d *door, w http.ResponseWriter, r *http.Request) {
	x.door, x.rw, x.r, x.start = d, w, r, time.Now()
	x.firstByte, x.status, x.written, x.length = 0, 0, 0, -1
	x.general, x.hijacked, x.aborted, x.took = false, false, false, nil
}

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.rw.Header() }

// Unwrap lets http.ResponseController find what the engine's own writer can do.
func (x *exchange) Unwrap() http.ResponseWriter { return x.rw }

// WriteHeader implements http.ResponseWriter. Fields go out as they are set:
// a missing Content-Type is not guessed, a Date that is there is kept.
func (x *exchange) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		x.arm()
		x.rw.WriteHeader(status)
		x.disarm()
		return
	}
	if x.status != 0 {
		return
	}
	x.status, x.firstByte = status, time.Since(x.start)
	h := x.rw.Header()
	if _, set := h["Content-Type"]; !set {
		h["Content-Type"] = nil // present without a value: not sniffed
	}
	if length, set := h["Content-Length"]; set && len(length) == 1 {
		if n, err := strconv.ParseInt(length[0], 10, 64); err == nil {
			x.length = n
		}
	} else if !set && x.req.Proto == cache.HTTP3 && x.req.Method == http.MethodHead {
		h["Content-Length"] = nil // http3 would say 0, which is not what GET gets
	}
	if x.door.altSvc != nil {
		h["Alt-Svc"] = x.door.altSvc
	}
	x.rw.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (n int, err error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.req.Proto == cache.HTTP1 {
		n, err = x.rw.Write(p)
		return n, x.wrote(n, err)
	}
	for {
		x.arm()
		m, err := x.rw.Write(p[n:min(n+pieceBytes, len(p))])
		n += m
		if err = x.wrote(m, err); err != nil || n >= len(p) {
			x.disarm()
			return n, err
		}
	}
}

func (x *exchange) wrote(n int, err error) error {
	if x.req.Method != http.MethodHead {
		x.written += int64(n)
	}
	if err != nil {
		x.failed(err)
	}
	return err
}

// ReadFrom implements io.ReaderFrom. Over HTTP/1.1 the kernel may copy.
func (x *exchange) ReadFrom(r io.Reader) (n int64, err error) {
	if from, ok := x.rw.(io.ReaderFrom); ok {
		if x.status == 0 {
			x.WriteHeader(http.StatusOK)
		}
		n, err = from.ReadFrom(r)
		if x.req.Method != http.MethodHead {
			x.written += n
		}
		if err != nil {
			x.failed(err)
		}
		return n, err
	}
	buffer := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buffer)
	return io.CopyBuffer(writerOnly{x}, r, *buffer)
}

// copyBuffers is a table of room, not of state.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }

// Flush implements http.Flusher.
func (x *exchange) Flush() { _ = x.FlushError() }

// FlushError sends what is buffered.
func (x *exchange) FlushError() error {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	x.arm()
	err := http.NewResponseController(x.rw).Flush()
	x.disarm()
	if err != nil {
		x.failed(err)
	}
	return err
}

// Hijack implements http.Hijacker, over HTTP/1.1 only. The connection lives as
// long as the handler: it is closed when that returns, and cut when a drain ends.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(x.rw).Hijack()
	if err != nil {
		return nil, nil, err
	}
	x.hijacked, x.took = true, conn
	if x.status == 0 {
		x.status, x.firstByte = http.StatusSwitchingProtocols, time.Since(x.start)
	}
	x.door.server.hijacks.add(conn)
	return conn, rw, nil
}

// failed counts a write that did not succeed. Whether the client stalled or went
// away cannot always be told: over HTTP/2 a stalled stream is simply gone.
func (x *exchange) failed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		if !x.aborted {
			x.door.server.stats.Stalled.Add(1)
		}
	}
	x.aborted = true
}

// arm gives the client the stall timeout to take what is written next. Over
// HTTP/1.1 the kernel does it for the whole connection: see accept in tcp.go.
func (x *exchange) arm() {
	switch {
	case x.req.Proto == cache.HTTP1:
		return
	case x.req.Proto == cache.HTTP2 && !x.general && x.written < pieceBytes:
		return // the stream was born with this deadline: see guard in tcp.go
	}
	if d, ok := x.rw.(deadlines); ok {
		_ = d.SetWriteDeadline(time.Now().Add(x.door.server.live.Load().limits.StallTimeout))
	}
}

// disarm lets an HTTP/2 stream be silent while its handler has nothing to say.
// The deadlines of HTTP/3 streams only matter to writes.
func (x *exchange) disarm() {
	if x.req.Proto == cache.HTTP2 && x.general {
		if d, ok := x.rw.(deadlines); ok {
			_ = d.SetWriteDeadline(time.Now().Add(never))
		}
	}
}

// fullDuplex makes ready for an HTTP/1.1 request, which may have a body. Without
// it net/http would read and drop up to 256 KiB of the body when an origin
// answers before it has read all of it, and wait for them without a bound.
func (x *exchange) fullDuplex() {
	if c := connOf(x.r); c != nil {
		c.leftover.Store(false)
	}
	if full, ok := x.rw.(interface{ EnableFullDuplex() error }); ok && x.r.ContentLength != 0 {
		_ = full.EnableFullDuplex()
	}
}

// settle bounds what the engine does after the handler: flush the rest of the
// response, and over HTTP/1.1 read what is left of the request.
func (x *exchange) settle() {
	if x.hijacked {
		return
	}
	x.arm()
	if x.req.Proto == cache.HTTP1 && x.r.ContentLength != 0 && !x.body.ended() {
		x.expectLeftover()
	}
}

func (x *exchange) expectLeftover() {
	if c := connOf(x.r); c != nil {
		c.leftover.Store(true)
	}
	if d, ok := x.rw.(deadlines); ok {
		_ = d.SetReadDeadline(time.Now().Add(x.door.server.live.Load().limits.StallTimeout))
	}
}

// leftoverMax is how much of a body that nobody wants is read, so that the
// connection can be used again. Beyond it net/http closes the connection gently.
const leftoverMax = 256 << 10

// drain reads what was left of an HTTP/1.1 request. In full duplex net/http would
// do so only after its last look at the connection.
func (x *exchange) drain() {
	if x.req.Proto != cache.HTTP1 || x.r.ContentLength == 0 || x.hijacked || x.body.ended() || x.r.Header.Get("Expect") != "" {
		return
	}
	_ = x.FlushError() // the client may wait for the answer; a failure is counted there
	x.expectLeftover()
	if _, err := io.CopyN(io.Discard, x.body.from, leftoverMax); err != io.EOF {
		return // too much, or broken: either shows on the connection
	}
	x.body.finish()
	if c := connOf(x.r); c != nil {
		c.leftover.Store(false) // from here on the connection is watched for its end
	}
}
