package h2

// output.go is the way out of a connection. Frames are appended to one buffer;
// whoever has something urgent writes it, unless somebody is writing: then that
// one takes it up. What is too much for one write goes to a goroutine, so that the
// loop stays free to read windows and resets.

import (
	"errors"
	"io"
	"time"
)

const (
	// outputBytes is what a fresh buffer holds. Larger ones are kept up to
	// outputKeep.
	outputBytes, outputKeep = 8 << 10, 256 << 10
	// inlineBytes is the longest write of the loop or of a handler's goroutine,
	// and the most DATA that is pending at a time.
	inlineBytes = 128 << 10
	// pendingBytesMax is where the loop stops reading, and handlers stop sending
	// headers, until the client has taken some.
	pendingBytesMax = 256 << 10
)

type output struct{ b []byte }

// begin returns the pending bytes to append to; commit puts them back.
func (c *conn) begin() []byte {
	if c.out == nil {
		c.out = c.engine.outputs.Get().(*output)
	}
	return c.out.b
}

func (c *conn) commit(b []byte) { c.out.b = b }

// pending is the number of bytes that wait to be written.
func (c *conn) pending() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.b)
}

func (e *Engine) discard(o *output) {
	if cap(o.b) <= outputKeep {
		o.b = o.b[:0]
		e.outputs.Put(o)
	}
}

// flush sends what is pending and what DATA can be. It gives c.mu up while it
// writes.
func (c *conn) flush() {
	if c.writing || c.broken {
		return
	}
	c.fill()
	if c.pending() == 0 {
		return
	}
	c.writing = true
	if !c.more() {
		c.write()
		if c.fill(); c.pending() == 0 || c.broken {
			c.endWriting()
			return
		}
	}
	c.writers.Go(c.writeAll)
}

// more says whether another write must follow that of what is pending.
func (c *conn) more() bool {
	return c.pending() > inlineBytes+2*frameBytesMax || c.schedule.mask != 0 && c.window > 0
}

// writeAll is the writer's goroutine.
func (c *conn) writeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.fill(); c.pending() > 0 && !c.broken; c.fill() {
		c.write()
	}
	c.endWriting()
}

func (c *conn) endWriting() {
	c.writing = false
	c.room.Broadcast()
}

// write writes what is pending; c.writing is the caller's.
func (c *conn) write() {
	o := c.out
	c.out = nil
	c.beginWrite()
	c.mu.Unlock()
	n, err := c.send(o.b)
	c.mu.Lock()
	c.endWrite(n)
	c.engine.discard(o)
	if err != nil {
		c.lose(errLost)
	}
	c.room.Broadcast()
}

// send writes b.
func (c *conn) send(b []byte) (int, error) {
	if c.cork == nil || len(b) <= frameBytesMax {
		return c.nc.Write(b)
	}
	c.cork.Cork()
	n, err := c.nc.Write(b)
	return n, errors.Join(err, c.cork.Uncork())
}

// waitRoom waits until more may become pending. It reports false where the
// connection is lost.
func (c *conn) waitRoom() bool {
	for c.pending() > pendingBytesMax && !c.broken {
		if !c.writing {
			c.flush()
			continue
		}
		c.room.Wait()
	}
	return !c.broken
}

// fill makes frames of DATA while there are windows for it and little is pending.
func (c *conn) fill() {
	for c.window > 0 && c.pending() < inlineBytes {
		s := c.schedule.next()
		if s == nil {
			return
		}
		n := int(min(int64(len(s.data)), frameBytesMax, s.window, c.window))
		end := s.last && n == len(s.data)
		flags := byte(0)
		if end {
			flags = flagEndStream
		}
		c.commit(append(appendHeader(c.begin(), n, kindData, flags, s.id), s.data[:n]...))
		s.data = s.data[n:]
		s.window -= int64(n)
		c.window -= int64(n)
		s.pace.moved += int64(n)
		c.floods.grant(floodWindow, n/windowGrantBytes*windowGrant)
		if len(s.data) == 0 || s.window <= 0 {
			c.schedule.remove(s)
		}
		if len(s.data) == 0 {
			s.emptied(end)
		}
	}
}

// halfCloser is a connection that can say that nothing more will come: a TCP or
// TLS connection.
type halfCloser interface{ CloseWrite() error }

// linger closes a connection so that what was written last is not lost: a
// connection that is closed while bytes of the client's are unread is reset, and
// the client may never see why.
func (c *conn) linger() {
	half, ok := c.nc.(halfCloser)
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes) // whatever comes, it ends here
	}
}

const (
	lingerTime  = time.Second
	lingerBytes = 4 << 20
)
