package gate

// limits.go is the part of the configuration that engines and gate go by.

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"edgecdn/internal/unit"
)

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
	// HeaderFields in a request. Default 256.
	HeaderFields int `yaml:"header_fields"`
	// HeaderTimeout for a whole request header to arrive. Default 10s.
	HeaderTimeout time.Duration `yaml:"header_timeout"`
	// IdleTimeout of a kept-alive connection. Default 2m.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// StallTimeout: a client that takes or sends no byte for so long in the
	// middle of a message is cut. Silence of the origin does not count. Default 1m.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// MinRate in bytes a second that a client must send or take of a message,
	// averaged over stall_timeout at a time. Slower ones are cut. Default 256B.
	MinRate unit.Bytes `yaml:"min_rate"`
	// ConnectionRequests on one connection, which then is closed in the way of
	// its protocol. Default 100000.
	ConnectionRequests int `yaml:"connection_requests"`
	// Streams open at once on one HTTP/2 or HTTP/3 connection. Default 128.
	Streams int `yaml:"streams"`
	// Handlers at work at once on requests that memory cannot answer; more are
	// answered 503. Default 10000.
	Handlers int `yaml:"handlers"`
	// BodyBytes of a request; longer ones are answered 413. A route can say
	// otherwise. Default 128MiB.
	BodyBytes unit.Bytes `yaml:"body_bytes"`
	// Connections open at once in all, over TCP and QUIC. What is beyond these
	// bounds of connections and handshakes is closed at once. Default 50000.
	Connections int `yaml:"connections"`
	// ConnectionsPerAddress open at once. Default 1000.
	ConnectionsPerAddress int `yaml:"connections_per_address"`
	// ConnectionsPerPrefix open at once from one network: an IPv4 address with
	// its neighbours, or all addresses that one IPv6 customer has. Default 5000.
	ConnectionsPerPrefix int `yaml:"connections_per_prefix"`
	// PrefixIPv4 is how many bits of an IPv4 address tell networks apart. Default 24.
	PrefixIPv4 int `yaml:"prefix_ipv4"`
	// PrefixIPv6 is how many bits of an IPv6 address tell networks apart. Default 64.
	PrefixIPv6 int `yaml:"prefix_ipv6"`
	// Handshakes of TLS under way at once, a quarter of them from one network.
	// Default 20000.
	Handshakes int `yaml:"handshakes"`
	// HandshakeRate is how many new handshakes a second there may be. Default 2000.
	HandshakeRate int `yaml:"handshake_rate"`
	// HandshakeRatePerPrefix is how many of them may come from one network.
	// Default 500.
	HandshakeRatePerPrefix int `yaml:"handshake_rate_per_prefix"`
	// DrainDelay between the end of readiness and telling clients to go: as long
	// as whoever sends them here needs to notice. Default 0s.
	DrainDelay time.Duration `yaml:"drain_delay"`
	// DrainTimeout that requests in flight get when the node stops. Default 30s.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// WithDefaults returns the limits with every zero filled in.
func (l Limits) WithDefaults() Limits {
	l.HeaderBytes = cmp.Or(l.HeaderBytes, 32*unit.KiB)
	l.HeaderFields = cmp.Or(l.HeaderFields, 256)
	l.MinRate = cmp.Or(l.MinRate, 256)
	l.ConnectionRequests = cmp.Or(l.ConnectionRequests, 100000)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, 10*time.Second)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, 2*time.Minute)
	l.StallTimeout = cmp.Or(l.StallTimeout, time.Minute)
	l.Streams = cmp.Or(l.Streams, 128)
	l.Handlers = cmp.Or(l.Handlers, 10000)
	l.BodyBytes = cmp.Or(l.BodyBytes, 128*unit.MiB)
	l.Connections = cmp.Or(l.Connections, 50000)
	l.ConnectionsPerAddress = cmp.Or(l.ConnectionsPerAddress, 1000)
	l.ConnectionsPerPrefix = cmp.Or(l.ConnectionsPerPrefix, 5000)
	l.PrefixIPv4 = cmp.Or(l.PrefixIPv4, 24)
	l.PrefixIPv6 = cmp.Or(l.PrefixIPv6, 64)
	l.Handshakes = cmp.Or(l.Handshakes, 20000)
	l.HandshakeRate = cmp.Or(l.HandshakeRate, 2000)
	l.HandshakeRatePerPrefix = cmp.Or(l.HandshakeRatePerPrefix, 500)
	l.DrainTimeout = cmp.Or(l.DrainTimeout, 30*time.Second)
	return l
}

// Validate reports what is out of bounds, by path below limits.
func (l *Limits) Validate(report func(path, problem string)) {
	within := func(path string, value, least, most int64, say func(int64) string) {
		if value != 0 && (value < least || value > most) {
			report(path, fmt.Sprintf("%s is out of bounds: choose from %s to %s", say(value), say(least), say(most)))
		}
	}
	bytes := func(n int64) string { return unit.Bytes(n).String() }
	duration := func(n int64) string { return time.Duration(n).String() }
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	within("header_bytes", int64(l.HeaderBytes), int64(unit.KiB), int64(unit.MiB), bytes)
	within("header_fields", int64(l.HeaderFields), 16, 10000, number)
	within("min_rate", int64(l.MinRate), 1, int64(unit.MiB), bytes)
	within("connection_requests", int64(l.ConnectionRequests), 1, 1000000000, number)
	within("header_timeout", int64(l.HeaderTimeout), int64(time.Millisecond), int64(time.Hour), duration)
	within("idle_timeout", int64(l.IdleTimeout), int64(time.Millisecond), int64(24*time.Hour), duration)
	within("stall_timeout", int64(l.StallTimeout), int64(time.Millisecond), int64(24*time.Hour), duration)
	within("streams", int64(l.Streams), 1, 10000, number)
	within("handlers", int64(l.Handlers), 1, 1000000, number)
	within("body_bytes", int64(l.BodyBytes), 1, int64(unit.TiB), bytes)
	within("connections", int64(l.Connections), 1, 10000000, number)
	within("connections_per_address", int64(l.ConnectionsPerAddress), 1, 10000000, number)
	within("connections_per_prefix", int64(l.ConnectionsPerPrefix), 1, 10000000, number)
	within("prefix_ipv4", int64(l.PrefixIPv4), 1, 32, number)
	within("prefix_ipv6", int64(l.PrefixIPv6), 1, 128, number)
	within("handshakes", int64(l.Handshakes), 1, 10000000, number)
	within("handshake_rate", int64(l.HandshakeRate), 1, 1000000, number)
	within("handshake_rate_per_prefix", int64(l.HandshakeRatePerPrefix), 1, 1000000, number)
	within("drain_delay", int64(l.DrainDelay), 0, int64(time.Hour), duration)
	within("drain_timeout", int64(l.DrainTimeout), int64(time.Millisecond), int64(24*time.Hour), duration)
}
