// Package origin is the way back to where content comes from: an
// http.RoundTripper that sends a request to the origin that its route names.
// What may be retried, how long each phase may take and what an origin's answer
// must look like is decided here; whether to ask at all is the cache's affair.
package origin

import (
	"cmp"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"edgecdn/pool"
)

// Config is one origin.
type Config struct {
	// URL of the origin: scheme, host and port, such as http://127.0.0.1:9000.
	// A path in it is put before every request's path.
	URL string `yaml:"url"`
	// Directory on this machine whose files are served, in the place of a URL.
	Directory string `yaml:"directory"`
	// Index is the file that stands for a directory in it. Default index.html.
	Index string `yaml:"index"`
	// Dotfiles serves files of the directory whose path has a name that begins with
	// a dot; .well-known is served always. Default false.
	Dotfiles bool `yaml:"dotfiles"`
	// CacheControl is the Cache-Control field of the directory's files. Default: none
	// is sent.
	CacheControl string `yaml:"cache_control"`
	// Host sent to the origin instead of the client's; "" keeps the client's.
	Host string `yaml:"host"`
	// ServerName is the name in the origin's certificate. Default: the URL's host.
	ServerName string `yaml:"server_name"`
	// CA is a file of PEM certificates to trust instead of the system's.
	CA string `yaml:"ca"`
	// Insecure accepts any certificate. For trials only.
	Insecure bool `yaml:"insecure"`
	// Certificate is a file with the PEM certificate, and what leads to its
	// authority, that is shown to the origin where it asks for one.
	Certificate string `yaml:"certificate"`
	// Key is the file of the certificate's PEM private key.
	Key string `yaml:"key"`
	// Protocol is http/1.1 or h2. Default: what the TLS handshake settles, HTTP/1.1
	// in the clear; h2 in the clear is by prior knowledge.
	Protocol string `yaml:"protocol"`
	// ProxyProtocol tells the origin each client's address before the first request
	// on a connection: v1 or v2. Such a connection serves one client address and
	// HTTP/1.1 only. Default: none.
	ProxyProtocol string `yaml:"proxy_protocol"`
	// Pool says where the origin is, if not at its URL, and which endpoint is asked.
	Pool pool.Config `yaml:",inline"`
	// Hash is what policy maglev spreads by: url or client. Default url.
	Hash string `yaml:"hash"`
	// Retries says what is sent again when an endpoint fails.
	Retries Retries `yaml:"retries"`
	// Hedging says what is sent twice because an endpoint is slow.
	Hedging Hedging `yaml:"hedging"`
	// Connections open at once to each endpoint; further requests wait. Default 256.
	Connections int `yaml:"connections"`
	// DialTimeout for a connection, TLS included. Default 5s.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// TLSTimeout for the handshake alone, within DialTimeout; 0s sets no limit of its
	// own. Default 0s.
	TLSTimeout time.Duration `yaml:"tls_timeout"`
	// Timeout for the whole, from the request to the last byte of the response; 0s
	// sets none. Default 0s.
	Timeout time.Duration `yaml:"timeout"`
	// HeaderTimeout from the request sent to the response's header. Default 30s.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// StallTimeout between two reads of a body. Default 30s.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// IdleTimeout of a connection that is kept for the next request. Default 90s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
}

const connectionsMax = 65536

// WithDefaults returns the configuration with what was left out filled in.
func (c Config) WithDefaults() Config {
	c.Index = cmp.Or(c.Index, "index.html")
	c.Connections = cmp.Or(c.Connections, 256)
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, 30*time.Second)
	c.StallTimeout = cmp.Or(c.StallTimeout, 30*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 90*time.Second)
	return c.withPool()
}

