// Package route says which of the operator's rules a request falls under: Host
// and path select one Route, which carries everything that was configured for
// them, merged and compiled. A request is matched once, on its normalised path;
// the raw path is what the cache key and the origin see.
package route

import (
	"time"

	"edgecdn/internal/unit"
)

// Host is one web property: the names it answers to and what holds for it.
type Host struct {
	// Names it answers to: exact ("www.example.com"), wildcard
	// ("*.example.com", one or more labels) or "*" for all that nobody else
	// took. The most specific name wins.
	Names []string `yaml:"names"`
	// ClientCA is a PEM file of authorities. Clients must show a certificate of one
	// of them when they connect to a name of this host (mutual TLS); requests in
	// the clear are refused, but for redirects. Default: none is asked for.
	ClientCA string `yaml:"client_ca"`
	// HSTS has browsers come over TLS alone (RFC 6797).
	HSTS HSTS `yaml:"hsts"`
	// Policy holds for the whole host.
	Policy `yaml:",inline"`
	// Redirects are tried first, in order. One that would lead to the very URL
	// that was asked for is passed over.
	Redirects []Redirect `yaml:"redirects"`
	// Routes refine the policy for paths. The longest match wins.
	Routes []Path `yaml:"routes"`
}

// HSTS says what Strict-Transport-Security tells browsers, in every response over
// TLS. What an origin says there is left out then.
type HSTS struct {
	// MaxAge is for how long. 0s: the field is not sent, and the origin's is.
	MaxAge time.Duration `yaml:"max_age"`
	// Subdomains includes all names below the host's. Default false.
	Subdomains bool `yaml:"subdomains"`
	// Preload asks to be put into lists that browsers come with; it wants a year
	// and subdomains. Default false.
	Preload bool `yaml:"preload"`
}

// Path refines its host's policy for some paths: what it leaves out is inherited.
type Path struct {
	// Path is exact ("/robots.txt") or a prefix ending in "/*" ("/static/*",
	// which also matches "/static").
	Path   string `yaml:"path"`
	Policy `yaml:",inline"`
}

// Policy is what can be said of a host and refined for a path of it.
type Policy struct {
	// Origin is the name of the origin that answers misses.
	Origin string `yaml:"origin"`
	// Methods that are let in; others are answered 405. GET lets HEAD in too.
	// Default: all but CONNECT and TRACE.
	Methods []string `yaml:"methods"`
	// Purge lets the method PURGE in, from clients that show a token with the
	// scope purge (admin.tokens): it forgets the URL that it asks for, and is
	// answered by the edge. It is never passed on to an origin. Default false.
	Purge *bool `yaml:"purge"`
	// Access says which clients are let in, and how often.
	Access Access `yaml:"access"`
	// IdempotencyKey says that the origin does requests with the same Idempotency-Key
	// once, so that one with that field may be sent to it again whatever its method.
	// Default false: POST and PATCH are sent once.
	IdempotencyKey *bool `yaml:"idempotency_key"`
	// BodyBytes that a request may have; longer ones are answered 413. Default:
	// server.limits.body_bytes.
	BodyBytes unit.Bytes `yaml:"body_bytes"`
	// Cache rules.
	Cache Cache `yaml:"cache"`
	// Rewrite changes the target that the origin sees. The cache key keeps the
	// client's own.
	Rewrite *Rewrite `yaml:"rewrite"`
	// Request fields changed on the way to the origin.
	Request Fields `yaml:"request"`
	// Response fields changed on the way to the client, after the cache.
	Response Fields `yaml:"response"`
	// Fallback says what clients get when the origin fails and nothing stale may be
	// sent.
	Fallback Fallback `yaml:"fallback"`
}

// Fallback says what stands in for an origin that fails. A path has its host's, key
// by key.
type Fallback struct {
	// Origin that is asked, for GET and HEAD, where the route's own gives no answer or
	// answers 502, 503 or 504. Nothing of its answers is stored.
	Origin string `yaml:"origin"`
	// Page is a file that is sent where no origin gives an answer, of at most 1 MiB.
	// It is read with the configuration.
	Page string `yaml:"page"`
	// Status of the page. Default: 502, 503 or 504, by what went wrong.
	Status int `yaml:"status"`
}

// Access says which clients may ask, and how often. A path that says something
// itself has that instead of its host's, list by list. Redirects are answered
// before.
type Access struct {
	// Allow lists the networks and addresses that are let in; others are answered
	// 403. Default: all.
	Allow []string `yaml:"allow"`
	// Deny lists networks and addresses that are answered 403, whatever allow says.
	Deny []string `yaml:"deny"`
	// Rates that each client is held to; requests beyond any of them are answered
	// 429 with Retry-After.
	Rates []Rate `yaml:"rates"`
}

// Rate is how often each client may ask: a token bucket.
type Rate struct {
	// Key says what a client is: address (an IPv4 address, an IPv6 /64, which one
	// customer has) or prefix (an IPv4 /24, an IPv6 /48). Default address.
	Key string `yaml:"key"`
	// Requests in each period.
	Requests int `yaml:"requests"`
	// Per is the period. Default 1s.
	Per time.Duration `yaml:"per"`
	// Burst that may come at once. Default: requests.
	Burst int `yaml:"burst"`
}

// Fields removes, sets and adds header fields, in this order. Fields that frame the
// message or belong to one connection cannot be named.
type Fields struct {
	// Set gives fields one value each, whatever they had before.
	Set map[string]string `yaml:"set"`
	// Add gives fields one more value each, on a line of its own, beside what they
	// have.
	Add map[string]string `yaml:"add"`
	// Remove takes fields out, before others are set.
	Remove []string `yaml:"remove"`
}

