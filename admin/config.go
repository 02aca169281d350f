// Package admin is the operators' side of a node: health, metrics, profiles and
// the REST API, on a listener of its own that wants a token for all but health.
// It knows no other room: what it shows comes through small interfaces and plain
// structs, filled in by main.
//
// A request's walk: guard.go (Host, then token, both denying by default) ->
// the table of paths in server.go -> health.go, api.go, metrics.go or pprof.
package admin

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Config of the operators' side.
type Config struct {
	// Listen address. Default 127.0.0.1:8081; "off" closes it. An address that is
	// not loopback is refused unless Public is set. A change wants a restart.
	Listen string `yaml:"listen"`
	// Public allows an address that others can reach. The listener speaks
	// plain HTTP: keep it within a private network or behind a tunnel. A change
	// wants a restart.
	Public bool `yaml:"public"`
	// Hosts are the names that requests may carry in Host, beside the address
	// that a connection came in on, localhost, 127.0.0.1 and [::1]. Any port.
	Hosts []string `yaml:"hosts"`
	// Tokens that are let in, at most 256. None: one is made under the data
	// directory at the first start.
	Tokens []Token `yaml:"tokens"`
}

// Token is a credential, known by its hash only.
type Token struct {
	// Name shown in logs.
	Name string `yaml:"name"`
	// SHA256 of the token, in hexadecimal; `edge token` prints a token and this.
	SHA256 string `yaml:"sha256"`
}

const (
	defaultListen = "127.0.0.1:8081"
	off           = "off"
	tokensMax     = 256
	hostsMax      = 256
)

// WithDefaults returns the configuration with what was left out filled in.
func (c Config) WithDefaults() Config {
	if c.Listen == "" {
		c.Listen = defaultListen
	}
	return c
}

// Validate reports everything that is wrong, each by its path in this struct.
func (c Config) Validate(report func(path, problem string)) {
	c = c.WithDefaults()
	c.validateListen(report)
	if len(c.Hosts) > hostsMax {
		report("hosts", fmt.Sprintf("%d names; at most %d are allowed", len(c.Hosts), hostsMax))
	}
	for i, host := range c.Hosts {
		if host == "" || hostname(host) != strings.ToLower(host) {
			report(fmt.Sprintf("hosts[%d]", i), fmt.Sprintf("%q is not a bare name: write it without scheme and port, such as edge1.example.net", host))
		}
	}
	if len(c.Tokens) > tokensMax {
		report("tokens", fmt.Sprintf("%d tokens; at most %d are allowed", len(c.Tokens), tokensMax))
	}
	seen := make(map[string]bool, len(c.Tokens))
	for i, t := range c.Tokens {
		at := fmt.Sprintf("tokens[%d]", i)
		switch {
		case t.Name == "":
			report(at+".name", "is missing: name the token after who holds it, such as ci or prometheus")
		case seen[t.Name]:
			report(at+".name", fmt.Sprintf("%q is used twice: give each token a name of its own", t.Name))
		}
		seen[t.Name] = true
		if raw, err := hex.DecodeString(t.SHA256); err != nil || len(raw) != 32 {
			report(at+".sha256", "is not a SHA-256 in hexadecimal (64 digits): `edge token` prints a new token and its hash")
		}
	}
}

func (c Config) validateListen(report func(path, problem string)) {
	if c.Listen == off {
		return
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		report("listen", fmt.Sprintf("%q is not an address: write host:port, such as %s, or off", c.Listen, defaultListen))
		return
	}
	if !c.Public && !isLoopback(host) {
		report("listen", fmt.Sprintf("%s can be reached from other machines: listen on 127.0.0.1:%s, or set admin.public: true if that is meant", c.Listen, port))
	}
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// hostname returns the name of a Host field in lower case, without port,
// brackets and zone; "" where it is malformed.
func hostname(host string) string {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else if bare, ok := strings.CutPrefix(host, "["); ok {
		if name, ok = strings.CutSuffix(bare, "]"); !ok {
			return ""
		}
	}
	if strings.ContainsAny(name, "/@ []") {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(name), ".")
}
