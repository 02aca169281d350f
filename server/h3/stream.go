package h3

// stream.go is gate.Stream: the general path of a request. Read runs beside all
// others; what both touch is in deadline, or guarded by sayMu.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

// heldMax is how much of a response is held back to be sent together.
const heldMax = 4 << 10

// errRefused is said of writes to a stream whose request broke the protocol.
var errRefused = errors.New("h3: the request is not valid, or was reset")

// general is the part of a request that only the handler's path needs.
type general struct {
	// Of the reader.
	left     uint64 // of the DATA frame
	received int64  // bytes of the body
	trailed  bool   // the trailers have come
	trailers []cache.Field
	failure  error // of Read, for good
	reads    meter

	// Of the writer.
	framing gate.Framing
	written error // the first failure
	writes  meter

	sayMu   sync.Mutex  // before headed, for 1xx from both sides
	headed  bool        // the final header is made; guarded by sayMu
	expects atomic.Bool // the client waits for 100
	cancel  context.CancelFunc
	refused atomic.Uint64 // the code that the response is reset with, where the request is at fault
}

var _ gate.Stream = (*request)(nil)

// handle calls the handler.
func (r *request) handle() error {
	r.handled = true
	r.stage = stageDone
	if r.urged {
		r.stream.SetPriority(r.priority.urgency, r.priority.incremental)
	}
	if r.x.Request.HasBody {
		r.expects.Store(r.head.continues)
	} else {
		_ = r.stream.SetReadDeadline(time.Time{})
	}
	ctx, cancel := context.WithCancel(r.conn.engine.door.Requests())
	r.cancel = cancel
	// The stream's ends when the client stops it, and with the connection.
	stop := context.AfterFunc(r.stream.Context(), cancel)
	r.x.Serve(ctx, r)
	stop()
	cancel()
	var stopped *quic.StreamError
	if errors.As(context.Cause(r.stream.Context()), &stopped) && stopped.Remote && r.refused.Load() == 0 {
		r.conn.fail(r.conn.cancelled())
	}
	return nil
}

// Read implements gate.Stream.
func (r *request) Read(p []byte) (int, error) {
	if r.expects.CompareAndSwap(true, false) {
		r.sayMu.Lock()
		if !r.headed {
			_ = r.inform(http.StatusContinue, nil) // a failure is seen by the next write
		}
		r.sayMu.Unlock()
	}
	if r.failure != nil || len(p) == 0 {
		return 0, r.failure
	}
	n, err := r.readBody(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		r.failure = err
		if err != io.EOF {
			r.refuse(err)
		}
	}
	return n, err
}

// refuse ends a request that broke the protocol in its body, or was reset by the
// client. The response is reset when the handler has returned, and not before: as
// long as it works, the request counts against limits.streams.
func (r *request) refuse(err error) {
	code := r.judge(err)
	r.refused.Store(uint64(code))
	r.stream.CancelRead(code)
	r.cancel()
}

// readBody reads on to the next byte of the body.
func (r *request) readBody(p []byte) (n int, err error) {
	for {
		if r.left > 0 {
			n, err = r.readData(p)
			if n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if more, err := r.nextFrame(); err != nil || more {
			if err != nil {
				return 0, err
			}
			continue
		}
		if err := r.fill(r.receive); err != nil {
			return 0, err
		}
	}
}

// readData reads bytes of the DATA frame at hand.
func (r *request) readData(p []byte) (n int, err error) {
	if uint64(len(p)) > r.left {
		p = p[:r.left]
	}
	switch {
	case r.w > r.r:
		n = copy(p, r.buf[r.r:r.w])
		r.r += n
	case r.ended != nil:
		return 0, r.truncated()
	default:
		n, err = r.receive(p)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			r.ended, err = err, nil
		}
	}
	r.left -= uint64(n)
	r.received += int64(n)
	return n, err
}

// nextFrame goes past what is no body, up to the next DATA frame. more is false
// where bytes must come first. io.EOF is the end of the request.
func (r *request) nextFrame() (more bool, err error) {
	if r.need >= 0 {
		return r.takeTrailers()
	}
	kind, length, ok := r.frame()
	switch {
	case !ok:
		switch {
		case r.ended == nil:
			return false, nil
		case r.ended == io.EOF && r.clean():
			return false, r.complete()
		}
		return false, r.truncated()
	case kind == frameData && !r.trailed:
		if r.head.length >= 0 && (length > uint64(r.head.length) || r.received+int64(length) > r.head.length) {
			return false, malformed("the body is longer than content-length")
		}
		if r.left = length; length == 0 {
			return true, r.conn.heard()
		}
		return true, nil
	case kind == frameHeaders && !r.trailed:
		if length > uint64(r.conn.limits().HeaderBytes)+blockSlack {
			return false, &streamError{codeExcessiveLoad, "the trailers are too long"}
		}
		r.trailed, r.need = true, int(length)
		return true, nil
	}
	r.skip = length
	return true, r.conn.beside(kind, length)
}

func (r *request) takeTrailers() (more bool, err error) {
	if r.w-r.r < r.need {
		if r.ended != nil {
			return false, r.truncated()
		}
		return false, nil
	}
	r.trailers, err = readTrailers(r.buf[r.r:r.r+r.need], r.conn.limits())
	r.r, r.need = r.r+r.need, -1
	return true, err
}

