// Package access says who may ask: a verdict on each request before anything is
// looked up: the method, the client's address, how often it asks. What is not
// configured costs nothing.
package access

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

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
	// RetryAfter is how long the client should wait, for a 429.
	RetryAfter time.Duration
	// Reason says in a few words, to people, why.
	Reason string
}

// Stats counts since start.
type Stats struct {
	// Addresses counts requests refused because of the client's address.
	Addresses atomic.Uint64
	// Rates counts requests refused because the client asks too often.
	Rates atomic.Uint64
}

// Access judges requests and remembers how often clients have asked. Its methods
// may be called from any goroutine.
type Access struct {
	stats   Stats
	made    sync.Once
	buckets *Buckets // made when the first rate is judged by
}

// New returns an Access that has seen nobody.
func New() *Access { return new(Access) }

// Stats returns the counters.
func (a *Access) Stats() *Stats { return &a.stats }

// Judge says whether a request may be asked of a route by a client. It does no
// I/O, never waits and, when it allows, allocates nothing. Only CONNECT, whose
// target names no path, may come with a nil route. A client without an address (on
// a unix socket) is in no list and has no rate.
func (a *Access) Judge(r *route.Route, method string, client netip.Addr) Verdict {
	if r != nil && r.Access != nil {
		if v := a.judgeClient(r.Access, client); v.Action == Deny {
			return v
		}
	}
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

// judgeClient looks at lists, then at rates. A request that one rate refuses has
// been counted by those before it.
func (a *Access) judgeClient(c *route.Clients, client netip.Addr) Verdict {
	if c.Deny.Contains(client) || c.Allow != nil && !c.Allow.Contains(client) {
		a.stats.Addresses.Add(1)
		return Verdict{Action: Deny, Status: 403, Reason: "this address is not let in here"}
	}
	if len(c.Rates) == 0 || !client.IsValid() {
		return Verdict{}
	}
	a.made.Do(func() { a.buckets = NewBuckets() })
	for i := range c.Rates {
		b := &c.Rates[i]
		bits := b.IPv6
		if client.Is4() {
			bits = b.IPv4
		}
		prefix, _ := client.WithZone("").Prefix(bits) // of a valid address
		if wait := a.buckets.Take(b.ID, prefix, b.Interval, b.Burst); wait > 0 {
			a.stats.Rates.Add(1)
			return Verdict{Action: Deny, Status: 429, RetryAfter: wait, Reason: "too many requests from this client"}
		}
	}
	return Verdict{}
}
