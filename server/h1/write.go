package h1

// write.go is a connection's output: what is held back to leave in one write, and
// the end.

import (
	"errors"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	wire "edgecdn/internal/h1"
)

const (
	// Bodies of such lengths follow their header in a write of their own. Where BBR
	// paces a connection (many systems' default) a header and 100 kB in one write cost
	// half as much again as in two, and nothing less elsewhere; smaller and larger
	// bodies cost less in one.
	apartMin, apartMax = 32 << 10, 256 << 10
	// lingerTime and lingerBytes bound how long the rest of what a client sends is
	// read away, so that it can read our last bytes before a reset removes them.
	lingerTime  = 2 * time.Second
	lingerBytes = 1 << 20
)

// buffer makes sure that there is room for output.
func (c *conn) buffer() {
	if c.outRoom == nil {
		c.outRoom = c.engine.outs.Get().(*outRoom)
		c.out = c.outRoom.bytes[:0]
	}
}

// flush writes what is held back, and gives its room back.
func (c *conn) flush() error {
	if c.outRoom == nil {
		return nil
	}
	err := c.send(nil)
	c.engine.outs.Put(c.outRoom)
	c.outRoom, c.out = nil, nil
	return err
}

// send writes what is held back and then body, all of it, and keeps the room.
func (c *conn) send(body []byte) error {
	if c.broken {
		c.out = c.out[:0]
		return net.ErrClosed
	}
	var err error
	switch {
	case len(c.out)+len(body) == 0:
	case c.raw != nil:
		err = c.sendBare(body)
	default:
		err = c.sendTLS(body)
	}
	if c.outRoom != nil {
		c.out = c.outRoom.bytes[:0]
	}
	if err != nil {
		c.fail(err)
	}
	return err
}

// fail notes that nothing more can be written.
func (c *conn) fail(err error) {
	c.broken, c.closing = true, true
	if errors.As(err, new(tooSlow)) {
		c.reset = true // what it has not taken is not to stay with the kernel
	}
}

// sendBare tries first without waiting: most answers fit into the socket.
func (c *conn) sendBare(body []byte) error {
	c.vector = [2][]byte{c.out, body}
	c.writeN, c.writeE = 0, nil
	err := c.raw.Write(c.empty)
	c.vector = [2][]byte{}
	switch {
	case err != nil:
		return err
	case c.writeE != nil:
		return c.writeE
	}
	n := c.writeN
	for _, rest := range [2][]byte{c.out, body} {
		if n >= len(rest) {
			n -= len(rest)
			continue
		}
		if err := c.sendSlowly(rest[n:]); err != nil {
			return err
		}
		n = 0
	}
	return nil
}

// writeRaw writes once, without waiting.
func (c *conn) writeRaw(fd uintptr) bool {
	for {
		var n int
		var err error
		switch head, body := c.vector[0], c.vector[1]; {
		case len(body) == 0:
			n, err = wire.SendNow(int(fd), head)
		case len(head) == 0:
			n, err = wire.SendNow(int(fd), body)
		case len(body) > apartMin && len(body) <= apartMax:
			if n, err = wire.SendNow(int(fd), head); n == len(head) {
				var more int
				more, err = wire.SendNow(int(fd), body)
				n += max(more, 0)
			}
		default:
			for i, b := range c.vector {
				c.iovecs[i].Base = unsafe.SliceData(b)
				c.iovecs[i].SetLen(len(b))
			}
			n, err = wire.WritevNow(int(fd), &c.iovecs)
			c.iovecs = [2]unix.Iovec{}
		}
		switch {
		case err == unix.EINTR:
			continue
		case err != nil && err != unix.EAGAIN:
			c.writeE = os.NewSyscallError("write", err)
		}
		c.writeN = max(n, 0)
		return true
	}
}

func (c *conn) sendSlowly(b []byte) error {
	_, err := c.guard.write(func() (int64, error) {
		n, err := c.nc.Write(b)
		return int64(n), err
	})
	return err
}

// passBytes is written at a time where no socket says what a client has taken.
const passBytes = 64 << 10

// sendTLS writes over TLS, and whatever else is no bare connection. crypto/tls
// makes records of it.
func (c *conn) sendTLS(body []byte) error {
	if len(c.out) > 0 && len(body) > 0 && c.outRoom != nil { // fill a record instead of beginning two
		n := min(len(body), cap(c.out)-len(c.out))
		c.out = append(c.out, body[:n]...)
		body = body[n:]
	}
	c.guard.start(time.Now())
	if c.cork != nil && c.socket != nil && len(c.out)+len(body) > outBytes {
		c.cork.Cork()
	}
	var err error
	for _, b := range [2][]byte{c.out, body} {
		for len(b) > 0 && err == nil {
			n := len(b)
			if c.socket == nil { // then guard judges by what has passed
				n = min(n, passBytes)
			}
			n, err = c.nc.Write(b[:n])
			c.passed.Add(uint64(n))
			b = b[n:]
		}
	}
	if c.cork != nil {
		err = errors.Join(err, c.cork.Uncork())
	}
	if slow := c.guard.stop(time.Now()); slow && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
		return tooSlow{}
	}
	return err
}

// direct has send write to the bare connection.
func (c *conn) direct(send func(*net.TCPConn) (int64, error)) (int64, error) {
	if c.raw == nil {
		return 0, errors.ErrUnsupported
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	n, err := c.guard.write(func() (int64, error) { return send(c.tcp) })
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		c.fail(err)
	}
	return n, err
}

// close ends the connection so that the client can read what it was sent.
func (c *conn) close() {
	if c.endRequests != nil {
		c.endRequests()
	}
	_ = c.flush() // nobody is left to tell
	c.guard.close()
	switch {
	case c.taken:
	case c.reset:
		if c.tcp != nil {
			_ = c.tcp.SetLinger(0) // closed already is as good
			_ = c.tcp.Close()
		}
	case (c.lingers || c.r < c.w) && !c.gone && c.state.Load() != leaving:
		c.linger()
	}
	_ = c.nc.Close() // nothing is lost by a failure
	c.release()
}

// linger says goodbye and reads away what the client still sends (RFC 9112 9.6).
func (c *conn) linger() {
	if c.tcp == nil {
		return
	}
	_ = c.nc.SetDeadline(time.Now().Add(lingerTime)) // of a closed connection: reading says it
	if t, ok := c.nc.(interface{ CloseWrite() error }); ok && c.tls != nil {
		_ = t.CloseWrite() // close_notify
	}
	if c.tcp.CloseWrite() != nil {
		return
	}
	c.hold()
	for total := 0; total < lingerBytes; {
		n, err := c.tcp.Read(c.in)
		if total += n; err != nil {
			return
		}
	}
}
