package origin

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edgecdn/cmd/origin/script"
)

func TestConnectionsAreBoundedAndKept(t *testing.T) {
	s, cfg := scripted(t, "h1")
	cfg.Connections = 4
	f := open(t, cfg)
	for range 2 {
		var work sync.WaitGroup
		for range 12 {
			work.Go(func() {
				resp, err := f.RoundTrip(f.request(t.Context(), "GET", "/_origin/respond?delay=10ms&size=10", nil))
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
	want(t, "at once", s.Peak(), 4)
	want(t, "answered", s.Total(), 24)
	want(t, "dialed", f.stats().ConnectionsDialed.Load(), 4)
}

func TestBusyConnectionsAreWaitedForInBounds(t *testing.T) {
	s, cfg := scripted(t, "h1")
	cfg.Connections, cfg.DialTimeout = 1, time.Second
	f := open(t, cfg)
	busy, err := f.do("GET", "/_origin/sse?interval=10m", nil)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	for range waitingPerConnection {
		work.Go(func() {
			_, err := f.RoundTrip(f.request(t.Context(), "GET", "/", nil))
			wantKind(t, "one that waits", err, KindConnectionLimit)
		})
	}
	eventually(t, "all wait", func() bool { return f.stats().Waiting.Load() == waitingPerConnection })
	_, err = f.do("GET", "/", nil)
	wantKind(t, "one too many", err, KindConnectionLimit)
	if err == nil || !strings.Contains(err.Error(), "wait for a connection already") {
		t.Errorf("it was not refused at once: %v", err)
	}
	work.Wait()
	busy.Body.Close()
	want(t, "arrived", s.Total(), 1)
	f.get("/")
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
	f.get("/")
	if err := os.WriteFile(cfg.CA, append(right, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, f, map[string]Config{"o": cfg})
	f.get("/")
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
	f.get("/")
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
