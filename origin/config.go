// Package origin is the way back to where content comes from: an
// http.RoundTripper that sends a request to the origin that its route names.
// What may be retried, how long each phase may take and what an origin's answer
// must look like is decided here; whether to ask at all is the cache's affair.
package origin

import "time"

// Config is one origin.
type Config struct {
	// URL of the origin: scheme, host and port, such as http://127.0.0.1:9000.
	// A path in it is put before every request's path.
	URL string `yaml:"url"`
	// Host sent to the origin instead of the client's; "" keeps the client's.
	Host string `yaml:"host"`
	// ServerName is the name in the origin's certificate. Default: the URL's host.
	ServerName string `yaml:"server_name"`
	// CA is a file of PEM certificates to trust instead of the system's.
	CA string `yaml:"ca"`
	// Insecure accepts any certificate. For trials only.
	Insecure bool `yaml:"insecure"`
	// Connections open at once to this origin; further requests wait. Default 256.
	Connections int `yaml:"connections"`
	// DialTimeout for a connection, TLS included. Default 5s.
	DialTimeout time.Duration `yaml:"dial_timeout"`
	// HeaderTimeout from the request sent to the response's header. Default 30s.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// StallTimeout between two reads of a body. Default 30s.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// IdleTimeout of a connection that is kept for the next request. Default 90s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
}
