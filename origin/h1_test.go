package origin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestOddEndsAreNotReused: a response that is whole is delivered, but the connection
// behind it is used again only where nothing odd was said on it.
func TestOddEndsAreNotReused(t *testing.T) {
	const next = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
	for name, test := range map[string]struct {
		text   string
		reused bool
	}{
		"plain":                   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		"chunks":                  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true},
		"trailers":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nA: b\r\n\r\n", true},
		"said twice":              {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", true},
		"close":                   {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
		"HTTP/1.0":                {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
		"HTTP/1.0 keep-alive":     {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", true},
		"bytes behind the length": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", false},
		"a response behind it":    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + next, false},
		"behind chunks":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + next, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, keeps(t, func(int) string { return test.text }))
			for range 2 {
				_, text := f.get("/")
				want(t, "body", text, "ok")
			}
			dialed := uint64(2)
			if test.reused {
				dialed = 1
			}
			want(t, "dialed", f.stats().ConnectionsDialed.Load(), dialed)
			want(t, "repeated", f.stats().Repeated.Load(), 0)
		})
	}
}

// keeps is an origin that answers each request on a connection with text.
func keeps(t *testing.T, text func(n int) string) Config {
	var n atomic.Int64
	return raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			request, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, request.Body)
			io.WriteString(conn, text(int(n.Add(1))))
		}
	})
}

// TestUnaskedResponses: what an origin says while nobody asks is not the answer to
// the next request (response queue poisoning).
func TestUnaskedResponses(t *testing.T) {
	said := make(chan struct{})
	f := open(t, raw(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
			if n == 0 {
				pause(20 * time.Millisecond)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
				close(said)
			}
		}
	}))
	_, text := f.get("/")
	want(t, "first", text, "0")
	receive(t, "the origin says more", said)
	f.arrived()
	_, text = f.get("/")
	want(t, "second", text, "1")
	want(t, "repeated", f.stats().Repeated.Load(), 0)
}

// arrived waits until what origins have said, or their end, shows on every connection
// that rests.
func (f *fixture) arrived() {
	f.t.Helper()
	eventually(f.t, "it has come over loopback", func() bool {
		links := f.upstreamOf("o").links
		links.mu.Lock()
		defer links.mu.Unlock()
		for _, s := range links.senders {
			pool := &s.(*endpoint).h1.pool
			pool.mu.Lock()
			fresh := slices.ContainsFunc(pool.resting, (*h1Conn).fresh)
			pool.mu.Unlock()
			if fresh {
				return false
			}
		}
		return true
	})
}

// TestClosedWhileItRested: even a POST is sent on, over another connection, where
// nothing of it was written.
func TestClosedWhileItRested(t *testing.T) {
	closed := make(chan struct{}, 8)
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, request.Body)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		conn.Close()
		closed <- struct{}{}
	}))
	for range 3 {
		for _, body := range []io.Reader{strings.NewReader("short"), strings.NewReader(pattern(0, 100_000)), io.MultiReader(strings.NewReader("chunks"))} {
			resp, err := f.do("POST", "/", body)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			receive(t, "the origin closes", closed)
			f.arrived()
		}
	}
	want(t, "repeated", f.stats().Repeated.Load(), 0)
}

// TestAnswersDuringTheUpload: an origin may answer before it has the whole request.
func TestAnswersDuringTheUpload(t *testing.T) {
	t.Run("refused and closed", func(t *testing.T) {
		f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
				io.CopyN(io.Discard, r, 1<<20)
			}
		}))
		resp, err := f.do("POST", "/", io.MultiReader(endless{}))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil || string(text) != "no!" || resp.StatusCode != 413 {
			t.Errorf("%d %q %v", resp.StatusCode, text, err)
		}
		resp.Body.Close()
		eventually(t, "the connection is closed", func() bool { return f.stats().ConnectionsOpen.Load() == 0 })
	})
	t.Run("both ways at once", func(t *testing.T) {
		f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			for {
				request, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				lines := bufio.NewScanner(request.Body)
				for lines.Scan() {
					line := strings.ToUpper(lines.Text())
					fmt.Fprintf(conn, "%x\r\n%s\r\n", len(line), line)
				}
				io.WriteString(conn, "0\r\n\r\n")
			}
		}))
		rests := func() bool {
			in, out := io.Pipe()
			resp, err := f.do("POST", "/", in)
			if err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 3)
			for _, line := range []string{"one", "two"} {
				io.WriteString(out, line+"\n")
				if _, err := io.ReadFull(resp.Body, answer); err != nil || string(answer) != strings.ToUpper(line) {
					t.Fatalf("%q, %v", answer, err)
				}
			}
			out.Close()
			if _, err := resp.Body.Read(answer); err != io.EOF {
				t.Errorf("end: %v", err)
			}
			resp.Body.Close()
			want(t, "active", f.stats().Active.Load(), 0)
			return f.stats().ConnectionsOpen.Load() == 1
		}
		// Where the sender stands still for uploadLag the connection is given up.
		eventually(t, "the connection rests", rests)
	})
}

