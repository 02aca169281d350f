package route

import (
	"errors"
	"time"
)

// What Match may answer instead of a Route.
var (
	// ErrNoHost: no configured host has this name (421 to the client).
	ErrNoHost = errors.New("route: no such host")
	// ErrNoRoute: the host has no origin for this path (404 to the client).
	ErrNoRoute = errors.New("route: no such path")
	// ErrAmbiguous: raw and normalised path match different routes (400 to the client).
	ErrAmbiguous = errors.New("route: raw and normalised path match different routes")
)

// Route is the compiled policy of a host and path. Immutable: a reload makes
// new ones, and requests under way keep theirs.
type Route struct {
	Host    string // the host's first configured name: a bounded label
	Pattern string // the path pattern, "/*" for the host's own policy
	// HostIndex numbers the hosts of a Table from 0, for counters without maps.
	HostIndex int

	Origin   string
	Methods  []string
	Rewrite  *Rewrite
	Request  Fields
	Response Fields

	Bypass               bool
	Key                  Key
	Freshness            []Freshness
	StaleWhileRevalidate time.Duration
	StaleIfError         time.Duration
	MaxBytes             int64
	RequestDirectives    bool

	redirects []Redirect
}
