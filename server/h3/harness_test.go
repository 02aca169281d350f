package h3

// harness_test.go runs an engine on loopback with a real gate and a real cache,
// and clients: quic-go's http3, and bare streams on which a test says what it
// likes.

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/testutils/simnet"
	"go.uber.org/goleak"

	"edgecdn/access"
	"edgecdn/cache"
	"edgecdn/cache/store"
	"edgecdn/route"
	"edgecdn/server/gate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon bounds every wait for something that must happen.
const soon = 20 * time.Second

// setup is what a test may choose; zero fields get a working value.
type setup struct {
	limits gate.Limits
	// handler answers what the cache is not asked for: paths below /h/.
	handler http.HandlerFunc
	altSvc  string
	early   bool
	network *network // nil: loopback
}

// edge is a listening engine.
type edge struct {
	*Engine
	t       testing.TB
	gate    *gate.Gate
	stats   Stats
	address *net.UDPAddr
	network *network
	roots   *x509.CertPool
	stop    func()
}

// network passes datagrams on within a bubble, where time stands still while anybody
// has something to do: however slow the machine, nothing is late.
type network struct {
	router simnet.PerfectRouter
	nodes  byte
}

// inBubble runs a test that is about time.
func inBubble(t *testing.T, f func(t *testing.T, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, new(network)) })
}

// open returns a socket of a node of its own, and what closes it.
func (n *network) open(t testing.TB) (net.PacketConn, func()) {
	t.Helper()
	n.nodes++
	link := simnet.Simnet{Router: &n.router}
	c := link.NewEndpoint(&net.UDPAddr{IP: net.IPv4(192, 0, 2, n.nodes), Port: 443}, simnet.NodeBiDiLinkSettings{Latency: time.Millisecond})
	if err := link.Start(); err != nil {
		t.Fatal(err)
	}
	return c, func() {
		_ = c.Close()
		_ = link.Close()
	}
}

// origin answers /N with N bytes that may be stored.
type origin struct{}

func (origin) RoundTrip(r *http.Request) (*http.Response, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(r.Context().Value(targetKey{}).(string), "/"))
	if err != nil {
		return nil, errors.New("no such thing")
	}
	header := http.Header{
		"Cache-Control": {"public, max-age=3600"}, "Content-Type": {"application/octet-stream"}, "Etag": {`"abcdefabcdef"`},
		"Date": {time.Now().UTC().Format(http.TimeFormat)}, "Last-Modified": {"Sun, 22 Nov 2026 17:00:00 GMT"},
		"Content-Length": {strconv.Itoa(n)},
	}
	return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, ContentLength: int64(n), Body: io.NopCloser(bytes.NewReader(content(n))), Request: r}, nil
}

type targetKey struct{}

func content(n int) []byte { return bytes.Repeat([]byte("0123456789"), n/10+1)[:n] }

// newCache returns the real thing over origin, with HTTP/3's encoder.
func newCache(t testing.TB) *cache.Cache {
	t.Helper()
	memory, err := store.Open(store.Config{Prepare: cache.Preparer([3]cache.Encoder{2: Encode})}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close() })
	return cache.New(cache.Config{Store: memory, Origin: origin{}, Direct: func(ctx context.Context, _, target string) context.Context {
		return context.WithValue(ctx, targetKey{}, target)
	}})
}

// newGate returns a gate before the cache and the test's handler.
func newGate(t testing.TB, o *setup) *gate.Gate {
	t.Helper()
	c := newCache(t)
	table, err := route.NewTable([]route.Host{{Names: []string{"edge.test"}, Policy: route.Policy{Origin: "o"}}})
	if err != nil {
		t.Fatal(err)
	}
	if o.handler == nil {
		o.handler = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "made by the handler") }
	}
	g, err := gate.New(gate.Seam{
		Match: table.Match, Judge: access.New().Judge, Lookup: c.Lookup,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/h/") || r.URL.Path == "*" {
				o.handler(w, r)
				return
			}
			c.ServeHTTP(w, r)
		}),
	}, o.limits, gate.AccessLog{Format: "off"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// certificate is good for edge.test.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	// In bubbles it is the year 2000.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"edge.test"}, NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
})

