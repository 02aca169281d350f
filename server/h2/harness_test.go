package h2

// harness_test.go runs the engine on real listeners, in the clear and over TLS,
// with a gate over a fake or a real cache, and speaks to it with real clients and
// frame by frame.

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/cache/store"
	"edgecdn/route"
	"edgecdn/server/gate"
	"edgecdn/server/wiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen.
const patience = time.Minute

// setup is what a test may choose; zero fields get a working value.
type setup struct {
	limits  gate.Limits
	handler http.HandlerFunc
	lookup  func(*cache.Request) (cache.Hit, bool)
	altSvc  string
	memory  bool // connections in the clear are in memory, for bubbles; there are no others
}

// edge is a gate with an engine on two listeners.
type edge struct {
	t             testing.TB
	gate          *gate.Gate
	stats         Stats
	clear, secure *Engine
	http, https   string // addresses
	roots         *x509.CertPool
	log           logBuffer
	listeners     []net.Listener
	serving       sync.WaitGroup
	stop          sync.Once
}

// logBuffer collects what is logged.
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

func missAll(*cache.Request) (cache.Hit, bool) { return cache.Hit{}, false }

// certificate returns one that is good for 127.0.0.1, and who vouches for it.
func certificate() (tls.Certificate, *x509.CertPool) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

// start runs an edge until the test ends.
func start(t testing.TB, o setup) *edge {
	t.Helper()
	table, err := route.NewTable([]route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"}}})
	if err != nil {
		t.Fatal(err)
	}
	if o.lookup == nil {
		o.lookup = missAll
	}
	if o.handler == nil {
		o.handler = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "made by the handler") }
	}
	e := &edge{t: t}
	seam := gate.Seam{Match: table.Match, Judge: access.New().Judge, Lookup: o.lookup, Handler: o.handler}
	e.gate, err = gate.New(seam, o.limits, gate.AccessLog{Format: "off"}, slog.New(slog.NewTextHandler(&e.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	if o.memory {
		e.clear = New(&gate.Door{Gate: e.gate, Scheme: "http", Listener: "memory", AltSvc: o.altSvc}, &e.stats)
		return e
	}
	cert, roots := certificate()
	e.roots = roots
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, DynamicRecordSizingDisabled: true}
	e.clear, e.http = e.listen("http", o.altSvc, nil)
	e.secure, e.https = e.listen("https", o.altSvc, config)
	return e
}

func (e *edge) listen(scheme, altSvc string, config *tls.Config) (*Engine, string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.t.Fatal(err)
	}
	e.listeners = append(e.listeners, ln)
	engine := New(&gate.Door{Gate: e.gate, Scheme: scheme, Listener: ln.Addr().String(), AltSvc: altSvc}, &e.stats)
	e.serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			e.serving.Go(func() {
				if config == nil {
					engine.ServeConn(c, nil)
					return
				}
				secure := tls.Server(&corkedConn{TCPConn: c.(*net.TCPConn)}, config)
				if err := secure.HandshakeContext(context.Background()); err != nil {
					_ = c.Close()
					return
				}
				state := secure.ConnectionState()
				engine.ServeConn(secure, &state)
			})
		}
	})
	return engine, ln.Addr().String()
}

// close cuts everything and waits until nothing runs.
func (e *edge) close() {
	e.stop.Do(func() {
		for _, ln := range e.listeners {
			_ = ln.Close()
		}
		e.gate.Cut()
		for _, engine := range []*Engine{e.clear, e.secure} {
			if engine != nil {
				engine.Cut()
			}
		}
		e.serving.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if n := e.gate.Wait(ctx); n != 0 {
			e.t.Errorf("%d exchanges are left", n)
		}
	})
}

// client speaks HTTP/2 to an edge.
type client struct {
	name string
	base string // URL without a path
	*http.Client
}

func (e *edge) overTLS() *client {
	tr := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: e.roots}}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &client{"TLS", "https://" + e.https, plainClient(tr)}
}

func (e *edge) inClear() *client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{DisableCompression: true, Protocols: &protocols}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &client{"clear", "http://" + e.http, plainClient(tr)}
}

func plainClient(tr http.RoundTripper) *http.Client {
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// each runs a test in the clear and over TLS.
func (e *edge) each(t *testing.T, f func(t *testing.T, c *client)) {
	t.Helper()
	for _, c := range []*client{e.inClear(), e.overTLS()} {
		t.Run(c.name, func(t *testing.T) { f(t, c) })
	}
}

func (c *client) request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, c.base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
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

func (c *client) get(t testing.TB, path string) (*http.Response, string) {
	t.Helper()
	return c.do(t, c.request(t, "GET", path, nil))
}

// inBubble runs a test that is about time, over connections in memory.
func inBubble(t *testing.T, o setup, f func(t *testing.T, e *edge)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.memory = true
		f(t, start(t, o))
	})
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

// wire is a client that says whatever a test wants.
type wire struct {
	t      testing.TB
	nc     net.Conn
	framer *http2.Framer
	enc    *hpack.Encoder
	block  bytes.Buffer
	fields []hpack.HeaderField // of the last header block
	dec    *hpack.Decoder
	used   int // stream identifiers, by nextID
}

// dial connects in the clear and sends preface and settings. Frames are the test's.
func (e *edge) dial(t testing.TB, settings ...http2.Setting) *wire {
	t.Helper()
	w := e.dialBare(t)
	w.send(func() error {
		if _, err := io.WriteString(w.nc, http2.ClientPreface); err != nil {
			return err
		}
		return w.framer.WriteSettings(settings...)
	})
	return w
}

