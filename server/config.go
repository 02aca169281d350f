// Package server is where bytes come in and responses go out: listeners, TLS,
// the protocol engines for HTTP/1.1, HTTP/2 and HTTP/3, limits and drain. It
// knows no caching rule: it asks Match which route a request falls under, Judge
// whether it may be asked, Lookup for a response that can be sent at once, and
// gives everything else to an ordinary http.Handler.
package server

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"edgecdn/server/gate"
)

// Config says where to listen and what to bear.
type Config struct {
	// HTTP lists addresses for HTTP/1.1 in the clear: host:port, such as ":80",
	// which is IPv4 and IPv6; unix:PATH for a unix socket; fd:NAME for the sockets
	// that systemd hands over by that name (FileDescriptorName).
	HTTP []string `yaml:"http"`
	// UnixMode is the mode of unix sockets: who may connect. Default "0660".
	UnixMode string `yaml:"unix_mode"`
	// HTTPS lists addresses for TLS, as http does: HTTP/1.1 and HTTP/2 on TCP, HTTP/3 on UDP.
	HTTPS []string `yaml:"https"`
	// HTTP3 false leaves UDP closed. Default true.
	HTTP3 *bool `yaml:"http3"`
	// EarlyData lets HTTP/3 clients that come back send their first requests with
	// the handshake (0-RTT, RFC 8470). Whoever recorded such bytes can send them
	// again, so only what is in memory is answered then, the rest with 425 (Too
	// Early). Default false.
	EarlyData bool `yaml:"early_data"`
	// H2C takes HTTP/2 in the clear on the listeners of http, from clients that
	// begin with it (prior knowledge, RFC 9113 3.3). Default false.
	H2C bool `yaml:"h2c"`
	// ProxyProtocol says which proxies name the client in front of a connection.
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
	// TLS certificates.
	TLS TLS `yaml:"tls"`
	// Limits of connections and requests.
	Limits Limits `yaml:"limits"`
	// AccessLog says where one line for each request goes.
	AccessLog AccessLog `yaml:"access_log"`
	// Data is the folder under which the development certificate and the key
	// of stateless resets are kept. Not part of the file: the node's own.
	Data string `yaml:"-"`
	// ClientCAs are the files that hosts name as client_ca. Not part of the file:
	// the hosts'.
	ClientCAs []string `yaml:"-"`
	// AltSvcPort is the UDP port that clients are told to find HTTP/3 at, where it
	// is published at another than the listener's. Default: the listener's.
	AltSvcPort int `yaml:"alt_svc_port"`
}

// AccessLog and Limits are the gate's.
type (
	AccessLog = gate.AccessLog
	Limits    = gate.Limits
)

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
	if c.AltSvcPort < 0 || c.AltSvcPort > 65535 {
		report("alt_svc_port", fmt.Sprintf("%d is no port: write a number from 1 to 65535", c.AltSvcPort))
	}
	if len(c.TLS.ACME.Names) > 0 && len(c.HTTPS) == 0 {
		report("tls.acme.names", "asks for certificates where nothing listens for TLS: give addresses under https")
	}
	c.TLS.validate(func(path, problem string) { report("tls."+path, problem) })
	switch c.AccessLog.Format {
	case "", "json", "combined", "off":
	default:
		report("access_log.format", fmt.Sprintf("%q is no format: write json, combined or off", c.AccessLog.Format))
	}
	c.ProxyProtocol.validate(report)
	if _, err := strconv.ParseUint(c.UnixMode, 8, 9); c.UnixMode != "" && err != nil {
		report("unix_mode", fmt.Sprintf(`%q is no mode of a file: write one such as "0660"`, c.UnixMode))
	}
	c.Limits.Validate(func(path, problem string) { report("limits."+path, problem) })
}

// unixModeDefault lets owner and group connect.
const unixModeDefault = 0o660

// unixMode returns the mode of unix sockets.
func (c *Config) unixMode() os.FileMode {
	if mode, err := strconv.ParseUint(c.UnixMode, 8, 9); err == nil {
		return os.FileMode(mode)
	}
	return unixModeDefault
}

// unixPathMax is what fits the kernel's address.
const unixPathMax = 107

func addressProblem(address string) string {
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		if !strings.HasPrefix(path, "/") || len(path) > unixPathMax {
			return fmt.Sprintf("%q is no path of a unix socket: write unix: and an absolute path of at most %d bytes", address, unixPathMax)
		}
		return ""
	}
	if name, ok := strings.CutPrefix(address, fdScheme); ok {
		if name == "" || len(name) > 255 || strings.ContainsAny(name, ": /") {
			return fmt.Sprintf("%q names no socket: write fd: and the FileDescriptorName of the socket unit", address)
		}
		return ""
	}
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

// unchangeable names the first key in which next differs from c that cannot be
// changed while the node runs, or "".
func (c *Config) unchangeable(next *Config) string {
	switch {
	case !slices.Equal(c.HTTP, next.HTTP):
		return "http"
	case !slices.Equal(c.HTTPS, next.HTTPS):
		return "https"
	case c.unixMode() != next.unixMode():
		return "unix_mode"
	case *c.HTTP3 != *next.HTTP3:
		return "http3"
	case c.AltSvcPort != next.AltSvcPort:
		return "alt_svc_port"
	case c.EarlyData != next.EarlyData:
		return "early_data"
	case c.AccessLog != next.AccessLog:
		return "access_log"
	case c.Limits.HeaderBytes != next.Limits.HeaderBytes:
		return "limits.header_bytes"
	case c.Limits.Streams != next.Limits.Streams:
		return "limits.streams"
	}
	return ""
}
