// Package access says who may ask: a verdict on each request before anything is
// looked up. It is small now and has its place from the first day, so that
// limits and lists come before the cache and cost nothing where none is set.
package access

import (
	"net/netip"

	"edgecdn/route"
)

// Action is what an engine does with a request.
type Action uint8

// The three actions.
const (
	// Allow: look it up, then hand it to the handler.
	Allow Action = iota
	// Deny: answer with the verdict's status.
	Deny
	// NeedsHandler: the verdict wants work that may block, so the request must
	// not be answered inline; the handler decides.
	NeedsHandler
)

// Verdict is what access says of a request. The zero value allows it.
type Verdict struct {
	Action Action
	// Status to answer with, for Deny.
	Status int
	// Allow is the value of the Allow field that goes with a 405 (RFC 9110 15.5.6).
	Allow string
	// Reason says in a few words, to people, why.
	Reason string
}

// Judge says whether a request may be asked of a route by a client. It does no
// I/O, takes no lock and, when it allows, allocates nothing. Only CONNECT, whose
// target names no path, may come with a nil route.
func Judge(r *route.Route, method string, _ netip.Addr) Verdict {
	switch {
	case method == "CONNECT":
		return Verdict{Action: Deny, Status: 501, Reason: "tunnels are not offered"}
	case method == "TRACE":
		// Not even where it is configured: an echo of the request shows fields to
		// scripts that may not see them (RFC 9110 9.3.8).
		return Verdict{Action: Deny, Status: 405, Allow: r.AllowField(), Reason: "TRACE is not offered"}
	case !r.Allows(method):
		return Verdict{Action: Deny, Status: 405, Allow: r.AllowField(), Reason: "the method is not let in here"}
	}
	return Verdict{}
}
