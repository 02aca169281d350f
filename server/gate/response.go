package gate

// response.go is the http.ResponseWriter that handlers get, over any engine's
// Stream. To handlers it does what net/http's do: a short body gets a
// Content-Length by itself, what is written to HEAD counts and is dropped, a body
// that is shorter than announced breaks off visibly. Unlike theirs it adds
// nothing that nobody set, Date and Alt-Svc excepted: no Content-Type is guessed.

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"edgecdn/cache"
	"edgecdn/internal/unit"
)

// heldMax is how much of a body of unknown length is held back for its length to
// become known.
const heldMax = 2 << 10

// copyBuffers is a table of room, not of state.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

type response struct {
	x      *Exchange
	stream Stream
	body   requestBody
	header http.Header

	wrote    bool          // WriteHeader was called; fields and framing are settled
	sent     bool          // Head was called
	fields   []cache.Field // of the final header
	framing  Framing
	declared []string // trailers announced in Trailer, canonical
	held     []byte
	err      error // of the first write that failed
	hijacked net.Conn
	refused  bool // the body was too long
	deaf     bool // and has been answered: what the handler writes is dropped
}

// serve runs the handler to a finished or aborted response.
func (w *response) serve(ctx context.Context) {
	x := w.x
	x.general = true
	defer w.finish()
	r, ok := w.request(ctx)
	if !ok {
		x.door.stats.Malformed.Add(1)
		w.refuse(http.StatusBadRequest, string(problemTarget))
		return
	}
	defer w.body.end()
	x.door.seam.Handler.ServeHTTP(w, r)
}

// refuse answers instead of the handler.
func (w *response) refuse(status int, reason string) {
	w.x.Reply.Fields = w.x.Reply.Fields[:0]
	w.x.Refuse(status, reason)
	clear(w.Header())
	for _, f := range w.x.Reply.Fields {
		w.header[canonicalName(f.Name)] = []string{f.Value}
	}
	if w.x.Reply.Close {
		w.header["Connection"] = []string{"close"}
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, w.x.Reply.Body) // a failure is kept and counted
}

// finish ends the message when the handler has returned or panicked.
func (w *response) finish() {
	x := w.x
	p := recover()
	if p != nil && p != http.ErrAbortHandler {
		x.door.stats.Panics.Add(1)
		x.door.log.Error("handler panicked", "panic", p, "host", x.Request.Host, "target", x.Request.Target, "stack", string(debug.Stack()))
		if !w.wrote && w.hijacked == nil {
			p = nil
			w.refuse(http.StatusInternalServerError, "something broke in here")
		}
	}
	switch {
	case w.hijacked != nil:
		_ = w.hijacked.Close() // the handler may have closed it
		x.Aborted = x.Aborted || p != nil
		return
	case p != nil || w.err != nil:
		w.abort()
		return
	}
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.short() {
		_ = w.FlushError() // so that the client sees what it is short of
		w.abort()
		return
	}
	w.end()
}

func (w *response) end() {
	trailers := w.trailers()
	if !w.sent && len(trailers) == 0 && len(w.declared) == 0 && w.framing.Length < 0 && (!w.framing.Bodyless || len(w.held) > 0) {
		w.framing.Length = int64(len(w.held)) // all of it is here
	}
	w.push()
	if w.err == nil {
		w.fail(w.stream.End(trailers))
	}
	if w.err != nil {
		w.abort()
	}
}

func (w *response) abort() {
	w.x.Aborted = true
	w.stream.Abort()
}

// short reports whether fewer bytes were written than announced.
func (w *response) short() bool {
	return w.framing.Length > w.x.Written && !w.framing.Bodyless
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header, 16)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.wrote || w.hijacked != nil {
		return
	}
	if status < 100 || status > 999 {
		panic("gate: invalid status " + strconv.Itoa(status))
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.inform(status)
		return
	}
	x := w.x
	if !w.refused && w.body.tooLong() {
		// Whatever the handler makes of a body that does not end, this is the reason.
		w.refused = true
		w.refuse(http.StatusRequestEntityTooLarge, "the content is longer than "+unit.Bytes(x.bodyBytesMax()).String())
		w.deaf = true
		return
	}
	w.wrote, x.Status, x.FirstByte = true, status, time.Since(x.start)
	if status == http.StatusSwitchingProtocols {
		return // the handler takes the connection and writes it itself
	}
	w.settle(status)
}

