package h1

// limits_test.go tries every limit, and what is just within.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"edgecdn/cache/store"
	"edgecdn/internal/unit"
	"edgecdn/server/gate"
	"edgecdn/server/wiretest"
)

// drip sends s byte by byte, beside the test, until the other side has had enough.
func drip(c *client, s string, every time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := range s {
			<-tick.C
			if _, err := io.WriteString(c, s[i:i+1]); err != nil {
				return
			}
		}
	}()
	c.t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
}

func TestIdleTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, secure bool) {
		e := start(t, setup{memory: true, secure: secure, limits: gate.Limits{IdleTimeout: 100 * time.Millisecond}})
		fresh, used := e.dial(), e.dial()
		used.get("/")
		used.ended()
		fresh.ended()
		if n := e.stats.IdleTimeouts.Load(); n != 2 {
			t.Errorf("%d idle timeouts counted, want 2", n)
		}
	})
}

func TestHeaderTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, secure bool) {
		e := start(t, setup{memory: true, secure: secure, limits: gate.Limits{HeaderTimeout: 100 * time.Millisecond}})
		c := e.dial()
		c.get("/")
		drip(c, "GET / HTTP/1.1\r\nHost: a.test\r\nA: "+strings.Repeat("x", 10_000), time.Millisecond)
		if a := c.read("GET"); a.StatusCode != 408 || !a.Close {
			t.Errorf("%v, close %v", a.Status, a.Close)
		}
		if n := e.stats.HeaderTimeouts.Load(); n != 1 {
			t.Errorf("%d header timeouts counted", n)
		}
	})
}

func TestHeaderLimits(t *testing.T) {
	const most = 1024
	e := start(t, setup{limits: gate.Limits{HeaderBytes: most, HeaderFields: 20}})
	request := func(n int) string {
		head := "GET / HTTP/1.1\r\nHost: a.test\r\nA: \r\n\r\n"
		return strings.Replace(head, "A: ", "A: "+strings.Repeat("x", n-len(head)), 1)
	}
	for _, test := range []struct {
		name, request string
		status        int
	}{
		{"as long as may be", request(most), 200},
		{"one byte more", request(most + 1), 431},
		{"much more", request(100 * most), 431},
		{"a request line alone", "GET /" + strings.Repeat("x", most), 414},
		{"as many fields as may be", "GET / HTTP/1.1\r\nHost: a.test\r\n" + strings.Repeat("a: b\r\n", 19) + "\r\n", 200},
		{"one field more", "GET / HTTP/1.1\r\nHost: a.test\r\n" + strings.Repeat("a: b\r\n", 20) + "\r\n", 431},
	} {
		refused, lines := e.gate.Stats().HeadersRefused.Load(), e.stats.LinesTooLong.Load()
		for _, pipelined := range []bool{false, true} {
			c := e.dial()
			if pipelined { // behind another request in the buffer
				c.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n" + test.request)
				c.read("GET")
			} else {
				c.send(test.request)
			}
			if a := c.read("GET"); a.StatusCode != test.status || a.Close != (test.status != 200) {
				t.Errorf("%s: %v, close %v", test.name, a.Status, a.Close)
			}
		}
		refused, lines = e.gate.Stats().HeadersRefused.Load()-refused, e.stats.LinesTooLong.Load()-lines
		if refused != 2 && test.status == 431 || lines != 2 && test.status == 414 || test.status == 200 && refused+lines > 0 {
			t.Errorf("%s: %d and %d counted", test.name, refused, lines)
		}
	}
}

func TestConnectionRequests(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		e := start(t, setup{secure: secure, limits: gate.Limits{ConnectionRequests: 3}})
		c := e.dial()
		for i := range 3 {
			if a := c.get("/"); a.Close != (i == 2) {
				t.Errorf("request %d: close %v", i, a.Close)
			}
		}
		c.ended()
		if n := e.stats.Spent.Load(); n != 1 {
			t.Errorf("%d connections counted as spent", n)
		}
	})
}

