package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
)

// gate is a handler that waits inside until it is let go or cut.
type latch struct {
	entered chan struct{}
	release chan struct{}
	cut     chan struct{}
}

func newLatch() *latch {
	return &latch{entered: make(chan struct{}, 16), release: make(chan struct{}), cut: make(chan struct{}, 16)}
}

func (g *latch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "begun ")
	_ = http.NewResponseController(w).Flush()
	g.entered <- struct{}{}
	select {
	case <-g.release:
		_, _ = io.WriteString(w, "finished")
	case <-r.Context().Done():
		g.cut <- struct{}{}
		panic(http.ErrAbortHandler)
	}
}

// get starts a request and delivers what became of it. It returns when its answer
// has begun: a reset would take away what has not been read.
func (g *latch) get(c *client) <-chan string {
	result, begun := make(chan string, 1), make(chan struct{})
	go func() {
		var once sync.Once
		defer once.Do(func() { close(begun) })
		resp, err := c.Get(c.base + "/")
		if err != nil {
			result <- err.Error()
			return
		}
		defer resp.Body.Close()
		body := make([]byte, len("begun "))
		if _, err := io.ReadFull(resp.Body, body); err != nil {
			result <- err.Error()
			return
		}
		once.Do(func() { close(begun) })
		rest, err := io.ReadAll(resp.Body)
		if body = append(body, rest...); err != nil {
			body = append(body, "cut"...)
		}
		result <- string(body)
	}()
	<-g.entered
	<-begun
	return result
}

func TestDrainLetsRequestsFinish(t *testing.T) {
	g := newLatch()
	said := make(chan bool, 1)
	var e *edge
	e = start(t, setup{handler: g.ServeHTTP, drained: func() {
		// Readiness goes first: the listeners are still open.
		c, err := net.Dial("tcp", e.http)
		if err == nil {
			_ = c.Close()
		}
		said <- e.IsDraining() && err == nil
	}})
	var results []<-chan string
	for _, c := range e.clients() {
		results = append(results, g.get(c))
	}
	if e.IsDraining() {
		t.Error("draining before it was asked to")
	}
	e.stop()
	if !<-said {
		t.Error("readiness was not withdrawn before the listeners closed")
	}
	for _, address := range []string{e.http, e.https} {
		eventually(t, address+" closed", func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
	}
	select {
	case err := <-e.finished:
		t.Fatalf("Run returned before the requests ended: %v", err)
	default:
	}
	close(g.release)
	for i, result := range results {
		if got := <-result; got != "begun finished" {
			t.Errorf("client %d got %q", i, got)
		}
	}
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
}

func TestDrainCutsWhatDoesNotFinish(t *testing.T) {
	g := newLatch()
	e := start(t, setup{config: Config{Limits: Limits{DrainTimeout: 300 * time.Millisecond}}, handler: g.ServeHTTP})
	var results []<-chan string
	for _, c := range e.clients() {
		results = append(results, g.get(c))
	}
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
	for i, result := range results {
		if got := <-result; got != "begun cut" {
			t.Errorf("client %d got %q, want to see the cut", i, got)
		}
		<-g.cut
	}
	if !strings.Contains(e.log.String(), "requests are cut") {
		t.Error("the log does not say that requests were cut")
	}
}

func TestDrainReportsHandlersThatDoNotEnd(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	e := start(t, setup{config: Config{Limits: Limits{DrainTimeout: 100 * time.Millisecond}}, handler: func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}})
	c := e.h1()
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		if resp, err := c.Get(c.base); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	if err := e.shutdown(); err == nil || !strings.Contains(err.Error(), "1 handlers did not end") {
		t.Errorf("Run returned %v", err)
	}
	close(release)
	<-failed
}

