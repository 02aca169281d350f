package server

// harness_test.go starts real servers and real clients of every protocol.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/route"
	"edgecdn/server/gate"
)

func TestMain(m *testing.M) {
	// certmagic keeps a limiter for each authority for good, and watches each of
	// its locks for some seconds after it was given back.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

// patience bounds every wait for something that must happen.
const patience = time.Minute

// edge is a running server and what a test asks of it.
type edge struct {
	*Server
	t        testing.TB
	http     string // addresses
	https    string
	roots    *x509.CertPool
	log      *logBuffer
	stop     context.CancelFunc
	finished chan error
}

// logBuffer collects what the server logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setup is what a test may choose; zero fields get a working value.
type setup struct {
	config  Config
	hosts   []route.Host
	handler http.HandlerFunc
	lookup  func(*cache.Request) (cache.Hit, bool)
	drained func()
}

func missAll(*cache.Request) (cache.Hit, bool) { return cache.Hit{}, false }

func (o *setup) fill(t testing.TB) Seam {
	if o.hosts == nil {
		o.hosts = []route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}}
	}
	table, err := route.NewTable(o.hosts)
	if err != nil {
		t.Fatal(err)
	}
	if o.lookup == nil {
		o.lookup = missAll
	}
	if o.handler == nil {
		o.handler = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "made by the handler") }
	}
	if o.config.HTTP == nil && o.config.HTTPS == nil {
		o.config.HTTP, o.config.HTTPS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	}
	if o.config.AccessLog == (AccessLog{}) {
		o.config.AccessLog.Format = "off"
	}
	if o.config.Data == "" {
		o.config.Data = t.TempDir()
	}
	return Seam{Seam: gate.Seam{Match: table.Match, Judge: access.New().Judge, Lookup: o.lookup, Handler: o.handler}, Draining: o.drained}
}

// start runs a server until the test ends.
func start(t testing.TB, o setup) *edge {
	t.Helper()
	return startSeam(t, o, o.fill(t))
}

func startSeam(t testing.TB, o setup, seam Seam) *edge {
	t.Helper()
	e := &edge{t: t, log: &logBuffer{}, finished: make(chan error, 1)}
	s, err := New(o.config, seam, slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	e.Server = s
	clear, secure := s.Addresses()
	e.http, e.https = strings.Join(clear, ","), strings.Join(secure, ",")
	if len(secure) > 0 && len(o.config.TLS.Certificates) == 0 {
		pem, err := os.ReadFile(DevelopmentCA(o.config.Data))
		if err != nil {
			t.Fatal(err)
		}
		e.roots = x509.NewCertPool()
		e.roots.AppendCertsFromPEM(pem)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.stop = cancel
	go func() { e.finished <- s.Run(ctx) }()
	t.Cleanup(func() { e.shutdown() })
	return e
}

// shutdown stops the server and returns what Run said.
func (e *edge) shutdown() error {
	e.stop()
	select {
	case err := <-e.finished:
		e.finished <- err
		return err
	case <-time.After(patience):
		e.t.Error("Run did not return")
		return nil
	}
}

func (e *edge) tls(protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: e.roots, NextProtos: protocols}
}

// client speaks one protocol to an edge.
type client struct {
	name  string
	proto cache.Proto
	base  string // URL without a path
	*http.Client
}

const clientTimeout = patience

func (e *edge) h1() *client {
	tr := &http.Transport{DisableCompression: true}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &client{"h1", cache.HTTP1, "http://" + e.http, plainClient(tr)}
}

func (e *edge) h1s() *client {
	tr := &http.Transport{DisableCompression: true, TLSClientConfig: e.tls("http/1.1")}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &client{"h1 over TLS", cache.HTTP1, "https://" + e.https, plainClient(tr)}
}

func (e *edge) h2() *client {
	tr := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: true, TLSClientConfig: e.tls()}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &client{"h2", cache.HTTP2, "https://" + e.https, plainClient(tr)}
}

func (e *edge) h3() *client {
	tr := &http3.Transport{DisableCompression: true, TLSClientConfig: e.tls(), QUICConfig: &quic.Config{MaxIdleTimeout: patience}}
	e.t.Cleanup(func() { _ = tr.Close() })
	return &client{"h3", cache.HTTP3, "https://" + e.https, plainClient(tr)}
}

func plainClient(tr http.RoundTripper) *http.Client {
	return &http.Client{Transport: tr, Timeout: clientTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (e *edge) clients() []*client { return []*client{e.h1(), e.h1s(), e.h2(), e.h3()} }

// each runs a test over every protocol.
func (e *edge) each(t *testing.T, f func(t *testing.T, c *client)) {
	t.Helper()
	for _, c := range e.clients() {
		t.Run(c.name, func(t *testing.T) { f(t, c) })
	}
}

// do sends a request and reads the whole answer.
func (c *client) do(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", r.Method, r.URL, err)
	}
	return resp, string(body)
}

// ask sends a request and returns the content of the answer.
func (c *client) ask(r *http.Request) (string, error) {
	resp, err := c.Do(r)
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("%s: body: %w", c.name, err)
	}
	return string(body), nil
}

// together has all clients do the same at once.
func (e *edge) together(do func(c *client) error) error {
	clients := e.clients()
	done := make(chan error, len(clients))
	for _, c := range clients {
		go func() { done <- do(c) }()
	}
	var errs []error
	for range clients {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// alone waits until nobody is connected, and has given its place back.
func (e *edge) alone() {
	e.t.Helper()
	eventually(e.t, "all places are free", func() bool {
		e.bounds.mu.Lock()
		defer e.bounds.mu.Unlock()
		return e.bounds.open == 0
	})
}

func (c *client) request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, c.base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *client) get(t testing.TB, path string) (*http.Response, string) {
	t.Helper()
	return c.do(t, c.request(t, "GET", path, nil))
}

// raw sends bytes to the clear listener and returns the answers, read until the
// server closes or, with want set, until so many answers have come.
func (e *edge) raw(t testing.TB, request string, want int) []*http.Response {
	t.Helper()
	c, err := net.Dial("tcp", e.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	var answers []*http.Response
	method, _, _ := strings.Cut(request, " ")
	for r := bufio.NewReader(c); len(answers) < want; {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q: answer %d: %v", request, len(answers)+1, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%q: answer %d: body: %v", request, len(answers)+1, err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		answers = append(answers, resp)
	}
	return answers
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); ; {
		if ok() {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: did not come to be", what)
		}
	}
}

// recorded copies what the handler was told of a request.
func recorded(r *http.Request) cache.Request {
	in := cache.FromContext(r.Context())
	return cache.Request{
		Method: in.Method, Scheme: in.Scheme, Authority: in.Authority, Host: in.Host, Target: in.Target,
		Fields: append([]cache.Field(nil), in.Fields...), Client: in.Client, Listener: in.Listener,
		Proto: in.Proto, HasBody: in.HasBody, Route: in.Route,
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")
