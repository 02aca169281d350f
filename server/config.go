// Package server is where bytes come in and responses go out: listeners, TLS,
// the protocol engines for HTTP/1.1, HTTP/2 and HTTP/3, limits and drain. It
// knows no caching rule: it asks Match which route a request falls under, Judge
// whether it may be asked, Lookup for a response that can be sent at once, and
// gives everything else to an ordinary http.Handler.
package server

import (
	"time"

	"edgecdn/internal/unit"
)

// Config says where to listen and what to bear.
type Config struct {
	// HTTP lists addresses for HTTP/1.1 in the clear, such as ":80".
	HTTP []string `yaml:"http"`
	// HTTPS lists addresses for TLS: HTTP/1.1 and HTTP/2 on TCP, HTTP/3 on UDP.
	HTTPS []string `yaml:"https"`
	// HTTP3 false leaves UDP closed. Default true.
	HTTP3 *bool `yaml:"http3"`
	// TLS certificates.
	TLS TLS `yaml:"tls"`
	// Limits of connections and requests.
	Limits Limits `yaml:"limits"`
}

// TLS says which certificates to show.
type TLS struct {
	// Certificates by name in them. None: a development certificate is made
	// under the data directory, good for loopback only.
	Certificates []Certificate `yaml:"certificates"`
}

// Certificate is a chain and its key, both in PEM files.
type Certificate struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// Limits bound what clients can make the node do.
type Limits struct {
	// HeaderBytes of a request, line and fields. Default 32KiB.
	HeaderBytes unit.Bytes `yaml:"header_bytes"`
	// HeaderTimeout for a whole request header to arrive. Default 10s.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// IdleTimeout of a kept-alive connection. Default 2m.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// StallTimeout: a client that takes or sends no byte for so long in the
	// middle of a message is cut. Default 1m.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// Streams open at once on one HTTP/2 or HTTP/3 connection. Default 128.
	Streams int `yaml:"streams"`
	// Handlers at work at once on requests that memory cannot answer; more are
	// answered 503. Default 10000.
	Handlers int `yaml:"handlers"`
	// DrainTimeout that requests in flight get when the node stops. Default 30s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}
