package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// protocols that a node speaks to clients; h1 is in the clear, h1s over TLS.
var protocols = []string{"h1", "h2", "h3"}

// client speaks one protocol to a node and nothing else. Each has connections
// of its own.
type client struct {
	*http.Client
	name, base string
}

func newClient(t *testing.T, n *node, protocol string) *client {
	t.Helper()
	c := &client{name: protocol, base: "https://" + n.https}
	if protocol == "h1" {
		c.base = "http://" + n.http
	}
	transport := newTransport(t, n, protocol)
	c.Client = &http.Client{
		Transport:     transport,
		Timeout:       2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

func newTransport(t *testing.T, n *node, protocol string) http.RoundTripper {
	t.Helper()
	if protocol == "h3" {
		transport := &http3.Transport{TLSClientConfig: trust(t, n), DisableCompression: true}
		t.Cleanup(func() { transport.Close() })
		return transport
	}
	var speaks http.Protocols
	speaks.SetHTTP1(protocol == "h1" || protocol == "h1s")
	speaks.SetHTTP2(protocol == "h2")
	transport := &http.Transport{TLSClientConfig: trust(t, n), Protocols: &speaks, DisableCompression: true, MaxIdleConnsPerHost: 1000}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// trust returns a configuration that trusts the node's development authority.
func trust(t *testing.T, n *node) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(n.ca())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s: no certificate", n.ca())
	}
	return &tls.Config{RootCAs: pool}
}

// request makes a request whose target leaves as it is written.
func (c *client) request(t *testing.T, method, target string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, c.base, body)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = target
	if strings.HasPrefix(target, "//") { // else taken for an authority
		req.URL.Opaque = "//" + req.URL.Host + target
	}
	return req
}

// answer is a response with its whole body.
type answer struct {
	*http.Response
	body string
}

func (c *client) do(t *testing.T, req *http.Request) answer {
	t.Helper()
	a, err := c.try(req)
	if err != nil {
		t.Fatalf("%s %s: %v", c.name, req.URL.Opaque, err)
	}
	return a
}

func (c *client) try(req *http.Request) (answer, error) {
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, string(body)}, err
}

// get fetches a target; fields are name, value, name, value.
func (c *client) get(t *testing.T, target string, fields ...string) answer {
	t.Helper()
	req := c.request(t, "GET", target, nil)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	return c.do(t, req)
}

func (a answer) want(t *testing.T, status int, cacheStatus string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d; %d bytes: %q", a.Proto, a.Request.URL.Opaque, a.StatusCode, status, len(a.body), a.body[:min(60, len(a.body))])
	}
	if got := a.Header.Get("Cache-Status"); !regexp.MustCompile("^" + cacheStatus + "$").MatchString(got) {
		t.Errorf("%s %s: Cache-Status %q, want %s", a.Proto, a.Request.URL.Opaque, got, cacheStatus)
	}
}

// rawHTTP1 sends bytes to a node's clear listener and returns all that comes
// back until it closes.
func rawHTTP1(t *testing.T, address, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// respond returns a target of the sample origin that answers as it is told:
// name, value, name, value.
func respond(params ...string) string {
	var query strings.Builder
	for i := 0; i < len(params); i += 2 {
		fmt.Fprintf(&query, "&%s=%s", params[i], url.QueryEscape(params[i+1]))
	}
	return "/_origin/respond?" + strings.TrimPrefix(query.String(), "&")
}
