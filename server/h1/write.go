package h1

// write.go is a connection's output: what is held back to leave in one write, the
// patience with those who take it slowly, and the end.

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"edgecdn/server/gate"
)

const (
	// tlsPiece is written at once over TLS: a write that its deadline has broken
	// off cannot be gone on with, so it must be one that a slow client can take.
	tlsPiece = 16 << 10
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
	if len(c.out)+len(body) > 0 {
		switch {
		case c.raw != nil:
			err = c.sendBare(body)
		default:
			err = c.sendPieces(body)
		}
	}
	if c.outRoom != nil {
		c.out = c.outRoom.bytes[:0]
	}
	if err != nil {
		c.broken, c.closing = true, true
	}
	return err
}

// sendBare tries without a deadline first: most answers fit into the socket.
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
	n, slow := c.writeN, false
	for _, rest := range [2][]byte{c.out, body} {
		if n >= len(rest) {
			n -= len(rest)
			continue
		}
		slow = true
		if err = c.sendSlowly(rest[n:]); err != nil {
			break
		}
		n = 0
	}
	if slow {
		c.writes.setOurs(time.Time{})
	}
	return err
}

// writeRaw writes once, without waiting.
func (c *conn) writeRaw(fd uintptr) bool {
	for {
		var n int
		var err error
		switch {
		case len(c.vector[1]) == 0:
			n, err = unix.Write(int(fd), c.vector[0])
		case len(c.vector[0]) == 0:
			n, err = unix.Write(int(fd), c.vector[1])
		default:
			n, err = unix.Writev(int(fd), c.vector[:])
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

// sendSlowly waits for a client that takes its time, as long as it keeps
// limits.min_rate. Silence is the kernel's to judge, too: see TCP_USER_TIMEOUT
// where connections are accepted.
func (c *conn) sendSlowly(b []byte) error {
	for len(b) > 0 {
		n, err := c.slowly(func() (int64, error) {
			n, err := c.nc.Write(b)
			return int64(n), err
		})
		if err != nil && err != errAgain {
			return err
		}
		b = b[n:]
	}
	return nil
}

var errAgain = errors.New("h1: slow, but fast enough")

// slowly calls write under a deadline and judges what it did. errAgain asks to go
// on where it broke off.
func (c *conn) slowly(write func() (int64, error)) (int64, error) {
	limits := c.engine.door.Limits()
	began := time.Now()
	c.writes.setOurs(began.Add(limits.StallTimeout))
	n, err := write()
	took := time.Since(began)
	enough := c.sent.note(n, took, limits)
	switch {
	case err != nil && (n == 0 || took < limits.StallTimeout || !errors.Is(err, os.ErrDeadlineExceeded)):
		return n, err
	case !enough:
		c.engine.stats.TooSlow.Add(1)
		return n, tooSlow{}
	case err != nil:
		return n, errAgain
	}
	return n, nil
}

// direct has send write to the bare connection.
func (c *conn) direct(send func(*net.TCPConn) (int64, error)) (total int64, err error) {
	if c.raw == nil {
		return 0, errors.ErrUnsupported
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	for err = errAgain; err == errAgain; {
		var n int64
		n, err = c.slowly(func() (int64, error) { return send(c.tcp) })
		total += n
	}
	c.writes.setOurs(time.Time{})
	return total, err
}

// tooSlow is what reads and writes fail with whose client is too slow.
type tooSlow struct{}

func (tooSlow) Error() string   { return "h1: the client is slower than limits.min_rate" }
func (tooSlow) Unwrap() error   { return os.ErrDeadlineExceeded }
func (tooSlow) Timeout() bool   { return true }
func (tooSlow) Temporary() bool { return false }

// sendPieces writes over TLS, and whatever else is no bare connection. The deadline
// is moved on seldom; it lies one to two stall timeouts ahead.
func (c *conn) sendPieces(body []byte) error {
	if len(c.out) > 0 && len(body) > 0 && c.outRoom != nil { // one record instead of two
		n := min(len(body), cap(c.out)-len(c.out))
		c.out = append(c.out, body[:n]...)
		body = body[n:]
	}
	for _, rest := range [2][]byte{c.out, body} {
		for len(rest) > 0 {
			piece := rest[:min(len(rest), tlsPiece)]
			rest = rest[len(piece):]
			c.armTLS(c.engine.door.Limits())
			if _, err := c.nc.Write(piece); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *conn) armTLS(limits *gate.Limits) {
	now := time.Now()
	// A client that keeps limits.min_rate takes a piece in time.
	patience := max(limits.StallTimeout, time.Duration(tlsPiece/float64(limits.MinRate)*float64(time.Second)))
	if left := c.writeBy.Sub(now); left < patience || left > 2*patience {
		c.writeBy = now.Add(2 * patience)
		c.writes.setOurs(c.writeBy)
	}
}

// close ends the connection so that the client can read what it was sent.
func (c *conn) close() {
	_ = c.flush() // nobody is left to tell
	switch {
	case c.taken:
	case c.reset:
		if c.tcp != nil {
			_ = c.tcp.SetLinger(0) // closed already is as good
			_ = c.tcp.Close()
		}
	case c.lingers && !c.gone && c.state.Load() != leaving:
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
	_ = c.nc.SetDeadline(time.Now().Add(lingerTime))
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
