package origin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edgecdn/cmd/origin/script"
)

// wantErrors wants the statistics to hold exactly these errors.
func wantErrors(t *testing.T, s *Stats, errs ...Kind) {
	t.Helper()
	for i, kind := range Kinds {
		n := uint64(0)
		for _, e := range errs {
			if e == kind {
				n++
			}
		}
		want(t, "counted as "+string(kind), s.Errors[i].Load(), n)
	}
	want(t, "active", s.Active.Load(), 0)
	want(t, "waiting", s.Waiting.Load(), 0)
}

func TestKindsAreListedOnce(t *testing.T) {
	for i, kind := range Kinds {
		want(t, string(kind), kind.index(), i)
		if status := kind.Status(); status < 400 || status > 504 {
			t.Errorf("%s: status %d", kind, status)
		}
	}
	token, status := errorf(KindReadTimeout, "x").ProxyError()
	want(t, "token", token, "connection_read_timeout")
	want(t, "status", status, 504)
	want(t, "cause", errors.Is(&Error{Kind: KindInternal, Err: io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF), true)
}

// TestAnswersOutOfOrder sends what no origin should, and wants a name for it and
// nothing that could be taken for a response.
func TestAnswersOutOfOrder(t *testing.T) {
	for text, kind := range map[string]Kind{
		"":                              KindTerminated,
		"HTTP/1.1 200 OK\r\nContent-Le": KindProtocol,
		"HTT":                           KindProtocol,
		"SSH-2.0-OpenSSH\r\n":           KindProtocol,
		"\x15\x03\x01\x00\x02\x02\x16":  KindProtocol, // a TLS alert
		"HTTP/3.0 200 OK\r\n\r\n":       KindProtocol,
		"HTTP/2.0 200 OK\r\n\r\nx":      KindProtocol,
		"HTTP/1.1 OK 200\r\n\r\n":       KindProtocol,
		"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n":                              KindProtocol,
		"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n":                              KindProtocol,
		"HTTP/1.1 999 Odd\r\n\r\nbody":                                               KindProtocol,
		"HTTP/1.1 200 OK\r\nno colon\r\n\r\n":                                        KindProtocol,
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd":      KindProtocol,
		"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc":                           KindProtocol,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc":                      KindTransferCoding,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": KindProtocol,
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx":                     KindProtocol,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70_000) + "\r\n\r\n":          KindHeaderSize,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello":                KindUpgrade,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Control : private\r\n\r\n":    KindProtocol,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet Cookie: a=b\r\n\r\n":            KindProtocol,
	} {
		f := open(t, answers(t, text))
		resp, err := f.do("GET", "/", nil)
		wantKind(t, fmt.Sprintf("%.60q", text), err, kind)
		if resp != nil {
			t.Errorf("%.60q: there is a response", text)
		}
		wantErrors(t, f.stats(), kind)
	}
}

// TestBodiesThatBreakOff wants an error, never io.EOF, at the end of a part.
func TestBodiesThatBreakOff(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for text, kind := range map[string]Kind{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc": KindResponseIncomplete,
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n":    KindResponseIncomplete,
		head:                                 KindResponseIncomplete,
		head + "5\r\nab":                     KindResponseIncomplete,
		head + "2\r\nab\r\n":                 KindResponseIncomplete,
		head + "2\r\nab\r\n0\r\n":            KindResponseIncomplete,
		head + "2\r\nab\r\n0\r\nX: ":         KindTransferCoding,
		head + "2\r\nabcd\r\n":               KindTransferCoding,
		head + "zz\r\nab\r\n":                KindTransferCoding,
		head + "-1\r\nab\r\n":                KindTransferCoding,
		head + "11111111111111111\r\nab\r\n": KindTransferCoding,
	} {
		f := open(t, answers(t, text))
		resp, err := f.do("GET", "/", nil)
		if err != nil {
			t.Errorf("%q: no header: %v", text, err)
			continue
		}
		_, err = io.ReadAll(resp.Body)
		wantKind(t, fmt.Sprintf("%q", text), err, kind)
		_, again := resp.Body.Read(make([]byte, 1))
		want(t, "the error stays", again, err)
		resp.Body.Close()
		wantErrors(t, f.stats(), kind)
	}
}

func TestScriptedFaults(t *testing.T) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		f := open(t, cfg)
		for _, query := range []string{
			"size=100000&truncate=50000", "size=100000&truncate=50000&chunked=1", "size=50000&truncate=50000&chunked=1", "size=10&truncate=0",
		} {
			resp, err := f.do("GET", "/_origin/respond?"+query, nil)
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			text, err := io.ReadAll(resp.Body)
			wantKind(t, query, err, KindResponseIncomplete)
			if !strings.HasPrefix(pattern(0, 50_000), string(text)) {
				t.Errorf("%s: wrong bytes", query)
			}
			resp.Body.Close()
		}
		_, err := f.do("POST", "/_origin/close", nil)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("close: %v", err)
		}
		// One stream's end is not the connection's: the rest goes on.
		want(t, "after all", f.echo("/_origin/echo").Method, "GET")
	})
}

