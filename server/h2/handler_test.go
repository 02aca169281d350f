package h2

// handler_test.go: requests that go to the handler.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"edgecdn/cache"
)

// TestRequestsArriveAsSent: what the cache is told of a request.
func TestRequestsArriveAsSent(t *testing.T) {
	seen := make(chan string, 1)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		in := cache.FromContext(r.Context())
		seen <- fmt.Sprint(in.Method, " ", in.Scheme, " ", in.Authority, " ", in.Host, " ", in.Target, " ", in.Fields, " ", in.Proto, " ", in.HasBody, " ", r.ContentLength)
	}})
	w := e.dial(t)
	for i, test := range []struct {
		end    bool
		fields []string
		want   string
	}{
		{true, []string{":method", "GET", ":scheme", "http", ":authority", "A.test:80", ":path", "/%2F//x?a=/../b"},
			"GET http A.test:80 a.test /%2F//x?a=/../b [] 2 false 0"},
		{true, []string{":method", "GET", ":scheme", "HTTP", ":path", "/", "host", "a.test"},
			"GET http a.test a.test / [] 2 false 0"},
		{true, []string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", "/", "host", "A.test"},
			"GET http a.test a.test / [] 2 false 0"},
		{true, []string{":method", "OPTIONS", ":scheme", "http", ":authority", "a.test", ":path", "*"},
			"OPTIONS http a.test a.test * [] 2 false 0"},
		{true, []string{":path", "/", ":method", "GET", ":authority", "a.test", ":scheme", "http", "cookie", "a=1", "x", "", "cookie", "b=2", "te", "trailers", "cookie", "c=3"},
			"GET http a.test a.test / [{cookie a=1; b=2; c=3} {x } {te trailers}] 2 false 0"},
		{false, []string{":method", "PUT", ":scheme", "http", ":authority", "a.test", ":path", "/", "content-length", "3"},
			"PUT http a.test a.test / [{content-length 3}] 2 true 3"},
		{false, []string{":method", "PUT", ":scheme", "http", ":authority", "a.test", ":path", "/", "x-bytes", "\xff\t\x80"},
			"PUT http a.test a.test / [{x-bytes \xff\t\x80}] 2 true -1"},
	} {
		w.headers(uint32(2*i+1), test.end, test.fields...)
		if got := <-seen; got != test.want {
			t.Errorf("%q\n%s, want\n%s", test.fields, got, test.want)
		}
	}
}

// TestAbortsAreVisible: a response that breaks off must never look whole.
func TestAbortsAreVisible(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		flush := func() { _ = http.NewResponseController(w).Flush() }
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/abort-in-body":
			_, _ = io.WriteString(w, "half")
			flush()
			panic(http.ErrAbortHandler)
		case "/panic-in-body":
			_, _ = io.WriteString(w, "half")
			flush()
			panic("a bug")
		case "/short":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
		case "/short-and-flushed":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			flush()
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
	eventually(t, "10 aborts counted", func() bool { return e.gate.Stats().Aborted.Load() == 10 })
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

func TestInformationalResponses(t *testing.T) {
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

// TestContinue: 100 comes when the body is wanted, once, and never where the answer
// is decided already.
func TestContinue(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusForbidden)
			_ = http.NewResponseController(w).Flush()
		}
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %v", body, err)
	}})
	w := e.dial(t)
	w.post(1, "/", "expect", "100-Continue")
	until(w, func(f *http2.HeadersFrame) bool { return w.field(":status") == "100" && !f.StreamEnded() })
	w.send(func() error { return w.framer.WriteData(1, true, []byte("upload")) })
	until(w, func(f *http2.HeadersFrame) bool { return w.field(":status") == "200" })
	until(w, func(f *http2.DataFrame) bool { return string(f.Data()) == `"upload" <nil>` })
	w.post(3, "/refuse", "expect", "100-continue")
	until(w, func(f *http2.HeadersFrame) bool {
		return w.field(":status") == "403" || w.field(":status") == "100" && t.Failed()
	})
	w.send(func() error { return w.framer.WriteData(3, true, nil) })
	until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
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

// TestBodies: bodies of all sizes both ways, many at once, through windows that
// are smaller than they.
func TestBodies(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }})
	e.each(t, func(t *testing.T, c *client) {
		for _, size := range []int{0, 1, 4 << 10, 5 << 10, 16 << 10, 100_000, 5 << 20} {
			sent := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
			done := make(chan error)
			for range 4 {
				go func() {
					resp, err := c.Post(c.base+"/", "application/octet-stream", bytes.NewReader(sent))
					if err == nil {
						var got []byte
						if got, err = io.ReadAll(resp.Body); err == nil && !bytes.Equal(got, sent) {
							err = fmt.Errorf("%d bytes came back as %d", len(sent), len(got))
						}
						_ = resp.Body.Close()
					}
					done <- err
				}()
			}
			for range 4 {
				if err := <-done; err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
		}
	})
}

