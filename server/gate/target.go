package gate

// target.go reads what a request is for: the request target in its forms
// (RFC 9112 3.2) and the authority. Strict: what could be read in two ways is
// refused, for caches and origins would read it differently.

import (
	"net/netip"
	"strconv"
	"strings"
)

const (
	// authorityBytesMax is the longest authority taken: a DNS name has at most
	// 253 characters, a port 6 with its colon, one more for the final dot.
	authorityBytesMax = 260
	hostBytesMax      = 254
)

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

// parseAuthority returns an authority in lower case, without the scheme's
// default port and without the final dot of a name. What is not a plain name or
// address with an optional port is refused: userinfo, paths, lists, escapes.
func parseAuthority(authority, scheme string) (host string, ok bool) {
	if authority == "" || len(authority) > authorityBytesMax {
		return "", false
	}
	name, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.LastIndexByte(authority, ']') < i {
		name, port = authority[:i], authority[i+1:]
		if port, ok = plainPort(port, scheme); !ok {
			return "", false
		}
	}
	if strings.HasPrefix(name, "[") {
		if name, ok = parseLiteral(name); !ok {
			return "", false
		}
	} else {
		name = strings.TrimSuffix(name, ".")
		if !plainName(name) {
			return "", false
		}
		name = strings.ToLower(name)
	}
	if port == "" {
		return name, true
	}
	if len(name)+1+len(port) == len(authority) && authority[:len(name)] == name && authority[len(name)+1:] == port {
		return authority, true
	}
	return name + ":" + port, true
}

// plainPort returns a port in its shortest form, "" for the scheme's default and
// for an empty one (RFC 3986 6.2.3).
func plainPort(port, scheme string) (string, bool) {
	if port == "" {
		return "", true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", false
	}
	if scheme == "http" && n == 80 || scheme == "https" && n == 443 {
		return "", true
	}
	if port[0] == '0' {
		port = strconv.FormatUint(n, 10)
	}
	return port, true
}

// parseLiteral reads "[IPv6 address]" and writes it in its one canonical form
// (RFC 5952). Zones mean nothing to anybody else and are refused (RFC 6874 4).
func parseLiteral(literal string) (string, bool) {
	if !strings.HasSuffix(literal, "]") {
		return "", false
	}
	address, err := netip.ParseAddr(literal[1 : len(literal)-1])
	if err != nil || !address.Is6() || address.Zone() != "" {
		return "", false
	}
	if text := address.String(); text != literal[1:len(literal)-1] {
		return "[" + text + "]", true
	}
	return literal, true
}

// plainName reports whether name is made of non-empty labels of letters,
// digits, "-" and "_".
func plainName(name string) bool {
	if name == "" || len(name) > hostBytesMax {
		return false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		default:
			return false
		}
	}
	return label > 0
}
