package origin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"edgecdn/cmd/origin/script"
)

func pattern(off int64, n int) string {
	b := make([]byte, n)
	script.Pattern(b, off)
	return string(b)
}

func TestRequestIsSentAsGiven(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		r := f.request(t.Context(), "GET", "/_origin/echo", nil)
		r.Host = "shop.example:8443"
		r.Header = http.Header{"X-A": {"1", "2"}, "Accept-Encoding": {"br"}}
		resp, err := f.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var e script.Echo
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			t.Fatal(err)
		}
		want(t, "host", e.Host, "shop.example:8443")
		if diff := cmp.Diff(map[string][]string(r.Header), e.Header); diff != "" {
			t.Errorf("fields (-sent +arrived):\n%s", diff)
		}
		if resp.Request != r {
			t.Error("the response belongs to another request")
		}
		// Nothing may be added where the client sent nothing.
		if e := f.echo("/_origin/echo"); len(e.Header) > 0 {
			t.Errorf("added %v", e.Header)
		}
	})
}

func TestHostOfItsOwn(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		cfg.Host = "origin.example"
		f := open(t, cfg)
		want(t, "host", f.echo("/_origin/echo").Host, "origin.example")
		want(t, "host", f.echo("//_origin/raw/x").Host, "origin.example")
	})
	f := open(t, Config{URL: "http://127.0.0.1:1"})
	for _, host := range []string{"a b", "a/b", "a@b", "a\r\nX: y", "a?b"} {
		r := f.request(t.Context(), "GET", "/", nil)
		r.Host = host
		_, err := f.RoundTrip(r)
		wantKind(t, host, err, KindRequest)
	}
}

func TestServerName(t *testing.T) {
	_, cfg := scripted(t, "h2")
	cfg.ServerName = "example.com" // is in the certificate of httptest
	want(t, "SNI", open(t, cfg).echo("/_origin/echo").ServerName, "example.com")
	cfg.ServerName = "other.example"
	_, err := open(t, cfg).do("GET", "/", nil)
	wantKind(t, "wrong name", err, KindCertificate)
	cfg.Insecure, cfg.CA = true, ""
	want(t, "insecure", open(t, cfg).echo("/_origin/echo").Proto, "HTTP/2.0")
}

func TestResponsesPassUnchanged(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		resp, text := f.get("/_origin/respond?status=203&size=200000&header=Content-Encoding:gzip&header=X-A:1&header=X-A:2")
		want(t, "status", resp.StatusCode, 203)
		want(t, "length", resp.ContentLength, 200_000)
		want(t, "coding", resp.Header.Get("Content-Encoding"), "gzip")
		want(t, "repeated", strings.Join(resp.Header["X-A"], "|"), "1|2")
		want(t, "body", text == pattern(0, 200_000), true)

		resp, text = f.get("/_origin/respond?size=1000&chunked=1&trailer=X-Check:abc")
		want(t, "chunked body", text, pattern(0, 1000))
		want(t, "trailer", resp.Trailer.Get("X-Check"), "abc")

		resp, _ = f.get("/_origin/redirect?to=/elsewhere")
		want(t, "redirect", resp.StatusCode, 302)

		head, err := f.do("HEAD", "/_origin/respond?size=77", nil)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "HEAD length", head.ContentLength, 77)
		head.Body.Close()
		resp, text = f.get("/_origin/respond?status=304&etag=x")
		want(t, "304", resp.StatusCode, 304)
		want(t, "304 body", text, "")
		want(t, "active", f.stats().Active.Load(), 0)
	})
}

func TestUpload(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		sent := pattern(0, 1<<20)
		sum := sha256.Sum256([]byte(sent))
		for name, body := range map[string]io.Reader{
			"length":  strings.NewReader(sent),
			"chunked": io.MultiReader(strings.NewReader(sent)),
		} {
			resp, err := f.do("POST", "/_origin/upload", body)
			if err != nil {
				t.Fatal(err)
			}
			var got script.Upload
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			want(t, name, got.SHA256, hex.EncodeToString(sum[:]))
		}
	})
}

