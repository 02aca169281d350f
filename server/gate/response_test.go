package gate

// response_test.go holds the http.ResponseWriter over a Stream to what it asks of
// engines. That clients then see what they see of net/http is tested in server/h1,
// over the wire.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/route"
)

// script is a Stream that remembers what was asked of it.
type script struct {
	calls    []string
	body     io.Reader // of the request
	trailers []cache.Field
	fail     error // of every write from failFrom on
	failFrom int
	writes   int
	written  bytes.Buffer
	conn     net.Conn // to hijack
}

func list(fields []cache.Field) string {
	var b strings.Builder
	for _, f := range fields {
		if f.Name == "date" {
			continue
		}
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	return b.String()
}

func (s *script) say(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *script) Read(p []byte) (int, error)       { return s.body.Read(p) }
func (s *script) Trailers() []cache.Field          { return s.trailers }
func (s *script) Abort()                           { s.say("abort") }
func (s *script) SetReadDeadline(time.Time) error  { s.say("read deadline"); return nil }
func (s *script) SetWriteDeadline(time.Time) error { s.say("write deadline"); return nil }

func (s *script) Inform(status int, fields []cache.Field) error {
	s.say("inform %d%s", status, list(fields))
	return s.write()
}

func (s *script) Head(status int, fields []cache.Field, h Framing) error {
	flags := ""
	for _, f := range []struct {
		name string
		set  bool
	}{{" bodyless", h.Bodyless}, {" trailers", h.Trailers}, {" close", h.Close}} {
		if f.set {
			flags += f.name
		}
	}
	s.say("head %d length %d%s:%s", status, h.Length, flags, list(fields))
	return s.write()
}

func (s *script) write() error {
	s.writes++
	if s.fail != nil && s.writes >= s.failFrom {
		return s.fail
	}
	return nil
}

func (s *script) Write(p []byte) (int, error) {
	s.say("write %d", len(p))
	if err := s.write(); err != nil {
		return 0, err
	}
	return s.written.Write(p)
}

func (s *script) Flush() error {
	s.say("flush")
	return s.write()
}

func (s *script) End(trailers []cache.Field) error {
	s.say("end%s", list(trailers))
	return s.write()
}

// hijackable is a script over a connection that can be taken.
type hijackable struct{ *script }

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.say("hijack")
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// copying is a script over a connection that the kernel can write to.
type copying struct{ *script }

func (c copying) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.written.ReadFrom(r)
	c.say("copy %d", n)
	return n, err
}

func (c copying) Direct(send func(*net.TCPConn) (int64, error)) (int64, error) {
	n, err := send(nil)
	c.say("direct %d", n)
	return n, err
}