func TestResets(t *testing.T) {
	_, cfg := scripted(t, "h1")
	f := open(t, cfg)
	_, err := f.do("POST", "/_origin/close?rst=1", nil)
	wantKind(t, "before the header", err, KindTerminated)
	resp, err := f.do("GET", "/_origin/until-close?size=100&truncate=10", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(resp.Body)
	wantKind(t, "in a body without length", err, KindTerminated)
	resp.Body.Close()
	wantErrors(t, f.stats(), KindTerminated, KindTerminated)
}

func TestHeaderTooLargeOverHTTP2(t *testing.T) {
	_, cfg := scripted(t, "h2")
	query := strings.Repeat("header=X-A:"+strings.Repeat("x", 1000)+"&", 80)
	_, err := open(t, cfg).do("GET", "/_origin/respond?"+query, nil)
	wantKind(t, "80 kB of fields", err, KindHeaderSize)
}

func TestNoConnection(t *testing.T) {
	_, clear := scripted(t, "h1")
	_, encrypted := scripted(t, "h2")
	for name, test := range map[string]struct {
		cfg  Config
		kind Kind
	}{
		"nobody listens":         {Config{URL: "http://" + nobody}, KindRefused},
		"nobody listens for TLS": {Config{URL: "https://" + nobody}, KindRefused},
		"clear where TLS is":     {Config{URL: strings.Replace(clear.URL, "http:", "https:", 1)}, KindTLS},
		"unknown authority":      {Config{URL: encrypted.URL}, KindCertificate},
		"closed in the handshake": {Config{URL: strings.Replace(raw(t, func(_ int, _ net.Conn, r *bufio.Reader) {
			r.ReadByte()
		}).URL, "http:", "https:", 1)}, KindTerminated},
	} {
		f := open(t, test.cfg)
		_, err := f.do("GET", "/", nil)
		wantKind(t, name, err, test.kind)
		wantErrors(t, f.stats(), test.kind)
	}
	resp, err := open(t, Config{URL: strings.Replace(encrypted.URL, "https:", "http:", 1)}).do("GET", "/", nil)
	if err != nil || resp.StatusCode != 400 { // Go's server answers so
		t.Errorf("TLS where clear is wanted: %v", err)
	}
}

// TestConnectKind covers what cannot be had from a network on one machine.
func TestConnectKind(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, test := range []struct {
		err  error
		kind Kind
	}{
		{dial(&net.DNSError{Err: "no such host", IsNotFound: true}), KindDNS},
		{dial(&net.DNSError{Err: "i/o timeout", IsTimeout: true}), KindDNSTimeout},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), KindUnroutable},
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), KindUnroutable},
		{dial(os.NewSyscallError("connect", syscall.ETIMEDOUT)), KindConnectTimeout},
		{dial(os.NewSyscallError("socket", syscall.EMFILE)), KindUnavailable},
		{dial(context.DeadlineExceeded), KindConnectTimeout},
		{dial(os.NewSyscallError("connect", syscall.ECONNRESET)), KindTerminated},
	} {
		want(t, test.err.Error(), connectKind(test.err), test.kind)
	}
}

func TestClientCertificateRefused(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.StartTLS()
	t.Cleanup(server.Close)
	server.TLS.ClientAuth = 4 // tls.RequireAndVerifyClientCert; read for each handshake
	_, err := open(t, Config{URL: server.URL, CA: authority(t, server)}).do("GET", "/", nil)
	wantKind(t, "no certificate of ours", err, KindAlert)
}

func TestTimeouts(t *testing.T) {
	const short = 30 * time.Millisecond
	hang, cfg := scripted(t, "h1")
	_, cfg2 := scripted(t, "h2")
	quiet := silent(t)
	for name, test := range map[string]struct {
		cfg    Config
		target string
		kind   Kind
	}{
		"connect":        {Config{URL: "http://" + fullBacklog(t), DialTimeout: short}, "/", KindConnectTimeout},
		"TLS":            {Config{URL: strings.Replace(quiet.URL, "http:", "https:", 1), DialTimeout: short}, "/", KindConnectTimeout},
		"TLS alone":      {Config{URL: strings.Replace(quiet.URL, "http:", "https:", 1), TLSTimeout: short, DialTimeout: time.Minute}, "/", KindConnectTimeout},
		"TLS alone, h2":  {Config{URL: strings.Replace(quiet.URL, "http:", "https:", 1), Protocol: "h2", TLSTimeout: short, DialTimeout: time.Minute}, "/", KindConnectTimeout},
		"header":         {Config{URL: cfg.URL, HeaderTimeout: short}, "/_origin/hang", KindResponseTimeout},
		"header, HTTP/2": {Config{URL: cfg2.URL, CA: cfg2.CA, HeaderTimeout: short}, "/_origin/hang", KindResponseTimeout},
		"half a header":  {Config{URL: cfg.URL, HeaderTimeout: short}, "/_origin/wire?keep=1m&bytes=HTTP/1.1%20200%20OK%0D%0AX", KindResponseTimeout},
		"informational":  {Config{URL: cfg.URL, HeaderTimeout: short}, "/_origin/respond?early=X:y&delay=1m", KindResponseTimeout},
	} {
		f := open(t, test.cfg)
		_, err := f.do("GET", test.target, nil)
		wantKind(t, name, err, test.kind)
		wantErrors(t, f.stats(), test.kind)
	}
	// They may be seen after they were given up.
	eventually(t, "three requests arrive", func() bool { return hang.Total() == 3 })
}

