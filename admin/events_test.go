package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipeWriter is a response that is read while it is written.
type pipeWriter struct {
	*io.PipeWriter
	header http.Header
	mu     sync.Mutex
	status int
}

func (p *pipeWriter) Header() http.Header { return p.header }
func (p *pipeWriter) WriteHeader(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}
func (p *pipeWriter) Flush() {}

// watch opens the stream; lines gives it line by line and is closed at its end.
func watch(ctx context.Context, s *Server, token string, header ...string) (lines <-chan string) {
	r := ask{path: "/v1/purges/events", authorization: "Bearer " + token, header: header}.request().WithContext(ctx)
	out, in := io.Pipe()
	to := make(chan string, 10_000)
	go func() {
		s.http.Handler.ServeHTTP(&pipeWriter{PipeWriter: in, header: http.Header{}}, r)
		in.Close()
	}()
	go func() {
		defer close(to)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			to <- scan.Text()
		}
	}()
	return to
}

// ids reads the ids of n events.
func ids(t *testing.T, lines <-chan string, n int) (got []string) {
	t.Helper()
	for line := range lines {
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			if got = append(got, id); len(got) == n {
				return got
			}
		}
	}
	t.Fatalf("the stream ended after %v", got)
	return nil
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &purgesFake{}
		s, token, _ := newTestServer(t, &node{purges: fake})
		ci := addToken(t, s, Token{Name: "ci", Scopes: []string{"purge"}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all, own := watch(ctx, s, token), watch(ctx, s, ci)
		synctest.Wait()
		if s.stats.Watchers.Load() != 2 {
			t.Errorf("%d watchers", s.stats.Watchers.Load())
		}
		for i, by := range []string{token, ci, token, ci} {
			s.answer(postPurge(by, fmt.Sprintf(`{"urls":["https://a/%d"]}`, i)))
		}
		if got := fmt.Sprint(ids(t, all, 4)); got != "[p000001 p000002 p000003 p000004]" {
			t.Errorf("all: %s", got)
		}
		if got := fmt.Sprint(ids(t, own, 2)); got != "[p000002 p000004]" {
			t.Errorf("those of ci: %s", got)
		}
		// One that comes back is told what it missed, from the oldest on.
		for last, want := range map[string]string{"p000002": "[p000003 p000004]", "p000000": "[p000001 p000002 p000003 p000004]"} {
			back := watch(ctx, s, token, "Last-Event-ID", last)
			if got := fmt.Sprint(ids(t, back, strings.Count(want, "p"))); got != want {
				t.Errorf("after %s: %s, want %s", last, got, want)
			}
		}
		// Silence has its heartbeat.
		for range heartbeat / time.Second {
			time.Sleep(time.Second)
		}
		synctest.Wait()
		found := false
		for len(all) > 0 {
			found = <-all == ": still here" || found
		}
		if !found {
			t.Error("no heartbeat")
		}
		// A token that is revoked ends its streams with the next one.
		s.answer(ask{method: "DELETE", path: "/v1/tokens/ci", authorization: "Bearer " + token})
		time.Sleep(heartbeat + time.Second)
		synctest.Wait()
		for range own { // until closed
		}
		if s.stats.Watchers.Load() != 3 {
			t.Errorf("%d watchers after one was shut out", s.stats.Watchers.Load())
		}
		// One that does not keep up is left.
		fake.hangUp()
		synctest.Wait()
		for range all {
		}
		if s.stats.Watchers.Load() != 0 {
			t.Errorf("%d watchers after all were left", s.stats.Watchers.Load())
		}
	})
}

func TestMissedEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &purgesFake{}
		s, token, _ := newTestServer(t, &node{purges: fake})
		for i := range 2 * eventsMissed {
			fake.receipts = append(fake.receipts, Receipt{ID: fmt.Sprintf("p%06d", i), Actor: "x", Targets: []string{"a"}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		lines := watch(ctx, s, token, "Last-Event-ID", "p000000")
		synctest.Wait()
		cancel()
		events := 0
		for line := range lines {
			if strings.HasPrefix(line, "id: ") {
				events++
			}
		}
		if events != eventsMissed {
			t.Errorf("%d events, want %d", events, eventsMissed)
		}
	})
}

func TestWatchersAreBounded(t *testing.T) {
	s, token, _ := newTestServer(t, &node{purges: &purgesFake{}})
	for range watchersMax {
		s.watchers <- struct{}{}
	}
	a := ask{path: "/v1/purges/events", authorization: "Bearer " + token}
	if w := s.answer(a); w.Code != 503 || s.stats.WatchersRefused.Load() != 1 {
		t.Errorf("one over the bound: %d", w.Code)
	}
	<-s.watchers
	a.gone = true
	for range 3 {
		if w := s.answer(a); w.Code != 200 {
			t.Errorf("one within: %d", w.Code)
		}
	}
	a.method = "HEAD"
	if w := s.answer(a); w.Code != 200 || w.Body.Len() > 0 || len(s.watchers) != watchersMax-1 {
		t.Errorf("HEAD: %d %s", w.Code, w.Body)
	}
}

// pipes is a listener within a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A stream outlives the limits that the listener has for requests, and ends with
// the server.
func TestEventsOutliveTheLimitsOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, token, _ := newTestServer(t, &node{purges: &purgesFake{}})
		listener := make(pipes, 1)
		s.listener = listener
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		conn, far := net.Pipe()
		listener <- far
		fmt.Fprintf(conn, "GET /v1/purges/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", token)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%v %+v", err, resp)
		}
		lines := make(chan string, 1000)
		go func() {
			defer close(lines)
			for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
				lines <- scan.Text()
			}
		}()
		time.Sleep(3 * messageTimeout)
		s.answer(postPurge(token, `{"urls":["https://a/"]}`))
		if got := ids(t, lines, 1); got[0] != "p000001" {
			t.Errorf("event %v", got)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		for range lines { // until the server has closed the connection
		}
		conn.Close()
	})
}

// A token that a reload takes away, or its scopes, ends its streams with the next
// heartbeat; one that stays does not notice.
func TestReloadEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, token, _ := newTestServer(t, &node{purges: &purgesFake{}})
		kept := s.cfg.Tokens
		gone := addToken(t, s, Token{Name: "gone", Scopes: []string{"purge"}})
		less := addToken(t, s, Token{Name: "less", Scopes: []string{"read"}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stays := watch(ctx, s, token)
		ended := []<-chan string{watch(ctx, s, gone), watch(ctx, s, less)}
		synctest.Wait()
		narrow := s.cfg.Tokens[len(s.cfg.Tokens)-1]
		narrow.Scopes = []string{"config"}
		cfg := s.cfg
		cfg.Tokens = append(slices.Clone(kept), narrow)
		if err := s.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(heartbeat + time.Second)
		synctest.Wait()
		if n := s.stats.Watchers.Load(); n != 1 {
			t.Errorf("%d watchers, want 1", n)
		}
		cancel()
		for _, lines := range append(ended, stays) {
			for range lines { // until closed
			}
		}
	})
}
