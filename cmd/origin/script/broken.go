package script

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// stallMax is how long a client of a raw connection may take none of it.
const stallMax = time.Minute

// hijack takes the connection over; HTTP/2 has none to take.
func hijack(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, bool) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this endpoint needs HTTP/1.1: "+err.Error(), http.StatusNotImplemented)
		return nil, nil, false
	}
	return conn, buf, true
}

// close ends the connection before any answer.
func (s *Script) close(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	reset, delay := p.flag("rst"), p.delay("delay", 0)
	if !p.ok(w) || !wait(r, delay) {
		return
	}
	cut(w, reset)
}

// untilClose answers as HTTP/1.0 does: the body ends where the connection does.
func (s *Script) untilClose(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	size, truncate := p.size("size", 1000), p.size("truncate", -1)
	fields := p.fields("header")
	if !p.ok(w) {
		return
	}
	conn, buf, ok := hijack(w)
	if !ok {
		return
	}
	defer conn.Close()
	fmt.Fprint(buf, "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n")
	for _, f := range fields {
		fmt.Fprintf(buf, "%s: %s\r\n", f.name, f.value)
	}
	fmt.Fprint(buf, "\r\n")
	if truncate >= 0 {
		size = min(size, truncate)
	}
	copyOut(conn, buf.Writer, &pattern{size: size})
	if truncate >= 0 {
		linger(conn) // an end that can be told from a good one
	}
}

// wire sends the bytes of its parameter as they are and closes, after keep if
// the client does not do so first.
func (s *Script) wire(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	text, delay, keep := p.text("bytes"), p.delay("delay", 0), p.delay("keep", 0)
	if !p.ok(w) || !wait(r, delay) {
		return
	}
	conn, buf, ok := hijack(w)
	if !ok {
		return
	}
	defer conn.Close()
	conn.SetWriteDeadline(time.Now().Add(stallMax))
	buf.WriteString(text)
	if buf.Flush() == nil && keep > 0 {
		conn.SetReadDeadline(time.Now().Add(keep))
		io.Copy(io.Discard, buf) // until the client closes
	}
}

// hang never answers; it gives up when the client does, or after its time.
func (s *Script) hang(w http.ResponseWriter, r *http.Request) {
	p := newParams(r)
	d := p.delay("for", delayMax)
	if !p.ok(w) {
		return
	}
	wait(r, d)
	panic(http.ErrAbortHandler)
}

// copyOut copies while the client takes some of it each stallMax.
func copyOut(conn net.Conn, w *bufio.Writer, body io.Reader) {
	for {
		conn.SetWriteDeadline(time.Now().Add(stallMax))
		if _, err := io.CopyN(w, body, 64<<10); err != nil {
			w.Flush()
			return
		}
	}
}