func TestExpectContinue(t *testing.T) {
	for name, test := range map[string]struct {
		says, body string
		status     int
	}{
		"continue":  {"HTTP/1.1 100 Continue\r\n\r\n", "the content", 200},
		"final":     {"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "", 417},
		"nothing":   {"", "the content", 200},
		"102, then": {"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", "the content", 200},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				request, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				want(t, "Expect", request.Header.Get("Expect"), "100-continue")
				io.WriteString(conn, test.says)
				text, _ := io.ReadAll(request.Body)
				got <- string(text)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}))
			r := f.request(t.Context(), "PUT", "/", io.MultiReader(strings.NewReader("the content")))
			r.Header.Set("Expect", "100-continue")
			start := time.Now()
			resp, err := f.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			late := time.Since(start) >= continueWait // so that the content was sent unasked
			want(t, "status", resp.StatusCode, test.status)
			if text := receive(t, "the request ends", got); text != test.body && !late {
				t.Errorf("content: got %q, want %q", text, test.body)
			}
		})
	}
}

func TestTrailersBothWays(t *testing.T) {
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, request.Body)
		text := fmt.Sprint(request.Trailer)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Content-Length\r\n\r\n%x\r\n%s\r\n0\r\n"+
			"X-Sum: 1\r\nx-sum: 2\r\nX-More: 3\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n\r\n", len(text), text)
	}))
	r := f.request(t.Context(), "POST", "/", io.MultiReader(strings.NewReader("x")))
	r.Trailer = http.Header{"X-Check": {"abc"}, "Content-Length": {"7"}}
	resp, err := f.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_, announced := resp.Trailer["X-Sum"]
	want(t, "announced", announced && len(resp.Trailer) == 1, true)
	text, err := io.ReadAll(resp.Body)
	want(t, "sent", string(text), "map[X-Check:[abc]]")
	want(t, "received", fmt.Sprint(resp.Trailer, err), "map[X-More:[3] X-Sum:[1 2]] <nil>")
	resp.Body.Close()
}

func TestWholeTimeout(t *testing.T) {
	for _, proto := range []string{"h1", "h2"} {
		_, cfg := scripted(t, proto)
		cfg.Timeout = 100 * time.Millisecond
		f := open(t, cfg)
		_, err := f.do("GET", "/_origin/hang", nil)
		wantKind(t, proto+" header", err, KindResponseTimeout)
		errs := []Kind{KindResponseTimeout, KindResponseTimeout}
		resp, err := f.do("GET", "/_origin/respond?size=1000000&chunks=1000&chunk_delay=10ms", nil)
		for ; err != nil && len(errs) < 50; errs = append(errs, KindResponseTimeout) { // a slow machine
			wantKind(t, proto+" header", err, KindResponseTimeout)
			resp, err = f.do("GET", "/_origin/respond?size=1000000&chunks=1000&chunk_delay=10ms", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		wantKind(t, proto+" body", err, KindResponseTimeout)
		resp.Body.Close()
		wantErrors(t, f.stats(), errs...)
	}
}

// TestNoGoroutineOfItsOwn counts those of requests that wait for an answer, and of
// connections that rest.
func TestNoGoroutineOfItsOwn(t *testing.T) {
	const n = 50
	release := make(chan struct{})
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			<-release
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}))
	before := runtime.NumGoroutine()
	done := make(chan error, n)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range n {
		go func() {
			resp, err := f.RoundTrip(f.request(ctx, "GET", "/", nil))
			if err == nil {
				resp.Body.Close()
			}
			done <- err
		}()
	}
	eventually(t, "all are sent", func() bool { return f.stats().ConnectionsDialed.Load() == n && f.stats().Waiting.Load() == 0 })
	// A goroutine of the test and one of its origin for each.
	if most := before + 2*n + 2; runtime.NumGoroutine() > most {
		eventually(t, "dials are over", func() bool { return runtime.NumGoroutine() <= most })
	}
	close(release)
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "they rest", func() bool { return runtime.NumGoroutine() <= before+n+1 })
	want(t, "open", f.stats().ConnectionsOpen.Load(), n)
}