// TestUploadBreaksOff: what fails at the client is no fault of the origin, and
// the origin must not take a part for the whole.
func TestUploadBreaksOff(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		broken := errors.New("client left")
		_, err := f.do("POST", "/_origin/upload", io.MultiReader(strings.NewReader("part"), errorReader{broken}))
		wantKind(t, "upload", err, KindRequest)
		want(t, "cause", errors.Is(err, broken), true)
	})
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestEarlyHintsReachTheCaller(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		var seen []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				seen = append(seen, fmt.Sprint(code, h.Get("Link")))
				return nil
			},
		})
		resp, err := f.RoundTrip(f.request(ctx, "GET", "/_origin/respond?early=Link:%3C/a%3E&body=x", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want(t, "hints", strings.Join(seen, "|"), "103</a>")
	})
}

func TestTooManyInformationalResponses(t *testing.T) {
	f := open(t, answers(t, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 17)+"HTTP/1.1 204 No Content\r\n\r\n"))
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(int, textproto.MIMEHeader) error { return nil },
	})
	for range 20 { // the final response may be read before the context is seen to end
		_, err := f.RoundTrip(f.request(ctx, "GET", "/", nil))
		wantKind(t, "17 of them", err, KindProtocol)
	}
}

// TestUpgrade passes a WebSocket, also to an origin that would rather speak
// HTTP/2.
func TestUpgrade(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		ctx := WithTarget(t.Context(), "o", "/_origin/ws")
		conn, _, err := websocket.Dial(ctx, "ws://client.example/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: f}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		for _, message := range []string{"hello", pattern(0, 100_000)} {
			conn.SetReadLimit(1 << 20)
			if err := conn.Write(ctx, websocket.MessageBinary, []byte(message)); err != nil {
				t.Fatal(err)
			}
			_, got, err := conn.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "message", string(got) == message, true)
		}
		want(t, "active", f.stats().Active.Load(), 1)
		conn.CloseNow()
		eventually(t, "the connection closes", func() bool {
			return f.stats().Active.Load() == 0 && f.stats().ConnectionsOpen.Load() == 0
		})
	})
}

func TestUpgradedConnectionHalfCloses(t *testing.T) {
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\nready ")
			all, _ := io.ReadAll(r) // until the half is closed
			conn.Write(bytes.ToUpper(all))
		}
	}))
	r := f.request(t.Context(), "GET", "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "lines")
	resp, err := f.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	want(t, "delimited", Delimited(resp), false)
	io.WriteString(resp.Body.(io.Writer), "over and out")
	if err := resp.Body.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "answer", string(text), "ready OVER AND OUT")
}

func TestDelimited(t *testing.T) {
	for text, delimited := range map[string]bool{
		"HTTP/1.0 200 OK\r\n\r\nx":                                                 true,
		"HTTP/1.1 200 OK\r\n\r\nx":                                                 true,
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx":                            true,
		"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx":                            false,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n": false,
		"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n":                     false,
		"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n":                   false,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n":        false,
	} {
		f := open(t, answers(t, text))
		resp, _ := f.get("/")
		if got := Delimited(resp); got != delimited {
			t.Errorf("%q: got %v", text, got)
		}
	}
	head, err := open(t, answers(t, "HTTP/1.0 200 OK\r\n\r\n")).do("HEAD", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "HEAD", Delimited(head), false)
	_, cfg := scripted(t, "h2")
	resp, _ := open(t, cfg).get("/_origin/respond?size=10&chunked=1")
	want(t, "HTTP/2 without length", Delimited(resp), false)
}

func TestNoTargetNoOrigin(t *testing.T) {
	f := open(t, Config{URL: "http://127.0.0.1:1"})
	var closed closeRecorder
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://client.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body = &closed
	_, err = f.RoundTrip(r)
	wantKind(t, "no target", err, KindInternal)
	want(t, "body closed", bool(closed), true)
	_, err = f.RoundTrip(r.WithContext(WithTarget(t.Context(), "p", "/")))
	wantKind(t, "unknown name", err, KindNotFound)
}

type closeRecorder bool

