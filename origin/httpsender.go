package origin

// httpsender.go sends over HTTP/2, by net/http: one http.Transport for each
// endpoint.

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

type httpSender struct {
	up      *upstream
	dialer  *dialer
	client  *http.Transport
	active  atomic.Int64 // requests under way
	waiting atomic.Int64 // of them without a connection yet
	retired atomic.Bool
}

func newHTTPSender(up *upstream, dialer *dialer, secure func(context.Context) (net.Conn, error)) *httpSender {
	s := &httpSender{up: up, dialer: dialer}
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // by prior knowledge, where the URL has no TLS
	s.client = &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.tcp(ctx, "") },
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return secure(ctx) },
		Protocols:              &protocols,
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

// roundTrip sends m and watches over each phase.
func (s *httpSender) roundTrip(m message) (*http.Response, error) {
	r := m.Request
	u, err := targetURL(s.up.base, m.host, m.target)
	if limit := int64(s.up.cfg.Connections) * waitingPerConnection; err == nil && s.waiting.Load() >= limit {
		err = errorf(KindConnectionLimit, "%d requests wait for a connection already", limit)
	}
	if err != nil {
		closeBody(r)
		return nil, unsent(err)
	}
	x := begin(s, r.Context())
	out := r.WithContext(x.trace(x.ctx, &m))
	out.URL, out.Host, out.Header, out.GetBody = u, m.host, mapOf(m.fields), nil // a body is sent once
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = nil // an entry without values keeps net/http from adding its own name
	}
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