// TestDuplex: an answer may begin before the request's end, and what the client
// sends after that still arrives.
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

// TestEarlyAnswers: a response that is complete before the request is followed by
// RST_STREAM with NO_ERROR, and what still comes of the request harms nobody.
func TestEarlyAnswers(t *testing.T) {
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "enough")
	}})
	w := e.dial(t)
	w.post(1, "/handler")
	until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
	until(w, func(f *http2.RSTStreamFrame) bool { return f.StreamID == 1 && f.ErrCode == http2.ErrCodeNo })
	w.send(func() error { return w.framer.WriteData(1, false, make([]byte, 16384)) })
	w.headers(1, true, "x-late", "trailer")
	w.post(5, "/bad path") // the gate answers it
	until(w, func(f *http2.HeadersFrame) bool { return w.field(":status") == "400" })
	until(w, func(f *http2.RSTStreamFrame) bool { return f.StreamID == 5 && f.ErrCode == http2.ErrCodeNo })
	w.get(7, "/")
	until(w, func(f *http2.DataFrame) bool { return f.StreamID == 7 && f.StreamEnded() })
}

// TestRepliesWaitForWindows: what the gate answers itself to a request whose body
// still comes.
func TestRepliesWaitForWindows(t *testing.T) {
	e := start(t, setup{})
	w := e.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	w.post(1, "/bad path")
	until(w, func(f *http2.HeadersFrame) bool { return w.field(":status") == "400" })
	w.send(func() error { return w.framer.WriteData(1, false, make([]byte, 16384)) })
	w.send(func() error { return w.framer.WriteWindowUpdate(1, 1000) })
	until(w, func(f *http2.DataFrame) bool { return f.StreamEnded() })
	until(w, func(f *http2.RSTStreamFrame) bool { return f.ErrCode == http2.ErrCodeNo })
}

// TestHandlersLearnThatTheClientLeft: by RST_STREAM, and with the connection; body
// and response fail as well.
func TestHandlersLearnThatTheClientLeft(t *testing.T) {
	entered, left := make(chan struct{}), make(chan error, 2)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
		_, err := r.Body.Read(make([]byte, 1))
		left <- err
		_, _ = io.WriteString(w, "to nobody")
		left <- http.NewResponseController(w).Flush()
	}})
	for _, leave := range []func(w *wire){
		func(w *wire) { w.send(func() error { return w.framer.WriteRSTStream(1, http2.ErrCodeCancel) }) },
		func(w *wire) { _ = w.nc.Close() },
		func(w *wire) { w.send(func() error { return w.framer.WritePing(false, [8]byte{}) }); e.clear.Cut() },
	} {
		w := e.dial(t)
		w.post(1, "/")
		<-entered
		leave(w)
		for range 2 {
			if err := <-left; err == nil {
				t.Error("neither body nor response failed")
			}
		}
	}
}

// TestReadAfterTheHandler: a transport that reads a request's body too long is
// told, and finds nothing of others in it.
func TestReadAfterTheHandler(t *testing.T) {
	kept := make(chan io.Reader, 1)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) { kept <- r.Body }})
	c := e.inClear()
	c.do(t, c.request(t, "POST", "/", strings.NewReader(strings.Repeat("x", 1000))))
	if n, err := (<-kept).Read(make([]byte, 10)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("%d, %v", n, err)
	}
}

// TestHandlersDeadlines: http.ResponseController's.
func TestHandlersDeadlines(t *testing.T) {
	failed := make(chan error, 2)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := r.Body.Read(make([]byte, 1))
		failed <- err
		_ = control.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		for err = nil; err == nil; {
			_, err = w.Write(make([]byte, 64<<10))
		}
		failed <- err
	}})
	w := e.dial(t)
	w.post(1, "/")
	for range 2 {
		var timeout interface{ Timeout() bool }
		if err := <-failed; !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v", err)
		}
	}
	until(w, func(f *http2.RSTStreamFrame) bool { return f.StreamID == 1 })
}

// TestRequestsAreNotReused: what the handler was given stays true when others come.
func TestRequestsAreNotReused(t *testing.T) {
	kept := make(chan *cache.Request, 100)
	e := start(t, setup{handler: func(w http.ResponseWriter, r *http.Request) { kept <- cache.FromContext(r.Context()) }})
	c := e.inClear()
	for i := range 50 {
		c.get(t, fmt.Sprintf("/%d", i))
	}
	close(kept)
	i := 0
	for r := range kept {
		if r.Target != fmt.Sprintf("/%d", i) || r.Authority != e.http {
			t.Errorf("request %d became %q of %q", i, r.Target, r.Authority)
		}
		i++
	}
}