func (c *closeRecorder) Read([]byte) (int, error) { return 0, io.EOF }
func (c *closeRecorder) Close() error             { *c = true; return nil }

func TestConnectionsAreReusedAndCounted(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		first := f.echo("/_origin/echo").Remote
		for range 3 {
			f.get("/_origin/respond?size=100000&chunked=1")
		}
		want(t, "connection", f.echo("/_origin/echo").Remote, first)
		s := f.stats()
		want(t, "requests", s.Requests.Load(), 5)
		want(t, "dialed", s.ConnectionsDialed.Load(), 1)
		want(t, "open", s.ConnectionsOpen.Load(), 1)
		want(t, "active", s.Active.Load(), 0)
		want(t, "waiting", s.Waiting.Load(), 0)
		if n := s.BytesReceived.Load(); n < 300_000 || n > 400_000 {
			t.Errorf("received %d bytes, sent 300000 in bodies", n)
		}
		if n := s.BytesSent.Load(); n < 100 || n > 10_000 {
			t.Errorf("sent %d bytes for five small requests", n)
		}
		observed := uint64(0)
		for i := range s.HeaderTime.Buckets {
			observed += s.HeaderTime.Buckets[i].Load()
		}
		want(t, "observed", observed, 5)
		f.Close()
		eventually(t, "connections close", func() bool { return s.ConnectionsOpen.Load() == 0 })
	})
}

func TestRepeatedOnAnotherConnection(t *testing.T) {
	f := open(t, raw(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for i := range 2 {
			request, err := http.ReadRequest(r)
			if err != nil || n == 0 && i == 1 {
				return // the first connection closes on its second request
			}
			io.Copy(io.Discard, request.Body)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}))
	f.get("/")
	f.get("/")
	want(t, "repeated", f.stats().Repeated.Load(), 1)
	want(t, "dialed", f.stats().ConnectionsDialed.Load(), 2)
}

func TestBodyIsNotRepeated(t *testing.T) {
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if second, err := http.ReadRequest(r); err == nil {
				io.Copy(io.Discard, second.Body)
			}
		}
	}))
	f.get("/")
	_, err := f.do("POST", "/", strings.NewReader("once"))
	wantKind(t, "POST", err, KindTerminated)
	f.get("/")
	r := f.request(t.Context(), "POST", "/", strings.NewReader("once, though net/http could read it again"))
	r.Header.Set("Idempotency-Key", "k")
	_, err = f.RoundTrip(r)
	wantKind(t, "POST with a key", err, KindTerminated)
	want(t, "dialed", f.stats().ConnectionsDialed.Load(), 2)
}

func TestCallerGivesUp(t *testing.T) {
	both(t, func(t *testing.T, s *script.Script, cfg Config) {
		f := open(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := f.RoundTrip(f.request(ctx, "GET", "/_origin/hang", nil))
			failed <- err
		}()
		eventually(t, "the request arrives", func() bool { return s.Total() == 1 })
		cancel()
		err := receive(t, "it ends", failed)
		var e *Error
		if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
			t.Errorf("got %v, want context.Canceled and no fault of the origin", err)
		}
		want(t, "canceled", f.stats().Canceled.Load(), 1)

		ctx, cancel = context.WithCancel(t.Context())
		resp, err := f.RoundTrip(f.request(ctx, "GET", "/_origin/sse?interval=10m", nil))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err = io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) || errors.As(err, &e) {
			t.Errorf("body: got %v, want context.Canceled", err)
		}
		resp.Body.Close()
		want(t, "canceled", f.stats().Canceled.Load(), 2)
		want(t, "active", f.stats().Active.Load(), 0)
	})
}

func TestCloseGivesTheBodyUp(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		resp, err := f.do("GET", "/_origin/sse?interval=10m", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		resp.Body.Close()
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("read after close: %d, %v", n, err)
		}
		s := f.stats()
		want(t, "active", s.Active.Load(), 0)
		want(t, "canceled", s.Canceled.Load(), 0)
		for i := range s.Errors {
			want(t, string(Kinds[i]), s.Errors[i].Load(), 0)
		}
	})
}
