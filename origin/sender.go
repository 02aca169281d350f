package origin

// sender.go is the seam between which endpoint is asked, how often and when
// (upstream.go and what it calls) and how the bytes of one request go to one
// endpoint and come back (who implements sender).

import (
	"net/http"
	"net/http/httptrace"
	"strings"

	wire "edgecdn/internal/h1"
)

// Field is a field line, its name in lower case where it is not said otherwise. It has
// no name of its own, so that rooms which know nothing of each other have the same.
type Field = struct{ Name, Value string }

// message is a request as it is to be sent. Of the http.Request's own header and Host
// nothing is looked at.
type message struct {
	*http.Request
	host string
	// target is path and query in origin form behind the path of the origin's URL, or "*".
	target string
	fields []Field
	// keyed: Idempotency-Key is trusted to make a request idempotent.
	keyed bool
	// early takes 1xx responses, nil for none. Else trace may.
	early func(status int, fields []Field)
	trace *httptrace.ClientTrace
	// link is what an exchange over HTTP/1.1 may be kept in; nil for none.
	link *h1Exchange
}

// has says whether there is a field of that name, in whatever case.
func (m *message) has(name string) bool {
	for i := range m.fields {
		if len(m.fields[i].Name) == len(name) && strings.EqualFold(m.fields[i].Name, name) {
			return true
		}
	}
	return false
}

func firstOf(fields []Field, name string) string {
	for i := range fields {
		if len(fields[i].Name) == len(name) && strings.EqualFold(fields[i].Name, name) {
			return fields[i].Value
		}
	}
	return ""
}

// listOf makes a list of the map that net/http has. Names are as they are there.
func listOf(h http.Header) []Field {
	fields := make([]Field, 0, len(h)+4)
	for name, values := range h {
		for _, value := range values {
			fields = append(fields, Field{name, value})
		}
	}
	return fields
}

// lowered is listOf with the names in lower case.
func lowered(h http.Header) []Field {
	fields := listOf(h)
	for i := range fields {
		fields[i].Name = strings.ToLower(fields[i].Name)
	}
	return fields
}

// mapOf makes the map that net/http has. Names come in lower case or as they are there.
func mapOf(fields []Field) http.Header {
	h := make(http.Header, len(fields))
	values := make([]string, len(fields))
	for i, f := range fields {
		name := wire.Canonical(f.Name)
		if have, twice := h[name]; twice {
			h[name] = append(have, f.Value)
			continue
		}
		values[i] = f.Value
		h[name] = values[i : i+1 : i+1]
	}
	return h
}

// sender carries requests to one endpoint. It has its connections, it keeps the
// time of each phase, and it tries once: whether to try again, and where, is not
// its affair.
type sender interface {
	// roundTrip sends m and closes its Body, perhaps after it has returned. The
	// fields of the response are in its Header or, where that is nil, in the list.
	//
	// Errors are *Error, unsent where the endpoint has not seen a byte of the
	// request, or context.Canceled, both from here and from the response's Body.
	// The Body is as Transport.RoundTrip promises it.
	roundTrip(m message) (*http.Response, []Field, error)
	// retire closes connections as they become idle. It is called once, perhaps
	// with requests under way, which end as they began; some may even begin after it.
	retire()
}