// TestGivenUpAtAnyMoment leaves neither connection nor count behind.
func TestGivenUpAtAnyMoment(t *testing.T) {
	_, cfg := scripted(t, "h1")
	cfg.Connections = 4
	f := open(t, cfg)
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*10*time.Microsecond)
		body := io.Reader(nil)
		if i%3 == 0 {
			body = strings.NewReader(pattern(0, 20_000))
		}
		resp, err := f.RoundTrip(f.request(ctx, "POST", "/_origin/respond?size=20000&chunked=1", body))
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		cancel()
	}
	s := f.stats()
	eventually(t, "nothing is active", func() bool { return s.Active.Load() == 0 && s.Waiting.Load() == 0 })
	for range 4 {
		f.get("/_origin/respond?size=10")
	}
	f.Close()
	eventually(t, "all is closed", func() bool { return s.ConnectionsOpen.Load() == 0 })
}

func TestRestingConnectionsAreSwept(t *testing.T) {
	_, cfg := scripted(t, "h1")
	cfg.IdleTimeout = 20 * time.Millisecond
	f := open(t, cfg)
	f.get("/_origin/respond?size=10")
	eventually(t, "it is closed", func() bool { return f.stats().ConnectionsOpen.Load() == 0 })
	f.get("/_origin/respond?size=10")
	want(t, "dialed", f.stats().ConnectionsDialed.Load(), 2)
}

func TestProxyProtocol(t *testing.T) {
	lines := make(chan string, 8)
	accept := func(_ int, conn net.Conn, r *bufio.Reader) {
		if first, err := r.Peek(1); err == nil && first[0] == 'P' {
			line, _ := r.ReadString('\n')
			lines <- line
		} else {
			head := make([]byte, 16)
			io.ReadFull(r, head)
			rest := make([]byte, int(head[14])<<8|int(head[15]))
			io.ReadFull(r, rest)
			lines <- fmt.Sprintf("%x %x", head[12:], rest[:min(len(rest), 4)])
		}
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}
	for _, test := range []struct{ version, client, header string }{
		{"v1", "192.0.2.1:4711", "PROXY TCP4 192.0.2.1 127.0.0.1 4711 "},
		{"v1", "[2001:db8::1]:4711", "PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 4711 "},
		{"v1", "", "PROXY UNKNOWN\r\n"},
		{"v2", "192.0.2.1:4711", "2111000c c0000201"},
		{"v2", "[2001:db8::1]:4711", "21210024 20010db8"},
		{"v2", "", "20000000 "},
	} {
		cfg := raw(t, accept)
		cfg.ProxyProtocol = test.version
		f := open(t, cfg)
		for _, client := range []string{test.client, test.client, "192.0.2.9:1"} {
			r := f.request(t.Context(), "GET", "/", nil)
			r.RemoteAddr = client
			resp, err := f.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		if got := receive(t, "a connection arrives", lines); !strings.HasPrefix(got, test.header) {
			t.Errorf("%s for %q: %q", test.version, test.client, got)
		}
		receive(t, "another arrives", lines)
		want(t, "dialed for two clients", f.stats().ConnectionsDialed.Load(), 2)
	}
}

func TestClientCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.TLS.PeerCertificates))
	}))
	server.StartTLS()
	t.Cleanup(server.Close)
	own := server.TLS.Certificates[0]
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAnyClientCert, pool
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: own.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := Config{URL: server.URL, CA: authority(t, server), Certificate: certificate, Key: key}
	f := open(t, cfg)
	_, text := f.get("/")
	want(t, "certificates shown", text, "1")
	cfg.Key = certificate
	if err := f.Apply(map[string]Config{"o": cfg}); err == nil || !strings.Contains(err.Error(), "certificate: ") {
		t.Errorf("a certificate for a key: %v", err)
	}
}

