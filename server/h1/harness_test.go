package h1

// harness_test.go runs the engine on loopback sockets, before a handler or a cache.

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/route"
	"edgecdn/server/gate"
	"edgecdn/server/wiretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that must happen.
const patience = time.Minute

// edge is a running engine and what a test asks of it.
type edge struct {
	*Engine
	t       testing.TB
	address string
	gate    *gate.Gate
	roots   *x509.CertPool // over TLS
	log     *logBuffer
	serving sync.WaitGroup
	ln      net.Listener // nil where connections are in memory
	tls     *tls.Config  // nil: in the clear
}

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
	limits  gate.Limits
	hosts   []route.Host
	handler http.HandlerFunc
	lookup  func(*cache.Request) (cache.Hit, bool)
	secure  bool
	altSvc  string
	memory  bool // connections are in memory, for bubbles
}

func missAll(*cache.Request) (cache.Hit, bool) { return cache.Hit{}, false }

func start(t testing.TB, o setup) *edge {
	t.Helper()
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
	e := &edge{t: t, log: &logBuffer{}}
	log := slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	seam := gate.Seam{Match: table.Match, Judge: access.New().Judge, Lookup: o.lookup, Handler: o.handler}
	if e.gate, err = gate.New(seam, o.limits, gate.AccessLog{Format: "off"}, log); err != nil {
		t.Fatal(err)
	}
	if !o.memory {
		if e.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		e.address = e.ln.Addr().String()
	}
	door := &gate.Door{Gate: e.gate, Scheme: "http", Listener: e.address, AltSvc: o.altSvc}
	if o.secure {
		door.Scheme = "https"
		e.tls = e.certificate()
	}
	e.Engine = New(door, new(Stats))
	if e.ln != nil {
		e.serving.Go(e.accept)
	}
	t.Cleanup(e.stop)
	return e
}

func (e *edge) stop() {
	if e.ln != nil {
		_ = e.ln.Close()
	}
	e.gate.Cut()
	e.Cut()
	e.serving.Wait()
	if n := e.gate.Inflight(); n != 0 {
		e.t.Errorf("%d exchanges never ended", n)
	}
	if n := e.stats.Idle.Load() + e.stats.Hijacked.Load(); n != 0 {
		e.t.Errorf("%d connections are still counted", n)
	}
}

func (e *edge) accept() {
	for {
		c, err := e.ln.Accept()
		if err != nil {
			return
		}
		e.serving.Go(func() { e.serve(c) })
	}
}

func (e *edge) serve(c net.Conn) {
	if e.tls == nil {
		e.ServeConn(c, nil)
		return
	}
	t := tls.Server(c, e.tls)
	if err := t.Handshake(); err != nil {
		_ = c.Close()
		return
	}
	state := t.ConnectionState()
	e.ServeConn(t, &state)
}

func (e *edge) certificate() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		e.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a.test"}, DNSNames: []string{"a.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		e.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		e.t.Fatal(err)
	}
	e.roots = x509.NewCertPool()
	e.roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// client is a raw connection to the engine.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func (e *edge) dial() *client {
	e.t.Helper()
	var c net.Conn
	if e.address == "" {
		ours, theirs := wiretest.Pair()
		e.serving.Go(func() { e.serve(theirs) })
		c = ours
	} else {
		var err error
		if c, err = net.Dial("tcp", e.address); err != nil {
			e.t.Fatal(err)
		}
	}
	if e.roots != nil {
		c = tls.Client(c, &tls.Config{RootCAs: e.roots, ServerName: "a.test"})
	}
	e.t.Cleanup(func() { _ = c.Close() })
	one := &client{c, e.t, bufio.NewReader(c)}
	one.wait()
	return one
}

// wait gives the other side time for what it is to do next.
func (c *client) wait() { _ = c.SetDeadline(time.Now().Add(patience)) }

func (c *client) send(s string) {
	c.t.Helper()
	c.wait()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer is a response that a client has read.
type answer struct {
	*http.Response
	body string
	err  error // of reading the body
}

// read reads the answer to a request with method.
func (c *client) read(method string) answer {
	c.t.Helper()
	c.wait()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	return answer{resp, string(body), err}
}

// ended checks that the connection was closed and nothing more had come.
func (c *client) ended() {
	c.t.Helper()
	c.wait()
	rest, err := io.ReadAll(c.r)
	if err != nil || len(rest) > 0 {
		c.t.Errorf("%q and %v after the answers, want the end", rest, err)
	}
}

func (c *client) get(path string) answer {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: a.test\r\n\r\n")
	return c.read("GET")
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: did not come to be", what)
		}
	}
}

// inBubble runs a test that is about time, in the clear and over TLS. Its
// connections are in memory.
func inBubble(t *testing.T, f func(t *testing.T, secure bool)) {
	both(t, func(t *testing.T, secure bool) {
		synctest.Test(t, func(t *testing.T) { f(t, secure) })
	})
}

// both runs a test in the clear and over TLS.
func both(t *testing.T, f func(t *testing.T, secure bool)) {
	t.Run("clear", func(t *testing.T) { f(t, false) })
	t.Run("TLS", func(t *testing.T) { f(t, true) })
}
