package h1

import (
	"net/http"
	"net/textproto"
	"strconv"
	"unsafe"
)

// AppendStatus appends a status line.
func AppendStatus(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	return append(b, '\r', '\n')
}

// AppendField appends a field line, its name in canonical form. A name that is no
// token is left out with its value, controls in a value become spaces, as in
// net/http: nothing that is appended can end a line or begin one.
func AppendField(b []byte, name, value string) []byte {
	start := len(b)
	upper := true
	for i := range len(name) {
		c := name[i]
		if lowerNames[c] == 0 {
			return b[:start]
		}
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		b = append(b, c)
	}
	if len(b) == start {
		return b
	}
	b = append(b, ':', ' ')
	at := len(b)
	b = append(b, value...)
	for i := textEnd(b, at); i < len(b); i = textEnd(b, i+1) {
		b[i] = ' '
	}
	return append(b, '\r', '\n')
}

// AppendChunk appends the line before n bytes of a body, n > 0. CRLF follows them.
func AppendChunk(b []byte, n int) []byte {
	b = strconv.AppendUint(b, uint64(n), 16)
	return append(b, '\r', '\n')
}

// Sendable reports whether a field can be sent as it is: its name is a token and
// its value has no controls (RFC 9110 5.1, 5.5). AppendField mends others.
func Sendable(name, value string) bool {
	if !isToken(name) {
		return false
	}
	b := unsafe.Slice(unsafe.StringData(value), len(value))
	return textEnd(b, 0) == len(b)
}

// IsToken reports whether s is a token (RFC 9110 5.6.2).
func IsToken(s string) bool { return isToken(s) }

// Canonical returns a name in the form of net/http's maps.
func Canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }
