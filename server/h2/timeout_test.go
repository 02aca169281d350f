package h2

// timeout_test.go: who takes or sends nothing is cut, who is merely slow is not;
// and how connections end.

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"edgecdn/server/gate"
)

// TestClientsThatTakeNothingAreCut: by their stream's window, by the connection's,
// and by not reading at all.
func TestClientsThatTakeNothingAreCut(t *testing.T) {
	failed := make(chan error, 1)
	e := start(t, setup{limits: gate.Limits{StallTimeout: 200 * time.Millisecond}, handler: func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 256<<10)
		for {
			if _, err := w.Write(block); err != nil {
				failed <- err
				return
			}
		}
	}})
	w := e.dial(t)
	w.get(1, "/")
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	until(w, func(f *http2.RSTStreamFrame) bool { return f.ErrCode == http2.ErrCodeEnhanceYourCalm })
	w = e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	w.send(func() error { return w.framer.WriteWindowUpdate(0, 1<<30) })
	w.get(1, "/")
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) { // of the stream or of all, whoever looks first
		t.Error(err)
	}
	eventually(t, "the end of the connection", func() bool { return e.stats.TooSlow.Load() == 1 })
	eventually(t, "2 aborted", func() bool { return e.gate.Stats().Aborted.Load() == 2 && e.gate.Stats().Stalled.Load() == 2 })
}

// TestSmallResponsesNobodyTakesAreCut: those of handlers and of the gate.
func TestSmallResponsesNobodyTakesAreCut(t *testing.T) {
	inBubble(t, setup{limits: gate.Limits{StallTimeout: 100 * time.Millisecond}}, func(t *testing.T, e *edge) {
		w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for i, path := range []string{"/handler", "/bad path"} {
			id := uint32(2*i + 1)
			w.get(id, path)
			until(w, func(f *http2.RSTStreamFrame) bool {
				return f.StreamID == id && f.ErrCode == http2.ErrCodeEnhanceYourCalm
			})
		}
		eventually(t, "2 stalled", func() bool { return e.gate.Stats().Stalled.Load() == 2 })
	})
}

// TestSlowClientsAreServed: progress, however slow, keeps a response and a request
// alive for much longer than the stall timeout.
func TestSlowClientsAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = 200 * time.Millisecond
		e := start(t, setup{memory: true, limits: gate.Limits{StallTimeout: stall}, handler: func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(body)
		}})
		w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		w.post(1, "/")
		tick := time.NewTicker(stall / 10)
		defer tick.Stop()
		body := bytes.Repeat([]byte("x"), 20*100)
		for range 20 {
			<-tick.C
			w.send(func() error { return w.framer.WriteData(1, false, body[:100]) })
		}
		w.send(func() error { return w.framer.WriteData(1, true, nil) })
		got := 0
		for got < len(body) {
			<-tick.C
			w.send(func() error { return w.framer.WriteWindowUpdate(1, 100) })
			until(w, func(f *http2.DataFrame) bool { got += len(f.Data()); return true })
		}
	})
}

// TestClientsThatSendNothingAreCut: in the middle of a body, or too slowly; but
// not while the handler reads nothing.
func TestClientsThatSendNothingAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		read := make(chan struct{})
		e := start(t, setup{memory: true, limits: gate.Limits{StallTimeout: 200 * time.Millisecond, MinRate: 10_000}, handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/later" {
				<-read
			}
			_, err := io.ReadAll(r.Body)
			failed <- err
		}})
		w := e.dial(t)
		w.post(1, "/")
		w.send(func() error { return w.framer.WriteData(1, false, []byte("half")) })
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		w.post(3, "/")
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for waiting := true; waiting; {
			select {
			case err := <-failed:
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				waiting = false
			case <-tick.C:
				w.send(func() error { return w.framer.WriteData(3, false, []byte("x")) })
			}
		}
		w.post(5, "/later")
		time.AfterFunc(500*time.Millisecond, func() { _ = w.framer.WriteData(5, true, []byte("all")); close(read) })
		if err := <-failed; err != nil {
			t.Error(err)
		}
	})
}