// dialBare connects and says nothing.
func (e *edge) dialBare(t testing.TB) *wire {
	t.Helper()
	var nc net.Conn
	if e.http == "" {
		ours, theirs := wiretest.Pair()
		e.serving.Go(func() { e.clear.ServeConn(theirs, nil) })
		nc = ours
	} else {
		var err error
		if nc, err = net.Dial("tcp", e.http); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	w := &wire{t: t, nc: nc, framer: http2.NewFramer(nc, nc)}
	w.framer.AllowIllegalReads, w.framer.AllowIllegalWrites = true, true
	w.enc = hpack.NewEncoder(&w.block)
	w.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) { w.fields = append(w.fields, f) })
	return w
}

func (w *wire) send(f func() error) {
	w.t.Helper()
	_ = w.nc.SetDeadline(time.Now().Add(patience))
	if err := f(); err != nil {
		w.t.Fatal(err)
	}
}

// encode returns a header block of names and values.
func (w *wire) encode(pairs ...string) []byte {
	w.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = w.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // into memory
	}
	return bytes.Clone(w.block.Bytes())
}

// headers sends a header block.
func (w *wire) headers(id uint32, end bool, pairs ...string) {
	w.t.Helper()
	w.send(func() error {
		return w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.encode(pairs...), EndHeaders: true, EndStream: end})
	})
}

// get sends a request for a path; more fields may follow.
func (w *wire) get(id uint32, path string, more ...string) {
	w.t.Helper()
	w.headers(id, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "a.test", ":path", path}, more...)...)
}

// post sends the header of a request with a body.
func (w *wire) post(id uint32, path string, more ...string) {
	w.t.Helper()
	w.headers(id, false, append([]string{":method", "POST", ":scheme", "http", ":authority", "a.test", ":path", path}, more...)...)
}

// read returns the next frame, nil at the end of the connection.
func (w *wire) read() http2.Frame {
	w.t.Helper()
	_ = w.nc.SetDeadline(time.Now().Add(patience))
	f, err := w.framer.ReadFrame()
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			w.t.Fatal("no frame came")
		}
		return nil
	}
	if h, ok := f.(*http2.HeadersFrame); ok {
		w.fields = nil
		if _, err := w.dec.Write(h.HeaderBlockFragment()); err != nil {
			w.t.Fatal(err)
		}
	}
	return f
}

// field is of the last header block.
func (w *wire) field(name string) string {
	for _, f := range w.fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// until reads up to a frame that is wanted, and fails where the connection ends
// before.
func until[F http2.Frame](w *wire, want func(F) bool) F {
	w.t.Helper()
	for {
		f := w.read()
		if f == nil {
			w.t.Fatalf("the connection ended before a %T came", *new(F))
		}
		if one, ok := f.(F); ok && want(one) {
			return one
		}
	}
}

// goneWith reads to the end of the connection and returns the last GOAWAY's code.
func (w *wire) goneWith() (reason http2.ErrCode, said bool) {
	w.t.Helper()
	for f := w.read(); f != nil; f = w.read() {
		if away, ok := f.(*http2.GoAwayFrame); ok {
			reason, said = away.ErrCode, true
		}
	}
	return reason, said
}

// origin makes responses without a network.
type origin func(r *http.Request) (*http.Response, error)

func (o origin) RoundTrip(r *http.Request) (*http.Response, error) { return o(r) }

// made builds the response of an origin.
func made(body string, fields ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return &http.Response{
		StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// targetKey is what an origin finds the target under.
type targetKey struct{}

// sized answers a path that ends in a number with a body of so many bytes.
func sized(r *http.Request) (*http.Response, error) {
	_, size, _ := strings.Cut(r.Context().Value(targetKey{}).(string), "-")
	n := 0
	for _, c := range size {
		n = n*10 + int(c-'0')
	}
	return made(strings.Repeat("x", n), "Cache-Control", "max-age=3600", "Content-Type", "application/octet-stream",
		"Etag", `"v1"`, "Last-Modified", "Sun, 22 Nov 2026 17:00:00 GMT", "Date", time.Now().UTC().Format(http.TimeFormat)), nil
}

// realCache returns a cache in memory in front of o.
func realCache(t testing.TB, o origin) *cache.Cache {
	t.Helper()
	prepare := cache.Preparer([3]cache.Encoder{nil, Encode, nil})
	kept, err := store.Open(store.Config{Memory: store.MemoryConfig{Bytes: 64 << 20}, Prepare: prepare}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := cache.New(cache.Config{Store: kept, Origin: o, Direct: func(ctx context.Context, _, target string) context.Context {
		return context.WithValue(ctx, targetKey{}, target)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- kept.Run(ctx) }()
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-ran; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// cached is a setup over a real cache in front of o.
func cached(t testing.TB, o origin) setup {
	c := realCache(t, o)
	return setup{handler: c.ServeHTTP, lookup: c.Lookup}
}

// corkedConn is a gate.Corker.
type corkedConn struct {
	*net.TCPConn
	mu   sync.Mutex
	on   bool
	held []byte
}

func (c *corkedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on {
		c.held = append(c.held, b...)
		return len(b), nil
	}
	return c.TCPConn.Write(b)
}

func (c *corkedConn) Cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = true
}

func (c *corkedConn) Uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.on = false
	_, err := c.TCPConn.Write(c.held)
	c.held = c.held[:0]
	return err
}