func TestDrainSaysCloseOnHTTP1(t *testing.T) {
	g := newLatch()
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		g.entered <- struct{}{}
		<-g.release
	}})
	idle, err := net.Dial("tcp", e.http)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	busy, err := net.Dial("tcp", e.http)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []net.Conn{idle, busy} {
		_ = c.SetDeadline(time.Now().Add(patience))
	}
	_, _ = io.WriteString(idle, "GET /quick HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(busy, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-g.entered
	e.stop()
	eventually(t, "draining", e.IsDraining)
	eventually(t, "listener closed", func() bool {
		c, err := net.Dial("tcp", e.http)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the idle connection: %d bytes, %v, want it closed", n, err)
	}
	close(g.release)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil || !resp.Close {
		t.Errorf("%v, %v: want Connection: close", resp, err)
	}
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
}

func TestDrainSaysGoawayOnHTTP2(t *testing.T) {
	g := newLatch()
	e := start(t, setup{handler: g.ServeHTTP})
	c := e.rawHTTP2(t)
	c.request(1, ":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "/")
	<-g.entered
	e.stop()
	var goaway *http2.GoAwayFrame
	var body []byte
	for ended := false; !ended; {
		switch f := c.read().(type) {
		case *http2.GoAwayFrame:
			goaway = f
			if f.ErrCode != http2.ErrCodeNo || f.LastStreamID < 1 {
				t.Errorf("GOAWAY %v, last stream %d", f.ErrCode, f.LastStreamID)
			}
			close(g.release)
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			t.Fatalf("reset: %v", f.ErrCode)
		}
	}
	if goaway == nil || string(body) != "begun finished" {
		t.Errorf("GOAWAY %v, body %q", goaway, body)
	}
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
}

func TestDrainSaysGoawayOnHTTP3(t *testing.T) {
	g := newLatch()
	e := start(t, setup{handler: g.ServeHTTP})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, e.https, e.tls("h3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0x100, "")
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// HEADERS with :method GET, :scheme https, :path /, :authority a.test out of
	// the static table (RFC 9204 appendix A).
	section := append([]byte{0, 0, 0xc0 | 17, 0xc0 | 23, 0xc0 | 1, 0x50, 6}, "a.test"...)
	_, _ = stream.Write(append([]byte{1, byte(len(section))}, section...))
	_ = stream.Close()
	<-g.entered

	goaway := make(chan error, 1)
	go func() { goaway <- readGoaway(ctx, conn) }()
	e.stop()
	if err := <-goaway; err != nil {
		t.Fatal(err)
	}
	late, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = late.Write(append([]byte{1, byte(len(section))}, section...))
	_ = late.Close()
	var refused *quic.StreamError
	if _, err := io.ReadAll(late); !errors.As(err, &refused) || refused.ErrorCode != 0x10b {
		t.Errorf("a request after GOAWAY: %v, want H3_REQUEST_REJECTED", err)
	}
	close(g.release)
	if got, err := io.ReadAll(stream); err != nil || !strings.HasSuffix(string(got), "finished") {
		t.Errorf("%q, %v", got, err)
	}
	// This client stays: the node goes nevertheless, long before drain_timeout.
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
}

// readGoaway reads the server's control stream (RFC 9114 6.2.1) up to the GOAWAY
// that says which requests are refused.
func readGoaway(ctx context.Context, conn *quic.Conn) error {
	seen := 0
	for {
		stream, err := conn.AcceptUniStream(ctx)
		if err != nil {
			return err
		}
		r := quicvarint.NewReader(stream)
		if kind, err := quicvarint.Read(r); err != nil || kind != 0 {
			continue
		}
		for {
			frame, err := quicvarint.Read(r)
			if err != nil {
				return err
			}
			length, err := quicvarint.Read(r)
			if err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, r, int64(length)); err != nil {
				return err
			}
			if frame == 7 {
				if seen++; seen == 2 { // the first refuses nothing yet (RFC 9114 5.2)
					return nil
				}
			}
		}
	}
}

func TestDrainCutsHijackedConnections(t *testing.T) {
	ended := make(chan error, 1)
	e := start(t, setup{config: Config{Limits: Limits{DrainTimeout: 300 * time.Millisecond}}, handler: func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_, err = conn.Read(make([]byte, 1))
		ended <- err
	}})
	c, err := net.Dial("tcp", e.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the tunnel ended with %v", err)
	}
}
