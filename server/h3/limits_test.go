package h3

// limits_test.go reaches every bound, and has each counted.

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

func TestHeaderLimits(t *testing.T) {
	e := start(t, setup{limits: gate.Limits{HeaderBytes: 2048, HeaderFields: 20}})
	c := newTalk(t, e.dial())
	if got := c.settings()[settingMaxFieldSectionSize]; got != 2048 {
		t.Errorf("SETTINGS_MAX_FIELD_SECTION_SIZE is %d", got)
	}
	many := func(n int) (fields []cache.Field) {
		for i := range n {
			fields = append(fields, cache.Field{Name: fmt.Sprint("x", i), Value: "v"})
		}
		return fields
	}
	long := func(n int) cache.Field { return cache.Field{Name: "x", Value: strings.Repeat("\"", n)} }
	for _, tt := range []struct {
		name   string
		fields []cache.Field
		status string
	}{
		{"fields within", many(20), "200"},
		{"fields beyond", many(21), "431"},
		{"bytes within", []cache.Field{long(1900)}, "200"},
		{"bytes beyond", []cache.Field{long(2048)}, "431"},
		{"bytes far beyond, not even read", []cache.Field{long(100_000)}, "431"},
	} {
		before := e.gate.Stats().HeadersRefused.Load()
		resp := c.ask(headersFrame(getFields("/h/", tt.fields...)...)).response()
		refused := e.gate.Stats().HeadersRefused.Load() - before
		if resp.status() != tt.status || refused != 0 != (tt.status == "431") {
			t.Errorf("%s: %s, %d counted", tt.name, resp.status(), refused)
		}
	}
	// A few bytes of the static table stand for many.
	bomb := append([]byte{0, 0, 0xd1, 0xd7, 0xc1, 0x50, 1, 'h'}, strings.Repeat("\xff\x16", 900)...)
	if resp := c.ask(frame(frameHeaders, bomb)).response(); resp.status() != "431" {
		t.Errorf("expanding fields: %s", resp.status())
	}
	c.wantAlive()
}

func TestTrailerLimits(t *testing.T) {
	e := start(t, setup{limits: gate.Limits{HeaderBytes: 2048}, handler: reading})
	c := newTalk(t, e.dial())
	for _, n := range []int{2048, 100_000} {
		s := c.ask(post, dataFrame("x"), headersFrame(cache.Field{Name: "x", Value: strings.Repeat("\"", n)}))
		s.wantReset(codeExcessiveLoad)
	}
	c.wantAlive()
	if n := e.stats.StreamErrors.Load(); n != 2 {
		t.Errorf("%d counted", n)
	}
}

// TestStreams has no more requests under way than limits.streams.
func TestStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		release := make(chan struct{})
		var most, now atomic.Int64
		e := start(t, setup{network: n, limits: gate.Limits{Streams: 3}, handler: func(http.ResponseWriter, *http.Request) {
			most.Store(max(most.Load(), now.Add(1)))
			<-release
			now.Add(-1)
		}})
		c := newTalk(t, e.dial())
		var asked []*stream
		for range 3 {
			asked = append(asked, c.ask(good))
		}
		if _, err := c.q.OpenStream(); err == nil {
			t.Error("a fourth stream could be opened")
		}
		close(release)
		for _, s := range asked {
			s.response()
		}
		c.wantAlive()
		if n := most.Load(); n > 3 {
			t.Errorf("%d at once", n)
		}
	})
}

func TestConnectionRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n, limits: gate.Limits{ConnectionRequests: 3}})
		c := newTalk(t, e.dial())
		for range 3 {
			if resp := c.ask(good).response(); resp.status() != "200" {
				t.Errorf("%+v", resp)
			}
		}
		if first, second := c.goaway(), c.goaway(); first != goawayAny || second != 12 {
			t.Errorf("GOAWAY %d, %d", first, second)
		}
		c.wantClosed(codeNoError)
		if n := e.stats.RequestsMax.Load(); n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

func TestHeaderTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n, limits: gate.Limits{HeaderTimeout: 50 * time.Millisecond}})
		c := newTalk(t, e.dial())
		for _, part := range [][]byte{{frameHeaders}, good[:len(good)/2], frame(0x21, []byte("x"))} {
			s := c.open()
			s.write(part)
			s.wantReset(codeRequestIncomplete)
		}
		if n := e.stats.HeaderTimeouts.Load(); n != 3 {
			t.Errorf("%d counted", n)
		}
		c.wantAlive()
	})
}

func TestIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n, limits: gate.Limits{IdleTimeout: 500 * time.Millisecond}})
		c := newTalk(t, e.dial())
		c.wantAlive()
		if id := c.goaway(); id != 4 {
			t.Errorf("GOAWAY %d", id)
		}
		c.wantClosed(codeNoError)
		if n := e.stats.IdleClosed.Load(); n != 1 {
			t.Errorf("%d counted", n)
		}
	})
}

// TestBusyIsNotIdle has a slow handler keep its connection.
func TestBusyIsNotIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n, limits: gate.Limits{IdleTimeout: 400 * time.Millisecond}, handler: func(w http.ResponseWriter, r *http.Request) {
			<-time.After(time.Second)
			_, _ = io.WriteString(w, "at last")
		}})
		c := newTalk(t, e.dial())
		if resp := c.ask(good).response(); resp.body != "at last" {
			t.Errorf("%+v", resp)
		}
	})
}

// TestFloods has each of what brings a client no further bounded.
func TestFloods(t *testing.T) {
	repeat := func(n int, b []byte) []byte { return []byte(strings.Repeat(string(b), n)) }
	const enough = noiseFree + 2*noisePerRequest
	for _, tt := range []struct {
		name    string
		do      func(c *talk)
		ignored bool
	}{
		{"unknown frames on the control stream", control(repeat(enough, frame(0x21, nil))), true},
		{"a huge unknown frame on the control stream", control(frame(0x21, make([]byte, enough*controlPayloadMax))), true},
		{"unknown frames on a request stream", ask(repeat(enough, frame(0x21, nil)), good), true},
		{"a huge unknown frame on a request stream", ask(frame(0x21, make([]byte, ignoredBytesMax+1)), good), false},
		{"empty DATA frames", ask(headersFrame(fieldsOf("POST", "/h/read")...), repeat(enough, dataFrame(""))), true},
		{"unknown streams", func(c *talk) {
			for range enough {
				s, err := c.q.OpenUniStreamSync(c.bounded())
				if err != nil {
					return // closed: just as well
				}
				_, _ = s.Write([]byte{0x21})
				_ = s.Close()
			}
		}, true},
		{"PRIORITY_UPDATE", control(repeat(enough, frame(framePriorityRequest, append(varints(8), "u=1"...)))), true},
		{"MAX_PUSH_ID", control(repeat(enough, frame(frameMaxPushID, varints(1)))), true},
		{"GOAWAY", control(repeat(enough, frame(frameGoaway, varints(1)))), true},
		{"capacities on the encoder stream", encoder(repeat(enough, []byte{0x20})...), true},
		{"cancellations on the decoder stream", decoder(repeat(enough, []byte{0x41})...), true},
		{"settings that are too long", func(c *talk) { c.uni(streamControl, frame(frameSettings, make([]byte, controlPayloadMax+1))) }, false},
		{"settings that are too many", func(c *talk) {
			var many []uint64
			for i := range uint64(settingsMax + 1) {
				many = append(many, 0x21+0x1f*i, 0)
			}
			settings(many...)(c)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := start(t, setup{handler: reading})
			c := newTalk(t, e.dial())
			tt.do(c)
			c.wantClosed(codeExcessiveLoad)
			eventually(t, "its count", func() bool { return e.stats.Excessive.Load() == 1 })
			if n := e.stats.Ignored.Load(); tt.ignored && n < noiseFree {
				t.Errorf("%d ignored were counted", n)
			}
		})
	}
}