// testDoor is a listener before a handler.
func testDoor(t testing.TB, handler http.HandlerFunc) *Door {
	t.Helper()
	table, err := route.NewTable([]route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}})
	if err != nil {
		t.Fatal(err)
	}
	seam := Seam{Match: table.Match, Judge: access.New().Judge, Handler: handler,
		Lookup: func(*cache.Request) (cache.Hit, bool) { return cache.Hit{}, false }}
	g, err := New(seam, Limits{}, AccessLog{Format: "off"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &Door{Gate: g, Scheme: "http", Listener: "127.0.0.1:80"}
}

// ask runs one request through a door.
func ask(t testing.TB, d *Door, s Stream, p cache.Proto, method string, set func(*Exchange)) *Exchange {
	t.Helper()
	x := d.Begin(p)
	x.Request.Method, x.Request.Authority, x.Request.Target = method, "a.test", "/path?query"
	x.Request.Client = netip.MustParseAddrPort("192.0.2.1:1000")
	if set != nil {
		set(x)
	}
	if decision := x.Decide(); decision != Handle {
		t.Fatalf("decision %d, status %d", decision, x.Status)
	}
	x.Serve(context.Background(), s)
	return x
}

func TestResponseOverStream(t *testing.T) {
	text := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/plain") }
	for _, test := range []struct {
		name, method string
		handler      http.HandlerFunc
		want         []string
	}{
		{"nothing", "GET", func(w http.ResponseWriter, r *http.Request) {}, []string{"head 200 length 0:", "end"}},
		{"nothing to HEAD", "HEAD", func(w http.ResponseWriter, r *http.Request) {}, []string{"head 200 length -1 bodyless:", "end"}},
		{"short", "GET", func(w http.ResponseWriter, r *http.Request) {
			text(w)
			_, _ = io.WriteString(w, "abc")
			_, _ = io.WriteString(w, "de")
		}, []string{"head 200 length 5: content-type=text/plain", "write 5", "end"}},
		{"short to HEAD", "HEAD", func(w http.ResponseWriter, r *http.Request) {
			text(w)
			_, _ = io.WriteString(w, "abcde")
		}, []string{"head 200 length 5 bodyless: content-type=text/plain", "end"}},
		{"long", "GET", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(make([]byte, 2000))
			_, _ = w.Write(make([]byte, 2000))
		}, []string{"head 200 length -1:", "write 2000", "write 2000", "end"}},
		{"long to HEAD", "HEAD", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, 5000)) },
			[]string{"head 200 length -1 bodyless:", "end"}},
		{"known length", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = io.WriteString(w, "abc")
		}, []string{"head 200 length 3:", "write 3", "end"}},
		{"not modified", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Etag", `"x"`)
			w.Header().Set("Content-Length", "300")
			w.WriteHeader(304)
		}, []string{`head 304 length 300 bodyless: etag="x"`, "end"}},
		{"no content", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(204)
		}, []string{"head 204 length -1 bodyless:", "end"}},
		{"flush", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "abc")
		}, []string{"head 200 length -1:", "flush", "write 3", "end"}},
		{"what handlers may not say", "GET", func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"Transfer-Encoding", "Keep-Alive", "Upgrade", "Proxy-Connection", "Connection"} {
				w.Header().Set(name, "x")
			}
			w.Header().Set("X-End-To-End", "y")
		}, []string{"head 200 length 0: x-end-to-end=y", "end"}},
		{"close", "GET", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "x, Close") },
			[]string{"head 200 length 0 close:", "end"}},
		{"order and repetition", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Set-Cookie"] = []string{"b", "a"}
			w.Header().Set("A-B", "c")
			w.Header()["X-None"] = nil
		}, []string{"head 200 length 0: a-b=c set-cookie=b set-cookie=a", "end"}},
		{"names that are none", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["X-Space "] = []string{"1"}
			w.WriteHeader(103)
			w.Header()["X-Line\r\nSet-Cookie"] = []string{"2"}
			w.Header()[""] = []string{"3"}
			w.Header()[http.TrailerPrefix+"X-End "] = []string{"4"}
			w.Header().Set(http.TrailerPrefix+"X-End", "5")
			_, _ = io.WriteString(w, "abc")
		}, []string{"inform 103", "head 200 length -1:", "write 3", "end x-end=5"}},
		{"early hints", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<a>")
			w.WriteHeader(103)
			w.Header().Del("Link")
		}, []string{"inform 103 link=<a>", "head 200 length 0:", "end"}},
		{"trailers", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum, Content-Length")
			_, _ = io.WriteString(w, "abc")
			w.Header().Set("X-Sum", "1")
			w.Header().Set(http.TrailerPrefix+"x-more", "2")
			w.Header().Set(http.TrailerPrefix+"Connection", "close")
		}, []string{"head 200 length -1 trailers: trailer=X-Sum, Content-Length", "write 3", "end x-more=2 x-sum=1"}},
		{"abort", "GET", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "abc")
			panic(http.ErrAbortHandler)
		}, []string{"abort"}},
		{"panic before anything", "GET", func(w http.ResponseWriter, r *http.Request) { panic("broken") },
			[]string{"head 500 length 51: cache-control=no-store content-type=text/plain; charset=utf-8 x-content-type-options=nosniff", "write 51", "end"}},
		{"panic in the middle", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			panic("broken")
		}, []string{"head 200 length -1:", "flush", "abort"}},
		{"shorter than announced", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "abc")
		}, []string{"head 200 length 5:", "write 3", "flush", "abort"}},
		{"deadlines", "GET", func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			if err := errors.Join(control.SetReadDeadline(time.Now()), control.SetWriteDeadline(time.Now()), control.EnableFullDuplex()); err != nil {
				panic(err)
			}
		}, []string{"read deadline", "write deadline", "head 200 length 0:", "end"}},
		{"no hijack where there is no connection", "GET", func(w http.ResponseWriter, r *http.Request) {
			if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
				panic(err)
			}
		}, []string{"head 200 length 0:", "end"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &script{}
			d := testDoor(t, test.handler)
			x := ask(t, d, s, cache.HTTP1, test.method, nil)
			if !slices.Equal(s.calls, test.want) {
				t.Errorf("calls\n%q, want\n%q", s.calls, test.want)
			}
			if aborted := slices.Contains(s.calls, "abort"); x.Aborted != aborted {
				t.Errorf("Aborted is %v", x.Aborted)
			}
			if test.method == "GET" && x.Written != int64(s.written.Len()) && !x.Aborted {
				t.Errorf("%d bytes counted, %d written", x.Written, s.written.Len())
			}
			x.End()
			if n := d.Inflight() + d.Stats().HandlersBusy.Load(); n != 0 {
				t.Errorf("%d are still counted", n)
			}
		})
	}
}

