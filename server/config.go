// Package server is where bytes come in and responses go out: listeners, TLS,
// the protocol engines for HTTP/1.1, HTTP/2 and HTTP/3, limits and drain. It
// knows no caching rule: it asks Match which route a request falls under, Judge
// whether it may be asked, Lookup for a response that can be sent at once, and
// gives everything else to an ordinary http.Handler.
package server

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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
	// AccessLog says where one line for each request goes.
	AccessLog AccessLog `yaml:"access_log"`
	// Data is the folder under which the development certificate and the key
	// of stateless resets are kept. Not part of the file: the node's own.
	Data string `yaml:"-"`
}

// TLS says which certificates to show.
type TLS struct {
	// Certificates by name in them. None: a development certificate is made
	// under the data directory, good for loopback only.
	Certificates []Certificate `yaml:"certificates"`
}

// Certificate is a chain and its key, both in PEM files.
type Certificate struct {
	// Cert is the file of the chain, the leaf first.
	Cert string `yaml:"cert"`
	// Key is the file of the leaf's private key.
	Key string `yaml:"key"`
}

// AccessLog says where one line for each request goes. It never slows a request
// down: when the writer cannot keep up, lines are dropped and counted.
type AccessLog struct {
	// Format is json, combined (as Apache writes it, with the outcome at the end)
	// or off. Default json.
	Format string `yaml:"format"`
	// Path of the file, made if it is missing and appended to. Default: standard output.
	Path string `yaml:"path"`
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
	// middle of a message is cut. Silence of the origin does not count. Default 1m.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// Streams open at once on one HTTP/2 or HTTP/3 connection. Default 128.
	Streams int `yaml:"streams"`
	// Handlers at work at once on requests that memory cannot answer; more are
	// answered 503. Default 10000.
	Handlers int `yaml:"handlers"`
	// DrainTimeout that requests in flight get when the node stops. Default 30s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// WithDefaults returns the configuration with every zero value that has a
// default filled in.
func (c Config) WithDefaults() Config {
	if c.HTTP3 == nil {
		on := true
		c.HTTP3 = &on
	}
	c.Limits = c.Limits.WithDefaults()
	if c.AccessLog.Format == "" {
		c.AccessLog.Format = "json"
	}
	return c
}

// WithDefaults returns the limits with every zero filled in.
func (l Limits) WithDefaults() Limits {
	l.HeaderBytes = cmp.Or(l.HeaderBytes, 32*unit.KiB)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, 10*time.Second)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 2*time.Minute)
	l.StallTimeout = cmp.Or(l.StallTimeout, time.Minute)
	l.Streams = cmp.Or(l.Streams, 128)
	l.Handlers = cmp.Or(l.Handlers, 10000)
	l.DrainTimeout = cmp.Or(l.DrainTimeout, 30*time.Second)
	return l
}

// Validate reports everything that cannot work, each with the path of its key
// below the section of this struct. It opens no file.
func (c *Config) Validate(report func(path, problem string)) {
	seen := map[string]string{}
	for _, list := range []struct {
		key       string
		addresses []string
	}{{"http", c.HTTP}, {"https", c.HTTPS}} {
		for i, address := range list.addresses {
			path := fmt.Sprintf("%s[%d]", list.key, i)
			if problem := addressProblem(address); problem != "" {
				report(path, problem)
			} else if other, taken := seen[address]; taken && !strings.HasSuffix(address, ":0") {
				report(path, fmt.Sprintf("%q is taken by %s: give each listener an address of its own", address, other))
			}
			seen[address] = path
		}
	}
	for i, certificate := range c.TLS.Certificates {
		if certificate.Cert == "" {
			report(fmt.Sprintf("tls.certificates[%d].cert", i), "is missing: name the PEM file of the chain")
		}
		if certificate.Key == "" {
			report(fmt.Sprintf("tls.certificates[%d].key", i), "is missing: name the PEM file of the private key")
		}
	}
	switch c.AccessLog.Format {
	case "", "json", "combined", "off":
	default:
		report("access_log.format", fmt.Sprintf("%q is no format: write json, combined or off", c.AccessLog.Format))
	}
	c.Limits.validate(report)
}

func addressProblem(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf("%q is no address: write host:port, such as 127.0.0.1:8080, [::1]:8080 or :8080", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Sprintf("%q is no port: write a number from 0 to 65535", port)
	} else if strconv.FormatUint(n, 10) != port {
		return fmt.Sprintf("%q is no port: write it without leading zeros", port)
	}
	if host != "" && host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			return fmt.Sprintf("%q is no address of this machine: write an IP address, localhost, or nothing for all", host)
		}
	}
	return ""
}

func (l *Limits) validate(report func(path, problem string)) {
	within := func(path string, value, least, most int64, say func(int64) string) {
		if value != 0 && (value < least || value > most) {
			report("limits."+path, fmt.Sprintf("%s is out of bounds: choose from %s to %s", say(value), say(least), say(most)))
		}
	}
	bytes := func(n int64) string { return unit.Bytes(n).String() }
	duration := func(n int64) string { return time.Duration(n).String() }
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	within("header_bytes", int64(l.HeaderBytes), int64(unit.KiB), int64(unit.MiB), bytes)
	within("header_timeout", int64(l.HeaderTimeout), int64(time.Millisecond), int64(time.Hour), duration)
	within("idle_timeout", int64(l.IdleTimeout), int64(time.Millisecond), int64(24*time.Hour), duration)
	within("stall_timeout", int64(l.StallTimeout), int64(time.Millisecond), int64(24*time.Hour), duration)
	within("streams", int64(l.Streams), 1, 10000, number)
	within("handlers", int64(l.Handlers), 1, 1000000, number)
	within("drain_timeout", int64(l.DrainTimeout), int64(time.Millisecond), int64(24*time.Hour), duration)
}

// unchangeable names the first key in which next differs from c that cannot be
// changed while the node runs, or "".
func (c *Config) unchangeable(next *Config) string {
	switch {
	case !slices.Equal(c.HTTP, next.HTTP):
		return "http"
	case !slices.Equal(c.HTTPS, next.HTTPS):
		return "https"
	case *c.HTTP3 != *next.HTTP3:
		return "http3"
	case c.AccessLog != next.AccessLog:
		return "access_log"
	case c.Limits.HeaderBytes != next.Limits.HeaderBytes:
		return "limits.header_bytes"
	case c.Limits.HeaderTimeout != next.Limits.HeaderTimeout:
		return "limits.header_timeout"
	case c.Limits.IdleTimeout != next.Limits.IdleTimeout:
		return "limits.idle_timeout"
	case c.Limits.Streams != next.Limits.Streams:
		return "limits.streams"
	}
	return ""
}
