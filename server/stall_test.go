package server

// stall_test.go: who takes or sends nothing is cut, who is merely slow is not.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"edgecdn/cache"
	"edgecdn/server/wiretest"
)

func stalling(stall time.Duration) Config {
	return Config{Limits: Limits{StallTimeout: stall, MinRate: 1}}
}

// TestClientsThatTakeNothingAreCut: the write of an endless response fails.
func TestClientsThatTakeNothingAreCut(t *testing.T) {
	failed, begun := make(chan error, 1), make(chan struct{})
	e := start(t, setup{config: stalling(300 * time.Millisecond), handler: func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-begun: // a reset would take away a header that was not read
		case <-r.Context().Done():
		}
		block := make([]byte, 256<<10)
		for {
			if _, err := w.Write(block); err != nil {
				failed <- err
				return
			}
		}
	}})
	e.each(t, func(t *testing.T, c *client) {
		resp, err := c.Get(c.base + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		begun <- struct{}{}
		select {
		case <-failed:
		case <-time.After(patience):
			t.Fatal("the handler still writes")
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the response ended cleanly")
		}
	})
}

// TestSmallResponsesNobodyTakesAreCut: what net/http has buffered when the
// handler returns must not hold a stream for ever either.
func TestSmallResponsesNobodyTakesAreCut(t *testing.T) {
	e := start(t, setup{config: stalling(300 * time.Millisecond), handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "small")
	}})
	for _, path := range []string{"/handler", "/bad path"} { // the second is answered by the engine itself
		c := e.rawHTTP2(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		c.request(1, ":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", path)
		for reset := false; !reset; {
			switch c.read().(type) {
			case *http2.RSTStreamFrame:
				reset = true
			case *http2.DataFrame:
				t.Fatalf("%s: DATA without a window", path)
			}
		}
	}
}

// TestSlowClientsAreServed: progress, however slow, keeps a response alive for
// much longer than the stall timeout.
func TestSlowClientsAreServed(t *testing.T) {
	const size = 16 << 20
	wiretest.Unhurried(t, 700*time.Millisecond, func(stall time.Duration) error {
		e := start(t, setup{config: stalling(stall), handler: func(w http.ResponseWriter, r *http.Request) {
			block := make([]byte, 256<<10)
			for range size / len(block) {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}})
		return e.together(func(c *client) error { return c.takeSlowly(size, stall/14) })
	})
}

// takeSlowly reads a response of so many bytes in steps.
func (c *client) takeSlowly(size int, every time.Duration) error {
	resp, err := c.Get(c.base + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	buffer := make([]byte, 256<<10)
	got, begun := 0, time.Now()
	for err == nil {
		<-tick.C
		var n int
		n, err = io.ReadFull(resp.Body, buffer)
		got += n
	}
	if err != io.EOF || got != size {
		return fmt.Errorf("%s: %d bytes of %d after %v: %w", c.name, got, size, time.Since(begun), err)
	}
	return nil
}

// answers is an attempt that wants this content of all clients.
func (e *edge) answers(want string, request func(c *client) *http.Request) error {
	return e.together(func(c *client) error {
		body, err := c.ask(request(c))
		if err == nil && body != want {
			err = fmt.Errorf("%s: %q", c.name, body)
		}
		return err
	})
}

// TestSilenceOfTheOriginIsNoStall: an event stream may be idle for longer than a
// client may.
func TestSilenceOfTheOriginIsNoStall(t *testing.T) {
	wiretest.Unhurried(t, 200*time.Millisecond, func(stall time.Duration) error {
		e := start(t, setup{config: stalling(stall), handler: func(w http.ResponseWriter, r *http.Request) {
			for i := range 3 {
				fmt.Fprintf(w, "event %d\n", i)
				w.(http.Flusher).Flush()
				silence := time.NewTimer(4 * stall)
				select {
				case <-silence.C:
				case <-r.Context().Done():
					silence.Stop()
					panic(http.ErrAbortHandler)
				}
			}
			_, _ = io.WriteString(w, "end")
		}})
		return e.answers("event 0\nevent 1\nevent 2\nend", func(c *client) *http.Request { return c.request(t, "GET", "/", nil) })
	})
}

// TestIdleQUICConnectionsWithAStreamStay: probes keep a silent response alive
// beyond the idle time that the client asks for.
func TestIdleQUICConnectionsWithAStreamStay(t *testing.T) {
	t.Parallel()
	const idle = 5 * time.Second // http3 believes no client that says less
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		silence := time.NewTimer(idle + 2*time.Second)
		defer silence.Stop()
		select {
		case <-silence.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "late")
	}})
	c := e.h3()
	c.Transport.(*http3.Transport).QUICConfig = &quic.Config{MaxIdleTimeout: idle}
	if _, body := c.get(t, "/"); body != "late" {
		t.Errorf("%q", body)
	}
}

