package gate

// stats.go counts what the engines did, in atomics that main maps to metrics.

import (
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/cache"
)

// protocols is the number of protocols in arrays indexed by cache.Proto - 1.
const protocols = 3

// tokens is the number of outcome tokens in arrays indexed as cache.Tokens.
const tokens = 10

// hostsMax bounds the labels counted; requests of further hosts are counted
// under "other".
const hostsMax = 1000

// Refusal is why a connection was closed before it was served.
type Refusal int

// The refusals, by the limit that was met.
const (
	TooManyConnections Refusal = iota
	TooManyOfAddress
	TooManyOfPrefix
	TooManyHandshakes
	TooManyHandshakesPerSecond
	TooManyHandshakesPerSecondOfPrefix
	refusals
)

// RefusalNames are the limits' names, by Refusal.
var RefusalNames = [refusals]string{
	"connections", "connections_per_address", "connections_per_prefix",
	"handshakes", "handshake_rate", "handshake_rate_per_prefix",
}

// LatencyBounds are the upper bounds of a Histogram's buckets, in order; what is
// above the last falls into a bucket of its own.
var LatencyBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, 30 * time.Second, time.Minute,
}

// Histogram counts durations by bucket. Buckets are not cumulative.
type Histogram struct {
	Buckets [len(LatencyBounds) + 1]atomic.Uint64
	Sum     atomic.Int64 // nanoseconds
}

func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	h.Buckets[i].Add(1)
	h.Sum.Add(int64(d))
}

// Stats counts since start. Every field may be read at any time.
type Stats struct {
	// Status counts finished requests by protocol (cache.Proto - 1) and class of
	// status (1xx is 0).
	Status [protocols][5]atomic.Uint64
	// Latency is the time from header read to last byte written, by outcome
	// (index into cache.Tokens). Upgraded connections are left out.
	Latency [tokens]Histogram
	// BytesSent counts body bytes of responses by protocol.
	BytesSent [protocols]atomic.Uint64
	// BytesReceived counts body bytes of requests by protocol.
	BytesReceived [protocols]atomic.Uint64
	// ConnectionsOpen counts connections by protocol; TLS connections from the
	// end of their handshake on.
	ConnectionsOpen [protocols]atomic.Int64
	// ConnectionsAccepted counts connections that were ever open, by protocol.
	ConnectionsAccepted [protocols]atomic.Uint64
	// ConnectionsRefused counts connections that were closed at once because of a
	// limit, by Refusal.
	ConnectionsRefused [refusals]atomic.Uint64
	// ProxyRefused counts connections of trusted proxies whose PROXY header was
	// missing or malformed, ProxyUntrusted those from others that had one.
	ProxyRefused, ProxyUntrusted atomic.Uint64
	// HandshakesBusy is the number of TLS handshakes under way, over TCP and QUIC.
	HandshakesBusy atomic.Int64
	// BodiesRefused counts requests answered 413 because of limits.body_bytes.
	BodiesRefused atomic.Uint64
	// HandlersBusy is the number of handlers at work.
	HandlersBusy atomic.Int64
	// HandlersRefused counts requests answered 503 because limits.handlers was reached.
	HandlersRefused atomic.Uint64
	// HeadersRefused counts requests answered 431 because of limits.header_bytes
	// or limits.header_fields.
	HeadersRefused atomic.Uint64
	// Early counts requests answered 425 because they came in early data.
	Early atomic.Uint64
	// Malformed counts requests answered 400.
	Malformed atomic.Uint64
	// Denied counts requests that access refused.
	Denied atomic.Uint64
	// Aborted counts responses that broke off in the middle.
	Aborted atomic.Uint64
	// Stalled counts messages cut because of limits.stall_timeout.
	Stalled atomic.Uint64
	// Panics counts panics of handlers, aborts excepted.
	Panics atomic.Uint64
	// AcceptFailures counts connections that the system could not give us.
	AcceptFailures atomic.Uint64
	// HandshakesFailed counts TLS handshakes that came to nothing.
	HandshakesFailed atomic.Uint64
	// Retries counts QUIC clients that were asked to prove their address.
	Retries atomic.Uint64
	// LogDropped counts access log lines dropped because the writer was behind,
	// LogErrors lines lost because they could not be written.
	LogDropped, LogErrors atomic.Uint64

	hosts hostTable
}

// HostStats counts the requests of one configured host.
type HostStats struct {
	// Name is the host's first configured name, "" for requests that match no
	// host, "other" for hosts beyond the bound.
	Name string
	// Requests by protocol (cache.Proto - 1) and outcome (index into cache.Tokens).
	Requests [protocols][tokens]atomic.Uint64
}

// hostTable finds the counters of a host. The index of a route is only a hint:
// after a reload the same index may be another host's, and the name decides.
type hostTable struct {
	slots   [256]atomic.Pointer[HostStats]
	none    HostStats
	mu      sync.Mutex
	byName  map[string]*HostStats // at most hostsMax and "other"; guarded by mu
	ordered []*HostStats          // guarded by mu
}

func (t *hostTable) of(name string, index int) *HostStats {
	if name == "" {
		return &t.none
	}
	slot := &t.slots[uint(index)%uint(len(t.slots))]
	if h := slot.Load(); h != nil && h.Name == name {
		return h
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byName[name]
	if h == nil {
		if len(t.byName) >= hostsMax {
			name = "other"
			h = t.byName[name]
		}
		if h == nil {
			h = &HostStats{Name: name}
			if t.byName == nil {
				t.byName = map[string]*HostStats{}
			}
			t.byName[name] = h
			t.ordered = append(t.ordered, h)
		}
	}
	slot.Store(h)
	return h
}

// Hosts returns the counters of every host seen so far, the one without a name first.
func (s *Stats) Hosts() []*HostStats {
	s.hosts.mu.Lock()
	defer s.hosts.mu.Unlock()
	return append([]*HostStats{&s.hosts.none}, s.hosts.ordered...)
}

// outcomeIndex is the index of o's token in cache.Tokens.
func outcomeIndex(o *cache.Outcome) int {
	switch {
	case o.Hit:
		return 1
	case o.Fwd == cache.FwdNone:
		return 0
	}
	for i := 2; i < tokens; i++ {
		if cache.Tokens[i] == string(o.Fwd) {
			return i
		}
	}
	return 0
}

func (s *Stats) finished(x *Exchange, took time.Duration) {
	proto := x.Request.Proto - 1
	if x.Status > 0 { // else the client left before there was an answer
		s.Status[proto][min(max(x.Status/100, 1), 5)-1].Add(1)
	}
	s.BytesSent[proto].Add(uint64(x.Written))
	outcome := outcomeIndex(&x.Request.Outcome)
	if !x.hijacked {
		s.Latency[outcome].observe(took)
	}
	name, index := "", 0
	if r := x.Request.Route; r != nil {
		name, index = r.Host, r.HostIndex
	}
	s.hosts.of(name, index).Requests[proto][outcome].Add(1)
}