// complete judges a body that has ended (RFC 9114 4.1.2).
func (r *request) complete() error {
	if r.head.length >= 0 && r.received != r.head.length {
		return malformed("the body is shorter than content-length")
	}
	return io.EOF
}

// peek reports whether a body or trailers follow, once that is known.
func (r *request) peek() (has bool, err error) {
	for {
		more, err := r.nextFrame()
		switch {
		case err == io.EOF:
			return false, nil
		case err != nil:
			return false, err
		case r.left > 0 || r.trailed:
			return true, nil
		case more:
			continue
		}
		if err := r.fill(r.stream.Read); err != nil {
			return false, err
		}
	}
}

// Trailers implements gate.Stream.
func (r *request) Trailers() []cache.Field { return r.trailers }

// Inform implements gate.Stream.
func (r *request) Inform(status int, fields []cache.Field) error {
	r.sayMu.Lock()
	defer r.sayMu.Unlock()
	if status == http.StatusContinue {
		r.expects.Store(false)
	}
	return r.inform(status, fields)
}

// inform is called with sayMu held, before the final header.
func (r *request) inform(status int, fields []cache.Field) error {
	at := r.startHeaders()
	r.out = Encode(r.out, status, fields)
	if !r.fits(at) {
		r.out = r.out[:at] // the client can do without
		return nil
	}
	r.endFrame(at)
	return r.sendHeld()
}

// Head implements gate.Stream.
func (r *request) Head(status int, fields []cache.Field, h gate.Framing) error {
	r.expects.Store(false)
	r.sayMu.Lock()
	r.headed = true
	r.sayMu.Unlock()
	r.framing = h
	at := r.startHeaders()
	r.out = Encode(r.out, status, fields)
	if h.Length >= 0 && status != http.StatusNoContent {
		r.out = appendField(r.out, "content-length", strconv.FormatInt(h.Length, 10))
	}
	if err := r.curtail(at); err != nil {
		return err
	}
	r.endFrame(at)
	if h.Length > 0 && !h.Bodyless && !r.curt {
		r.out = appendData(r.out, h.Length) // one frame, however it is written
	}
	return nil
}

// Write implements gate.Stream.
func (r *request) Write(p []byte) (int, error) {
	if r.written != nil || len(p) == 0 {
		return 0, r.written
	}
	if r.curt {
		return len(p), nil
	}
	if r.framing.Length < 0 {
		r.out = appendData(r.out, int64(len(p)))
	}
	if len(r.out)+len(p) <= heldMax {
		r.out = append(r.out, p...)
		return len(p), nil
	}
	first := p[:min(max(packetMax-len(r.out), 0), len(p))]
	r.out = append(r.out, first...)
	if err := r.sendHeld(); err != nil {
		return 0, err
	}
	n, err := r.write(p[len(first):])
	return len(first) + n, err
}

// Flush implements gate.Stream.
func (r *request) Flush() error { return r.sendHeld() }

func (r *request) sendHeld() error {
	if len(r.out) == 0 {
		return r.written
	}
	_, err := r.write(r.out)
	r.out = r.out[:0]
	return err
}

// End implements gate.Stream.
func (r *request) End(trailers []cache.Field) error {
	if r.refused.Load() != 0 {
		return errRefused
	}
	if len(trailers) > 0 && !r.curt {
		at := r.startHeaders()
		r.out = appendFields(append(r.out, 0, 0), trailers)
		if !r.fits(at) {
			r.out = r.out[:at] // trailers may be dropped (RFC 9110 6.5.1)
		}
		r.endFrame(at)
	}
	if err := r.sendHeld(); err != nil {
		return err
	}
	return r.stream.Close()
}

// Abort implements gate.Stream.
func (r *request) Abort() {
	code := quic.StreamErrorCode(r.refused.Load())
	if code == 0 {
		code = codeInternalError
	}
	r.stream.CancelWrite(code)
	r.stream.CancelRead(codeNoError)
}

// SetReadDeadline implements gate.Stream.
func (r *request) SetReadDeadline(t time.Time) error {
	return r.reads.setUser(t, r.stream.SetReadDeadline)
}

// SetWriteDeadline implements gate.Stream.
func (r *request) SetWriteDeadline(t time.Time) error {
	return r.writes.setUser(t, r.stream.SetWriteDeadline)
}

// receive reads from the stream, as long as the client sends fast enough.
func (r *request) receive(p []byte) (int, error) {
	return r.reads.transfer(p, r.conn.limits(), r.stream.Read, r.stream.SetReadDeadline, 1)
}

// write writes to the stream, as long as the client takes it fast enough.
func (r *request) write(p []byte) (int, error) {
	if r.refused.Load() != 0 && r.written == nil {
		r.written = errRefused
	}
	if r.written != nil || len(p) == 0 {
		return 0, r.written
	}
	n, err := r.writes.transfer(p, r.conn.limits(), r.stream.Write, r.stream.SetWriteDeadline, len(p))
	r.written = err
	return n, err
}
