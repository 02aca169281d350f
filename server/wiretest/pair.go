// Package wiretest is for tests of the engines that are about time: connections in
// memory, for bubbles of testing/synctest, where no machine is slow; and Unhurried for
// what only a kernel's sockets show.
package wiretest

// pair.go is a connection in memory.

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// room is how much each direction holds until it is read, as a socket's buffer does.
const room = 64 << 10

// Conn is one end of a connection.
type Conn struct {
	in, out       *direction
	local, remote *net.TCPAddr
}

// Pair returns both ends of a connection in the clear.
func Pair() (client, server *Conn) {
	up, down := newDirection(), newDirection()
	c, s := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1024}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 80}
	return &Conn{in: down, out: up, local: c, remote: s}, &Conn{in: up, out: down, local: s, remote: c}
}

// direction is what is on its way from one end to the other.
type direction struct {
	mu     sync.Mutex // guards what follows
	change sync.Cond
	bytes  []byte
	ended  bool // nothing more will be written
	unread bool // nothing more will be read
	read   deadline
	write  deadline
}

func newDirection() *direction {
	d := new(direction)
	d.change.L = &d.mu
	return d
}

// deadline wakes those who wait when it has passed.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set is called with mu held.
func (d *deadline) set(at time.Time, wake func()) {
	d.at = at
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), wake)
	}
}

func (d *direction) wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change.Broadcast()
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	d := c.in
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		switch {
		case d.unread:
			return 0, net.ErrClosed
		case d.read.passed(): // even where there is something, as with sockets
			return 0, os.ErrDeadlineExceeded
		case len(d.bytes) > 0:
			n := copy(p, d.bytes)
			d.bytes = d.bytes[n:]
			d.change.Broadcast()
			return n, nil
		case d.ended:
			return 0, io.EOF
		}
		d.change.Wait()
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (n int, err error) {
	d := c.out
	d.mu.Lock()
	defer d.mu.Unlock()
	for n < len(p) {
		switch {
		case d.ended:
			return n, net.ErrClosed
		case d.unread:
			return n, syscall.EPIPE
		case d.write.passed():
			return n, os.ErrDeadlineExceeded
		case len(d.bytes) < room:
			m := min(len(p)-n, room-len(d.bytes))
			d.bytes = append(d.bytes, p[n:n+m]...)
			n += m
			d.change.Broadcast()
			continue
		}
		d.change.Wait()
	}
	return n, nil
}

// CloseWrite says that nothing more will come.
func (c *Conn) CloseWrite() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.ended = true
	c.out.change.Broadcast()
	return nil
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	_ = c.CloseWrite() // nil always
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.unread = true
	c.in.change.Broadcast()
	return nil
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t) // nil always
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.read.set(t, c.in.wake)
	c.in.change.Broadcast()
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.write.set(t, c.out.wake)
	c.out.change.Broadcast()
	return nil
}