// TestWritesThatFail: the first error stays, is counted if the client stalled, and
// the message is broken off.
func TestWritesThatFail(t *testing.T) {
	for from := 1; from <= 4; from++ {
		s := &script{fail: os.ErrDeadlineExceeded, failFrom: from}
		var errs []error
		d := testDoor(t, func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				_, err := w.Write(make([]byte, 3000))
				errs = append(errs, err)
			}
		})
		x := ask(t, d, s, cache.HTTP2, "GET", nil)
		x.End()
		if last := s.calls[len(s.calls)-1]; last != "abort" || !x.Aborted || d.Stats().Stalled.Load() != 1 || d.Stats().Aborted.Load() != 1 {
			t.Errorf("failing from write %d on: %q, %d stalled", from, s.calls, d.Stats().Stalled.Load())
		}
		for i, err := range errs {
			if failed := i+2 >= from; failed != errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("failing from write %d on: write %d: %v", from, i, err)
			}
		}
	}
}

func TestRequestOverStream(t *testing.T) {
	var got *http.Request
	var body, late string
	d := testDoor(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		b, err := io.ReadAll(r.Body)
		body = fmt.Sprint(string(b), err)
		n, err := r.Body.Read(make([]byte, 1))
		late = fmt.Sprint(n, err)
	})
	s := &script{body: strings.NewReader("hello"), trailers: []cache.Field{{Name: "x-sum", Value: "1"}, {Name: "x-other", Value: "2"}, {Name: "content-length", Value: "9"}}}
	x := ask(t, d, s, cache.HTTP1, "POST", func(x *Exchange) {
		x.Request.HasBody, x.ContentLength = true, -1
		x.Request.Fields = append(x.Request.Fields, cache.Field{Name: "x-a", Value: "1"}, cache.Field{Name: "trailer", Value: "X-Sum"}, cache.Field{Name: "x-a", Value: "2"})
	})
	x.End()
	if body != "hello<nil>" || late != "0 EOF" {
		t.Errorf("body %q, then %q", body, late)
	}
	if got.Method != "POST" || got.URL.String() != "/path?query" || got.Host != "a.test" || got.RemoteAddr != "192.0.2.1:1000" || got.Proto != "HTTP/1.1" ||
		got.ContentLength != -1 || !slices.Equal(got.TransferEncoding, []string{"chunked"}) || got.Close {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(got.Header["X-A"], []string{"1", "2"}) || len(got.Header) != 1 {
		t.Errorf("%v", got.Header)
	}
	if got.Trailer.Get("X-Sum") != "1" || got.Trailer.Get("X-Other") != "2" || len(got.Trailer) != 2 {
		t.Errorf("trailers %v", got.Trailer)
	}
	if n, err := got.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("reading when the handler has returned: %d, %v", n, err)
	}
	if cache.FromContext(got.Context()) != &x.Request {
		t.Error("the context has another request")
	}
}

