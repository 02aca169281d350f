package gate

// target.go reads the request target in its forms (RFC 9112 3.2). Strict: what could be read in two ways is
// refused, for caches and origins would read it differently.

import "strings"

// problem says why a request is refused; "" is none.
type problem string

const (
	problemHost      problem = "missing or invalid host"
	problemTarget    problem = "invalid request target"
	problemHostTwice problem = "two different hosts"
	problemScheme    problem = "the target's scheme is not the connection's"
)

// parseTarget splits a request target as sent into the authority that it names,
// "" in origin form, and its origin form. Bytes of the path and query stay as
// they are. CONNECT has been refused before.
func parseTarget(method, raw, scheme string) (authority, target string, p problem) {
	if raw == "" || !plainTarget(raw) {
		return "", "", problemTarget
	}
	switch {
	case raw[0] == '/':
		return "", raw, ""
	case raw == "*":
		if method != "OPTIONS" {
			return "", "", problemTarget
		}
		return "", raw, ""
	}
	rest, ok := cutScheme(raw, "http")
	named := "http"
	if !ok {
		rest, ok = cutScheme(raw, "https")
		named = "https"
	}
	if !ok {
		return "", "", problemTarget
	}
	if named != scheme {
		return "", "", problemScheme
	}
	end := strings.IndexAny(rest, "/?")
	switch {
	case end < 0:
		authority, target = rest, "/"
		if method == "OPTIONS" {
			target = "*" // RFC 9112 3.2.4
		}
	case rest[end] == '?':
		authority, target = rest[:end], "/"+rest[end:]
	default:
		authority, target = rest[:end], rest[end:]
	}
	if authority == "" {
		return "", "", problemTarget
	}
	return authority, target, ""
}

// cutScheme cuts "scheme://" off, in any case (RFC 3986 3.1).
func cutScheme(raw, scheme string) (string, bool) {
	n := len(scheme)
	if len(raw) < n+3 || raw[n:n+3] != "://" || !strings.EqualFold(raw[:n], scheme) {
		return raw, false
	}
	return raw[n+3:], true
}

// plainTarget refuses what no target may hold (RFC 3986 2): controls, spaces,
// fragments and bytes beyond ASCII, which peers would each escape in their own way.
func plainTarget(raw string) bool {
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}
