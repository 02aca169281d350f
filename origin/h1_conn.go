package origin

// h1_conn.go is one connection that speaks HTTP/1.1. It belongs to one exchange
// at a time, or rests in the pool. No goroutine watches it: what came of it while
// it rested shows when it is used again.

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	wire "edgecdn/internal/h1"
)

type h1Conn struct {
	nc    net.Conn // counts bytes; TLS on top of that, if any
	under net.Conn // without TLS
	raw   syscall.RawConn
	clear bool // raw is what the messages are written to
	stats *Stats
	used  bool // has brought a response
	// client is the address that the PROXY header tells, "" without one.
	client string

	resting time.Time // since when; while in the pool

	mu      sync.Mutex // of deadlines
	gone    bool       // cut
	readBy  time.Time
	writeBy time.Time

	// Of ask and its callback, which is made once.
	fill     func(fd uintptr) bool
	check    func(fd uintptr) bool
	question []byte
	answer   []byte
	asked    bool
	sent, n  int
	err      error
	alive    bool
	one      [1]byte
}

func newH1Conn(nc net.Conn, stats *Stats) *h1Conn {
	c := &h1Conn{nc: nc, stats: stats}
	under := nc
	if secure, ok := under.(*tls.Conn); ok {
		under = secure.NetConn()
	} else {
		c.clear = true
	}
	c.under = under
	if counted, ok := under.(*conn); ok {
		under = counted.Conn
	}
	if bare, ok := under.(syscall.Conn); ok {
		c.raw, _ = bare.SyscallConn() // fails where it is closed, which its use shows
	}
	c.clear = c.clear && c.raw != nil
	c.fill, c.check = c.fillRaw, c.checkRaw
	return c
}

// cut ends whatever waits for the connection. It runs on any goroutine.
func (c *h1Conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	_ = c.nc.SetDeadline(time.Unix(1, 0)) // closed already is as good
}

// close closes it. TLS says goodbye where nobody is in the middle of a message: else
// that could wait for a peer that takes nothing.
func (c *h1Conn) close() {
	if c.isCut() {
		_ = c.under.Close() // whatever it says, it is gone
		return
	}
	_ = c.nc.Close() // as above
}

func (c *h1Conn) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// due returns a deadline that lets somebody wait for d from now on, or up to an
// eighth longer: so the one that is set is seldom changed. last, where it is not
// zero, is not passed. ok: the one that is there does.
func due(have time.Time, d time.Duration, now, last time.Time) (by time.Time, ok bool) {
	if d == 0 {
		return last, have.Equal(last)
	}
	if left := have.Sub(now); d <= left && left <= d+d/8 && (last.IsZero() || !have.After(last)) {
		return have, true
	}
	by = now.Add(d + d/8)
	if !last.IsZero() && by.After(last) {
		by = last
	}
	return by, by.Equal(have)
}

// waitRead lets reads wait for d; 0 is for ever.
func (c *h1Conn) waitRead(d time.Duration, now, last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, ok := due(c.readBy, d, now, last)
	if ok || c.gone {
		return
	}
	c.readBy = by
	_ = c.nc.SetReadDeadline(by) // of a closed connection: the read says it
}

// waitWrite lets writes wait for d.
func (c *h1Conn) waitWrite(d time.Duration, now, last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, ok := due(c.writeBy, d, now, last)
	if ok || c.gone {
		return
	}
	c.writeBy = by
	_ = c.nc.SetWriteDeadline(by) // as above
}

// errStale is of a connection that was used before and has since been closed, or
// has said something that nobody asked for. Nothing was written to it.
var errStale = errors.New("the origin closed the connection while it rested")

// fresh reports whether a connection that rested can be used: it is neither closed
// nor has it anything to say. What comes unasked must not be taken for the answer to
// the next request.
func (c *h1Conn) fresh() bool {
	if c.raw == nil {
		return true
	}
	c.alive = false
	if err := c.raw.Control(func(fd uintptr) { c.check(fd) }); err != nil {
		return false
	}
	return c.alive
}

func (c *h1Conn) checkRaw(fd uintptr) bool {
	_, err := wire.PeekNow(int(fd), c.one[:])
	c.alive = err == unix.EAGAIN
	return true
}

// ask writes question and waits for the first bytes of what comes back, which it
// reads into answer. In the clear it does both under one preparation of the poller:
// the look whether the connection is alive comes in the place of the read that finds
// nothing. sent is how much was written.
func (c *h1Conn) ask(question, answer []byte) (n, sent int, err error) {
	if !c.clear {
		if c.used && !c.fresh() {
			return 0, 0, errStale
		}
		if sent, err = c.nc.Write(question); err != nil {
			return 0, sent, err
		}
		n, err = c.nc.Read(answer)
		return n, sent, err
	}
	c.question, c.answer, c.asked, c.sent, c.n, c.err = question, answer, false, 0, 0, nil
	err = c.raw.Read(c.fill)
	n, sent = c.n, c.sent
	if err == nil {
		err = c.err
	}
	c.question, c.answer, c.err = nil, nil, nil
	c.stats.BytesSent.Add(uint64(sent))
	c.stats.BytesReceived.Add(uint64(n))
	if err != nil || n > 0 || sent == len(question) {
		return n, sent, err
	}
	rest, err := c.nc.Write(question[sent:]) // more than the socket takes at once
	sent += rest
	if err != nil {
		return 0, sent, err
	}
	n, err = c.nc.Read(answer)
	return n, sent, err
}

// fillRaw is the callback of ask: false asks to be called again when something has
// come.
func (c *h1Conn) fillRaw(fd uintptr) bool {
	if !c.asked {
		c.asked = true
		if c.used {
			if c.checkRaw(fd); !c.alive {
				c.err = errStale
				return true
			}
		}
		n, err := writeRaw(int(fd), c.question)
		c.sent = n
		if err != nil {
			c.err = os.NewSyscallError("write", err)
		}
		return err != nil || n < len(c.question)
	}
	for {
		n, err := wire.ReadNow(int(fd), c.answer)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			c.err = os.NewSyscallError("read", err)
		case n == 0:
			c.err = io.EOF
		}
		c.n = max(n, 0)
		return true
	}
}

// writeRaw writes what the socket takes at once.
func writeRaw(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := wire.SendNow(fd, b[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return n, nil
		case err != nil:
			return n, err
		}
		n += m
	}
	return n, nil
}
