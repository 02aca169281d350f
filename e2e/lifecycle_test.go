package e2e

import (
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"edgecdn/cmd/origin/script"
)

// A graceful stop lets downloads in flight finish, over each protocol, while
// the node says that it wants no more.
func TestGracefulStop(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	want := make([]byte, 1_000_000)
	script.Pattern(want, 0)

	type download struct {
		name string
		body io.ReadCloser
	}
	var downloads []download
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		resp, err := c.Do(c.request(t, "GET", respond("size", "1MB", "chunks", "10", "chunk_delay", "300ms", "for", protocol, "header", "Cache-Control:no-store"), nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		downloads = append(downloads, download{protocol, resp.Body})
	}
	n.signal(t, syscall.SIGTERM)
	var wg sync.WaitGroup
	for _, d := range downloads {
		wg.Go(func() {
			body, err := io.ReadAll(d.body)
			if err != nil || string(body) != string(want) {
				t.Errorf("%s: cut by the stop after %d bytes: %v", d.name, len(body), err)
			}
		})
	}
	eventually(t, "not ready, or gone", func() bool { return n.ready() != 200 })
	wg.Wait()
	if code := n.wait(t); code != 0 {
		t.Errorf("exit code %d after a graceful stop", code)
	}
}

// With the origin gone, what is stored goes on being served; what is not is a
// 502, and so it is stale-if-error that decides over the rest.
func TestOriginDown(t *testing.T) {
	o := startOrigin(t)
	n := startEdge(t, o)
	c := newClient(t, n, "h1")
	fresh := respond("body", "fresh", "header", "Cache-Control:max-age=600")
	stale := respond("body", "stale", "header", "Cache-Control:max-age=1, stale-if-error=600")
	strict := respond("body", "strict", "header", "Cache-Control:max-age=1, must-revalidate, stale-if-error=600")
	for _, target := range []string{fresh, stale, strict} {
		c.get(t, target).want(t, 200, soonStale)
	}
	eventually(t, "they are stale", func() bool {
		return strings.Contains(c.get(t, stale).Header.Get("Cache-Status"), "fwd=stale") &&
			strings.Contains(c.get(t, strict).Header.Get("Cache-Status"), "fwd=stale")
	})
	o.kill()
	c.get(t, fresh).want(t, 200, hit)
	eventually(t, "the stale one is served for its error", func() bool {
		a := c.get(t, stale)
		if a.StatusCode != 200 || a.body != "stale" {
			t.Fatalf("stale-if-error: status %d, body %q", a.StatusCode, a.body)
		}
		return strings.Contains(a.Header.Get("Cache-Status"), "ttl=-")
	})
	eventually(t, "what must be validated is not served stale", func() bool {
		a := c.get(t, strict)
		return a.StatusCode == 502 || a.StatusCode == 503 || a.StatusCode == 504
	})
	// Its breaker is open by now, or it is tried.
	if a := c.get(t, "/_origin/respond?never=seen"); a.StatusCode == 503 {
		a.want(t, 503, "edge; fwd=uri-miss.*")
		if a.Header.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
	} else {
		a.want(t, 502, "edge; fwd=uri-miss.*")
	}
	o.start(t)
	eventually(t, "the origin is asked again", func() bool { return c.get(t, strict).StatusCode == 200 })
}

// The node answers right when it is built with the race detector, which then
// has nothing to say.
func TestRaceBuild(t *testing.T) {
	need(t, "gcc")
	program := filepath.Join(t.TempDir(), "edge-race")
	if out, err := build("edge", program, "-race"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o := startOrigin(t)
	n := newNode(t)
	n.program = program
	n.args = []string{"serve", "--origin", o.url, "--http", n.http, "--https", n.https, "--admin", n.admin, "--data", n.data}
	n.start(t)
	var wg sync.WaitGroup
	for _, protocol := range protocols {
		for worker := range 3 {
			c := newClient(t, n, protocol)
			wg.Go(func() {
				for i := range 150 {
					target := respond("size", strconv.Itoa(1+i%40*2500), "for", strconv.Itoa(i%40), "header", "Cache-Control:max-age=1")
					req := c.request(t, "GET", target, nil)
					if i%5 == worker {
						req.Header.Set("Range", "bytes=0-0")
					}
					if a, err := c.try(req); err != nil || a.StatusCode >= 300 {
						t.Errorf("%s %s: %v, %v", protocol, target, a.Response, err)
						return
					}
				}
			})
		}
	}
	wg.Go(func() {
		for range 10 {
			n.metrics(t)
			n.signal(t, syscall.SIGHUP)
		}
	})
	wg.Wait()
	n.signal(t, syscall.SIGTERM)
	if code := n.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if said := n.output.String(); strings.Contains(said, "DATA RACE") {
		t.Errorf("the race detector says:\n%s", said[strings.Index(said, "DATA RACE"):])
	}
}

// Two nodes cannot share a data directory, nor a port; both say so and end.
func TestRefusedStart(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, tt := range []struct{ name, http, data, want string }{
		{"port taken", n.http, t.TempDir(), n.http},
		{"data taken", address(t), n.data, n.data},
	} {
		out, err := exec.Command(n.program, "serve", "--origin", "http://127.0.0.1:9", "--http", tt.http, "--https", address(t), "--admin", address(t), "--data", tt.data).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v, want a failure that names %s:\n%s", tt.name, err, tt.want, out)
		}
	}
	if n.ready() != 200 {
		t.Errorf("the first node suffered: %s", tail(n.output.String(), 5))
	}
}
