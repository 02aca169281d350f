package origin

// endpoint.go sends to one endpoint in the protocol that it speaks. Over TLS that is
// what the handshake settles, unless the configuration does: the first connection
// tells, and is the first that is used.

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Protocols that may be configured.
const (
	protocolH1 = "http/1.1"
	protocolH2 = "h2"
)

type endpoint struct {
	dialer *dialer
	h1     *h1Client
	h2     *httpSender
	fixed  string // by configuration, "" if the handshake tells

	speaksH1, speaksH2 atomic.Bool
	learning           chan struct{} // of one: somebody finds out
	learners           atomic.Int64
	spare              chan net.Conn // of one: found to speak h2, not used yet
}

// newSender returns the sender to an endpoint at address. It opens no connection.
func newSender(up *upstream, address string) sender {
	e := &endpoint{
		dialer: &dialer{up: up, address: address}, fixed: up.cfg.Protocol,
		learning: make(chan struct{}, 1), spare: make(chan net.Conn, 1),
	}
	if e.fixed == "" && (up.base.Scheme == "http" || up.cfg.ProxyProtocol != "") {
		e.fixed = protocolH1
	}
	e.h1 = newH1Client(&up.cfg, up.base, up.stats, e.dialH1)
	e.h2 = newHTTPSender(up, e.dialer, e.dialH2)
	return e
}

func (e *endpoint) retire() {
	e.h1.retire()
	e.h2.retire()
	select {
	case c := <-e.spare:
		_ = c.Close() // never used
	default:
	}
}

// roundTrip sends m.
func (e *endpoint) roundTrip(m message) (*http.Response, []Field, error) {
	r := m.Request
	if err := checkTarget(m.target); err != nil {
		closeBody(r)
		return nil, nil, unsent(err)
	}
	// HTTP/2 has no Upgrade (RFC 9113 8.2.2).
	if e.fixed == protocolH1 || m.has("upgrade") {
		return e.h1.roundTrip(m)
	}
	if e.fixed == "" && !e.speaksH1.Load() && !e.speaksH2.Load() {
		if err := e.learn(r.Context()); err != nil {
			closeBody(r)
			return nil, nil, unsent(err)
		}
	}
	if e.speaksH1.Load() {
		return e.h1.roundTrip(m)
	}
	resp, err := e.h2.roundTrip(m)
	if errors.Is(err, errNotH2) && (r.Body == nil || r.Body == http.NoBody) {
		return e.h1.roundTrip(m)
	}
	return resp, nil, err
}

// learn finds out what the endpoint speaks. One request does, the others wait.
func (e *endpoint) learn(caller context.Context) error {
	up := e.dialer.up
	cfg := &up.cfg
	defer e.learners.Add(-1)
	if most := int64(cfg.Connections) * waitingPerConnection; e.learners.Add(1) > most {
		return errorf(KindConnectionLimit, "%d requests wait for a connection already", most)
	}
	up.stats.Waiting.Add(1)
	defer up.stats.Waiting.Add(-1)
	ctx, stop := context.WithTimeout(caller, cfg.DialTimeout)
	defer stop()
	select {
	case e.learning <- struct{}{}:
		defer func() { <-e.learning }()
	case <-ctx.Done():
		return dialError(caller, ctx.Err(), cfg.DialTimeout)
	}
	if e.speaksH1.Load() || e.speaksH2.Load() {
		return nil
	}
	c, err := e.dialer.secure(ctx, "", protocolH2, protocolH1)
	if err != nil {
		return dialError(caller, err, cfg.DialTimeout)
	}
	e.sort(c, c.ConnectionState().NegotiatedProtocol)
	return nil
}

// sort keeps a connection where those of its protocol are.
func (e *endpoint) sort(c net.Conn, protocol string) {
	if protocol != protocolH2 {
		e.speaksH1.Store(true)
		e.h1.pool.add(newH1Conn(c, e.dialer.up.stats))
		return
	}
	e.speaksH2.Store(true)
	select {
	case e.spare <- c:
	default:
		_ = c.Close() // never used
	}
}

// dialH1 opens a connection for the HTTP/1.1 client.
func (e *endpoint) dialH1(ctx context.Context, client string) (*h1Conn, error) {
	var nc net.Conn
	var err error
	if e.dialer.up.base.Scheme == "https" {
		nc, err = e.dialer.secure(ctx, client, protocolH1)
	} else {
		nc, err = e.dialer.tcp(ctx, client)
	}
	if err != nil {
		return nil, err
	}
	c := newH1Conn(nc, e.dialer.up.stats)
	if e.dialer.up.cfg.ProxyProtocol != "" {
		c.client = client
	}
	return c, nil
}

// errNotH2 says that the endpoint has gone over to HTTP/1.1.
var errNotH2 = errors.New("the origin speaks HTTP/1.1")

// dialH2 opens a connection for net/http.
func (e *endpoint) dialH2(ctx context.Context) (net.Conn, error) {
	select {
	case c := <-e.spare:
		return c, nil
	default:
	}
	protocols := []string{protocolH2, protocolH1}
	if e.fixed != "" {
		protocols = protocols[:1]
	}
	c, err := e.dialer.secure(ctx, "", protocols...)
	if err != nil {
		return nil, err
	}
	if protocol := c.ConnectionState().NegotiatedProtocol; protocol != protocolH2 {
		if e.fixed != "" {
			_ = c.Close() // the error says why
			return nil, errorf(KindTLS, "the origin does not speak HTTP/2, which protocol: h2 wants")
		}
		e.sort(c, protocol)
		return nil, errNotH2
	}
	return c, nil
}

// dialError says why there is no connection.
func dialError(caller context.Context, err error, limit time.Duration) error {
	switch {
	case canceled(caller):
		return canceledError()
	case caller.Err() != nil:
		return &Error{Kind: KindResponseTimeout, Err: caller.Err()}
	case errors.Is(err, context.DeadlineExceeded):
		return errorf(KindConnectTimeout, "no connection within %v: %w", limit, err)
	}
	return &Error{Kind: connectKind(err), Err: err}
}