// Validate reports everything that cannot work, each by its path in this struct.
// It opens no file.
func (c Config) Validate(report func(path, problem string)) {
	c.validateDirectory(report)
	if c.Directory != "" && c.URL == "" {
		// No connection is made.
	} else if problem := urlProblem(c.URL); problem != "" {
		report("url", problem)
	} else if strings.HasPrefix(c.URL, "http:") {
		for _, key := range []struct {
			path string
			set  bool
		}{
			{"server_name", c.ServerName != ""}, {"ca", c.CA != ""}, {"insecure", c.Insecure},
			{"certificate", c.Certificate != ""}, {"key", c.Key != ""}, {"tls_timeout", c.TLSTimeout != 0},
		} {
			if key.set {
				report(key.path, "is for TLS only, but the url begins with http: leave it out or write https")
			}
		}
	}
	if strings.ContainsAny(c.Host, "/@ \\?#\t\r\n") {
		report("host", fmt.Sprintf("%q is not a host: write a name, with a port if it is not the usual one", c.Host))
	}
	if strings.ContainsAny(c.ServerName, "/@ \\?#:\t\r\n") {
		report("server_name", fmt.Sprintf("%q is not a name in a certificate: write it without scheme and port", c.ServerName))
	}
	if c.Insecure && c.CA != "" {
		report("insecure", "accepts any certificate, so that ca has no effect: keep one of them")
	}
	c.validateConnection(report)
	c.validatePool(report)
	if c.Connections < 0 || c.Connections > connectionsMax {
		report("connections", fmt.Sprintf("%d is out of bounds: choose from 1 to %d", c.Connections, connectionsMax))
	}
	for _, timeout := range []struct {
		path  string
		value time.Duration
	}{
		{"dial_timeout", c.DialTimeout}, {"tls_timeout", c.TLSTimeout}, {"header_timeout", c.HeaderTimeout},
		{"stall_timeout", c.StallTimeout}, {"idle_timeout", c.IdleTimeout}, {"timeout", c.Timeout},
	} {
		if timeout.value != 0 && (timeout.value < time.Millisecond || timeout.value > 24*time.Hour) {
			report(timeout.path, fmt.Sprintf("%v is out of bounds: choose from 1ms to 24h", timeout.value))
		}
	}
}

// validateDirectory judges what is said of files.
func (c *Config) validateDirectory(report func(path, problem string)) {
	if c.Index != "" && (strings.ContainsAny(c.Index, "/\\\x00") || c.Index == "." || c.Index == "..") {
		report("index", fmt.Sprintf("%q is not a file's name: write one such as index.html", c.Index))
	}
	for i := range len(c.CacheControl) {
		if b := c.CacheControl[i]; b < ' ' || b == 0x7f {
			report("cache_control", fmt.Sprintf("%q is not a field value: write one such as public, max-age=60", c.CacheControl))
			break
		}
	}
	if c.Directory == "" {
		if c.Dotfiles {
			report("dotfiles", "is for directories: leave it out, or write directory in the place of url")
		}
		if c.CacheControl != "" {
			report("cache_control", "is for directories: set it under response of the host instead")
		}
		return
	}
	for _, key := range []struct {
		path string
		set  bool
	}{
		{"url", c.URL != ""}, {"host", c.Host != ""}, {"server_name", c.ServerName != ""}, {"ca", c.CA != ""}, {"insecure", c.Insecure},
		{"certificate", c.Certificate != ""}, {"key", c.Key != ""}, {"protocol", c.Protocol != ""}, {"proxy_protocol", c.ProxyProtocol != ""},
		{"endpoints", len(c.Pool.Endpoints) > 0}, {"discover.name", c.Pool.Discover.Name != ""},
	} {
		if key.set {
			report(key.path, "is for origins that are asked over a network, but directory names one on this machine: keep one of them")
		}
	}
}

// validateConnection judges what is said when a connection begins.
func (c *Config) validateConnection(report func(path, problem string)) {
	switch {
	case c.Certificate != "" && c.Key == "":
		report("key", "is missing: the certificate is shown with its private key")
	case c.Certificate == "" && c.Key != "":
		report("certificate", "is missing: a key alone proves nothing")
	}
	switch c.Protocol {
	case "", protocolH1, protocolH2:
	default:
		report("protocol", fmt.Sprintf("%q is not known: write %s or %s, or leave it out", c.Protocol, protocolH1, protocolH2))
	}
	switch c.ProxyProtocol {
	case "":
	case proxyV1, proxyV2:
		if c.Protocol == protocolH2 {
			report("proxy_protocol", "tells of one client, but with protocol: h2 a connection serves many: keep one of them")
		}
	default:
		report("proxy_protocol", fmt.Sprintf("%q is not known: write v1 or v2", c.ProxyProtocol))
	}
}

// Versions of the PROXY protocol.
const (
	proxyV1 = "v1"
	proxyV2 = "v2"
)

// urlProblem says what keeps text from being an origin's URL; "" is nothing.
func urlProblem(text string) string {
	if text == "" {
		return "is missing: write scheme, host and port, such as http://127.0.0.1:9000"
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Sprintf("%q is not a URL: write one such as http://127.0.0.1:9000", text)
	case u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "":
		return fmt.Sprintf("%q does not begin with http:// or https://", text)
	case u.Hostname() == "":
		return fmt.Sprintf("%q names no host", text)
	case u.User != nil:
		return "holds a user name or password: set the Authorization field under request of the host instead"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#"):
		return fmt.Sprintf("%q has a query or fragment: leave it out", text)
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Sprintf("%q is no port: write a number from 1 to 65535", port)
		}
	}
	return ""
}
