package origin

// upstream.go is one configured origin: its connections and what may be sent to
// it. It lives until its configuration changes; the requests that it has under
// way then end as they began.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// headerBytesMax bounds a response's header.
	headerBytesMax = 64 << 10
	// informationalMax bounds the 1xx responses before the final one.
	informationalMax = 16
	// waitingPerConnection bounds the requests that wait for a connection, as a
	// multiple of the connections that there may be.
	waitingPerConnection = 16
	// pingAfter is how long an HTTP/2 connection may be silent before we ask
	// whether it lives.
	pingAfter = 15 * time.Second
)

type upstream struct {
	cfg   Config // with defaults
	pem   pemFiles
	base  *url.URL
	tls   *tls.Config
	stats *Stats
	files *directory // in the place of what follows

	mu      sync.Mutex
	senders map[string]sender // by address; nil once the upstream is retired
}

func newUpstream(cfg Config, pem pemFiles, stats *Stats) (*upstream, error) {
	if cfg.Directory != "" {
		files, err := newDirectory(cfg, stats)
		return &upstream{cfg: cfg, stats: stats, files: files}, err
	}
	base, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	up := &upstream{cfg: cfg, pem: pem, base: base, stats: stats, senders: make(map[string]sender)}
	tlsConfig := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         cfg.ServerName,
		InsecureSkipVerify: cfg.Insecure,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}
	if cfg.CA != "" {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem.authorities) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", cfg.CA)
		}
	}
	if cfg.Certificate != "" {
		pair, err := tls.X509KeyPair(pem.certificate, pem.key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %s with %s: %w", cfg.Certificate, cfg.Key, err)
		}
		tlsConfig.Certificates = []tls.Certificate{pair}
	}
	up.tls = tlsConfig
	return up, nil
}

// retire closes connections as they become idle.
func (up *upstream) retire() {
	up.mu.Lock()
	senders := up.senders
	up.senders = nil
	up.mu.Unlock()
	for _, s := range senders {
		s.retire()
	}
}

// to returns the sender to an endpoint.
func (up *upstream) to(address string) sender {
	up.mu.Lock()
	defer up.mu.Unlock()
	s, ok := up.senders[address]
	if !ok {
		s = newSender(up, address)
		if up.senders == nil { // a request that was chosen for us before we were retired
			s.retire()
		} else {
			up.senders[address] = s
		}
	}
	return s
}

// address returns the host and port of the origin's URL.
func (up *upstream) address() string {
	port := up.base.Port()
	if port == "" {
		port = "80"
		if up.base.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(up.base.Hostname(), port)
}

// roundTrip sends r for target.
func (up *upstream) roundTrip(r *http.Request, target string) (*http.Response, error) {
	up.stats.Requests.Add(1)
	out, err := up.outgoing(r)
	if err != nil {
		closeBody(r)
		return nil, up.count(err)
	}
	resp, err := up.to(up.address()).roundTrip(out, target)
	if err != nil {
		return nil, up.count(err)
	}
	resp.Request = r
	resp.Body = up.watch(resp)
	return resp, nil
}

// watch returns the response's body, whose failure counts.
func (up *upstream) watch(resp *http.Response) io.ReadCloser {
	if _, ok := resp.Body.(io.Writer); ok || resp.Body == http.NoBody {
		return resp.Body
	}
	return &answer{ReadCloser: resp.Body, up: up}
}

// answer is the body of a response on its way to the caller.
type answer struct {
	io.ReadCloser
	up  *upstream
	err error // sticky
}

func (a *answer) Read(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		if e := (*Error)(nil); errors.As(err, &e) || errors.Is(err, context.Canceled) {
			err = a.up.count(err)
		}
	}
	a.err = err
	return n, err
}

// outgoing returns the request as it is to be sent: what r says and nothing else.
func (up *upstream) outgoing(r *http.Request) (*http.Request, error) {
	out := new(http.Request)
	*out = *r
	out.GetBody = nil // a body is sent once
	if out.Host = r.Host; up.cfg.Host != "" {
		out.Host = up.cfg.Host
	}
	if !httpguts.ValidHostHeader(out.Host) || strings.ContainsAny(out.Host, "/?#@\\") {
		return nil, errorf(KindRequest, "%q is no host", out.Host)
	}
	if out.Host == "" {
		out.Host = up.base.Host
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		// An entry without values keeps net/http from adding its own name.
		if out.Header = maps.Clone(r.Header); out.Header == nil {
			out.Header = make(http.Header, 1)
		}
		out.Header["User-Agent"] = nil
	}
	return out, nil
}

// count counts a failure and returns it.
func (up *upstream) count(err error) error {
	var e *Error
	if errors.As(err, &e) {
		up.stats.Errors[e.Kind.index()].Add(1)
	} else {
		up.stats.Canceled.Add(1)
	}
	return err
}