func TestProtocolsOfAnOrigin(t *testing.T) {
	proto := func(cfg Config) string { t.Helper(); return open(t, cfg).echo("/_origin/echo").Proto }
	_, clear := scripted(t, "h1")
	_, secure := scripted(t, "h2")
	want(t, "clear", proto(clear), "HTTP/1.1")
	want(t, "TLS", proto(secure), "HTTP/2.0")
	secure.Protocol = protocolH1
	want(t, "TLS, told HTTP/1.1", proto(secure), "HTTP/1.1")
	secure.Protocol = protocolH2
	want(t, "TLS, told h2", proto(secure), "HTTP/2.0")

	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	known := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	known.Config.Protocols = &protocols
	known.Start()
	t.Cleanup(known.Close)
	f := open(t, Config{URL: known.URL, Protocol: protocolH2})
	_, text := f.get("/")
	want(t, "prior knowledge", text, "HTTP/2.0")

	one := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	t.Cleanup(one.Close)
	f = open(t, Config{URL: one.URL, CA: authority(t, one)})
	for range 3 {
		_, text = f.get("/")
		want(t, "TLS without h2", text, "HTTP/1.1")
	}
	want(t, "dialed", f.stats().ConnectionsDialed.Load(), 1)
	_, err := open(t, Config{URL: one.URL, CA: authority(t, one), Protocol: protocolH2}).do("GET", "/", nil)
	wantKind(t, "h2 or nothing", err, KindAlert)
}

// TestInformationalHookMayRefuse passes the hook's error on.
func TestInformationalHookMayRefuse(t *testing.T) {
	f := open(t, keeps(t, func(int) string {
		return "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
	}))
	no := errors.New("no")
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			want(t, "hint", fmt.Sprint(code, h.Get("Link")), "103</a>")
			return no
		},
	})
	_, err := f.RoundTrip(f.request(ctx, "GET", "/", nil))
	want(t, "error", errors.Is(err, no), true)
	f.get("/")
}

// TestSmallReads reads bodies byte by byte, over piecemeal writes.
func TestSmallReads(t *testing.T) {
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		for _, b := range []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=\"y\"\r\nd\r\n0\r\nT: 1\r\n\r\n") {
			conn.Write([]byte{b})
			if b == '\n' {
				pause(time.Millisecond)
			}
		}
	}))
	resp, err := f.do("GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := io.CopyBuffer(&text, struct{ io.Reader }{resp.Body}, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	want(t, "body", text.String(), "abcd")
	want(t, "trailer", resp.Trailer.Get("T"), "1")
	resp.Body.Close()
}

// TestTheWaitForAConnectionIsNotTheHeaders: each phase has its time.
func TestTheWaitForAConnectionIsNotTheHeaders(t *testing.T) {
	const limit = 400 * time.Millisecond
	_, cfg := scripted(t, "h1")
	cfg.Connections, cfg.HeaderTimeout, cfg.DialTimeout = 1, limit, 20*time.Second
	f := open(t, cfg)
	for try := 1; ; try++ {
		start := time.Now()
		busy, err := f.do("GET", "/_origin/sse?interval=10m", nil)
		if err == nil {
			done := make(chan error, 1)
			go func() {
				resp, err := f.RoundTrip(f.request(t.Context(), "GET", "/_origin/respond?size=10", nil))
				if err == nil {
					resp.Body.Close()
				}
				done <- err
			}()
			eventually(t, "it waits", func() bool { return f.stats().Waiting.Load() == 1 })
			pause(limit * 5 / 4)
			start = time.Now()
			busy.Body.Close()
			err = receive(t, "it is answered", done)
		}
		if err == nil {
			return
		}
		if time.Since(start) < limit || try == 10 { // else it is a machine that stood still
			t.Fatal(err)
		}
	}
}

// TestFramingIsOurs: what a request says of its framing in its header is not sent.
func TestFramingIsOurs(t *testing.T) {
	heads := make(chan string, 1)
	f := open(t, raw(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		var head strings.Builder
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
			head.WriteString(line)
		}
		heads <- head.String()
		io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	}))
	r := f.request(t.Context(), "GET", "/x", nil)
	r.Header = http.Header{"transfer-encoding": {"chunked"}, "CONTENT-LENGTH": {"5"}, "host": {"evil.example"}, "TRAILER": {"x"}, "User-Agent": nil}
	resp, err := f.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want(t, "head", receive(t, "a request arrives", heads), "GET /x HTTP/1.1\r\nHost: client.example\r\n\r\n")
}
