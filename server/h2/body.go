package h2

// body.go keeps what has come of a request's body until the handler reads it: at
// most the stream's window. What is read is given back to both windows.

import (
	"io"
	"net/http"
	"strings"

	"edgecdn/cache"
	"edgecdn/internal/h1"
)

// chunk is a piece of a body.
type chunk struct {
	next     *chunk
	from, to int
	b        [16 << 10]byte
}

// takeBody keeps what has come.
func (s *stream) takeBody(b []byte) {
	if s.parked { // nobody reads it
		s.c.giveBack(len(b))
		return
	}
	s.reading.moved += int64(len(b))
	for len(b) > 0 {
		if s.tail == nil || s.tail.to == len(s.tail.b) {
			k := s.c.engine.chunks.Get().(*chunk)
			k.next, k.from, k.to = nil, 0, 0
			if s.tail == nil {
				s.bodyHead = k
			} else {
				s.tail.next = k
			}
			s.tail = k
		}
		n := copy(s.tail.b[s.tail.to:], b)
		s.tail.to += n
		b = b[n:]
	}
	s.cond.Broadcast()
}

// endBody notes that all of the body has come.
func (s *stream) endBody() {
	s.received = true
	if !s.parked {
		s.cond.Broadcast()
	}
}

// giveBack lets the client send n bytes more on the stream.
func (s *stream) giveBack(n int) {
	s.credit += int64(n)
	if s.credit >= streamWindow/4 && !s.received {
		s.c.commit(appendWindowUpdate(s.c.begin(), s.id, uint32(s.credit)))
		s.quota += s.credit
		s.credit = 0
	}
}

// dropBody forgets what nobody will read.
func (s *stream) dropBody() {
	for k := s.bodyHead; k != nil; {
		next := k.next
		s.c.giveBack(k.to - k.from)
		s.c.engine.chunks.Put(k)
		k = next
	}
	s.bodyHead, s.tail = nil, nil
}

// trailers takes a header block on an open stream.
func (c *conn) trailers(s *stream) {
	h := &c.header
	switch {
	case s.received:
		c.reset(s.id, codeStreamClosed, "HEADERS after the end of the request")
	case !c.blockEnd:
		c.reset(s.id, codeProtocol, "a second header without END_STREAM")
	case h.over:
		c.reset(s.id, codeCalm, "a trailer section that is too long")
	case h.problem != "":
		c.reset(s.id, codeProtocol, h.problem)
	case s.length > 0:
		c.reset(s.id, codeProtocol, "content of another length than announced")
	default:
		for _, f := range h.fields {
			if h1.TrailerField(f.Name) {
				s.trailer = append(s.trailer, cache.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
			}
		}
		s.endBody()
	}
}

// Read implements gate.Stream.
func (s *stream) Read(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.proceed()
	for {
		switch {
		case s.served:
			return 0, http.ErrBodyReadAfterClose
		case s.err != nil:
			return 0, s.err
		case len(p) == 0:
			return 0, nil
		case s.bodyHead != nil:
			n := s.takeOut(p)
			c.giveBack(n)
			s.giveBack(n)
			c.flush()
			return n, nil
		case s.received:
			return 0, io.EOF
		}
		if err := s.wait(&s.reading, &s.readBy); err != nil {
			return 0, err
		}
	}
}

// takeOut moves what is there to p.
func (s *stream) takeOut(p []byte) (n int) {
	for n < len(p) && s.bodyHead != nil {
		k := s.bodyHead
		m := copy(p[n:], k.b[k.from:k.to])
		n += m
		if k.from += m; k.from < k.to {
			break
		}
		if s.bodyHead = k.next; s.bodyHead == nil {
			s.tail = nil
		}
		s.c.engine.chunks.Put(k)
	}
	return n
}

// proceed sends 100 (Continue) to a client that waits for it, once, unless the
// final header is already decided.
func (s *stream) proceed() {
	if !s.expects || s.hasHead || s.received || s.bodyHead != nil || s.err != nil {
		return
	}
	s.expects = false
	b, start := s.c.beginBlock()
	s.c.commit(sealHeaders(appendStatus(b, 100), start, s.id, 0))
	s.c.flush()
}

// Trailers implements gate.Stream.
func (s *stream) Trailers() []cache.Field {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.trailer
}
