// Package admin is the operators' side of a node: health, metrics, profiles and
// the REST API, on a listener of its own that wants a token for all but health.
// It knows no other room: what it shows comes through small interfaces and plain
// structs, filled in by main.
package admin

// Config of the operators' side.
type Config struct {
	// Listen address. Default 127.0.0.1:8081; "off" closes it. An address that is
	// not loopback is refused unless Public is set.
	Listen string `yaml:"listen"`
	// Public allows an address that others can reach.
	Public bool `yaml:"public"`
	// Hosts are the names that requests may carry in Host, beside the listener's
	// own address and localhost.
	Hosts []string `yaml:"hosts"`
	// Tokens that are let in. None: one is made under the data directory at the
	// first start.
	Tokens []Token `yaml:"tokens"`
}

// Token is a credential, known by its hash only.
type Token struct {
	// Name shown in logs.
	Name string `yaml:"name"`
	// SHA256 of the token, in hexadecimal; `edge token` prints a token and this.
	SHA256 string `yaml:"sha256"`
}
