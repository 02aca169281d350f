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
	"slices"
	"strings"
	"time"

	"edgecdn/internal/authority"
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

// Token is a credential, known by its hash only, and what it may do.
type Token struct {
	// Name shown in logs, in receipts of purges and by `edge token list`.
	Name string `yaml:"name"`
	// SHA256 of the token, in hexadecimal; `edge token new` prints a token and this.
	SHA256 string `yaml:"sha256"`
	// Scopes say what the token may do; there is no default. purge: URLs,
	// prefixes, hosts and groups. purge:all: everything at once. read: metrics,
	// status, profiles, receipts, the configuration with secrets masked. config:
	// reload, list and revoke tokens. drain and dns: for what changes the node's
	// part in traffic and in DNS.
	Scopes []string `yaml:"scopes"`
	// Hosts limits the scope purge to these: exact names and wildcards
	// ("*.example.com", one or more labels), any port. None: all hosts. Other
	// scopes cannot be limited; give them a token of their own.
	Hosts []string `yaml:"hosts"`
	// Expires is the instant from which the token is refused, such as
	// 2027-01-31T00:00:00Z. Default: never.
	Expires string `yaml:"expires"`
}

const (
	defaultListen = "127.0.0.1:8081"
	off           = "off"
	tokensMax     = 256
	tokenHostsMax = 256
	hostsMax      = 256
	nameBytesMax  = 64
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
	seen, hashes := make(map[string]bool, len(c.Tokens)), make(map[string]bool, len(c.Tokens))
	for i, t := range c.Tokens {
		at := fmt.Sprintf("tokens[%d].", i)
		t.validate(func(path, problem string) { report(at+path, problem) })
		if t.Name != "" && seen[t.Name] {
			report(at+"name", fmt.Sprintf("%q is used twice: give each token a name of its own", t.Name))
		}
		if hash := strings.ToLower(t.SHA256); hash != "" && hashes[hash] {
			report(at+"sha256", "is that of another token in this list: make one for each with `edge token new`")
		}
		seen[t.Name], hashes[strings.ToLower(t.SHA256)] = true, true
	}
}

func (t Token) validate(report func(path, problem string)) {
	switch {
	case t.Name == "":
		report("name", "is missing: name the token after who holds it, such as ci or prometheus")
	case t.Name == TokenFile:
		report("name", fmt.Sprintf("%q is the name of the token that is made where none is configured: choose another", t.Name))
	case !plainTokenName(t.Name):
		report("name", fmt.Sprintf("%.80q is not a name: use up to %d letters, digits, dots, dashes and underscores", t.Name, nameBytesMax))
	}
	if raw, err := hex.DecodeString(t.SHA256); err != nil || len(raw) != 32 {
		report("sha256", "is not a SHA-256 in hexadecimal (64 digits): `edge token new` prints a new token and its hash")
	}
	if len(t.Scopes) == 0 {
		report("scopes", "is missing: a token without scopes could only ask for health; name what it may do: "+scopeNames())
	}
	for i, scope := range t.Scopes {
		if !slices.Contains(allScopes, Scope(scope)) {
			report(fmt.Sprintf("scopes[%d]", i), fmt.Sprintf("%.80q is not a scope: choose from %s", scope, scopeNames()))
		} else if len(t.Hosts) > 0 && Scope(scope) != ScopePurge {
			report(fmt.Sprintf("scopes[%d]", i), fmt.Sprintf("%s cannot be limited to hosts: leave hosts out, or give %s a token of its own", scope, scope))
		}
	}
	if len(t.Hosts) > tokenHostsMax {
		report("hosts", fmt.Sprintf("%d hosts; at most %d are allowed", len(t.Hosts), tokenHostsMax))
	}
	for i, host := range t.Hosts {
		name := strings.TrimPrefix(host, "*.")
		if got, ok := authority.Parse(name, ""); !ok || got != name || strings.Contains(name, ":") && name[0] != '[' {
			report(fmt.Sprintf("hosts[%d]", i), fmt.Sprintf("%.80q is not a bare name in lower case: write it without scheme and port, such as www.example.com or *.example.com", host))
		}
	}
	if t.Expires != "" {
		if _, err := time.Parse(time.RFC3339, t.Expires); err != nil {
			report("expires", fmt.Sprintf("%.80q is not an instant: write it such as 2027-01-31T00:00:00Z", t.Expires))
		}
	}
}

// plainTokenName lets names pass that stand in a path, a log and a table as they are.
func plainTokenName(name string) bool {
	for _, c := range []byte(name) {
		if c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return name != "" && len(name) <= nameBytesMax && name != "." && name != ".."
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
