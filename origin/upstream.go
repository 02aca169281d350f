package origin

// upstream.go is one configured origin: its connections and what may be sent to
// it. It lives until its configuration changes; the requests that it has under
// way then end as they began.

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"edgecdn/pool"
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
	links *links

	// These live as long as the origin's name.
	pool   *pool.Pool
	budget *budget
	delays *delays
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
	up := &upstream{cfg: cfg, pem: pem, base: base, stats: stats}
	up.links = &links{up: up, senders: make(map[string]sender)}
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

// retire gives back what it holds, connections as they become idle.
func (up *upstream) retire() {
	if up.links != nil {
		up.links.retire()
	}
}

// poolConfig returns what the pool is to be: of the URL alone where nothing else is
// configured.
func (up *upstream) poolConfig() pool.Config {
	cfg := up.cfg.Pool
	cfg.Port = portOf(up.base)
	if len(cfg.Endpoints) == 0 && cfg.Discover.Name == "" {
		cfg.Endpoints = []pool.Endpoint{{Address: up.base.Host}}
	}
	d := &dialer{up: up}
	cfg.Probe = pool.Probe{Host: cmp.Or(up.cfg.Host, up.base.Host), Dial: d.probe, H2: up.cfg.Protocol == protocolH2}
	if up.base.Scheme == "https" {
		cfg.Probe.TLS = up.tls.Clone()
		cfg.Probe.TLS.ServerName = cmp.Or(up.cfg.ServerName, up.base.Hostname())
	}
	cfg.Gone = up.links.drop
	return cfg
}

// roundTrip sends m.
func (up *upstream) roundTrip(m message, room *any) (*http.Response, []Field, error) {
	up.stats.Requests.Add(1)
	m.host = cmp.Or(up.cfg.Host, m.Host)
	if !httpguts.ValidHostHeader(m.host) || strings.ContainsAny(m.host, "/?#@\\") {
		closeBody(m.Request)
		return nil, nil, up.count(errorf(KindRequest, "%q is no host", m.host))
	}
	m.host = cmp.Or(m.host, up.base.Host)
	return newCall(up, m, room).run()
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