// TestIdleConnectionsEnd: with GOAWAY, and whatever is said that is no request.
func TestIdleConnectionsEnd(t *testing.T) {
	inBubble(t, setup{limits: gate.Limits{IdleTimeout: 200 * time.Millisecond}}, func(t *testing.T, e *edge) {
		w := e.dial(t)
		w.get(1, "/")
		until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if w.framer.WritePing(false, [8]byte{}) != nil {
					return
				}
			}
		}()
		away := until(w, func(f *http2.GoAwayFrame) bool { return true })
		if away.ErrCode != http2.ErrCodeNo || away.LastStreamID != 1 || e.stats.Idle.Load() != 1 {
			t.Errorf("%v, %d idle", away, e.stats.Idle.Load())
		}
		_ = w.nc.Close()
		<-done
	})
}

// TestSilentConnectionsEnd: idle time begins with the end of a response, even
// when nothing more is read.
func TestSilentConnectionsEnd(t *testing.T) {
	inBubble(t, setup{limits: gate.Limits{IdleTimeout: 100 * time.Millisecond}}, func(t *testing.T, e *edge) {
		w := e.dial(t)
		w.get(1, "/")
		until(w, func(f *http2.GoAwayFrame) bool { return f.ErrCode == http2.ErrCodeNo && f.LastStreamID == 1 })
	})
}

// TestBusyConnectionsAreNotIdle: a handler that takes long keeps its connection.
func TestBusyConnectionsAreNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, setup{memory: true, limits: gate.Limits{IdleTimeout: 50 * time.Millisecond}, handler: func(w http.ResponseWriter, r *http.Request) {
			<-time.After(300 * time.Millisecond)
		}})
		w := e.dial(t)
		w.get(1, "/")
		until(w, func(f *http2.HeadersFrame) bool { return f.StreamID == 1 && w.field(":status") == "200" })
	})
}

// TestHeaderTimeout: what does not become whole in time.
func TestHeaderTimeout(t *testing.T) {
	inBubble(t, setup{limits: gate.Limits{HeaderTimeout: 100 * time.Millisecond}}, func(t *testing.T, e *edge) {
		for i, begin := range []func(w *wire){
			func(w *wire) {},
			func(w *wire) { _, _ = io.WriteString(w.nc, preface[:10]) },
			func(w *wire) { _, _ = io.WriteString(w.nc, preface) },
			func(w *wire) {
				_, _ = io.WriteString(w.nc, preface)
				_ = w.framer.WriteSettings()
				_ = w.framer.WriteRawFrame(http2.FrameHeaders, 0, 1, plainRequest)
			},
			func(w *wire) {
				_, _ = io.WriteString(w.nc, preface)
				_ = w.framer.WriteSettings()
				_, _ = w.nc.Write(appendHeader(nil, 100, kindHeaders, 5, 1))
			},
		} {
			w := e.dialBare(t)
			begin(w)
			if reason, said := w.goneWith(); !said || reason != http2.ErrCodeEnhanceYourCalm || e.stats.HeaderTimeouts.Load() != uint64(i+1) {
				t.Errorf("case %d: ended with %v, %v", i, reason, said)
			}
		}
	})
}

// TestConnectionRequests: the limit is kept with GOAWAY, and everything asked
// before the client can know is answered.
func TestConnectionRequests(t *testing.T) {
	inBubble(t, setup{limits: gate.Limits{ConnectionRequests: 3}}, func(t *testing.T, e *edge) {
		w := e.dial(t)
		for id := uint32(1); id <= 9; id += 2 {
			w.get(id, "/")
		}
		told, answered := false, 0
		until(w, func(f http2.Frame) bool {
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				told = f.LastStreamID == streamIDMax && f.ErrCode == http2.ErrCodeNo
			case *http2.DataFrame:
				if f.StreamEnded() {
					answered++
				}
			}
			return told && answered == 5
		})
		w.send(func() error { return w.framer.WritePing(true, [8]byte([]byte(drainPing))) })
		away := until(w, func(f *http2.GoAwayFrame) bool { return true })
		if away.LastStreamID != 9 || e.stats.Exhausted.Load() != 1 {
			t.Errorf("%v, %d exhausted", away, e.stats.Exhausted.Load())
		}
		if w.read() != nil {
			t.Error("the connection goes on")
		}
	})
}