func TestHijackOverStream(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s := hijackable{&script{conn: ours}}
	d := testDoor(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upgrade", "x")
		w.WriteHeader(http.StatusSwitchingProtocols)
		_, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = rw.WriteString("tunnel")
		_ = rw.Flush()
	})
	read := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(theirs)
		read <- string(b)
	}()
	x := ask(t, d, s, cache.HTTP1, "GET", nil)
	x.End()
	if got := <-read; got != "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\ntunnel" {
		t.Errorf("%q", got)
	}
	if !slices.Equal(s.calls, []string{"hijack"}) || x.Status != 101 {
		t.Errorf("%q, status %d", s.calls, x.Status)
	}
}

// TestCopying: the kernel gets what needs no framing, after what was held back.
func TestCopying(t *testing.T) {
	body := strings.Repeat("x", 10_000)
	for _, test := range []struct {
		name, length string
		want         []string
	}{
		{"known length", "10005", []string{"head 200 length 10005:", "write 5", "flush", "copy 10000", "end"}},
		{"unknown length", "", []string{"head 200 length -1:", "write 5", "write 10000", "end"}},
	} {
		s := copying{&script{}}
		d := testDoor(t, func(w http.ResponseWriter, r *http.Request) {
			if test.length != "" {
				w.Header().Set("Content-Length", test.length)
			}
			_, _ = io.WriteString(w, "first")
			if n, err := io.Copy(w, struct{ io.Reader }{strings.NewReader(body)}); n != int64(len(body)) || err != nil {
				t.Errorf("%s: %d, %v", test.name, n, err)
			}
		})
		x := ask(t, d, s, cache.HTTP1, "GET", nil)
		if !slices.Equal(s.calls, test.want) || s.written.String() != "first"+body || x.Written != 10_005 {
			t.Errorf("%s: %q, %d counted", test.name, s.calls, x.Written)
		}
		x.End()
	}
}

func TestDirect(t *testing.T) {
	type direct interface {
		Direct(func(*net.TCPConn) (int64, error)) (int64, error)
	}
	lost := errors.New("lost")
	for _, test := range []struct {
		name    string
		stream  func(*script) Stream
		length  string
		err     error
		want    error
		aborted bool
	}{
		{"sent", func(s *script) Stream { return copying{s} }, "7", nil, nil, false},
		{"no connection", func(s *script) Stream { return s }, "7", nil, errors.ErrUnsupported, true},
		{"unknown length", func(s *script) Stream { return copying{s} }, "", nil, errors.ErrUnsupported, false},
		{"not by the kernel", func(s *script) Stream { return copying{s} }, "7", errors.ErrUnsupported, errors.ErrUnsupported, false},
		{"broken off", func(s *script) Stream { return copying{s} }, "7", lost, lost, true},
	} {
		s := &script{}
		d := testDoor(t, func(w http.ResponseWriter, r *http.Request) {
			if test.length != "" {
				w.Header().Set("Content-Length", test.length)
			}
			n, err := w.(direct).Direct(func(*net.TCPConn) (int64, error) { return 7, test.err })
			if !errors.Is(err, test.want) || err == nil && n != 7 {
				t.Errorf("%s: %d, %v", test.name, n, err)
			}
		})
		x := ask(t, d, test.stream(s), cache.HTTP1, "GET", nil)
		x.End()
		if x.Aborted != test.aborted {
			t.Errorf("%s: %q, aborted %v", test.name, s.calls, x.Aborted)
		}
	}
}
