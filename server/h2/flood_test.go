package h2

// flood_test.go: each attack ends with its connection, is counted, and harms
// nobody else.

import (
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"edgecdn/server/gate"
)

// quick sends without minding that the connection may have ended.
func quick(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) func(w *wire) {
	return func(w *wire) { _ = w.framer.WriteRawFrame(kind, flags, id, payload) }
}

// request is a header block that touches no table: GET http://a.test/
var plainRequest = []byte{0x82, 0x86, 0x84, 0x01, 6, 'a', '.', 't', 'e', 's', 't'}

// flood is an attack.
type flood struct {
	name   string
	kind   int
	before func(w *wire)
	one    func(w *wire)
	many   int // of what is no flood yet
}

var floods = []flood{
	{"PING", floodPing, nil, quick(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8), 900},
	{"PING acknowledgements", floodPing, nil, quick(http2.FramePing, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8), 900},
	{"SETTINGS", floodSettings, nil, quick(http2.FrameSettings, 0, 0, 0, 3, 0, 0, 0, 1), 900},
	{"SETTINGS acknowledgements", floodSettings, nil, quick(http2.FrameSettings, 1, 0), 900},
	{"empty DATA", floodEmpty, open, quick(http2.FrameData, 0, 1), 900},
	{"DATA that is all padding", floodEmpty, open, quick(http2.FrameData, 8, 1, append([]byte{200}, make([]byte, 200)...)...), 900},
	{"PRIORITY", floodPriority, nil, quick(http2.FramePriority, 0, 1, 0, 0, 0, 3, 1), 900},
	{"PRIORITY_UPDATE", floodPriority, nil, quick(kindPriorityUpdate, 0, 0, 0, 0, 0, 1, 'u', '=', '1'), 900},
	{"WINDOW_UPDATE", floodWindow, nil, quick(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 1), 900},
	{"unknown frames", floodUnknown, nil, quick(0x77, 0, 0), 900},
	{"rapid reset", floodReset, nil, func(w *wire) {
		n := w.nextID()
		quick(http2.FrameHeaders, 5, n, plainRequest...)(w)
		quick(http2.FrameRSTStream, 0, n, 0, 0, 0, 8)(w)
	}, 150},
	{"made you reset by WINDOW_UPDATE", floodReset, nil, func(w *wire) {
		n := w.nextID()
		quick(http2.FrameHeaders, 4, n, plainRequest...)(w)
		quick(http2.FrameWindowUpdate, 0, n, 0, 0, 0, 0)(w)
	}, 150},
	{"made you reset by trailers", floodReset, nil, func(w *wire) {
		n := w.nextID()
		quick(http2.FrameHeaders, 4, n, plainRequest...)(w)
		quick(http2.FrameHeaders, 4, n, 0x00, 1, 'a', 1, 'b')(w)
	}, 150},
	{"malformed requests", floodReset, nil, func(w *wire) { quick(http2.FrameHeaders, 5, w.nextID(), 0x82)(w) }, 150},
}

// nextID is that of the next request.
func (w *wire) nextID() uint32 {
	w.used++
	return uint32(2*w.used - 1)
}

// readAll is what a handler of floods does.
func readAll(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err == nil {
		_, _ = io.WriteString(w, "content")
	}
}

