package pool

// probe.go asks one address whether the service is there. It needs no pool.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	probeBodyMax   = 64 << 10
	probeHeaderMax = 16 << 10
)

// Probe asks an address. The zero value connects by TCP and is content.
type Probe struct {
	HTTP     bool
	TLS      *tls.Config // nil: in the clear
	Host     string      // "": the address
	Path     string      // "": /
	Statuses []int       // none: 200 to 299
	Body     string      // must be in the answer's body
	Timeout  time.Duration
	H2       bool // speak HTTP/2 and nothing else, in the clear too
	// Dial opens connections; nil is a plain dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// by returns the probe that a configuration asks for.
func (p Probe) by(h Health) Probe {
	p.HTTP, p.Timeout = h.Type == HealthHTTP, h.Timeout
	p.Path, p.Statuses, p.Body = h.Path, h.Statuses, h.Body
	if h.Host != "" {
		p.Host = h.Host
	}
	return p
}

// Check asks; nil is a good answer. Whatever it opens is closed when it returns.
func (p Probe) Check(ctx context.Context, address string) error {
	if p.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("no answer within %v", p.Timeout))
		defer cancel()
	}
	dial := p.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var err error
	if p.HTTP {
		err = p.ask(ctx, dial, address)
	} else {
		err = p.connect(ctx, dial, address)
	}
	if deadline, ok := ctx.Deadline(); err != nil && ok && !time.Now().Before(deadline) {
		<-ctx.Done() // a socket's deadline may be noticed before the context's
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func (p *Probe) connect(ctx context.Context, dial dialFunc, address string) error {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (p *Probe) ask(ctx context.Context, dial dialFunc, address string) error {
	client := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, address)
		},
		TLSClientConfig:        p.TLS.Clone(),
		DisableKeepAlives:      true, // a connection that stands says less than a new one
		DisableCompression:     true,
		MaxResponseHeaderBytes: probeHeaderMax,
	}
	defer client.CloseIdleConnections()
	client.Protocols = new(http.Protocols)
	client.Protocols.SetHTTP2(true)
	client.Protocols.SetHTTP1(!p.H2)
	client.Protocols.SetUnencryptedHTTP2(p.H2)
	host := p.Host
	if host == "" {
		host = address
	}
	u := &url.URL{Scheme: "http", Host: host, Opaque: p.Path}
	if p.TLS != nil {
		u.Scheme = "https"
	}
	if u.Opaque == "" {
		u.Opaque = "/"
	}
	if strings.HasPrefix(u.Opaque, "//") { // would be taken for a host
		u.Opaque = "//" + host + u.Opaque
	}
	r := &http.Request{Method: http.MethodGet, URL: u, Host: host, Header: http.Header{"User-Agent": {"edge-probe"}}}
	resp, err := client.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it is of interest
	if good := len(p.Statuses) == 0 && resp.StatusCode/100 == 2 || slices.Contains(p.Statuses, resp.StatusCode); !good {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	if p.Body == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, probeBodyMax))
	if bytes.Contains(body, []byte(p.Body)) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.New("the body does not hold what it should")
}
