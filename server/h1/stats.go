package h1

import "sync/atomic"

// Stats counts since start what gate.Stats does not: the life of connections and
// the limits that are this protocol's own. Every field may be read at any time.
type Stats struct {
	// Idle is the number of connections that wait for a request.
	Idle atomic.Int64
	// Hijacked is the number of connections that handlers have taken over.
	Hijacked atomic.Int64
	// Pipelined counts requests that had arrived before the answer to the one
	// before them was sent.
	Pipelined atomic.Uint64
	// LinesTooLong counts requests answered 414: a request line beyond
	// limits.header_bytes.
	LinesTooLong atomic.Uint64
	// HeaderTimeouts counts requests answered 408: a header that took longer than
	// limits.header_timeout.
	HeaderTimeouts atomic.Uint64
	// IdleTimeouts counts connections closed because of limits.idle_timeout.
	IdleTimeouts atomic.Uint64
	// Spent counts connections closed because of limits.connection_requests.
	Spent atomic.Uint64
	// TooSlow counts connections cut because of limits.min_rate.
	TooSlow atomic.Uint64
	// BodiesUnread counts connections closed because more of a request's body was
	// left than is worth reading, or it did not come.
	BodiesUnread atomic.Uint64
	// BodiesMalformed counts request bodies whose chunks or trailers were
	// malformed.
	BodiesMalformed atomic.Uint64
	// TrailersDropped counts trailer fields of requests that may not stand there.
	TrailersDropped atomic.Uint64
	// ExpectationsFailed counts requests answered 417.
	ExpectationsFailed atomic.Uint64
	// TLSInClear counts TLS handshakes that were sent to a port without TLS.
	TLSInClear atomic.Uint64
	// ClientsGone counts requests whose client went away while a handler worked.
	ClientsGone atomic.Uint64
}
