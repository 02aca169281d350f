package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"edgecdn/cache"
	"edgecdn/route"
)

// clientAuthorityFile makes an authority and a certificate of a client of it.
func clientAuthorityFile(t *testing.T) (file string, client tls.Certificate) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "ca.pem")
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "staff"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca, err := makePair(file, filepath.Join(dir, "ca.key"), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: "somebody"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	pair, err := makePair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"), leaf, ca)
	if err != nil {
		t.Fatal(err)
	}
	return file, *pair
}

// guarded is an edge where staff.test wants certificates and plain.test does not.
type guarded struct {
	*edge
	setup  setup
	seam   Seam
	table  *route.Table
	file   string
	client tls.Certificate
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{}
	g.file, g.client = clientAuthorityFile(t)
	g.setup = setup{hosts: []route.Host{
		{Names: []string{"plain.test"}, Policy: route.Policy{Origin: "o"}},
		{Names: []string{"staff.test", "*.staff.test"}, ClientCA: g.file, Policy: route.Policy{Origin: "o"},
			Redirects: []route.Redirect{{Scheme: "http", Path: "/go", To: "https://{host}{target}"}}},
	}}
	g.setup.config.HTTP, g.setup.config.HTTPS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	g.setup.config.ClientCAs = []string{g.file}
	g.setup.config.TLS.Certificates = []Certificate{writeCertificate(t, "all", false, "plain.test", "staff.test", "*.staff.test")}
	g.seam = g.setup.fill(t)
	var err error
	if g.table, err = route.NewTable(g.setup.hosts); err != nil {
		t.Fatal(err)
	}
	g.seam.ClientCA = func(name string) string { return g.table.ClientCA(name) }
	g.edge = startSeam(t, g.setup, g.seam)
	return g
}

// ask connects to the edge by one name and asks for another's page. It returns
// the status, 0 where no answer came.
func (g *guarded) ask(t *testing.T, proto cache.Proto, sni, host string, certificates ...tls.Certificate) int {
	t.Helper()
	c := g.connect(t, proto, sni, certificates...)
	return g.status(t, c, host)
}

func (g *guarded) connect(t *testing.T, proto cache.Proto, sni string, certificates ...tls.Certificate) *http.Client {
	t.Helper()
	config := &tls.Config{ServerName: sni, InsecureSkipVerify: true, Certificates: certificates}
	if proto == cache.HTTP3 {
		tr := &http3.Transport{TLSClientConfig: config, Dial: func(ctx context.Context, _ string, tc *tls.Config, qc *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, g.https, tc, qc)
		}}
		t.Cleanup(func() { _ = tr.Close() })
		return plainClient(tr)
	}
	tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: proto == cache.HTTP2, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, g.https)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return plainClient(tr)
}

func (g *guarded) status(t *testing.T, c *http.Client, host string) int {
	t.Helper()
	resp, err := c.Get("https://" + host + "/")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func TestClientCertificates(t *testing.T) {
	g := startGuarded(t)
	_, stranger := clientAuthorityFile(t)
	for _, proto := range []cache.Proto{cache.HTTP1, cache.HTTP2, cache.HTTP3} {
		for _, test := range []struct {
			name, sni, host string
			certificates    []tls.Certificate
			want            int
		}{
			{"nobody is asked where none is wanted", "plain.test", "plain.test", nil, 200},
			{"with one", "staff.test", "staff.test", []tls.Certificate{g.client}, 200},
			{"with one, by a wildcard", "a.b.staff.test", "A.B.staff.test.", []tls.Certificate{g.client}, 200},
			{"without", "staff.test", "staff.test", nil, 0},
			{"of a stranger", "staff.test", "staff.test", []tls.Certificate{stranger}, 0},
			{"over a connection to another host", "plain.test", "staff.test", nil, 421},
			{"over a connection to another host, with one at hand", "plain.test", "staff.test", []tls.Certificate{g.client}, 421},
			{"over a connection to nobody", "127.0.0.1", "staff.test", nil, 421},
			{"over a connection to the unknown", "unknown.test", "staff.test:8443", nil, 421},
			{"another host over a guarded connection", "staff.test", "plain.test", []tls.Certificate{g.client}, 200},
			{"names of one host share connections", "x.staff.test", "staff.test", []tls.Certificate{g.client}, 200},
		} {
			if got := g.ask(t, proto, test.sni, test.host, test.certificates...); got != test.want {
				t.Errorf("h%d, %s: %d, want %d", proto, test.name, got, test.want)
			}
		}
	}
	asked := false
	config := &tls.Config{ServerName: "plain.test", InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &g.client, nil
	}}
	if shown(t, g.https, config); asked {
		t.Error("clients of a host without client_ca were asked for a certificate")
	}
}