// listen opens a QUIC listener on a network, nil for loopback, and returns what
// closes it.
func listen(t testing.TB, n *network, config *quic.Config) (*quic.EarlyListener, *x509.CertPool, func()) {
	t.Helper()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	var udp net.PacketConn
	closeUDP := func() {}
	if n != nil {
		udp, closeUDP = n.open(t)
	} else if udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	transport := &quic.Transport{Conn: udp}
	ln, err := transport.ListenEarly(http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}}), config)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return ln, roots, func() {
		_ = ln.Close()
		_ = transport.Close()
		_ = udp.Close()
		closeUDP()
	}
}

// quicConfig is what the engine is meant to run on.
func quicConfig(streams int, early bool) *quic.Config {
	return &quic.Config{
		Allow0RTT: early, MaxIncomingStreams: int64(streams), MaxIncomingUniStreams: 16,
		MaxStreamReceiveWindow: 1 << 20, MaxConnectionReceiveWindow: 4 << 20,
		MaxIdleTimeout: 30 * time.Second, KeepAlivePeriod: 15 * time.Second,
	}
}

// start serves until the test ends.
func start(t testing.TB, o setup) *edge {
	t.Helper()
	g := newGate(t, &o)
	e := &edge{t: t, gate: g, network: o.network}
	ln, roots, stop := listen(t, o.network, quicConfig(g.Limits().Streams, o.early))
	e.roots, e.address = roots, ln.Addr().(*net.UDPAddr)
	door := &gate.Door{Gate: g, Scheme: "https", Listener: ln.Addr().String(), AltSvc: o.altSvc}
	e.Engine = New(door, &e.stats)
	var conns sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			conns.Go(func() { e.ServeConn(c) })
		}
	}()
	e.stop = sync.OnceFunc(func() {
		g.Cut()
		e.Cut()
		stop()
		<-accepting
		conns.Wait()
		if n := g.Inflight(); n != 0 {
			t.Errorf("%d exchanges did not end", n)
		}
	})
	t.Cleanup(e.stop)
	return e
}

func (e *edge) tls() *tls.Config {
	return &tls.Config{RootCAs: e.roots, ServerName: "edge.test", NextProtos: []string{"h3"}}
}

// dial returns a bare connection.
func (e *edge) dial(change ...func(*quic.Config)) *quic.Conn {
	e.t.Helper()
	config := &quic.Config{MaxIdleTimeout: soon}
	for _, f := range change {
		f(config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	dial := quic.DialAddr
	if e.network != nil {
		dial = e.dialOver
	}
	q, err := dial(ctx, e.address.String(), e.tls(), config)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = q.CloseWithError(codeNoError, "") })
	return q
}

// dialOver connects from a node of its own.
func (e *edge) dialOver(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
	udp, closeUDP := e.network.open(e.t)
	transport := &quic.Transport{Conn: udp}
	e.t.Cleanup(func() {
		_ = transport.Close()
		closeUDP()
	})
	return transport.Dial(ctx, e.address, tc, qc)
}

// client is quic-go's.
func (e *edge) client() *http.Client {
	return newClient(e.t, e.address, e.tls())
}

func newClient(t testing.TB, address *net.UDPAddr, config *tls.Config) *http.Client {
	tr := &http3.Transport{DisableCompression: true, TLSClientConfig: config,
		Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, address.String(), tc, qc)
		}}
	t.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: soon}
}

// get asks and reads the whole answer.
func get(t testing.TB, c *http.Client, path string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get("https://edge.test" + path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return resp, readAll(t, resp)
}

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: body: %v", resp.Request.URL.Path, err)
	}
	return string(body)
}

// wait returns what must come.
func wait[T any](t testing.TB, from <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(soon):
		t.Fatal("waited in vain")
	}
	return got
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(soon); ; {
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

// insecure is for clients in another process than the certificate's.
func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "edge.test", NextProtos: []string{"h3"}}
}

// sectionMax is what the one connection there is has noted of its client's setting.
func (e *edge) sectionMax() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		return c.sectionMax.Load()
	}
	return 0
}

func (e *edge) connections() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}