func (w *response) inform(status int) {
	if w.x.HTTP10 || w.err != nil {
		return // RFC 9110 15.2
	}
	w.takeFields()
	w.fail(w.stream.Inform(status, w.fields))
	w.fields = w.fields[:0]
}

// settle reads the header that the handler has made.
func (w *response) settle(status int) {
	x, h := w.x, w.Header()
	w.framing = Framing{Length: -1, Bodyless: x.Request.Method == http.MethodHead || !bodyAllowed(status)}
	if length := h["Content-Length"]; len(length) == 1 && status != http.StatusNoContent {
		if n, err := strconv.ParseInt(length[0], 10, 64); err == nil && n >= 0 {
			w.framing.Length = n
		}
	}
	if x.Request.Proto == cache.HTTP1 && hasToken(h["Connection"], "close") {
		w.framing.Close = true
	}
	w.declare(h["Trailer"])
	if _, ok := h["Date"]; !ok {
		h["Date"] = []string{time.Now().UTC().Format(http.TimeFormat)} // RFC 9110 6.6.1
	}
	if x.door.AltSvc != "" {
		h["Alt-Svc"] = []string{x.door.AltSvc}
	}
	if hsts := x.HSTS(); hsts != "" {
		h["Strict-Transport-Security"] = []string{hsts}
	}
	w.takeFields()
}

// declare remembers the trailers that the handler has announced.
func (w *response) declare(values []string) {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			name = canonicalName(strings.ToLower(strings.TrimSpace(name)))
			if name != "" && !framingField(name) {
				w.declared = append(w.declared, name)
			}
		}
	}
	w.framing.Trailers = len(w.declared) > 0 && !w.framing.Bodyless
}