// TestUploadsThatStallAreCut, on every protocol, and uploads that are slow arrive.
func TestUploadsThatStallAreCut(t *testing.T) {
	result := make(chan error, 1)
	e := start(t, setup{config: stalling(300 * time.Millisecond), handler: func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		result <- err
	}})
	e.each(t, func(t *testing.T, c *client) {
		from, to := io.Pipe()
		go func() {
			resp, err := c.Do(c.request(t, "POST", "/", from))
			if err == nil {
				_ = resp.Body.Close()
			}
			_ = from.CloseWithError(errors.New("answered"))
		}()
		_, _ = io.WriteString(to, "some") // unless it is cut by then
		select {
		case err := <-result:
			if err == nil {
				t.Error("the body ended cleanly")
			}
		case <-time.After(patience):
			t.Error("the handler still reads")
		}
		_ = to.Close()
	})
	if n := e.Stats().Gate.Stalled.Load(); n < 4 {
		t.Errorf("%d stalls counted, want 4", n)
	}
}

func TestSlowUploadsArrive(t *testing.T) {
	wiretest.Unhurried(t, 500*time.Millisecond, func(stall time.Duration) error {
		e := start(t, setup{config: stalling(stall), handler: func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", body, err)
		}})
		return e.answers(strings.Repeat(".", 15)+" <nil>", func(c *client) *http.Request {
			from, to := io.Pipe()
			go func() {
				tick := time.NewTicker(stall / 5)
				defer tick.Stop()
				for range 15 {
					<-tick.C
					_, _ = io.WriteString(to, ".")
				}
				_ = to.Close()
			}()
			return c.request(t, "POST", "/", from)
		})
	})
}

// TestSilenceOfTheReaderIsNoStall: while the handler is busy elsewhere, the
// client's time to send does not run.
func TestSilenceOfTheReaderIsNoStall(t *testing.T) {
	wiretest.Unhurried(t, 200*time.Millisecond, func(stall time.Duration) error {
		reading := map[string]chan struct{}{}
		e := start(t, setup{config: stalling(stall), handler: func(w http.ResponseWriter, r *http.Request) {
			first := make([]byte, 4)
			_, err := io.ReadFull(r.Body, first)
			busy := time.NewTimer(3 * stall)
			<-busy.C
			close(reading[r.URL.Path])
			rest, err2 := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s%s %v %v", first, rest, err, err2)
		}})
		paths := map[string]string{}
		for i, name := range []string{"h1", "h1 over TLS", "h2", "h3"} {
			paths[name] = fmt.Sprint("/", i)
			reading[paths[name]] = make(chan struct{})
		}
		return e.answers("somemore <nil> <nil>", func(c *client) *http.Request {
			from, to := io.Pipe()
			go func() {
				_, _ = io.WriteString(to, "some")
				<-reading[paths[c.name]]
				_, _ = io.WriteString(to, "more")
				_ = to.Close()
			}()
			return c.request(t, "POST", paths[c.name], from)
		})
	})
}

