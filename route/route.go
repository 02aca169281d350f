package route

import (
	"errors"
	"slices"
	"strings"
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
	// Shares: some path of the host has a Key without Host, this or another.
	Shares bool

	// Fallback is the origin that stands in for one that fails, "" for none.
	Fallback string
	// Page is sent where no origin answers, nil for none; PageStatus with it, 0 for
	// the one that fits.
	Page       []byte
	PageType   string
	PageStatus int
	// ClientCA is the file of authorities of client certificates, "" for none.
	ClientCA string
	// HSTS is the value of Strict-Transport-Security, "" for none.
	HSTS string

	// Origin is "" where a host only redirects: what no redirect takes is 404.
	Origin  string
	Methods []string // nil: see Allows
	Purge   bool     // PURGE is let in, to be answered by the edge
	// IdempotencyKey: a request with that field may be sent to the origin again.
	IdempotencyKey bool
	// Access is nil where every client may ask as often as it likes.
	Access *Clients
	// BodyBytes that a request may have; 0 where the server's limit holds.
	BodyBytes int64
	Rewrite   *Rewrite
	Request   Fields // names in lower case; Remove, then Set, then Add
	Response  Fields // as Request

	Bypass bool
	// Key has Headers in lower case, Headers and Cookies sorted and without
	// duplicates, and Host set. Its Query is applied by AppendQuery.
	Key                  Key
	Freshness            []Freshness // applied by Lifetime
	StaleWhileRevalidate time.Duration
	StaleIfError         time.Duration
	MaxBytes             int64
	RequestDirectives    bool
	StripSetCookie       bool
	Targets              []string            // names in lower case
	Vary                 map[string][]string // names in lower case
	StatusKey            bool
	// Codings that the edge makes, bit i for Codings[i]; see Compressible.
	Codings          uint8
	CompressBytesMin int64 // bodies under it are not encoded

	redirects []redirect
	page      string // the file of Page
	lifetimes []lifetime
	query     query
	allow     string

	compressTypes []string
}

// defaultMethods is what Allow fields say where no methods are configured.
const defaultMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// Allows reports whether the route lets a method in. Without configured methods
// all are, but for CONNECT, which asks for a tunnel, and TRACE, which shows a
// client's fields to scripts. GET lets HEAD in too. PURGE is for the edge itself
// and has its own switch.
func (r *Route) Allows(method string) bool {
	if method == "PURGE" {
		return r.Purge
	}
	if r.Methods == nil {
		return method != "CONNECT" && method != "TRACE"
	}
	return slices.Contains(r.Methods, method)
}

// AllowField returns the value of the Allow field that a 405 must carry
// (RFC 9110 15.5.6).
func (r *Route) AllowField() string { return r.allow }

// Target returns the request target that the origin sees: raw, with its path
// rewritten if the route says so. All bytes that no prefix covers are kept.
func (r *Route) Target(raw string) string {
	if r.Rewrite == nil || !strings.HasPrefix(raw, "/") {
		return raw
	}
	if rest, ok := strings.CutPrefix(raw, r.Rewrite.StripPrefix); ok && r.Rewrite.StripPrefix != "" {
		switch {
		case rest == "" || rest[0] == '?':
			raw = "/" + rest
		case rest[0] == '/':
			raw = rest
		}
	}
	return r.Rewrite.AddPrefix + raw
}
