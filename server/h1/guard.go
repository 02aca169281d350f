package h1

// guard.go cuts clients that take too little of what they are sent.

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"edgecdn/server/gate"
)

// guard watches writes that wait for the client. A client must take
// limits.min_rate, averaged over limits.stall_timeout of waiting at a time; what it
// has taken is what it has acknowledged, for the socket's buffer hides the rest.
// Time in which nothing is to be written does not count.
type guard struct {
	c *conn

	mu     sync.Mutex // guards what follows
	timer  *time.Timer
	armed  bool
	began  time.Time     // of the write that is under way, zero for none
	waited time.Duration // by writes that have ended
	acked  uint64        // when waited was 0
	slow   bool          // judged, and cut
}

// tooSlow is what reads and writes fail with whose client is too slow.
type tooSlow struct{}

func (tooSlow) Error() string   { return "h1: the client is slower than limits.min_rate" }
func (tooSlow) Unwrap() error   { return os.ErrDeadlineExceeded }
func (tooSlow) Timeout() bool   { return true }
func (tooSlow) Temporary() bool { return false }

// write calls write, which may wait for the client.
func (g *guard) write(write func() (int64, error)) (int64, error) {
	g.start(time.Now())
	n, err := write()
	if slow := g.stop(time.Now()); slow && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
		err = tooSlow{}
	}
	return n, err
}

func (g *guard) start(now time.Time) {
	limits := g.c.engine.door.Limits()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.began = now
	if g.waited == 0 {
		g.acked = g.c.acknowledged()
	}
	if !g.armed {
		g.arm(limits.StallTimeout - g.waited)
	}
}

func (g *guard) arm(d time.Duration) {
	g.armed = true
	if g.timer == nil {
		g.timer = time.AfterFunc(d, g.look)
	} else {
		g.timer.Reset(d)
	}
}

// stop ends a write and says whether the client was too slow.
func (g *guard) stop(now time.Time) bool {
	limits := g.c.engine.door.Limits()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waited += now.Sub(g.began) + 1
	g.began = time.Time{}
	g.judge(g.waited, limits)
	return g.slow
}

// look judges a write that is still under way.
func (g *guard) look() {
	limits := g.c.engine.door.Limits()
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = false
	if g.began.IsZero() {
		return
	}
	waited := g.waited + now.Sub(g.began)
	if g.judge(waited, limits) {
		g.began, waited = now, 0
	}
	if g.slow {
		g.c.writes.setOurs(time.Unix(1, 0)) // wakes it
		return
	}
	g.arm(limits.StallTimeout - waited)
}

// judge reports whether it was time to, and begins anew then.
func (g *guard) judge(waited time.Duration, limits *gate.Limits) bool {
	if waited < limits.StallTimeout || g.slow {
		return false
	}
	acked := g.c.acknowledged()
	if float64(acked-g.acked) < float64(limits.MinRate)*waited.Seconds() {
		g.slow = true
		g.c.engine.stats.TooSlow.Add(1)
	}
	g.waited, g.acked = 0, acked
	return true
}

// close ends the watch.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
	}
}

// acknowledged returns how many bytes the client has acknowledged.
func (c *conn) acknowledged() (n uint64) {
	if c.socket == nil {
		return c.passed.Load()
	}
	_ = c.socket.Control(func(fd uintptr) { // a closed connection acknowledges nothing more
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); err == nil {
			n = info.Bytes_acked
		}
	})
	return n
}
