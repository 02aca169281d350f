package dnsgeo

import (
	"net/netip"
	"time"
)

// Node is a node of the CDN as main sees it: a member of the cluster, or one
// that was configured and is probed.
type Node struct {
	Name string
	Site string
	// Place is where the site is; nil where nobody has said.
	Place *Point
	// Addresses that clients reach it at.
	Addresses []netip.Addr
	// Port of HTTPS, 443 where it is 0.
	Port int
	// H2 and H3 say what its listener for HTTPS speaks, and that its own probe of
	// HTTP/3 succeeds. HTTPS is false where it has no such listener at all.
	HTTPS, H2, H3 bool
	// Weight against the others of its site; 0 is 100.
	Weight int

	// Away says why it may not be in answers: dead, draining, fenced, joining,
	// out (by an operator), unhealthy. "" is a node that serves.
	Away string
	// Cold says that it lost what it had stored and has not filled up yet.
	Cold bool
	// Lag is how far behind it is with purges.
	Lag time.Duration
	// Load in percent of what it can bear; over 100 it is over capacity.
	Load int
	// Shed is the part of its clients, in percent, that are given to others: the
	// responder's own, from Load.
	Shed int
}

// What keeps a node out of answers (Node.Away, and what the policy adds).
const (
	AwayDead      = "dead"
	AwayDraining  = "draining"
	AwayFenced    = "fenced"
	AwayJoining   = "joining"
	AwayOut       = "taken out"
	AwayUnhealthy = "unhealthy"
	awayCold      = "cold"
	awayLag       = "behind with purges"
	awayLoad      = "over capacity"
)