// Rewrite changes the path of the target.
type Rewrite struct {
	// StripPrefix is removed from the start of the path, if it is there.
	StripPrefix string `yaml:"strip_prefix"`
	// AddPrefix is put before the path.
	AddPrefix string `yaml:"add_prefix"`
}

// Redirect answers matching requests with a Location instead of a response.
type Redirect struct {
	// Scheme limits the redirect to requests that came over it: http or https.
	Scheme string `yaml:"scheme"`
	// Path limits the redirect to one path, or to those under a prefix ending in "/*".
	Path string `yaml:"path"`
	// To is the new location: "https://{host}{target}" redirects to https; {host},
	// {path}, {query}, {target} (path and query) and {rest} (what "*" matched)
	// are filled in, everything else is literal.
	To string `yaml:"to"`
	// Status is 301, 302, 303, 307 or 308. Default 308.
	Status int `yaml:"status"`
}

// Cache says what is stored, under which key and for how long.
type Cache struct {
	// Bypass sends every request to the origin and stores nothing. Default false.
	Bypass *bool `yaml:"bypass"`
	// Key says what tells stored responses apart.
	Key Key `yaml:"key"`
	// Freshness gives lifetimes; the first rule that matches a response wins.
	Freshness []Freshness `yaml:"freshness"`
	// StaleWhileRevalidate serves a stale response for so long, while it is
	// validated in the background, where it does not say itself (RFC 5861 3).
	// Default 0s.
	StaleWhileRevalidate *time.Duration `yaml:"stale_while_revalidate"`
	// StaleIfError serves a stale response for so long where the origin fails
	// and the response does not say itself (RFC 5861 4). Default 0s.
	StaleIfError *time.Duration `yaml:"stale_if_error"`
	// MaxBytes bounds the body of a stored response; larger ones pass through.
	// Default 1GiB.
	MaxBytes unit.Bytes `yaml:"max_bytes"`
	// RequestDirectives honours no-cache, max-age and the like in requests,
	// which lets any client go to the origin. Default false, as CDNs do.
	RequestDirectives *bool `yaml:"request_directives"`
	// StripSetCookie takes Set-Cookie off the answers to GET and HEAD, so that they
	// are stored; nobody gets a cookie by them. For origins that set one on what is
	// the same for all. Default false: what has Set-Cookie is not stored.
	StripSetCookie *bool `yaml:"strip_set_cookie"`
	// Targets are the response fields with directives for this cache, the first
	// that is there and valid wins over Cache-Control and Expires (RFC 9213). An
	// empty list that is present leaves Cache-Control alone.
	// Default [Surrogate-Control, CDN-Cache-Control].
	Targets []string `yaml:"targets"`
	// Vary bounds what a request field can say, so that responses that vary by it
	// have few variants: the field becomes the first listed value that the client
	// asks for by name, or goes where it asks for none of them. The origin is asked
	// with that. Accept-Encoding needs no such list.
	Vary map[string][]string `yaml:"vary"`
	// StatusKey adds the cache key's URL to Cache-Status, for whoever looks for the
	// reason of a miss. Default false.
	StatusKey *bool `yaml:"status_key"`
	// Compress says what is encoded at the edge for clients that accept it.
	Compress Compress `yaml:"compress"`
}

// Compress says which stored responses the edge encodes itself (RFC 9110 8.4):
// those that come from the origin without Content-Encoding and without
// no-transform. It is done once for each of them, in the background; until it is
// done they are sent as they are.
type Compress struct {
	// Codings to make: br, zstd and gzip. A client gets the one that it likes
	// best, of equals the first of br, zstd, gzip. An empty list that is present
	// makes none. Default [br, zstd, gzip].
	Codings []string `yaml:"codings"`
	// Types are the media types ("text/*", "image/svg+xml") that are encoded. What
	// the default leaves out gains little or comes encoded.
	Types []string `yaml:"types"`
	// MinBytes that a body must have to be encoded; those over 8MiB are not.
	// Default 1KiB.
	MinBytes *unit.Bytes `yaml:"min_bytes"`
}

// Freshness is a rule for the lifetime of responses.
type Freshness struct {
	// Status codes it holds for, such as 404, or classes, such as 5xx. Default: 200.
	Status []string `yaml:"status"`
	// Types are media types ("image/*", "text/css") it holds for. Default: all.
	Types []string `yaml:"types"`
	// Lifetime that such responses get. 0s: not stored.
	Lifetime time.Duration `yaml:"lifetime"`
	// Force overrides what the response says itself, but never no-store,
	// private, Set-Cookie or Authorization rules. Without it the lifetime is a
	// default for responses that say nothing.
	Force bool `yaml:"force"`
}

// Key says what a cache key is made of, beside scheme, host, path and query.
type Key struct {
	// Query says which of its parameters count.
	Query Query `yaml:"query"`
	// Headers whose values become part of the key, at most 32. Fields that clients may
	// not send on to the origin otherwise, such as X-Forwarded-Host and X-Original-URL,
	// go on where they are named here, but for those that say who the client is.
	Headers []string `yaml:"headers"`
	// Cookies whose values become part of the key, at most 32.
	Cookies []string `yaml:"cookies"`
	// Host false leaves the host out, so that all names of this host share
	// stored responses. Default true.
	Host *bool `yaml:"host"`
}

// Query says which parameters become part of the key. The origin sees all.
type Query struct {
	// Allow lists the only parameters that count; a name may end in "*". An
	// empty list that is present drops the whole query.
	Allow *[]string `yaml:"allow"`
	// Deny lists parameters that do not count; a name may end in "*".
	Deny []string `yaml:"deny"`
	// Sort orders parameters by name, keeping the order of equal names. Default
	// false.
	Sort *bool `yaml:"sort"`
}
