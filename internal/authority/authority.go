// Package authority reads hosts with an optional port, strictly, into the one
// form in which everybody here compares and stores them: the engines, and those
// who let operators name hosts.
package authority

import (
	"net/netip"
	"strconv"
	"strings"
)

const (
	// bytesMax is the longest authority taken: a DNS name has at most 253
	// characters, a port 6 with its colon, one more for the final dot.
	bytesMax     = 260
	nameBytesMax = 254
)

// Parse returns an authority in lower case, without the scheme's
// default port and without the final dot of a name. What is not a plain name or
// address with an optional port is refused: userinfo, paths, lists, escapes.
func Parse(authority, scheme string) (host string, ok bool) {
	if authority == "" || len(authority) > bytesMax {
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
	if name == "" || len(name) > nameBytesMax {
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