// fullBacklog returns an address where connections are neither taken nor
// refused.
func fullBacklog(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	// Of a listener these two are how many connections wait to be taken, and how many may.
	eventually(t, "the backlog is full", func() bool {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.Unacked > info.Sacked
	})
	return address
}

func TestBodyStandsStill(t *testing.T) {
	t.Parallel()
	bothBeside(t, func(t *testing.T, cfg Config) {
		cfg.StallTimeout = time.Second
		f := open(t, cfg)
		for _, query := range []string{"size=100&chunks=2&chunk_delay=1m", "size=100&chunks=2&chunk_delay=1m&chunked=1"} {
			resp, err := f.do("GET", "/_origin/respond?"+query, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			wantKind(t, query, err, KindReadTimeout)
			want(t, "the half that came", string(text), pattern(0, 50))
			resp.Body.Close()
		}
		wantErrors(t, f.stats(), KindReadTimeout, KindReadTimeout)
	})
}

// bothBeside is both for tests that wait long: beside each other.
func bothBeside(t *testing.T, test func(t *testing.T, cfg Config)) {
	both(t, func(t *testing.T, _ *script.Script, cfg Config) {
		t.Parallel()
		test(t, cfg)
	})
}

// TestSlowReaderIsNotAStall: time that the caller takes is not the origin's.
func TestSlowReaderIsNotAStall(t *testing.T) {
	t.Parallel()
	bothBeside(t, func(t *testing.T, cfg Config) {
		cfg.StallTimeout = 2 * time.Second
		f := open(t, cfg)
		resp, err := f.do("GET", "/_origin/respond?size=20000", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Read(make([]byte, 1))
		pause(2300 * time.Millisecond)
		text, err := io.ReadAll(resp.Body)
		if err != nil || string(text) != pattern(1, 19_999) {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	})
}

// TestSlowUploadIsNotAStall: nor is the time that the client takes to send.
func TestSlowUploadIsNotAStall(t *testing.T) {
	t.Parallel()
	bothBeside(t, func(t *testing.T, cfg Config) {
		cfg.StallTimeout, cfg.HeaderTimeout = 2*time.Second, 2*time.Second
		f := open(t, cfg)
		in, out := io.Pipe()
		go func() {
			io.WriteString(out, "first ")
			pause(2300 * time.Millisecond)
			io.WriteString(out, "second")
			out.Close()
		}()
		resp, err := f.do("POST", "/_origin/echo", in)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(text), "first second") {
			t.Errorf("%s, %v", text, err)
		}
	})
}

func TestOriginTakesNoUpload(t *testing.T) {
	release := make(chan struct{})
	cfg := raw(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		r.ReadByte()
		<-release
	})
	defer close(release)
	cfg.StallTimeout = 100 * time.Millisecond
	f := open(t, cfg)
	_, err := f.do("POST", "/", io.MultiReader(endless{}))
	wantKind(t, "upload", err, KindWriteTimeout)
	wantErrors(t, f.stats(), KindWriteTimeout)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestCallersDeadline(t *testing.T) {
	_, cfg := scripted(t, "h1")
	f := open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := f.RoundTrip(f.request(ctx, "GET", "/_origin/hang", nil))
	wantKind(t, "deadline", err, KindResponseTimeout)
	want(t, "cause", errors.Is(err, context.DeadlineExceeded), true)
}

func TestInvalidRequests(t *testing.T) {
	f := open(t, Config{URL: "http://127.0.0.1:1"})
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Method = "GE T" },
		func(r *http.Request) { r.Header["Bad name"] = []string{"x"} },
		func(r *http.Request) { r.Header["X"] = []string{"a\r\nY: b"} },
	} {
		r := f.request(t.Context(), "GET", "/", nil)
		change(r)
		_, err := f.RoundTrip(r)
		wantKind(t, "request", err, KindRequest)
	}
	wantErrors(t, f.stats(), slices.Repeat([]Kind{KindRequest}, 3)...)
}