// TestDrain: GOAWAY, then, when the client has read it, the last stream; later
// requests are left alone, those under way are answered, and the connection ends.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := start(t, setup{memory: true, handler: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/wait" {
				<-release
			}
			_, _ = io.WriteString(w, "answered")
		}})
		w := e.dial(t)
		w.get(1, "/wait")
		w.get(3, "/")
		until(w, func(f *http2.DataFrame) bool { return f.StreamID == 3 && f.StreamEnded() })
		e.clear.Drain()
		until(w, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == streamIDMax })
		w.get(5, "/") // the client has not read it yet
		until(w, func(f *http2.DataFrame) bool { return f.StreamID == 5 && f.StreamEnded() })
		w.send(func() error { return w.framer.WritePing(true, [8]byte([]byte(drainPing))) })
		until(w, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == 5 && f.ErrCode == http2.ErrCodeNo })
		w.post(7, "/") // too late
		w.send(func() error { return w.framer.WriteData(7, true, []byte("x")) })
		w.send(func() error { return w.framer.WritePing(false, [8]byte{1}) })
		until(w, func(f *http2.PingFrame) bool { return f.IsAck() })
		close(release)
		until(w, func(f *http2.DataFrame) bool { return f.StreamID == 1 && f.StreamEnded() })
		if f := w.read(); f != nil {
			t.Errorf("%v after the last response", f)
		}
		late := e.dial(t) // a connection that comes while others drain is told with its first request
		late.get(1, "/")
		until(late, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == streamIDMax })
		until(late, func(f *http2.DataFrame) bool { return f.StreamID == 1 && f.StreamEnded() })
	})
}

// TestDrainOfSilentNewcomers: one that makes no request is told all the same.
func TestDrainOfSilentNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, setup{memory: true})
		e.clear.Drain()
		begun := time.Now()
		until(e.dial(t), func(f *http2.GoAwayFrame) bool { return f.LastStreamID == streamIDMax })
		if took := time.Since(begun); took < newcomerGrace {
			t.Errorf("told after %v", took)
		}
	})
}

// TestDrainWithoutAnAnswer: a client that does not acknowledge the PING is told the
// last stream a moment later.
func TestDrainWithoutAnAnswer(t *testing.T) {
	inBubble(t, setup{}, func(t *testing.T, e *edge) {
		w := e.dial(t)
		w.get(1, "/")
		until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
		e.clear.Drain()
		until(w, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == streamIDMax })
		until(w, func(f *http2.GoAwayFrame) bool { return f.LastStreamID == 1 })
		if f := w.read(); f != nil {
			t.Errorf("%v after GOAWAY", f)
		}
	})
}

// TestDrainLosesNothing: real clients that ask all the time see no error when
// their connection is drained under them.
func TestDrainLosesNothing(t *testing.T) {
	e := start(t, setup{})
	c := e.overTLS()
	done := make(chan error, 8)
	started := make(chan struct{}, 8)
	for range cap(done) {
		go func() {
			for i := range 200 {
				if i == 20 {
					started <- struct{}{}
				}
				resp, err := c.Get(c.base + "/")
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cap(started) {
		<-started
	}
	e.secure.mu.Lock()
	for one := range e.secure.conns { // as Drain does, but new connections go on
		one.requestDrain()
	}
	e.secure.mu.Unlock()
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestCut ends everything at once.
func TestCut(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(left)
	}})
	w := e.dial(t)
	w.get(1, "/")
	<-entered
	e.clear.Cut()
	<-left
	w.goneWith()
	nc := e.dialBare(t)
	if f := nc.read(); f != nil {
		t.Errorf("%v after Cut", f)
	}
}