// TestResetFlood opens requests and cancels them at once, or has the server reset
// them, as often as it can (CVE-2023-44487, CVE-2025-8671 in HTTP/2). No more
// handlers are ever at work than limits.streams.
func TestResetFlood(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(s *stream)
	}{
		{"reset before the end", func(s *stream) {
			s.write(post)
			s.CancelWrite(codeRequestCancelled)
			s.CancelRead(codeRequestCancelled)
		}},
		{"stopped after the end", func(s *stream) {
			s.write(good)
			s.close()
			s.CancelRead(codeRequestCancelled)
		}},
		{"made to be reset by the header", func(s *stream) {
			s.write(with("connection", "close")...)
			s.close()
		}},
		{"made to be reset by the body", func(s *stream) {
			s.write(posted("3", dataFrame("four"))...)
			s.close()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var busy, most atomic.Int64
			e := start(t, setup{limits: gate.Limits{Streams: 20}, handler: func(w http.ResponseWriter, r *http.Request) {
				most.Store(max(most.Load(), busy.Add(1)))
				defer busy.Add(-1)
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
				<-time.After(time.Millisecond) // clearing up takes a while
			}})
			c := newTalk(t, e.dial())
			for range 2*resetsFree + 100 {
				s, err := c.q.OpenStreamSync(c.bounded())
				if err != nil {
					break
				}
				tt.do(&stream{Stream: s, t: t})
			}
			c.wantClosed(codeExcessiveLoad)
			eventually(t, "all handlers gone", func() bool { return busy.Load() == 0 })
			if n := most.Load(); n > 20 {
				t.Errorf("%d handlers at once", n)
			}
			if n := e.stats.Resets.Load(); n <= resetsFree {
				t.Errorf("%d resets counted", n)
			}
		})
	}
}

// TestPrioritiesRemembered bounds what is remembered for requests to come.
func TestPrioritiesRemembered(t *testing.T) {
	e := start(t, setup{limits: gate.Limits{Streams: 4}})
	c := newTalk(t, e.dial())
	var updates [][]byte
	for i := range uint64(10) {
		updates = append(updates, frame(framePriorityRequest, append(varints(4*i), "u=1"...)))
	}
	control(updates...)(c)
	eventually(t, "updates dropped", func() bool { return e.stats.PrioritiesDropped.Load() == 6 })
	c.wantAlive()
}

// small has a client offer windows of a few bytes, and never more.
func small(q *quic.Config) {
	q.InitialStreamReceiveWindow, q.MaxStreamReceiveWindow = 64, 64
	q.InitialConnectionReceiveWindow, q.MaxConnectionReceiveWindow = 4096, 4096
}

// TestTinyWindows has clients that take nothing cut, whatever they asked for.
func TestTinyWindows(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n, limits: gate.Limits{StallTimeout: 100 * time.Millisecond}, handler: func(w http.ResponseWriter, r *http.Request) {
			_, err := w.Write(content(100_000))
			if err == nil {
				err = http.NewResponseController(w).Flush()
			}
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		}})
		warm := newTalk(t, e.dial())
		warm.ask(headersFrame(getFields("/100000")...)).response()
		for _, path := range []string{"/100000", "/h/"} {
			before := e.gate.Stats().Stalled.Load()
			c := newTalk(t, e.dial(small))
			c.ask(headersFrame(getFields(path)...))
			eventually(t, path+" cut", func() bool {
				return e.gate.Stats().Stalled.Load() > before && e.gate.Inflight() == 0
			})
		}
		if n := e.gate.Stats().Aborted.Load(); n != 2 {
			t.Errorf("%d aborted", n)
		}
	})
}

// TestBlocked has a short hit that does not fit the windows sent when they open.
func TestBlocked(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n})
		newTalk(t, e.dial()).ask(headersFrame(getFields("/1000")...)).response()
		c := newTalk(t, e.dial(small))
		if resp := c.ask(headersFrame(getFields("/1000")...)).response(); resp.body != string(content(1000)) {
			t.Errorf("%+v", resp)
		}
		if n := e.stats.Blocked.Load(); n != 1 {
			t.Errorf("%d blocked", n)
		}
	})
}

