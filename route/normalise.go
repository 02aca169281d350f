package route

// normalise.go decides what a path means for matching. The cache key and the
// origin keep the raw bytes; this form only selects a Route.
//
// The rule, in order:
//  1. %XX of an unreserved character is decoded, other escapes get upper-case
//     digits (RFC 3986 6.2.2.1, 6.2.2.2). A "%" that starts no escape is
//     written %25, bytes outside of visible ASCII are escaped.
//  2. "%2F", "\" and "%5C" count as "/", because some origins take them so.
//  3. Runs of "/" count as one.
//  4. "." and ".." segments are resolved (RFC 3986 5.2.4), also with parameters
//     ("..;x"), which some origins drop first.
//
// Decoding happens once: %252F stays as it is. Where an origin reads a path
// otherwise, raw and normalised match different routes and Match refuses, which
// is why the rule takes the widest reading.

const upperHex = "0123456789ABCDEF"

func unreserved(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// escape returns the byte that an escape at s[i] stands for, or -1.
func escape(s string, i int) int {
	if i+2 >= len(s) || s[i] != '%' {
		return -1
	}
	high, low := unhex(s[i+1]), unhex(s[i+2])
	if high < 0 || low < 0 {
		return -1
	}
	return high<<4 | low
}

// normal reports whether path is its own normalised form; most are.
func normal(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.' && dots(segment(path[i+1:])) > 0) {
				return false
			}
		case c == '%':
			b := escape(path, i)
			if b < 0 || unreserved(byte(b)) || b == '/' || b == '\\' ||
				path[i+1] >= 'a' || path[i+2] >= 'a' {
				return false
			}
			i += 2
		case c == '\\' || c <= ' ' || c >= 0x7f:
			return false
		}
	}
	return true
}

// segment returns s up to its first "/".
func segment(s string) string {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i]
		}
	}
	return s
}

// dots returns 1 or 2 for the segments "." and "..", parameters aside, else 0.
func dots[S string | []byte](s S) int {
	n := 0
	for n < len(s) && s[n] == '.' {
		n++
	}
	if n > 2 || n < len(s) && s[n] != ';' {
		return 0
	}
	return n
}

// appendNormal appends the normalised form of path, which begins with "/", to
// dst. It takes at most three bytes for one.
func appendNormal(dst []byte, path string) []byte {
	base := len(dst)
	start := base // of the segment being written, at its "/"
	for i := 0; i < len(path); i++ {
		c := path[i]
		if b := escape(path, i); b >= 0 {
			i += 2
			if !unreserved(byte(b)) && b != '/' && b != '\\' {
				dst = append(dst, '%', upperHex[b>>4], upperHex[b&15])
				continue
			}
			c = byte(b)
		} else if c == '%' || c <= ' ' || c >= 0x7f {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			continue
		}
		if c != '/' && c != '\\' {
			dst = append(dst, c)
			continue
		}
		dst = closeSegment(dst, base, start)
		start = len(dst)
		dst = append(dst, '/')
	}
	end := len(dst)
	dst = closeSegment(dst, base, start)
	if len(dst) < end || len(dst) == base {
		dst = append(dst, '/') // "/a/.." is "/", "/a/." is "/a/"
	}
	return dst
}

// closeSegment resolves the segment that begins with the "/" at dst[start]:
// empty ones and "." go, ".." takes the one before with it.
func closeSegment(dst []byte, base, start int) []byte {
	if start == len(dst) {
		return dst
	}
	name := dst[start+1:]
	if len(name) == 0 {
		return dst[:start]
	}
	switch dots(name) {
	case 1:
		return dst[:start]
	case 2:
		for start > base {
			start--
			if dst[start] == '/' {
				break
			}
		}
		return dst[:start]
	}
	return dst
}
