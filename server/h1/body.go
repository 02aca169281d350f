package h1

// body.go reads the body of a request.

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"edgecdn/cache"

	wire "edgecdn/internal/h1"
)

// body is the body of the request that is under way. Once it has ended, or for
// good failed, it reads nothing more from the connection.
type body struct {
	c        *conn
	chunked  bool
	left     int64 // of a body that is not chunked
	chunks   wire.Chunks
	trailers []cache.Field
	ended    bool
	err      error        // why it never will
	by       time.Time    // when reading ends at the latest, zero for never
	over     *atomic.Bool // nobody wants more; may be nil
}

func newBody(c *conn, length int64) body {
	return body{c: c, chunked: length == wire.Chunked, left: max(length, 0), ended: length == 0}
}

// read is io.Reader's. The end is told with the last byte where it is known.
func (b *body) read(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.ended:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case b.chunked:
		n, err = b.readChunked(p)
	default:
		n, err = b.receive(p[:min(int64(len(p)), b.left)])
		if b.left -= int64(n); b.left == 0 {
			b.ended, err = true, io.EOF
		}
	}
	if err == io.EOF && !b.ended {
		err = io.ErrUnexpectedEOF
		b.c.gone = true
	}
	if err != nil && err != io.EOF && err != errInterrupted {
		b.err = err
	}
	return n, err
}

func (b *body) readChunked(p []byte) (int, error) {
	c := b.c
	for b.chunks.Left() == 0 {
		if c.r == c.w {
			c.hold()
			c.r, c.w = 0, 0
			if _, err := b.receive(nil); err != nil {
				return 0, err
			}
		}
		n, fault := b.chunks.Framing(c.in[c.r:c.w])
		c.r += n
		if fault != 0 {
			return 0, b.malformed(fault)
		}
		if b.chunks.Last() {
			return 0, b.readTrailers()
		}
	}
	n, err := b.receive(p[:min(int64(len(p)), b.chunks.Left())])
	b.chunks.Took(n)
	return n, err
}

func (b *body) malformed(fault wire.Fault) error {
	b.c.engine.stats.BodiesMalformed.Add(1)
	return fault
}

// readTrailers reads the trailer section. io.EOF is the end of the body.
func (b *body) readTrailers() error {
	c, limits := b.c, b.c.engine.door.Limits()
	from, most := 0, int(limits.HeaderBytes)
	for {
		in := c.in[c.r:c.w]
		end, next, fault := wire.SectionEnd(in, from)
		switch {
		case fault != 0:
			return b.malformed(fault)
		case end > most || end == 0 && len(in) > most:
			return b.malformed(wire.FaultTrailer)
		case end > 0:
			c.r += end
			return b.takeTrailers(in[:end], limits.HeaderFields)
		}
		from = next
		if c.makeRoom(most+1) != nil {
			return b.malformed(wire.FaultTrailer)
		}
		if _, err := b.receive(nil); err != nil {
			return err
		}
	}
}

func (b *body) takeTrailers(section []byte, most int) error {
	var facts wire.Facts
	fields, fault := wire.AppendFields([]cache.Field(nil), section, most, &facts)
	if fault != 0 {
		return b.malformed(fault)
	}
	dropped := facts.Hosts
	for _, f := range fields {
		if !wire.TrailerField(f.Name) {
			dropped++
			continue
		}
		b.trailers = append(b.trailers, cache.Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)})
	}
	b.c.engine.stats.TrailersDropped.Add(uint64(dropped))
	b.ended = true
	return io.EOF
}

// errInterrupted is a read that was broken off because its handler has returned.
var errInterrupted = errors.New("h1: read interrupted")

// receive reads once: into p, first what the buffer has, or into the buffer where
// p is nil. The client has limits.stall_timeout for the next byte.
func (b *body) receive(p []byte) (n int, err error) {
	c := b.c
	if p != nil && c.r < c.w {
		n = copy(p, c.in[c.r:c.w])
		c.r += n
		return n, nil
	}
	limits := c.engine.door.Limits()
	began := time.Now()
	by := began.Add(limits.StallTimeout)
	if !b.by.IsZero() && b.by.Before(by) {
		by = b.by
	}
	c.readBy(by)
	if b.over != nil && b.over.Load() { // before the deadline was set, which would have hidden it
		return 0, errInterrupted
	}
	if p != nil {
		n, err = c.nc.Read(p)
	} else {
		was := c.w
		err = c.read()
		n = c.w - was
	}
	enough := c.got.note(int64(n), time.Since(began), limits)
	switch {
	case n > 0 && !enough:
		c.engine.stats.TooSlow.Add(1)
		return n, tooSlow{}
	case n > 0:
		return n, nil
	case err == nil:
		return 0, io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, os.ErrDeadlineExceeded
	}
	return 0, err
}
