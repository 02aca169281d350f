package main

// What the protocol engines count that is their own.

import (
	"sync/atomic"

	"edgecdn/admin"
	"edgecdn/server/h1"
	"edgecdn/server/h2"
	"edgecdn/server/h3"
)

// An eventCount is one way in which a protocol's connections or requests end or
// are held up.
type eventCount struct {
	event string
	count *atomic.Uint64
}

func (emit emitter) events(protocol string, counts []eventCount) {
	for _, c := range counts {
		emit.counter("edge_protocol_events_total", "What an engine had to do beside answering requests, by protocol and event.", c.count.Load(),
			admin.Label{Name: "protocol", Value: protocol}, admin.Label{Name: "event", Value: c.event})
	}
}

func (emit emitter) h1(s *h1.Stats) {
	emit.gauge("edge_http1_idle_connections", "HTTP/1.1 connections that wait for a request.", float64(s.Idle.Load()))
	emit.gauge("edge_http1_hijacked_connections", "HTTP/1.1 connections that were upgraded to another protocol.", float64(s.Hijacked.Load()))
	emit.events("h1", []eventCount{
		{"pipelined", &s.Pipelined}, {"line_too_long", &s.LinesTooLong}, {"header_timeout", &s.HeaderTimeouts},
		{"idle_timeout", &s.IdleTimeouts}, {"connection_requests", &s.Spent}, {"min_rate", &s.TooSlow},
		{"body_unread", &s.BodiesUnread}, {"body_malformed", &s.BodiesMalformed}, {"trailer_dropped", &s.TrailersDropped},
		{"expectation_failed", &s.ExpectationsFailed}, {"tls_in_clear", &s.TLSInClear}, {"client_gone", &s.ClientsGone},
	})
}

func (emit emitter) h2(s *h2.Stats) {
	emit.events("h2", []eventCount{
		{"connection_error", &s.ConnectionErrors}, {"stream_error", &s.StreamErrors}, {"malformed", &s.Malformed},
		{"refused", &s.Refused}, {"parked", &s.Parked}, {"stalled", &s.Stalled}, {"min_rate", &s.TooSlow}, {"idle_timeout", &s.Idle},
		{"header_timeout", &s.HeaderTimeouts}, {"connection_requests", &s.Exhausted}, {"flood_header", &s.HeaderFloods},
	})
	for i, name := range h2.FloodNames {
		emit.events("h2", []eventCount{{"flood_" + name, &s.Floods[i]}})
	}
}

func (emit emitter) h3(s *h3.Stats) {
	emit.events("h3", []eventCount{
		{"connection_error", &s.ConnectionErrors}, {"stream_error", &s.StreamErrors}, {"flood", &s.Excessive},
		{"header_timeout", &s.HeaderTimeouts}, {"idle_timeout", &s.IdleClosed}, {"connection_requests", &s.RequestsMax},
		{"rejected", &s.Rejected}, {"reset", &s.Resets}, {"ignored", &s.Ignored},
		{"priority_dropped", &s.PrioritiesDropped}, {"blocked", &s.Blocked}, {"section_too_long", &s.SectionsTooLong},
	})
}