// TestSlowBodies: who sends nothing, or less than the rate, is cut; who keeps the
// rate is not.
func TestSlowBodies(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a.test\r\n"
	inBubble(t, func(t *testing.T, secure bool) {
		results := make(chan error, 1)
		handler := func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			results <- err
		}
		e := start(t, setup{memory: true, secure: secure, handler: handler, limits: gate.Limits{StallTimeout: 100 * time.Millisecond, MinRate: 1000}})
		for _, framing := range []string{"Content-Length: 50000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nffff\r\n"} {
			c := e.dial()
			c.send(post + framing)
			if err := <-results; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("stalled: %v", err)
			}
			if a := c.read("POST"); !a.Close {
				t.Error("the connection is kept")
			}
			slow := e.stats.TooSlow.Load()
			c = e.dial()
			c.send(post + framing)
			drip(c, strings.Repeat("1", 10_000), 20*time.Millisecond)
			if err := <-results; !errors.Is(err, os.ErrDeadlineExceeded) && !strings.Contains(framing, "chunked\r\n\r\n") {
				t.Errorf("dripping: %v", err)
			}
			if n := e.stats.TooSlow.Load(); n != slow+1 && strings.Contains(framing, "50000") {
				t.Errorf("%d counted as too slow, want 1", n-slow)
			}
		}
		c := e.dial()
		c.send(post + "Content-Length: 100\r\n\r\n")
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 20 { // 400 ms at 5000 bytes a second
			<-tick.C
			_, _ = io.WriteString(c, "12345") // until it is cut
		}
		if err := <-results; err == nil {
			t.Error("a quarter of the rate was enough")
		}
		c = e.dial()
		c.send(post + "Content-Length: 10000\r\n\r\n")
		for range 20 { // 400 ms at 25 times the rate
			<-tick.C
			c.send(strings.Repeat("x", 500))
		}
		if err := <-results; err != nil {
			t.Errorf("a body at 25 times the rate: %v", err)
		}
	})
}

// narrow makes a client that takes little unless it reads.
func (e *edge) narrow(bytes int) *client {
	c := e.dial()
	inner := c.Conn
	if t, ok := inner.(interface{ NetConn() net.Conn }); ok {
		inner = t.NetConn()
	}
	_ = inner.(*net.TCPConn).SetReadBuffer(bytes)
	return c
}

// TestSlowReaders: who takes nothing, or less than the rate, is cut.
func TestSlowReaders(t *testing.T) {
	both(t, func(t *testing.T, secure bool) {
		results := make(chan error, 1)
		block := make([]byte, 256<<10)
		e := start(t, setup{secure: secure, limits: gate.Limits{StallTimeout: 150 * time.Millisecond, MinRate: unit.MiB},
			handler: func(w http.ResponseWriter, r *http.Request) {
				var err error
				for err == nil {
					_, err = w.Write(block)
				}
				results <- err
			}})
		for _, every := range []time.Duration{0, 20 * time.Millisecond} {
			c := e.narrow(16 << 10)
			c.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				if every == 0 {
					return
				}
				tick := time.NewTicker(every)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						_, _ = c.Conn.Read(make([]byte, 500))
					case <-stop:
						return
					}
				}
			}()
			if err := <-results; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("reading every %v: %v", every, err)
			}
			close(stop)
			_ = c.Close()
			<-stopped
		}
		eventually(t, "both counted as stalled", func() bool { return e.gate.Stats().Stalled.Load() == 2 })
	})
}

// TestSteadyReaders: who keeps the rate is served, however long it takes.
func TestSteadyReaders(t *testing.T) {
	config := store.Config{Memory: store.MemoryConfig{Bytes: 4 << 20}}
	config.Disk = []store.DiskConfig{{Path: t.TempDir(), Bytes: 256 << 20}}
	e := startCached(t, setup{}, config, sized)
	sizes := []int{1 << 20, 5 << 20} // from memory, and from disk by the kernel
	for _, n := range sizes {
		e.dial().get(fmt.Sprintf("/%d", n))
	}
	wiretest.Unhurried(t, 500*time.Millisecond, func(stall time.Duration) error {
		e.gate.SetLimits(gate.Limits{StallTimeout: stall, MinRate: 1000}.WithDefaults())
		for _, n := range sizes {
			if err := e.readSteadily(n); err != nil {
				return err
			}
		}
		return nil
	})
}

// readSteadily takes an answer of n bytes in many steps.
func (e *cached) readSteadily(n int) error {
	want := pattern(n)
	c := e.narrow(256 << 10)
	c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a.test\r\n\r\n", n))
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	var got []byte
	room := make([]byte, 64<<10)
	for {
		<-tick.C
		m, err := c.Conn.Read(room)
		got = append(got, room[:m]...)
		if err != nil || bytes.HasSuffix(got, want[n-64:]) {
			break
		}
	}
	if _, body, _ := bytes.Cut(got, []byte("\r\n\r\n")); !bytes.Equal(body, want) {
		return fmt.Errorf("%d of %d bytes of the body came, %d clients were too slow, %s", len(body), n, e.stats.TooSlow.Load(), e.log)
	}
	return nil
}

// TestIdleMemory: connections that wait hold no buffers.
func TestIdleMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	const connections = 1000
	e := start(t, setup{})
	clients := make([]*client, connections)
	memory := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // empties the pools
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	for i := range clients {
		c, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		clients[i] = &client{Conn: c, t: t}
		clients[i].send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if _, err := c.Read(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all wait", func() bool { return e.stats.Idle.Load() == connections })
	// The clients' side is counted, too.
	if each := (memory() - before) / connections; each > 10_000 {
		t.Errorf("%d bytes for an idle connection", each)
	} else {
		t.Logf("%d bytes for an idle connection and its client", each)
	}
}
