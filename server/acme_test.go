package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"edgecdn/route"
	"edgecdn/server/gate"
)

// pebble is an ACME authority for tests, with a DNS server that has all names
// lead to loopback.
type pebble struct {
	url  string // of the directory
	root string // file of what its certificate leads to
	stop func()
}

// buildPebble returns the folder with its programs.
func buildPebble(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	const module = "github.com/letsencrypt/pebble/v2/cmd/"
	build := exec.Command("go", "build", "-modfile=tools/go.mod", "-o", dir+"/", module+"pebble", module+"pebble-challtestsrv")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// freePort returns one that nobody has at the moment, nor is given by chance before it
// is used: those that the system gives away begin at 32768.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = ln.Close() // nobody has connected
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return at.Port
}

// startPebble runs an authority that validates at these ports.
func startPebble(t *testing.T, programs string, httpPort, tlsPort int) *pebble {
	t.Helper()
	listen, dns := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	own := writeCertificate(t, "pebble", false, "127.0.0.1")
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "certificate": own.Cert, "privateKey": own.Key, "httpPort": httpPort, "tlsPort": tlsPort,
		"domainBlocklist": []string{"blocked.test"}, "keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		// Short enough for the authority to suggest a renewal at once (RFC 9773).
		"profiles": map[string]any{"default": map[string]any{"description": "short", "validityPeriod": 300}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &pebble{url: "https://" + listen + "/dir", root: own.Cert}
	ctx, cancel := context.WithCancel(context.Background())
	var ran []*exec.Cmd
	for _, arguments := range [][]string{
		{"pebble-challtestsrv", "-dnsserver", dns, "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", "", "-defaultIPv6", ""},
		{"pebble", "-config", file, "-dnsserver", dns, "-strict"},
	} {
		cmd := exec.CommandContext(ctx, filepath.Join(programs, arguments[0]), arguments[1:]...)
		cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0")
		var out logBuffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ran = append(ran, cmd)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s:\n%s", arguments[0], out.String())
			}
		})
	}
	p.stop = func() {
		cancel()
		for _, cmd := range ran {
			_ = cmd.Wait() // killed
		}
		ran = nil
	}
	t.Cleanup(p.stop)
	client := p.client(t)
	waitFor(t, "pebble answers", func() bool {
		resp, err := client.Get(p.url)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return p
}

func (p *pebble) client(t *testing.T) *http.Client {
	t.Helper()
	content, err := os.ReadFile(p.root)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(tr.CloseIdleConnections)
	return plainClient(tr)
}

// manage has a running edge obtain certificates.
func (e *edge) manage(t *testing.T, ca ACME) {
	t.Helper()
	config := e.live.Load().config
	config.TLS.ACME = ca
	if err := e.Apply(config); err != nil {
		t.Fatal(err)
	}
}

// leaf returns the certificate that is shown for a name, nil where there is none.
func (e *edge) leaf(name string) *x509.Certificate {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", e.https, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return nil
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// TestACME has certificates from pebble. It runs for more than a minute, since
// that is how long an attempt that failed rests.
func TestACME(t *testing.T) {
	if os.Getenv("EDGE_FULL") == "" {
		t.Skip("EDGE_FULL is not set: it builds an authority and waits in real time")
	}
	programs := buildPebble(t)
	t.Run("life", func(t *testing.T) { testACMELife(t, programs) })
	t.Run("HTTP-01 before redirects", func(t *testing.T) {
		e := start(t, setup{hosts: []route.Host{{Names: []string{"*"}, Policy: route.Policy{Origin: "o"},
			Redirects: []route.Redirect{{Scheme: "http", To: "https://{host}{target}"}}}}})
		ca := startPebble(t, programs, portOf(t, e.http), freePort(t)) // TLS-ALPN-01 finds nobody
		e.manage(t, ACME{Names: []string{"a.test"}, CA: ca.url, CARoot: ca.root})
		waitFor(t, "the certificate", func() bool { return e.MissingCertificates() == 0 })
	})
	t.Run("TLS-ALPN-01", func(t *testing.T) {
		e := start(t, setup{config: Config{HTTPS: []string{"127.0.0.1:0"}}})
		ca := startPebble(t, programs, freePort(t), portOf(t, e.https))
		e.manage(t, ACME{Names: []string{"a.test"}, CA: ca.url, CARoot: ca.root})
		waitFor(t, "the certificate", func() bool { return e.MissingCertificates() == 0 })
	})
	t.Run("429", func(t *testing.T) { testACMELimit(t, programs) })
}

func testACMELife(t *testing.T, programs string) {
	o := setup{}
	o.config.HTTP, o.config.HTTPS = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	o.config.TLS.Unknown = unknownRefuse
	o.config.Data = t.TempDir()
	e := start(t, o)
	ca := startPebble(t, programs, portOf(t, e.http), portOf(t, e.https))
	names := ACME{Names: []string{"blocked.test", "a.test", "b.test"}, Email: "operators@edge.test", CA: ca.url, CARoot: ca.root}
	e.manage(t, names)

	// One that cannot be had holds up no other, and is told of.
	waitFor(t, "two certificates", func() bool { return e.MissingCertificates() == 1 && e.Stats().TLS.NotObtained.Load() > 0 })
	first := map[string]*x509.Certificate{}
	for _, name := range names.Names[1:] {
		c := e.leaf(name)
		if c == nil || !strings.Contains(c.Issuer.CommonName, "Pebble") || c.VerifyHostname(name) != nil {
			t.Fatalf("%s: shown %v", name, c)
		}
		first[name] = c
	}
	if c := e.leaf("blocked.test"); c != nil {
		t.Errorf("blocked.test was shown %v", c.Subject)
	}
	if log := e.log.String(); !strings.Contains(log, `level=ERROR msg="a certificate cannot be had`) || !strings.Contains(log, "name=blocked.test") {
		t.Errorf("the log does not tell of blocked.test:\n%s", log)
	}
	told := e.Certificates()
	if len(told) != 2 || told[0].Name != "a.test" || !told[0].NotAfter.Equal(first["a.test"].NotAfter) {
		t.Errorf("told of %+v", told)
	}

	// Renewal, when the authority suggests it.
	manager := e.acme.Load()
	waitFor(t, "both are renewed", func() bool {
		if err := manager.cache.RenewManagedCertificates(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, old := range first {
			if now := e.leaf(name); now == nil || now.SerialNumber.Cmp(old.SerialNumber) == 0 {
				return false
			}
		}
		return true
	})
	if n := e.Stats().TLS.Obtained.Load(); n < 4 {
		t.Errorf("%d certificates counted", n)
	}

	// A reload with another name leaves the others in force all the time.
	serial := e.leaf("a.test").SerialNumber
	names.Names = []string{"a.test", "c.test"}
	e.manage(t, names)
	waitFor(t, "a name more", func() bool {
		if c := e.leaf("a.test"); c == nil {
			t.Fatal("a.test was without a certificate")
		}
		return e.leaf("c.test") != nil
	})
	if e.leaf("b.test") != nil {
		t.Error("a name that was taken out is still shown its certificate")
	}

	// After a restart, without the authority.
	e.shutdown()
	ca.stop()
	o.config.TLS.ACME = names
	again := start(t, o)
	if c := again.leaf("a.test"); c == nil || again.MissingCertificates() != 0 {
		t.Errorf("after a restart: shown %v (before: %v), %d missing", c, serial, again.MissingCertificates())
	}
}

// testACMELimit: an authority that says 429 for one name is left alone with it
// for a while, and asked again.
func testACMELimit(t *testing.T, programs string) {
	e := start(t, setup{})
	ca := startPebble(t, programs, portOf(t, e.http), portOf(t, e.https))
	behind, err := url.Parse(ca.url)
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int32
	proxy := httputil.ReverseProxy{Transport: ca.client(t).Transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", behind.Host, r.In.Host
	}}
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var signed struct{ Payload string }
		_ = json.Unmarshal(body, &signed)
		payload, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
		if bytes.Contains(payload, []byte("limited.test")) && bytes.Contains(payload, []byte(`"identifiers"`)) && refused.Add(1) == 1 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "5")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many","status":429}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	root := filepath.Join(t.TempDir(), "front.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	e.manage(t, ACME{Names: []string{"limited.test", "a.test"}, CA: front.URL + "/dir", CARoot: root})
	waitFor(t, "the other name", func() bool { return e.MissingCertificates() == 1 && e.Stats().TLS.NotObtained.Load() > 0 })
	if e.leaf("a.test") == nil || len(e.acme.Load().certificates("limited.test")) > 0 {
		t.Error("it is the wrong one")
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for asked := time.Now(); e.MissingCertificates() > 0 && time.Since(asked) < 2*time.Minute; <-tick.C {
		if time.Since(asked) < 30*time.Second && refused.Load() > 1 {
			t.Fatal("the authority was asked again at once")
		}
	}
	if n := e.MissingCertificates(); n != 0 {
		t.Errorf("%d missing after two minutes", n)
	}
}

// TestChallengesOfOthers: what looks like a challenge and is not ours goes on as
// any request, in the clear and over TLS.
func TestChallengesOfOthers(t *testing.T) {
	e := start(t, setup{})
	for _, c := range []*client{e.h1(), e.h1s()} {
		if _, body := c.get(t, gate.ChallengePath+"token"); body != "made by the handler" {
			t.Errorf("%s: %q", c.name, body)
		}
	}
	// Nor does the protocol of TLS-ALPN-01 open anything.
	if c, err := tls.Dial("tcp", e.https, e.tls("acme-tls/1")); err == nil {
		_ = c.Close()
		t.Error("acme-tls/1 was agreed on without a challenge")
	}
}

// TestACMEStorage: what was had is kept where the seam says, as by a cluster, and not
// in files of this node's. The authority is away: what is shown was had before.
func TestACMEStorage(t *testing.T) {
	kept := &certmagic.FileStorage{Path: t.TempDir()}
	names := ACME{Names: []string{"a.test"}, CA: fmt.Sprintf("https://127.0.0.1:%d/dir", freePort(t))}
	had, issuer := writeCertificate(t, "had", false, "a.test"), (&certmagic.ACMEIssuer{CA: names.CA}).IssuerKey()
	for key, content := range map[string]string{
		certmagic.StorageKeys.SiteCert(issuer, "a.test"):       readFile(t, had.Cert),
		certmagic.StorageKeys.SitePrivateKey(issuer, "a.test"): readFile(t, had.Key),
		certmagic.StorageKeys.SiteMeta(issuer, "a.test"):       `{"sans": ["a.test"]}`,
	} {
		if err := kept.Store(t.Context(), key, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	own := t.TempDir()
	o := setup{config: Config{Data: own}}
	seam := o.fill(t)
	seam.ACMEStorage = kept
	e := startSeam(t, o, seam)
	e.manage(t, names)
	waitFor(t, "what was had is in force", func() bool { return e.MissingCertificates() == 0 })
	if c := e.leaf("a.test"); c == nil || c.Subject.CommonName != "had" {
		t.Errorf("shown %v", c)
	}
	if err := e.shutdown(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(own, "acme")); err == nil {
		t.Error("it has files of its own, too")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestACMEValidation(t *testing.T) {
	for _, test := range []struct {
		in   ACME
		want string
	}{
		{ACME{}, ""},
		{ACME{Names: []string{"a.test", "xn--bcher-kva.example"}, Email: "a@b.test", CA: "https://ca.test/dir"}, ""},
		{ACME{Names: []string{"*.a.test", "a.test"}, Challenge: "dns"}, ""},
		{ACME{Names: []string{"*.*.a.test"}}, "names[0]: \"*.*.a.test\" is no wildcard"},
		{ACME{Names: []string{"w*.a.test"}}, "names[0]: \"w*.a.test\" is no wildcard"},
		{ACME{Names: []string{"*.test"}}, "names[0]: \"*.test\" is no name"},
		{ACME{Names: []string{"a.test"}, Challenge: "http"}, "challenge: \"http\" is no challenge"},
		{ACME{Challenge: "dns"}, "names: is missing"},
		{ACME{Names: []string{"192.0.2.1"}}, "names[0]: \"192.0.2.1\" is no name"},
		{ACME{Names: []string{"localhost"}}, "names[0]: \"localhost\" is no name"},
		{ACME{Names: []string{"A.test"}}, "names[0]: \"A.test\" is no name"},
		{ACME{Names: []string{"a test.org"}}, "names[0]: \"a test.org\" is no name"},
		{ACME{Names: []string{"a.test", "a.test"}}, "names[1]: \"a.test\" is there twice"},
		{ACME{Names: []string{"a.test"}, Email: "a"}, "email: \"a\" is no address"},
		{ACME{Names: []string{"a.test"}, CA: "http://ca.test"}, "ca: \"http://ca.test\" is no URL"},
		{ACME{Email: "a@b.test"}, "names: is missing"},
		{ACME{Names: make([]string, acmeNamesMax+1)}, "names: 1001 names are too many"},
	} {
		var got []string
		test.in.validate(func(path, problem string) { got = append(got, path+": "+problem) })
		if all := strings.Join(got, "\n"); !strings.HasPrefix(all, test.want) || (test.want == "") != (all == "") || len(got) > 1 {
			t.Errorf("%+v: %q", test.in, got)
		}
	}
}
