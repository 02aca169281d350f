package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edgecdn/cmd/origin/script"
)

func TestConnectionsAreBoundedAndKept(t *testing.T) {
	var now, peak, all atomic.Int64
	full := make(chan struct{})
	b := serve(t)
	b.set(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		if n == 4 && peak.Load() < 4 {
			close(full)
		}
		for most := peak.Load(); n > most && !peak.CompareAndSwap(most, n); most = peak.Load() {
		}
		all.Add(1)
		select { // the first wait for each other
		case <-full:
		case <-r.Context().Done():
		}
		pause(10 * time.Millisecond)
		io.WriteString(w, "0123456789")
	})
	f := open(t, Config{URL: "http://" + b.address, Connections: 4, DialTimeout: 20 * time.Second})
	for range 2 {
		var work sync.WaitGroup
		for range 12 {
			work.Go(func() {
				resp, err := f.RoundTrip(f.request(t.Context(), "GET", "/", nil))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		}
		work.Wait()
	}
	want(t, "at once", peak.Load(), 4)
	want(t, "answered", all.Load(), 24)
	want(t, "dialed", f.stats().ConnectionsDialed.Load(), 4)
}

// TestConnectionThatComesBackIsTaken: also where it comes between the look for one and
// the wait for a place, and all places are taken.
func TestConnectionThatComesBackIsTaken(t *testing.T) {
	cfg := Config{Connections: 1}.WithDefaults()
	p := &h1Pool{cfg: &cfg, stats: &Stats{}}
	rests := newH1Conn(&scriptedConn{r: strings.NewReader("")}, p.stats)
	p.add(rests)
	defer p.retire()
	c, err := p.place(t.Context(), "", false)
	if c != rests || err != nil {
		t.Fatalf("not taken: %v, %v", c, err)
	}
	p.put(c)
	c, err = p.place(t.Context(), "", true)
	want(t, "a place for one that is dialed", c == nil && err == nil, true)
	p.leave()
}

func TestBusyConnectionsAreWaitedForInBounds(t *testing.T) {
	s, cfg := scripted(t, "h1")
	cfg.Connections, cfg.DialTimeout = 1, time.Minute
	f := open(t, cfg)
	busy, err := f.do("GET", "/_origin/sse?interval=10m", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work sync.WaitGroup
	for range waitingPerConnection {
		work.Go(func() {
			if _, err := f.RoundTrip(f.request(ctx, "GET", "/", nil)); !errors.Is(err, context.Canceled) {
				t.Errorf("one that waits: %v", err)
			}
		})
	}
	eventually(t, "all wait", func() bool { // in line: they are counted as waiting a little before
		links := f.upstreamOf("o").links
		links.mu.Lock()
		defer links.mu.Unlock()
		waiting := 0
		for _, s := range links.senders {
			pool := &s.(*endpoint).h1.pool
			pool.mu.Lock()
			waiting += len(pool.line)
			pool.mu.Unlock()
		}
		return waiting == waitingPerConnection
	})
	_, err = f.do("GET", "/", nil)
	wantKind(t, "one too many", err, KindConnectionLimit)
	if err == nil || !strings.Contains(err.Error(), "wait for a connection already") {
		t.Errorf("it was not refused at once: %v", err)
	}
	cancel()
	work.Wait()
	busy.Body.Close()
	want(t, "arrived", s.Total(), 1)
	f.get("/_origin/echo")
}

func TestBusyConnectionsAreNotWaitedForLong(t *testing.T) {
	s, cfg := scripted(t, "h1")
	cfg.Connections, cfg.DialTimeout = 1, 200*time.Millisecond
	f := open(t, cfg)
	busy, err := f.do("GET", "/_origin/sse?interval=10m", nil)
	for range 50 { // a slow machine may need longer to connect
		if err == nil {
			break
		}
		busy, err = f.do("GET", "/_origin/sse?interval=10m", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.do("GET", "/", nil)
	wantKind(t, "one that waits", err, KindConnectionLimit)
	if err == nil || !strings.Contains(err.Error(), "busy for 200ms") {
		t.Errorf("got %v", err)
	}
	want(t, "arrived", s.Requests("/"), 0)
	busy.Body.Close()
}

func TestApplyKeepsWhatIsUnchanged(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		remote := f.echo("/_origin/echo").Remote
		_, other := scripted(t, "h1")
		apply(t, f, map[string]Config{"o": cfg, "p": other})
		want(t, "same connection", f.echo("/_origin/echo").Remote, remote)
		explicit := cfg
		explicit.Connections = 256 // the default, written out
		apply(t, f, map[string]Config{"o": explicit})
		want(t, "same connection", f.echo("/_origin/echo").Remote, remote)

		changed := cfg
		changed.Connections = 3
		apply(t, f, map[string]Config{"o": changed})
		s := f.stats()
		eventually(t, "the old connection closes", func() bool { return s.ConnectionsOpen.Load() == 0 })
		if f.echo("/_origin/echo").Remote == remote {
			t.Error("the connection outlived its configuration")
		}
		want(t, "requests are counted on", s.Requests.Load(), 4)
	})
}

func apply(t *testing.T, f *fixture, origins map[string]Config) {
	t.Helper()
	if err := f.Apply(origins); err != nil {
		t.Fatal(err)
	}
}

func TestRemovedOriginDrains(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		s := f.stats()
		resp, err := f.do("GET", "/video/2MB.bin", nil)
		if err != nil {
			t.Fatal(err)
		}
		apply(t, f, nil)
		_, err = f.do("GET", "/", nil)
		wantKind(t, "removed", err, KindNotFound)
		text, err := io.ReadAll(resp.Body)
		if err != nil || string(text) != pattern(0, 2_000_000) {
			t.Errorf("body under way: %d bytes, %v", len(text), err)
		}
		resp.Body.Close()
		eventually(t, "its connection closes", func() bool { return s.ConnectionsOpen.Load() == 0 })
		for name := range f.Stats() {
			t.Errorf("%s still has statistics", name)
		}
	})
}

