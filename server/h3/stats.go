package h3

import "sync/atomic"

// Stats counts what HTTP/3 connections did since start. Every field may be read
// at any time; one Stats may be shared by the engines of several listeners.
type Stats struct {
	// ConnectionErrors counts connections closed because the peer broke the
	// protocol, those of Excessive included.
	ConnectionErrors atomic.Uint64
	// StreamErrors counts requests reset as malformed or incomplete.
	StreamErrors atomic.Uint64
	// Excessive counts connections closed with H3_EXCESSIVE_LOAD: floods of
	// resets, of unknown frames or streams, of PRIORITY_UPDATE, or of settings.
	Excessive atomic.Uint64
	// HeaderTimeouts counts requests whose header did not arrive within
	// limits.header_timeout.
	HeaderTimeouts atomic.Uint64
	// IdleClosed counts connections closed because of limits.idle_timeout.
	IdleClosed atomic.Uint64
	// RequestsMax counts connections that reached limits.connection_requests.
	RequestsMax atomic.Uint64
	// Rejected counts requests that came after GOAWAY; clients may ask again
	// elsewhere.
	Rejected atomic.Uint64
	// Resets counts requests that clients cancelled, or broke so that we had to.
	Resets atomic.Uint64
	// Ignored counts frames, streams and instructions that mean nothing here and
	// were skipped.
	Ignored atomic.Uint64
	// PrioritiesDropped counts PRIORITY_UPDATE frames for requests not yet made
	// beyond the number remembered.
	PrioritiesDropped atomic.Uint64
	// SectionsTooLong counts responses whose header the client would have refused.
	SectionsTooLong atomic.Uint64
	// Blocked counts short answers that the client's windows did not take at once.
	Blocked atomic.Uint64
}
