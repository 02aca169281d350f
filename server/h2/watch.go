package h2

// watch.go cuts connections whose client takes too little of what it is sent: less
// than limits.min_rate, averaged over limits.stall_timeout of writes that wait for
// it. What it has taken is what it has acknowledged, for the socket's buffer hides
// the rest. What windows hold back is judged elsewhere, stream by stream.

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watch is looked at when a timer fires; writes only note their beginning and end.
type watch struct {
	raw    syscall.RawConn // nil where there is no socket: what was written counts then
	timer  *time.Timer
	armed  bool
	began  time.Time     // of the write that is under way, zero for none
	waited time.Duration // by writes since taken was noted
	taken  uint64
	based  bool   // taken is noted
	sent   uint64 // by writes that have ended
}

// tooSlow is what streams fail with whose client is.
type tooSlow struct{}

func (tooSlow) Error() string { return "h2: the client is slower than limits.min_rate" }
func (tooSlow) Unwrap() error { return os.ErrDeadlineExceeded }

// rawConn returns the socket of a connection, or nil.
func rawConn(nc net.Conn) syscall.RawConn {
	if socket, ok := nc.(syscall.Conn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

func (c *conn) beginWrite() {
	c.watch.began = time.Now()
	if !c.watch.armed {
		c.armWatch(c.door.Limits().StallTimeout / 2)
	}
}

func (c *conn) endWrite(n int) {
	w := &c.watch
	w.waited += time.Since(w.began)
	w.began = time.Time{}
	w.sent += uint64(n)
}

func (c *conn) armWatch(d time.Duration) {
	w := &c.watch
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(d, c.look)
	} else {
		w.timer.Reset(d)
	}
}

// look is the timer's. It goes on as long as writes are under way.
func (c *conn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, limits := &c.watch, c.door.Limits()
	w.armed = false
	if c.broken {
		return
	}
	writing := !w.began.IsZero()
	if writing {
		now := time.Now()
		w.waited += now.Sub(w.began)
		w.began = now
	}
	switch taken := w.acknowledged(); {
	case !w.based:
		w.based, w.taken, w.waited = true, taken, 0
	case w.waited >= limits.StallTimeout:
		slow := float64(taken-w.taken) < float64(limits.MinRate)*w.waited.Seconds()
		w.taken, w.waited = taken, 0
		if slow {
			c.engine.stats.TooSlow.Add(1)
			c.lose(tooSlow{})
			if writing {
				_ = c.bottom.Close() // ends the write
			}
			return
		}
	}
	if writing {
		c.armWatch(max(limits.StallTimeout-w.waited, limits.StallTimeout/stallChecks))
	}
}

// acknowledged returns how many bytes the client has taken.
func (w *watch) acknowledged() uint64 {
	if w.raw == nil {
		return w.sent
	}
	n := w.taken
	_ = w.raw.Control(func(fd uintptr) { // a closed connection acknowledges nothing more
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			n = info.Bytes_acked
		}
	})
	return n
}
