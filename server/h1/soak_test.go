package h1

// soak_test.go lets clients that mean ill loose on the engine, and one that does not.

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"edgecdn/cache/store"
	"edgecdn/server/gate"
)

// TestSoakFloods runs for EDGE_SOAK, at most: slow headers, slow bodies, readers that
// stall, garbage, floods of connections and of pipelined requests, beside idle
// connections. Memory stays bounded, and a well-behaved client is served.
func TestSoakFloods(t *testing.T) {
	text := os.Getenv("EDGE_SOAK")
	if text == "" {
		t.Skip("endurance run: runs with EDGE_SOAK=10m, as in make soak")
	}
	length, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("EDGE_SOAK: %v", err)
	}
	e := startCached(t, setup{limits: gate.Limits{HeaderTimeout: 2 * time.Second, StallTimeout: 2 * time.Second, IdleTimeout: time.Hour}}, store.Config{}, sized)
	good := e.dial()
	e.warm(good, "/1000")
	e.warm(good, "/1000000")
	before := soakMemory()
	var idle []net.Conn
	for range 5000 {
		c, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_, _ = io.WriteString(c, "GET /1000 HTTP/1.1\r\nHost: a.test\r\n\r\n")
		idle = append(idle, c)
	}
	stop := make(chan struct{})
	var floods sync.WaitGroup
	for _, flood := range []func(c net.Conn, tick <-chan time.Time){
		func(c net.Conn, tick <-chan time.Time) { trickle(c, tick, "GET / HTTP/1.1\r\nA: ", "x") },
		func(c net.Conn, tick <-chan time.Time) {
			trickle(c, tick, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n", "x")
		},
		func(c net.Conn, tick <-chan time.Time) {
			trickle(c, tick, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n")
		},
		func(c net.Conn, tick <-chan time.Time) {
			trickle(c, tick, strings.Repeat("GET /1000000 HTTP/1.1\r\nHost: a.test\r\n\r\n", 50), "")
		},
		func(c net.Conn, _ <-chan time.Time) { _, _ = io.WriteString(c, "\x00garbage\r\n\r\n") },
		func(c net.Conn, _ <-chan time.Time) {
			_, _ = io.WriteString(c, strings.Repeat("GET /1000 HTTP/1.1\r\nHost: a.test\r\n\r\n", 200))
			_, _ = io.CopyN(io.Discard, c, 10_000)
		},
	} {
		for range 40 {
			floods.Go(func() { e.flood(stop, flood) })
		}
	}
	served := 0
	for deadline := time.Now().Add(length); time.Now().Before(deadline); served++ {
		_ = good.SetDeadline(time.Now().Add(patience))
		if a := good.get("/1000"); a.StatusCode != 200 || a.err != nil {
			t.Fatalf("after %d answers: %v, %v", served, a.Status, a.err)
		}
	}
	used := soakMemory() - before
	close(stop)
	floods.Wait()
	t.Logf("%d answers beside the floods, %d KiB for 5000 idle connections and 240 that flood, both sides", served, used>>10)
	if used > 100<<20 {
		t.Errorf("%d bytes of memory", used)
	}
	for i, c := range idle { // nobody has taken theirs away
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, "GET /1000 HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
			t.Fatalf("idle connection %d: %v", i, err)
		}
	}
	for name, n := range map[string]uint64{"header timeouts": e.stats.HeaderTimeouts.Load(), "too slow": e.stats.TooSlow.Load(), "malformed": e.gate.Stats().Malformed.Load()} {
		if n == 0 {
			t.Errorf("no %s: the floods did nothing", name)
		}
	}
}

func soakMemory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// flood does the same on one connection after the other.
func (e *edge) flood(stop <-chan struct{}, do func(net.Conn, <-chan time.Time)) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		c, err := net.Dial("tcp", e.address)
		if err != nil {
			e.t.Error(err)
			return
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		do(c, tick.C)
		_ = c.Close()
	}
}

// trickle sends first, and then piece after piece until the other side has had
// enough.
func trickle(c net.Conn, tick <-chan time.Time, first, piece string) {
	_, err := io.WriteString(c, first)
	for range 100 {
		<-tick
		if err == nil && piece != "" {
			_, err = fmt.Fprint(c, piece)
		}
		if err != nil {
			return
		}
	}
}