// TestStalledBody has a body that stops coming end in an error.
func TestStalledBody(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		failed := make(chan error, 1)
		e := start(t, setup{network: n, limits: gate.Limits{StallTimeout: 100 * time.Millisecond}, handler: func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			failed <- err
		}})
		c := newTalk(t, e.dial())
		s := c.open()
		s.write(post, dataFrame("some"))
		if err := wait(t, failed); err == nil {
			t.Error("the body ended well")
		}
		if n := e.gate.Stats().Stalled.Load(); n != 1 {
			t.Errorf("%d stalled", n)
		}
		s.response()
		s.wantStopped(codeNoError)
	})
}

// TestMinRate has a body that drips cut, though it never stops.
func TestMinRate(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		failed := make(chan error, 1)
		e := start(t, setup{network: n, limits: gate.Limits{StallTimeout: 200 * time.Millisecond, MinRate: 1000}, handler: func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			failed <- err
		}})
		c := newTalk(t, e.dial())
		s := c.open()
		s.write(post)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.write(dataFrame("x"))
				continue
			case err := <-failed:
				if err == nil {
					t.Error("the body ended well")
				}
			case <-time.After(soon):
				t.Error("was never cut")
			}
			return
		}
	})
}

// TestSlowReader has answers to a client that takes them in drips cut, though it
// never stops: hits and others.
func TestSlowReader(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n, limits: gate.Limits{StallTimeout: 200 * time.Millisecond, MinRate: 100_000}, handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(content(100_000))
		}})
		newTalk(t, e.dial()).ask(headersFrame(getFields("/100000")...)).response()
		for _, path := range []string{"/100000", "/h/"} {
			before := e.gate.Stats().Stalled.Load()
			s := newTalk(t, e.dial(small)).ask(headersFrame(getFields(path)...))
			tick := time.NewTicker(5 * time.Millisecond)
			var err error
			for took := 0; err == nil; {
				<-tick.C
				var n int
				n, err = s.Read(make([]byte, 10))
				if took += n; took > 90_000 {
					t.Fatalf("%s: took it all", path)
				}
			}
			tick.Stop()
			var reset *quic.StreamError
			if !errors.As(err, &reset) || !reset.Remote {
				t.Errorf("%s: %v", path, err)
			}
			if n := e.gate.Stats().Stalled.Load(); n != before+1 {
				t.Errorf("%s: %d stalled", path, n-before)
			}
		}
	})
}

// TestUnendedRequest has a GET whose stream does not end refused in time.
func TestUnendedRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		e := start(t, setup{network: n, limits: gate.Limits{StallTimeout: 50 * time.Millisecond}})
		c := newTalk(t, e.dial())
		s := c.open()
		s.write(good)
		if resp := s.response(); resp.status() != "408" {
			t.Errorf("%+v", resp)
		}
		s.wantStopped(codeNoError)
	})
}

// TestHitNeedsNoEnd has GETs answered from memory when the end comes later, and at
// once where content-length says that nothing follows.
func TestHitNeedsNoEnd(t *testing.T) {
	e := start(t, setup{})
	c := newTalk(t, e.dial())
	c.ask(headersFrame(getFields("/1000")...)).response()
	late := c.open()
	late.write(headersFrame(getFields("/1000")...))
	c.wantAlive() // though the other one waits
	late.close()
	if resp := late.response(); !strings.HasPrefix(resp.header["cache-status"], "edge; hit") {
		t.Errorf("%+v", resp.header)
	}
	never := c.open()
	never.write(headersFrame(getFields("/1000", cache.Field{Name: "content-length", Value: "0"})...))
	if resp := never.response(); !strings.HasPrefix(resp.header["cache-status"], "edge; hit") {
		t.Errorf("%+v", resp.header)
	}
}