func TestFloods(t *testing.T) {
	e := start(t, setup{handler: readAll})
	for _, test := range floods {
		t.Run(test.name, func(t *testing.T) {
			w := e.dial(t)
			if test.before != nil {
				test.before(w)
			}
			read := make(chan string, 1)
			go func() { // lest both sides wait to be read
				last := "nothing"
				for {
					f, err := w.framer.ReadFrame()
					if err != nil {
						read <- last
						return
					}
					if away, ok := f.(*http2.GoAwayFrame); ok {
						last = away.ErrCode.String()
					}
					if ping, ok := f.(*http2.PingFrame); ok && string(ping.Data[:]) == "is it ok" {
						read <- ignored
					}
				}
			}()
			before := e.stats.Floods[test.kind].Load()
			for range test.many {
				test.one(w)
			}
			quick(http2.FramePing, 0, 0, []byte("is it ok")...)(w)
			if got := <-read; got != ignored {
				t.Fatalf("after %d: %s", test.many, got)
			}
			for range floodBurst {
				test.one(w)
			}
			if got := <-read; got != http2.ErrCodeEnhanceYourCalm.String() {
				t.Errorf("ended with %s", got)
			}
			if n := e.stats.Floods[test.kind].Load() - before; n != 1 {
				t.Errorf("%d floods counted", n)
			}
		})
	}
	if resp, _ := e.overTLS().get(t, "/"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// TestGoodClientsAreNoFlood: what a client with small windows does for many
// responses is no flood, however many there are.
func TestGoodClientsAreNoFlood(t *testing.T) {
	e := start(t, setup{})
	w := e.dial(t)
	for i := range uint32(3000) {
		id := 2*i + 1
		w.get(id, "/")
		until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
		w.send(func() error { return w.framer.WriteWindowUpdate(0, 19) })
		w.send(func() error { return w.framer.WriteWindowUpdate(id, 19) })
	}
}

// TestLateReadersAreNoFlood: whoever has room for all of many responses, and reads them
// only then, tells of that in many frames at once, as Go's client does every 4 KiB.
func TestLateReadersAreNoFlood(t *testing.T) {
	const responses, size, step = 40, 100_000, 4096
	body := strings.Repeat("x", size)
	e := start(t, setup{handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }})
	w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	w.send(func() error { return w.framer.WriteWindowUpdate(0, 1<<26) })
	for i := range uint32(responses) {
		w.get(2*i+1, "/")
	}
	for range responses {
		until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
	}
	for i := range uint32(responses) {
		for range size / step {
			w.send(func() error { return w.framer.WriteWindowUpdate(0, step) })
			w.send(func() error { return w.framer.WriteWindowUpdate(2*i+1, step) })
		}
	}
	w.get(2*responses+1, "/")
	until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
	if n := e.stats.Floods[floodWindow].Load(); n != 0 {
		t.Errorf("%d floods counted", n)
	}
}

// TestContinuationFlood: a header block that never ends, with and without content.
func TestContinuationFlood(t *testing.T) {
	e := start(t, setup{})
	for _, size := range []int{0, 1, 10_000} {
		before := e.stats.HeaderFloods.Load()
		w := e.dial(t)
		w.send(func() error { return w.framer.WriteRawFrame(http2.FrameHeaders, 0, 1, []byte{0x82}) })
		for range 2 * continuationsMax {
			if w.framer.WriteRawFrame(http2.FrameContinuation, 0, 1, make([]byte, size)) != nil {
				break
			}
		}
		if reason, said := w.goneWith(); said && reason != http2.ErrCodeEnhanceYourCalm || e.stats.HeaderFloods.Load() != before+1 {
			t.Errorf("%d bytes each: ended with %v", size, reason)
		}
	}
}

// TestHeaderBomb: one large entry of the table, named a hundred times. It is
// answered 431, costs no memory, and the table stays that of the client.
func TestHeaderBomb(t *testing.T) {
	e := start(t, setup{})
	w := e.dial(t)
	w.get(1, "/", "x-bomb", strings.Repeat("b", 3900))
	until(w, func(f *http2.HeadersFrame) bool { return w.field(":status") == "200" })
	bomb := append(w.encode(":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/"), make([]byte, 100)...)
	for i := len(bomb) - 100; i < len(bomb); i++ {
		bomb[i] = 0x80 | 62 // x-bomb: 390 KB in all
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range uint32(10) {
		w.send(func() error { return w.framer.WriteRawFrame(http2.FrameHeaders, 5, 3+2*i, bomb) })
		until(w, func(f *http2.HeadersFrame) bool { return f.StreamID == 3+2*i && w.field(":status") == "431" })
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes allocated", n)
	}
	w.get(101, "/", "x-bomb", strings.Repeat("b", 3900)) // one byte for our encoder
	until(w, func(f *http2.HeadersFrame) bool { return f.StreamID == 101 && w.field(":status") == "200" })
}

// TestResetHandlersCount: handlers whose clients have left still take the place of
// a stream, so that resets are no way around limits.streams.
func TestResetHandlersCount(t *testing.T) {
	var working, most atomic.Int64
	release := make(chan struct{})
	e := start(t, setup{limits: gate.Limits{Streams: 10}, handler: func(w http.ResponseWriter, r *http.Request) {
		now := working.Add(1)
		for was := most.Load(); was < now && !most.CompareAndSwap(was, now); was = most.Load() {
		}
		defer working.Add(-1)
		<-release
	}})
	w := e.dial(t)
	for i := range uint32(50) {
		w.get(2*i+1, "/")
		w.send(func() error { return w.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel) })
	}
	until(w, func(f *http2.RSTStreamFrame) bool { return f.StreamID == 99 && f.ErrCode == http2.ErrCodeRefusedStream })
	eventually(t, "10 handlers", func() bool { return working.Load() == 10 })
	close(release)
	eventually(t, "their end", func() bool { return e.gate.Inflight() == 0 })
	w.get(101, "/")
	until(w, func(f *http2.HeadersFrame) bool { return f.StreamID == 101 })
	if n := e.stats.Refused.Load(); n != 40 || most.Load() != 10 {
		t.Errorf("%d refused, %d at work", n, most.Load())
	}
}

// TestWindowGames: stored responses are not held by clients that open no window, or
// only byte by byte.
func TestWindowGames(t *testing.T) {
	o := cached(t, sized)
	warm(t, start(t, o).inClear(), "/a-1000", "/b-1000000") // with all the time that it needs
	o.limits = gate.Limits{StallTimeout: 200 * time.Millisecond, MinRate: 10_000}
	e := start(t, o)
	w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range uint32(5) {
		w.get(2*i+1, "/a-1000")
	}
	for range 5 {
		until(w, func(f *http2.RSTStreamFrame) bool { return f.ErrCode == http2.ErrCodeEnhanceYourCalm })
	}
	w.get(11, "/b-1000000")
	var pump sync.WaitGroup
	stop := make(chan struct{})
	pump.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = w.framer.WriteWindowUpdate(11, 1)
			}
		}
	})
	until(w, func(f *http2.RSTStreamFrame) bool {
		return f.StreamID == 11 && f.ErrCode == http2.ErrCodeEnhanceYourCalm
	})
	close(stop)
	pump.Wait()
	if n := e.stats.Stalled.Load(); n != 6 {
		t.Errorf("%d stalled", n)
	}
	eventually(t, "6 counted", func() bool { return e.gate.Stats().Stalled.Load() == 6 && e.gate.Stats().Aborted.Load() == 6 })
}

