package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"edgecdn/cache"
)

// TestAbortsAreVisible: a response that breaks off must never look whole.
func TestAbortsAreVisible(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/abort-in-body":
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/panic-in-body":
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic("a bug")
		case "/short":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
		case "/short-and-flushed":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
	}})
	for _, path := range []string{"/abort", "/abort-in-body", "/panic-in-body", "/short", "/short-and-flushed"} {
		e.each(t, func(t *testing.T, c *client) {
			resp, err := c.Get(c.base + path)
			if err != nil {
				return // before the header: as visible as can be
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: ended cleanly with %q", path, body)
			} else if path == "/abort" {
				t.Errorf("%s: there is a response: %s", path, resp.Status)
			}
		})
	}
	eventually(t, "20 aborts counted", func() bool { return e.Stats().Gate.Aborted.Load() == 20 })
	if n := e.Stats().Gate.Panics.Load(); n != 4 {
		t.Errorf("%d panics counted, want 4", n)
	}
}

// TestAbortWithoutFramingIsVisible: in HTTP/1.0 only a reset tells.
func TestAbortWithoutFramingIsVisible(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}})
	c, err := net.Dial("tcp", e.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err == nil {
		t.Errorf("ended cleanly after %q", got)
	}
}

func TestPanicsBecome500(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "half=made")
		panic("a bug of ours")
	}})
	e.each(t, func(t *testing.T, c *client) {
		resp, body := c.get(t, "/x")
		if resp.StatusCode != 500 || resp.Header.Get("Set-Cookie") != "" || strings.Contains(body, "bug of ours") {
			t.Errorf("%s %v %q", resp.Status, resp.Header, body)
		}
	})
	if n := e.Stats().Gate.Panics.Load(); n != 4 {
		t.Errorf("%d panics counted, want 4", n)
	}
	if log := e.log.String(); !strings.Contains(log, "a bug of ours") || !strings.Contains(log, "stream_test.go") {
		t.Error("the log lacks the panic or its stack")
	}
}

func TestTrailers(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Announced")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Announced", r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	}})
	e.each(t, func(t *testing.T, c *client) {
		r := c.request(t, "POST", "/", io.MultiReader(strings.NewReader("upload")))
		r.Trailer = http.Header{"X-Sum": {"42"}}
		resp, body := c.do(t, r)
		if body != "body" || resp.Trailer.Get("X-Announced") != "42" || resp.Trailer.Get("X-Late") != "late" {
			t.Errorf("body %q, trailers %v", body, resp.Trailer)
		}
	})
}

func TestEarlyHints(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.WriteHeader(http.StatusAccepted)
	}})
	e.each(t, func(t *testing.T, c *client) {
		var early []string
		r := c.request(t, "GET", "/", nil)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				early = append(early, fmt.Sprint(code, " ", h.Get("Link")))
				return nil
			},
		}))
		resp, _ := c.do(t, r)
		if resp.StatusCode != 202 || len(early) != 1 || early[0] != "103 </style.css>; rel=preload" {
			t.Errorf("%s after %q", resp.Status, early)
		}
	})
}

func TestContinueIsSentWhenTheBodyIsWanted(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %v", body, err)
	}})
	e.each(t, func(t *testing.T, c *client) {
		continued := false
		r := c.request(t, "POST", "/", strings.NewReader("upload"))
		r.Header.Set("Expect", "100-continue")
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got100Continue: func() { continued = true },
			Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { continued = continued || code == 100; return nil },
		}))
		if tr, ok := c.Transport.(*http.Transport); ok {
			tr.ExpectContinueTimeout = patience
		}
		if _, body := c.do(t, r); body != `"upload" <nil>` || !continued {
			t.Errorf("%s, continued %v", body, continued)
		}
	})
}

func TestStreamsAsItIsWritten(t *testing.T) {
	next := make(chan struct{})
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "event %d\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	}})
	e.each(t, func(t *testing.T, c *client) {
		resp, err := c.Get(c.base + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for i := range 3 {
			line, err := lines.ReadString('\n')
			if err != nil || line != fmt.Sprintf("event %d\n", i) {
				t.Fatalf("line %d: %q, %v", i, line, err)
			}
			next <- struct{}{}
		}
	})
}

func TestReadFromCopiesAll(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(w, strings.NewReader(large))
		if n != int64(len(large)) || err != nil {
			panic(fmt.Sprint(n, err))
		}
	}})
	e.each(t, func(t *testing.T, c *client) {
		before := e.Stats().Gate.BytesSent[c.proto-1].Load()
		if _, body := c.get(t, "/"); body != large {
			t.Errorf("%d bytes", len(body))
		}
		eventually(t, "bytes counted", func() bool { return e.Stats().Gate.BytesSent[c.proto-1].Load()-before == uint64(len(large)) })
	})
}

// TestDuplex: an origin may answer before it has read all of the body, and what
// the client sends after that still arrives.
func TestDuplex(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		buffer := make([]byte, 16)
		for {
			n, err := r.Body.Read(buffer)
			_, _ = w.Write(buffer[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	}})
	e.each(t, func(t *testing.T, c *client) {
		from, to := io.Pipe()
		resp, err := c.Do(c.request(t, "POST", "/", from))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for _, word := range []string{"one", "two", "three"} {
			if _, err := io.WriteString(to, word); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(word))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
				t.Fatalf("%q came back as %q, %v", word, got, err)
			}
		}
		_ = to.Close()
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestHijack(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotImplemented)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, line)
	}})
	c, err := net.Dial("tcp", e.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n")
	got, err := io.ReadAll(c) // the handler returns: the connection is closed
	if err != nil || !strings.HasSuffix(string(got), "\r\n\r\nhello\n") {
		t.Errorf("%q, %v", got, err)
	}
	eventually(t, "101 counted", func() bool { return e.Stats().Gate.Status[0][0].Load() == 1 })
	for _, c := range []*client{e.h2(), e.h3()} {
		if resp, _ := c.get(t, "/"); resp.StatusCode != http.StatusNotImplemented {
			t.Errorf("%s: %s", c.name, resp.Status)
		}
	}
}

func TestHandlersLearnThatTheClientLeft(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	}})
	e.each(t, func(t *testing.T, c *client) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		failed := make(chan error, 1)
		go func() {
			resp, err := c.Do(c.request(t, "GET", "/", nil).WithContext(ctx))
			if err == nil {
				_ = resp.Body.Close()
			}
			failed <- err
		}()
		<-entered
		cancel()
		select {
		case <-left:
		case <-time.After(patience):
			t.Fatal("the handler never knew")
		}
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestRequestsAreNotReused: what a handler was given stays true when other
// requests come, even if it is kept too long.
func TestRequestsAreNotReused(t *testing.T) {
	kept := make(chan *cache.Request, 100)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) { kept <- cache.FromContext(r.Context()) }})
	c := e.h1()
	for i := range 50 {
		c.get(t, fmt.Sprintf("/%d", i))
	}
	for i := range 50 {
		if r := <-kept; r.Target != fmt.Sprintf("/%d", i) {
			t.Errorf("request %d became %q", i, r.Target)
		}
	}
}
