package origin

// h1_request.go writes the head of a request for HTTP/1.1.

import (
	"net/http"
	"strconv"
	"strings"

	wire "edgecdn/internal/h1"
)

// appendHead appends the head of m: request line, Host, its fields but those that
// say how it is framed, and then what frames it. length is that of the body, -1 for
// chunks, 0 for none.
func appendHead(b []byte, m *message, base string, length int64) ([]byte, *Error) {
	r, target := m.Request, m.target
	if !wire.IsToken(r.Method) {
		return b, errorf(KindRequest, "%q is no method", r.Method)
	}
	b = append(append(b, r.Method...), ' ')
	if target != "*" {
		b = append(b, base...)
	}
	b = append(append(b, target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, m.host...), '\r', '\n')
	for i := range m.fields {
		name, value := m.fields[i].Name, m.fields[i].Value
		if framingField(name) {
			continue
		}
		if !wire.Sendable(name, value) {
			return b, errorf(KindRequest, "the field %.80q or its value cannot be sent", name)
		}
		b = wire.AppendField(b, name, value)
	}
	switch {
	case length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		if names := trailerNames(r); names != "" {
			b = append(append(append(b, "Trailer: "...), names...), '\r', '\n')
		}
	case length > 0 || r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, length, 10), '\r', '\n')
	}
	if r.Close {
		b = append(b, "Connection: close\r\n"...)
	}
	return append(b, '\r', '\n'), nil
}

// framingField lists the fields that only we write, in whatever case they are given.
func framingField(name string) bool {
	switch len(name) {
	case len("Host"):
		return strings.EqualFold(name, "Host")
	case len("Trailer"):
		return strings.EqualFold(name, "Trailer")
	case len("Content-Length"):
		return strings.EqualFold(name, "Content-Length")
	case len("Transfer-Encoding"):
		return strings.EqualFold(name, "Transfer-Encoding")
	}
	return false
}

// trailerNames lists the trailers that r announces.
func trailerNames(r *http.Request) string {
	var names []string
	for name := range r.Trailer {
		if wire.IsToken(name) && wire.TrailerField(strings.ToLower(name)) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// appendTrailers ends a body in chunks.
func appendTrailers(b []byte, r *http.Request) []byte {
	b = append(b, "0\r\n"...)
	for name, values := range r.Trailer {
		if !wire.TrailerField(strings.ToLower(name)) {
			continue
		}
		for _, value := range values {
			b = wire.AppendField(b, name, value)
		}
	}
	return append(b, '\r', '\n')
}

// replayable reports whether m may be sent again on another connection where the
// one that it was sent on turned out closed, without a byte of an answer
// (RFC 9110 9.2.2, RFC 9112 9.3.1). Bodies are sent once.
func (m *message) replayable() bool {
	switch m.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return m.keyed && m.has("idempotency-key")
}

// bodyLength returns how long the body of r is, -1 if that is not known.
func bodyLength(r *http.Request) int64 {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return 0
	case r.ContentLength > 0 && len(r.Trailer) == 0:
		return r.ContentLength
	}
	return -1
}