func TestClientCertificatesInTheClear(t *testing.T) {
	g := startGuarded(t)
	c := g.h1()
	for path, want := range map[string]int{"/": 403, "/go": 308} {
		r := c.request(t, "GET", path, nil)
		r.Host = "staff.test"
		if resp, body := c.do(t, r); resp.StatusCode != want || strings.Contains(body, "made by the handler") {
			t.Errorf("%s: %s %q", path, resp.Status, body)
		}
	}
}

// TestClientAuthorityChanges: a connection that was good under the authority before
// proves nothing to the next one, nor does one from before there was any.
func TestClientAuthorityChanges(t *testing.T) {
	for _, proto := range []cache.Proto{cache.HTTP1, cache.HTTP2, cache.HTTP3} {
		g := startGuarded(t)
		open := g.connect(t, proto, "staff.test", g.client)
		if got := g.status(t, open, "staff.test"); got != 200 {
			t.Fatalf("h%d: %d", proto, got)
		}
		file, client := clientAuthorityFile(t)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(g.file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := g.Apply(g.live.Load().config); err != nil {
			t.Fatal(err)
		}
		if got := g.status(t, open, "staff.test"); got != 421 {
			t.Errorf("h%d: %d over a connection from before", proto, got)
		}
		if got := g.ask(t, proto, "staff.test", "staff.test", g.client); got != 0 {
			t.Errorf("h%d: %d with a certificate of the authority before", proto, got)
		}
		if got := g.ask(t, proto, "staff.test", "staff.test", client); got != 200 {
			t.Errorf("h%d: %d with one of the new authority", proto, got)
		}
		g.shutdown()
	}
}

// TestTicketsDoNotStandForCertificates: a session with a host that asks for
// nothing cannot be resumed with one that does.
func TestTicketsDoNotStandForCertificates(t *testing.T) {
	g := startGuarded(t)
	sessions := tls.NewLRUClientSessionCache(1)
	handshake := func(sni string, certificates ...tls.Certificate) (resumed bool, err error) {
		c, err := tls.Dial("tcp", g.https, &tls.Config{ServerName: sni, InsecureSkipVerify: true, ClientSessionCache: oneKey{sessions},
			Certificates: certificates, MaxVersion: tls.VersionTLS12}) // whose handshake tells the client how it went
		if err != nil {
			return false, err
		}
		defer c.Close()
		return c.ConnectionState().DidResume, nil
	}
	if _, err := handshake("plain.test"); err != nil {
		t.Fatal(err)
	}
	if resumed, err := handshake("plain.test"); err != nil || !resumed {
		t.Errorf("resumed %v, %v", resumed, err)
	}
	if resumed, err := handshake("staff.test"); err == nil {
		t.Errorf("let in without a certificate, resumed %v", resumed)
	}
	if resumed, err := handshake("staff.test", g.client); err != nil || resumed {
		t.Errorf("with a certificate: resumed %v, %v", resumed, err)
	}
	if resumed, err := handshake("staff.test", g.client); err != nil || !resumed {
		t.Errorf("with a certificate, again: resumed %v, %v", resumed, err)
	}
}

// oneKey gives all servers one session.
type oneKey struct{ tls.ClientSessionCache }

func (o oneKey) Get(string) (*tls.ClientSessionState, bool) { return o.ClientSessionCache.Get("") }
func (o oneKey) Put(_ string, s *tls.ClientSessionState)    { o.ClientSessionCache.Put("", s) }

func TestClientAuthorityMustBeThere(t *testing.T) {
	o := setup{config: Config{HTTPS: []string{"127.0.0.1:0"}, ClientCAs: []string{"missing.pem"}}}
	if _, err := New(o.config, o.fill(t), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "client_ca") {
		t.Errorf("a missing file: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadClientAuthority(empty); err == nil {
		t.Error("a file without certificates was taken")
	}
}