// TestPendingIsBounded: a client that asks for much and reads nothing makes us hold
// little; and what it sends meanwhile is still read.
func TestPendingIsBounded(t *testing.T) {
	o := cached(t, sized)
	e := start(t, o)
	warm(t, e.inClear(), "/a-1000000")
	w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	w.send(func() error { return w.framer.WriteWindowUpdate(0, 1<<30) })
	for i := range uint32(100) {
		w.get(2*i+1, "/a-1000000")
	}
	c := e.onlyConn(t)
	eventually(t, "100 parked", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.streams) > 60 && c.writing
	})
	for i := range uint32(90) {
		w.send(func() error { return w.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel) })
	}
	eventually(t, "resets read", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := c.pending(); n > pendingBytesMax+inlineBytes {
			t.Errorf("%d bytes pending", n)
		}
		return len(c.streams) <= 10
	})
	for range 10 {
		until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() && f.StreamID > 180 })
	}
}

// onlyConn returns the connection that is open in the clear, apart from those of
// http clients.
func (e *edge) onlyConn(t *testing.T) (c *conn) {
	t.Helper()
	eventually(t, "a connection", func() bool {
		e.clear.mu.Lock()
		defer e.clear.mu.Unlock()
		for one := range e.clear.conns {
			one.mu.Lock()
			if one.initialWindow == 1<<30 {
				c = one
			}
			one.mu.Unlock()
		}
		return c != nil
	})
	return c
}

// TestSoakFloods has all attackers at work at once, again and again: every request
// of a good client succeeds, and memory stays where it was. EDGE_SOAK says for how
// long.
func TestSoakFloods(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("EDGE_SOAK"))
	if err != nil {
		t.Skip("EDGE_SOAK is not set")
	}
	o := cached(t, sized)
	inner := o.handler
	o.handler = func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "a.test" && r.Method == "GET" {
			inner(w, r)
			return
		}
		readAll(w, r)
	}
	e := start(t, o)
	warm(t, e.inClear(), "/good-10000")
	var attackers sync.WaitGroup
	stop := make(chan struct{})
	for _, attack := range floods {
		attackers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				w := e.dial(t)
				go func() { _, _ = io.Copy(io.Discard, w.nc) }()
				if attack.before != nil {
					attack.before(w)
				}
				for range 3 * floodBurst {
					attack.one(w)
				}
				_ = w.nc.Close()
			}
		})
	}
	good := []*client{e.inClear(), e.overTLS()}
	var most, first uint64
	served := 0
	for end := time.Now().Add(long); time.Now().Before(end); served++ {
		c := good[served%len(good)]
		r := c.request(t, "GET", "/good-10000", nil)
		r.Host = "a.test"
		if resp, body := c.do(t, r); resp.StatusCode != 200 || len(body) != 10_000 {
			t.Errorf("%s, %d bytes", resp.Status, len(body))
		}
		if served%100 == 0 {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			if first == 0 {
				first = stats.HeapInuse
			}
			most = max(most, stats.HeapInuse)
		}
	}
	close(stop)
	attackers.Wait()
	t.Logf("%d good requests; %d MB at first, %d MB at most", served, first>>20, most>>20)
	if most > first+256<<20 {
		t.Error("memory grew")
	}
}