func TestApplyAllOrNothing(t *testing.T) {
	_, cfg := scripted(t, "h1")
	f := open(t, cfg)
	remote := f.echo("/_origin/echo").Remote
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := f.Apply(map[string]Config{
		"a": {URL: "https://a.example", CA: "missing.pem"},
		"b": {URL: "ftp://b.example"},
		"c": {URL: "https://c.example", CA: empty},
	})
	if err == nil {
		t.Fatal("applied")
	}
	for _, part := range []string{"origin a: ca: ", "missing.pem", "origin b: url: ", "origin c: ca: ", "holds no PEM certificate"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	want(t, "same connection", f.echo("/_origin/echo").Remote, remote)
	if _, err := New(map[string]Config{"a": {}}, nil); err == nil || !strings.Contains(err.Error(), "origin a: url: is missing") {
		t.Errorf("New: %v", err)
	}
}

func TestApplyReadsTheAuthoritiesAgain(t *testing.T) {
	_, cfg := scripted(t, "h2")
	right, err := os.ReadFile(cfg.CA)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, cfg)
	f.get("/_origin/echo")
	if err := os.WriteFile(cfg.CA, append(right, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, f, map[string]Config{"o": cfg})
	f.get("/_origin/echo")
	want(t, "dialed anew", f.stats().ConnectionsDialed.Load(), 2)
}

func TestInsecureIsSaidAloud(t *testing.T) {
	var out bytes.Buffer
	cfg := map[string]Config{"o": {URL: "https://o.example", Insecure: true}, "p": {URL: "https://p.example"}}
	transport, err := New(cfg, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	apply(t, &fixture{transport, t}, cfg)
	if text := out.String(); strings.Count(text, "any certificate is accepted") != 1 || !strings.Contains(text, "origin=o") {
		t.Errorf("logged %q", text)
	}
}

func TestCloseEndsIt(t *testing.T) {
	_, cfg := scripted(t, "h1")
	f := open(t, cfg)
	s := f.stats()
	f.get("/_origin/echo")
	f.Close()
	f.Close()
	eventually(t, "connections close", func() bool { return s.ConnectionsOpen.Load() == 0 })
	_, err := f.do("GET", "/", nil)
	wantKind(t, "after Close", err, KindNotFound)
	if err := f.Apply(map[string]Config{"o": cfg}); err == nil {
		t.Error("Apply after Close")
	}
}

// TestApplyUnderLoad: no request fails because of a reload, and nothing is left
// open after the last.
func TestApplyUnderLoad(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		s := f.stats()
		stop := make(chan struct{})
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					resp, err := f.RoundTrip(f.request(t.Context(), "GET", "/_origin/respond?size=20000", nil))
					if err != nil {
						t.Error(err)
						return
					}
					if n, err := io.Copy(io.Discard, resp.Body); n != 20_000 || err != nil {
						t.Errorf("%d bytes, %v", n, err)
					}
					resp.Body.Close()
				}
			})
		}
		for i := range 20 {
			changed := cfg
			changed.Connections = 10 + i
			done := s.Requests.Load() + 5
			eventually(t, "requests go on", func() bool { return s.Requests.Load() >= done })
			apply(t, f, map[string]Config{"o": changed})
		}
		close(stop)
		work.Wait()
		want(t, "active", s.Active.Load(), 0)
		f.Close()
		eventually(t, "all connections close", func() bool { return s.ConnectionsOpen.Load() == 0 })
	})
}