// TestUnreadBodiesAreSkipped: the next request on the connection is read where
// it begins.
func TestUnreadBodiesAreSkipped(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }})
	body := "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"
	for _, first := range []string{
		fmt.Sprintf("POST /handler HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		fmt.Sprintf("POST /handler HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body),
		fmt.Sprintf("TRACE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
	} {
		const next = "GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n"
		answers := e.raw(t, first+next, 2) // pipelined
		c, err := net.Dial("tcp", e.http)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		r := bufio.NewReader(c)
		for _, request := range []string{first, next, next} { // one after the other
			_, _ = io.WriteString(c, request)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("after %q: %v", first, err)
			}
			content, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body = io.NopCloser(bytes.NewReader(content))
			answers = append(answers, resp)
		}
		_ = c.Close()
		for _, i := range []int{1, 3, 4} {
			if got, _ := io.ReadAll(answers[i].Body); string(got) != "/next" {
				t.Errorf("after %q answer %d is %q", first, i, got)
			}
		}
	}
	if log := e.log.String(); strings.Contains(log, "panic") {
		t.Error(log)
	}
}

// TestAnsweredUploadsDoNotHoldTheConnection: the rest of a body that nobody
// reads is waited for, but not for ever.
func TestAnsweredUploadsDoNotHoldTheConnection(t *testing.T) {
	e := start(t, setup{config: stalling(300 * time.Millisecond), handler: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
	}})
	for _, request := range []string{
		"POST /handler HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nsome",
		"POST /abort HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nsome",
		"TRACE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nsome",
		"POST / HTTP/1.1\r\nHost: a..test\r\nContent-Length: 100\r\n\r\nsome",
	} {
		c, err := net.Dial("tcp", e.http)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, request)
		if _, err := io.ReadAll(c); errors.Is(err, errTimeout(err)) {
			t.Errorf("%q: the connection stays", request)
		}
		_ = c.Close()
	}
}

// errTimeout returns err if it is a timeout, else an error that it is not.
func errTimeout(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return errors.New("no timeout")
}

func TestHeadersThatDoNotEndAreCut(t *testing.T) {
	e := start(t, setup{config: Config{Limits: Limits{HeaderTimeout: 200 * time.Millisecond}}})
	for _, begun := range []string{"", "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow"} {
		c, err := net.Dial("tcp", e.http)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, begun)
		if _, err := io.ReadAll(c); errors.Is(err, errTimeout(err)) {
			t.Errorf("%q: the connection stays", begun)
		}
		_ = c.Close()
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	wiretest.Unhurried(t, 200*time.Millisecond, func(idle time.Duration) error {
		e := start(t, setup{config: Config{Limits: Limits{IdleTimeout: idle}}})
		for _, c := range e.clients() {
			if _, err := c.ask(c.request(t, "GET", "/", nil)); err != nil {
				return err
			}
			eventually(t, "connection closed", func() bool { return e.Stats().Gate.ConnectionsOpen[c.proto-1].Load() == 0 })
		}
		return nil
	})
}

// TestHTTP3RequestsThatDoNotEndAreCut: a GET whose stream stays open might still
// have a body, and waiting for it is bounded.
func TestHTTP3RequestsThatDoNotEndAreCut(t *testing.T) {
	e := start(t, setup{config: stalling(300 * time.Millisecond)})
	c := e.h3()
	from, to := io.Pipe()
	defer to.Close()
	resp, err := c.Do(c.request(t, "GET", "/", from))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Error(resp.Status)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	e := start(t, setup{})
	for _, c := range e.clients() {
		before, dialed := e.Stats().Gate.ConnectionsAccepted[c.proto-1].Load(), uint64(1)
		c.get(t, "/")
		r := c.request(t, "GET", "/", nil)
		c.do(t, r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
			if c.proto == cache.HTTP1 && !got.Reused { // a client that is busy may not have noticed yet that it could
				dialed++
			}
		}})))
		if n := e.Stats().Gate.ConnectionsAccepted[c.proto-1].Load() - before; n != dialed {
			t.Errorf("%s: %d connections counted for %d", c.name, n, dialed)
		}
		c.CloseIdleConnections()
		if tr, ok := c.Transport.(*http3.Transport); ok {
			_ = tr.Close()
		}
	}
	for p := cache.HTTP1; p <= cache.HTTP3; p++ {
		eventually(t, "HTTP/"+p.String()+" connections gone", func() bool { return e.Stats().Gate.ConnectionsOpen[p-1].Load() == 0 })
	}
}
