package origin

// httpsender.go sends by net/http: one http.Transport for each endpoint.

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

type httpSender struct {
	up      *upstream
	address string // host:port that is dialed
	client  *http.Transport
	active  atomic.Int64 // requests under way
	waiting atomic.Int64 // of them without a connection yet
	open    atomic.Int64 // connections
	retired atomic.Bool
}

func newHTTPSender(up *upstream, address string) *httpSender {
	s := &httpSender{up: up, address: address}
	s.client = &http.Transport{
		DialContext:            s.dial,
		TLSClientConfig:        up.tls.Clone(),
		TLSHandshakeTimeout:    up.cfg.DialTimeout,
		ForceAttemptHTTP2:      true, // a dialer and TLS settings of our own switch it off otherwise
		DisableCompression:     true, // bodies pass as they are
		MaxConnsPerHost:        up.cfg.Connections,
		MaxIdleConnsPerHost:    up.cfg.Connections,
		IdleConnTimeout:        up.cfg.IdleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: headerBytesMax,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingAfter,
			WriteByteTimeout: up.cfg.StallTimeout,
		},
	}
	return s
}

func (s *httpSender) retire() {
	s.retired.Store(true)
	s.closeIdle(0)
}

// closeIdle closes connections that nobody uses, and looks again some times: over
// HTTP/2 one is in use for a moment after the last body has ended, and one may be
// being dialed.
func (s *httpSender) closeIdle(looked int) {
	s.client.CloseIdleConnections()
	if looked < closeLooks {
		time.AfterFunc(closePause<<(2*looked), func() { s.closeIdle(looked + 1) })
	}
}

// A retired sender looks for idle connections after 50, 200, 800 ms and 3.2 s.
const (
	closeLooks = 4
	closePause = 50 * time.Millisecond
)

// roundTrip sends r for target and watches over each phase.
func (s *httpSender) roundTrip(r *http.Request, target string) (*http.Response, error) {
	u, err := targetURL(s.up.base, r.Host, target)
	if limit := int64(s.up.cfg.Connections) * waitingPerConnection; err == nil && s.waiting.Load() >= limit {
		err = errorf(KindConnectionLimit, "%d requests wait for a connection already", limit)
	}
	if err != nil {
		closeBody(r)
		return nil, unsent(err)
	}
	x := begin(s, r.Context())
	out := r.WithContext(x.trace(x.ctx))
	out.URL = u
	if r.Body != nil && r.Body != http.NoBody {
		out.Body = &upload{r.Body, x}
	}
	resp, err := s.client.RoundTrip(out)
	if err == nil {
		err = x.header(resp)
	}
	if err != nil {
		err = x.explain(err, false)
		x.end()
		return nil, err
	}
	resp.Request = r
	return resp, nil
}

// dial opens a TCP connection that counts.
func (s *httpSender) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: s.up.cfg.DialTimeout}
	tcp, err := dialer.DialContext(ctx, network, s.address)
	if err != nil {
		return nil, err
	}
	s.open.Add(1)
	s.up.stats.ConnectionsDialed.Add(1)
	s.up.stats.ConnectionsOpen.Add(1)
	return &conn{Conn: tcp, s: s, stats: s.up.stats}, nil
}

type conn struct {
	net.Conn
	s     *httpSender
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
	c.once.Do(func() {
		c.s.open.Add(-1)
		c.stats.ConnectionsOpen.Add(-1)
	})
	return c.Conn.Close()
}

// CloseWrite ends one direction of an upgraded connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