// framingField lists what only an engine may say: how messages are delimited and
// what concerns one connection (RFC 9110 7.6.1).
func framingField(canonical string) bool {
	switch canonical {
	case "Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// takeFields makes the field list of the header as it stands now, in order of
// names.
func (w *response) takeFields() {
	w.fields = w.fields[:0]
	for canonical, values := range w.header {
		if framingField(canonical) || !soundName(canonical) || slices.Contains(w.declared, canonical) {
			continue // http.TrailerPrefix is no part of a name either
		}
		name := lowerName(canonical)
		for _, value := range values {
			w.fields = append(w.fields, cache.Field{Name: name, Value: value})
		}
	}
	slices.SortStableFunc(w.fields, func(a, b cache.Field) int { return strings.Compare(a.Name, b.Name) })
}

// trailers returns those that were announced and have a value, and those that the
// handler has added under http.TrailerPrefix.
func (w *response) trailers() (all []cache.Field) {
	if w.framing.Bodyless {
		return nil
	}
	add := func(canonical string, values []string) {
		if framingField(canonical) || !soundName(canonical) {
			return
		}
		for _, value := range values {
			all = append(all, cache.Field{Name: lowerName(canonical), Value: value})
		}
	}
	for _, name := range w.declared {
		add(name, w.header[name])
	}
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			add(canonicalName(strings.ToLower(name)), values)
		}
	}
	slices.SortStableFunc(all, func(a, b cache.Field) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// push sends the header, if that has not been done, and what is held.
func (w *response) push() {
	if w.err != nil {
		return
	}
	if !w.sent {
		w.sent = true
		if w.fail(w.stream.Head(w.x.Status, w.fields, w.framing)) != nil {
			return
		}
	}
	if len(w.held) > 0 && !w.framing.Bodyless {
		_, err := w.stream.Write(w.held)
		w.fail(err)
	}
	w.held = w.held[:0]
}

// Write implements http.ResponseWriter.
func (w *response) Write(p []byte) (int, error) {
	if w.hijacked != nil {
		return 0, http.ErrHijacked
	}
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case w.deaf:
		return len(p), nil
	case len(p) == 0:
		return 0, nil
	case !bodyAllowed(w.x.Status):
		return 0, http.ErrBodyNotAllowed
	case w.framing.Length >= 0 && int64(len(p)) > w.framing.Length-w.x.Written:
		return 0, http.ErrContentLength
	}
	return w.write(p)
}

func (w *response) write(p []byte) (int, error) {
	if w.framing.Bodyless {
		if len(w.held) < heldMax { // for its length
			w.held = append(w.held, p[:min(len(p), heldMax-len(w.held))]...)
		}
		if len(w.held) == heldMax && !w.sent {
			w.push()
		}
		return len(p), w.err
	}
	w.x.Written += int64(len(p))
	if !w.sent && w.framing.Length < 0 && len(w.held)+len(p) <= heldMax {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	w.push()
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.stream.Write(p)
	return n, w.fail(err)
}

// ReadFrom implements io.ReaderFrom. Over HTTP/1.1 the kernel may copy.
func (w *response) ReadFrom(r io.Reader) (n int64, err error) {
	if c, ok := w.stream.(Copier); ok && w.copyable() {
		limit := w.framing.Length - w.x.Written
		n, err = c.ReadFrom(io.LimitReader(r, limit))
		w.x.Written += n
		return n, w.fail(err)
	}
	buffer := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buffer)
	return io.CopyBuffer(writerOnly{w}, r, *buffer)
}

// Direct has send write the next bytes of the body to the bare TCP connection;
// errors.ErrUnsupported where there is none or where the body needs framing. send
// says how many bytes it wrote.
func (w *response) Direct(send func(*net.TCPConn) (int64, error)) (n int64, err error) {
	c, ok := w.stream.(Copier)
	if !ok || !w.copyable() {
		return 0, errors.ErrUnsupported
	}
	n, err = c.Direct(send)
	w.x.Written += n
	if errors.Is(err, errors.ErrUnsupported) {
		return n, err // what is left can be written
	}
	return n, w.fail(err)
}

// copyable says whether bytes can go to the connection as they are, and sends
// what comes before them.
func (w *response) copyable() bool {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	if w.hijacked != nil || w.deaf || w.framing.Bodyless || w.framing.Length < 0 || w.err != nil {
		return false
	}
	w.push()
	return w.fail(w.stream.Flush()) == nil
}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError sends what is held.
func (w *response) FlushError() error {
	if w.hijacked != nil {
		return http.ErrHijacked
	}
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	w.push()
	if w.err != nil {
		return w.err
	}
	return w.fail(w.stream.Flush())
}

// Hijack implements http.Hijacker, over HTTP/1.1. The connection lives as long as
// the handler: it is closed when that returns, and cut when a drain ends.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := w.stream.(Hijacker)
	if !ok || w.sent {
		return nil, nil, http.ErrNotSupported
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked, w.x.hijacked = conn, true
	if w.x.Status == 0 {
		w.x.Status, w.x.FirstByte = http.StatusSwitchingProtocols, time.Since(w.x.start)
	}
	if w.x.Status == http.StatusSwitchingProtocols && w.wrote {
		err = w.switchProtocols(rw)
	}
	return conn, rw, err
}

// switchProtocols writes the header of a 101 that the handler has asked for by
// WriteHeader.
func (w *response) switchProtocols(rw *bufio.ReadWriter) error {
	if _, err := rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n"); err != nil {
		return err
	}
	if err := w.header.Write(rw); err != nil { // no value can end its line
		return err
	}
	if _, err := rw.WriteString("\r\n"); err != nil {
		return err
	}
	return rw.Flush()
}

// EnableFullDuplex implements what http.ResponseController looks for: all engines
// read while they write.
func (w *response) EnableFullDuplex() error { return nil }

// SetReadDeadline implements what http.ResponseController looks for.
func (w *response) SetReadDeadline(t time.Time) error { return w.stream.SetReadDeadline(t) }

// SetWriteDeadline implements what http.ResponseController looks for.
func (w *response) SetWriteDeadline(t time.Time) error { return w.stream.SetWriteDeadline(t) }

// fail remembers the first error of a write. Whether the client stalled or went
// away cannot always be told.
func (w *response) fail(err error) error {
	if err == nil || w.err != nil {
		return w.err
	}
	w.err = err
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		w.x.door.stats.Stalled.Add(1)
	}
	return err
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// hasToken reports whether a list field names a token, in any case.
func hasToken(values []string, token string) bool {
	for _, value := range values {
		for member := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(member), token) {
				return true
			}
		}
	}
	return false
}
