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
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
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
	cfg         Config // with defaults
	authorities []byte // content of the CA file
	base        *url.URL
	client      *http.Transport
	stats       *Stats
	active      atomic.Int64 // requests under way
	retired     atomic.Bool
}

func newUpstream(cfg Config, authorities []byte, stats *Stats) (*upstream, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	up := &upstream{cfg: cfg, authorities: authorities, base: base, stats: stats}
	tlsConfig := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         cfg.ServerName,
		InsecureSkipVerify: cfg.Insecure,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}
	if cfg.CA != "" {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("ca: %s holds no PEM certificate", cfg.CA)
		}
	}
	up.client = &http.Transport{
		DialContext:            up.dial,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    cfg.DialTimeout,
		ForceAttemptHTTP2:      true, // a dialer and TLS settings of our own switch it off otherwise
		DisableCompression:     true, // bodies pass as they are
		MaxConnsPerHost:        cfg.Connections,
		MaxIdleConnsPerHost:    cfg.Connections,
		IdleConnTimeout:        cfg.IdleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: headerBytesMax,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingAfter,
			WriteByteTimeout: cfg.StallTimeout,
		},
	}
	return up, nil
}

// retire closes connections as they become idle.
func (up *upstream) retire() {
	up.retired.Store(true)
	up.closeIdle(0)
}

// closeIdle closes connections that nobody uses, and looks again some times: over
// HTTP/2 one is in use for a moment after the last body has ended, and one may be
// being dialed.
func (up *upstream) closeIdle(looked int) {
	up.client.CloseIdleConnections()
	if looked < closeLooks {
		time.AfterFunc(closePause<<(2*looked), func() { up.closeIdle(looked + 1) })
	}
}

// A retired upstream looks for idle connections after 50, 200, 800 ms and 3.2 s.
const (
	closeLooks = 4
	closePause = 50 * time.Millisecond
)

// roundTrip sends r for target and watches over each phase.
func (up *upstream) roundTrip(r *http.Request, target string) (*http.Response, error) {
	up.stats.Requests.Add(1)
	out, err := up.outgoing(r, target)
	if err == nil && up.stats.Waiting.Load() >= int64(up.cfg.Connections)*waitingPerConnection {
		err = errorf(KindConnectionLimit, "%d requests wait for a connection already", int64(up.cfg.Connections)*waitingPerConnection)
	}
	if err != nil {
		closeBody(r)
		return nil, up.count(err)
	}
	x := begin(up, r.Context())
	out = out.WithContext(x.trace(x.ctx))
	if r.Body != nil && r.Body != http.NoBody {
		out.Body = &upload{r.Body, x}
	}
	resp, err := up.client.RoundTrip(out)
	if err == nil {
		err = x.header(resp)
	}
	if err != nil {
		err = up.count(x.explain(err, false))
		x.end()
		return nil, err
	}
	resp.Request = r
	return resp, nil
}

// outgoing returns the request as net/http must have it to send what r says and
// nothing else.
func (up *upstream) outgoing(r *http.Request, target string) (*http.Request, error) {
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
	var err error
	if out.URL, err = targetURL(up.base, out.Host, target); err != nil {
		return nil, err
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

// dial opens a TCP connection that counts.
func (up *upstream) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: up.cfg.DialTimeout}
	tcp, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	up.stats.ConnectionsDialed.Add(1)
	up.stats.ConnectionsOpen.Add(1)
	return &conn{Conn: tcp, stats: up.stats}, nil
}

type conn struct {
	net.Conn
	stats *Stats
	once  sync.Once
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.stats.BytesReceived.Add(uint64(n))
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.stats.BytesSent.Add(uint64(n))
	return n, err
}

func (c *conn) Close() error {
	c.once.Do(func() { c.stats.ConnectionsOpen.Add(-1) })
	return c.Conn.Close()
}

// CloseWrite ends one direction of an upgraded connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
