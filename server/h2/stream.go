package h2

// stream.go is an open stream, and the response that a handler sends on it:
// gate.Stream. Data of a handler's Write is framed from where it is, while the
// handler waits; see fill in output.go.

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

var (
	errLost    = errors.New("h2: the connection is gone")
	errReset   = errors.New("h2: the stream was reset")
	errStalled = errors.New("h2: the client takes nothing")
)

// heldBytes of a handler's small writes are sent together.
const heldBytes = 4 << 10

// stream is one that is open: a parked response, or a handler at work. c.mu guards
// all of it.
type stream struct {
	c      *conn
	id     uint32
	x      *gate.Exchange
	window int64 // we may send; below 0 after some SETTINGS
	pace   pace  // of what the client takes

	// Scheduling.
	prio          priority
	ready         bool
	before, after *stream
	data          []byte // to be sent
	last          bool   // END_STREAM goes with the end of data

	// Parked.
	parked, hit bool
	total       int64
	since       time.Time

	// The handler's response.
	cond    sync.Cond // data was sent, body has come, or it is over
	cancel  context.CancelFunc
	err     error // why nothing more can be sent or read
	block   []byte
	hasHead bool // Head was called
	headed  bool // the final header is among what is pending
	held    []byte
	sent    bool // END_STREAM is
	served  bool // the handler has returned
	writeBy time.Time
	stalled bool

	// The request's body.
	length         int64 // still to come, -1 if unknown
	quota          int64 // that the client may send
	credit         int64 // to be given back to it
	received       bool  // END_STREAM has come
	expects        bool  // waits for 100 (Continue)
	readBy         time.Time
	reading        pace
	bodyHead, tail *chunk
	trailer        []cache.Field
}

var _ gate.Stream = (*stream)(nil)

// serve is the goroutine of a request.
func (s *stream) serve(ctx context.Context) {
	s.x.Serve(ctx, s)
	s.cancel()
	c := s.c
	c.mu.Lock()
	if c.streams[s.id] == s { // neither ended nor aborted: nothing does that
		c.drop(s, errReset)
		c.tell(s.id, codeInternal)
	}
	s.served = true
	s.cond.Broadcast()
	c.orphans--
	c.flush()
	if c.finished() {
		c.wake()
	}
	c.mu.Unlock()
	s.x.End()
}

// fail ends all waiting.
func (s *stream) fail(err error) {
	s.err = err
	s.data = nil
	s.cancel()
	s.dropBody()
	s.cond.Broadcast()
}

// wait waits until something happens, for as long as the client may take. by is a
// deadline that may change meanwhile.
func (s *stream) wait(p *pace, by *time.Time) error {
	limits := s.c.door.Limits()
	start := time.Now()
	left := limits.StallTimeout - p.waited
	if !by.IsZero() {
		if left = min(left, by.Sub(start)); left <= 0 {
			return os.ErrDeadlineExceeded
		}
	}
	timer := time.AfterFunc(left, func() {
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		s.cond.Broadcast()
	})
	s.cond.Wait()
	timer.Stop()
	if p.slow(time.Since(start), limits.StallTimeout, int64(limits.MinRate)) {
		s.stalled = true
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Inform implements gate.Stream.
func (s *stream) Inform(status int, fields []cache.Field) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.sendable(); err != nil {
		return err
	}
	b, start := c.beginBlock()
	c.commit(sealHeaders(Encode(b, status, fields), start, s.id, 0))
	c.flush()
	return s.err
}

// Head implements gate.Stream. The block is sent with what follows it.
func (s *stream) Head(status int, fields []cache.Field, h gate.Framing) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.hasHead = true
	s.block = Encode(s.block, status, fields)
	if h.Length >= 0 {
		s.block = appendField(s.block, "content-length", strconv.FormatInt(h.Length, 10))
	}
	return s.err
}

// sendable says whether anything can be sent, and waits until little enough is
// pending.
func (s *stream) sendable() error {
	switch {
	case s.err != nil:
		return s.err
	case !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
		return s.give(os.ErrDeadlineExceeded)
	case !s.c.waitRoom():
		return s.give(s.c.why)
	}
	return s.err
}

// give notes the first error of a write.
func (s *stream) give(err error) error {
	if s.err == nil {
		s.err = err
	}
	s.data = nil
	s.c.schedule.remove(s)
	return s.err
}

// sendHead makes the final header pending, if that has not been done.
func (s *stream) sendHead(flags byte) {
	if s.headed {
		return
	}
	s.headed = true
	b, start := s.c.beginBlock()
	s.c.commit(sealHeaders(append(b, s.block...), start, s.id, flags))
	s.block = nil
}

// push sends the header and data, and returns when the client has windows for all
// of it.
func (s *stream) push(data []byte, last bool) (n int, err error) {
	c := s.c
	if err := s.sendable(); err != nil {
		return 0, err
	}
	s.sendHead(0)
	if len(data) == 0 {
		if last {
			c.commit(appendHeader(c.begin(), 0, kindData, flagEndStream, s.id))
			s.ended()
		}
		return 0, nil
	}
	s.data, s.last = data, last
	c.offer(s)
	c.flush()
	for len(s.data) > 0 && s.err == nil {
		before := len(s.data)
		err := s.wait(&s.pace, &s.writeBy)
		if err != nil && len(s.data) > 0 && s.err == nil {
			return len(data) - before, s.give(err)
		}
	}
	if s.err != nil && !s.sent {
		return 0, s.err
	}
	return len(data), nil
}

// pushHeld sends what is held back.
func (s *stream) pushHeld(last bool) error {
	_, err := s.push(s.held, last)
	s.held = s.held[:0]
	return err
}

// Write implements gate.Stream.
func (s *stream) Write(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if len(s.held)+len(p) > heldBytes && len(s.held) > 0 {
		if err := s.pushHeld(false); err != nil {
			return 0, err
		}
	}
	if len(p) > heldBytes {
		return s.push(p, false)
	}
	if s.held == nil {
		s.held = make([]byte, 0, heldBytes)
	}
	s.held = append(s.held, p...)
	return len(p), nil
}

// Flush implements gate.Stream.
func (s *stream) Flush() error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.pushHeld(false); err != nil {
		return err
	}
	c.flush()
	return s.err
}

// End implements gate.Stream.
func (s *stream) End(trailers []cache.Field) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	err := s.sendable()
	switch {
	case err != nil:
		return err
	case len(trailers) > 0:
		if err := s.pushHeld(false); err != nil {
			return err
		}
		b, start := c.beginBlock()
		for _, f := range trailers {
			b = appendField(b, f.Name, f.Value)
		}
		c.commit(sealHeaders(b, start, s.id, flagEndStream))
		s.ended()
	case !s.headed && len(s.held) == 0:
		s.sendHead(flagEndStream)
		s.ended()
	default:
		if err := s.pushHeld(true); err != nil {
			return err
		}
	}
	c.flush()
	return nil
}

// Abort implements gate.Stream.
func (s *stream) Abort() {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.id] != s {
		return // reset, or lost
	}
	reason := codeInternal
	if s.stalled {
		reason = codeCalm
	}
	c.drop(s, errReset)
	c.tell(s.id, reason)
	c.flush()
}

// SetReadDeadline implements gate.Stream.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.readBy = t
	s.cond.Broadcast()
	return nil
}

// SetWriteDeadline implements gate.Stream.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.writeBy = t
	s.cond.Broadcast()
	return nil
}
