package cache

// forward.go turns a client's request into the one that the origin sees, and an
// origin's response into what may go on: hop-by-hop fields end here, and only we
// say who the client was.

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"edgecdn/route"
)

// hopByHop fields belong to one connection (RFC 9110 7.6.1).
func hopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade",
		"proxy-authenticate", "proxy-authorization", "proxy-authentication-info", "http2-settings":
		return true
	}
	return false
}

// untrusted request fields would let a client choose what the origin believes of
// it without being part of the key; they never pass.
func untrusted(name string) bool {
	switch name {
	case "forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "x-original-url", "x-original-host",
		"x-rewrite-url", "x-host", "x-http-method", "x-http-method-override", "x-method-override",
		"x-forwarded", "x-http-host-override", "x-http-path-override", "x-scheme", "x-url-scheme", "front-end-https",
		"x-cluster-client-ip", "proxy", "early-data", "alt-used":
		return true
	}
	return strings.HasPrefix(name, "x-forwarded-")
}

// namesClient: fields that say who asks, which is ours alone to say, or that no client
// has a say in whatever the route does.
func namesClient(name string) bool {
	switch name {
	case "forwarded", "x-forwarded-for", "x-forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "x-cluster-client-ip",
		"proxy", "early-data", "alt-used":
		return true
	}
	return false
}

// kept says whether a field that is untrusted passes all the same: where the route's
// key has it, nobody else is sent what the origin makes of it.
func kept(name string, r *Request) bool {
	return slices.Contains(r.Route.Key.Headers, name) && !namesClient(name)
}

// ours are request fields that we write ourselves or that framing decides.
func ours(name string) bool {
	switch name {
	case "host", "content-length", "expect", "trailer", "via", "cdn-loop", "max-forwards":
		return true
	}
	return false
}

// conditional fields are answered by the cache and left out of its own fetches.
func conditional(name string) bool {
	switch name {
	case "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range", "if-range":
		return true
	}
	return false
}

// Forwarder is a RoundTripper that takes the fields of a header as a list, names in
// lower case, and gives those of the response so. Of r it looks at neither header nor
// URL, and the response has none of the former; keyed says that Idempotency-Key makes
// a request one that may be sent again; early gets 1xx responses, whose
// fields are its own during the call only. room keeps its state of a request for the next
// one that comes with it, by when nothing of this one's response is looked at any more; it
// holds something once that response is over and nothing of the request is known there.
type Forwarder interface {
	Forward(r *http.Request, origin, target string, fields []Field, keyed bool, early func(status int, fields []Field), room *any) (*http.Response, []Field, error)
}

// question is a request on its way to an origin.
type question struct {
	request        *http.Request // all but header and target
	origin, target string
	fields         []Field
	keyed          bool                             // Idempotency-Key is trusted
	early          func(status int, fields []Field) // of 1xx but 100 and 101; may be nil
	room           *any                             // Forwarder's; may be nil
}

// outgoing makes the request for the origin: asIs for a client's own, with its
// conditions; else for the store, whose answer must fit all with the same key.
func (c *Cache) outgoing(ctx context.Context, r *Request, asIs bool) question {
	return c.outgoingTo(ctx, r, asIs, r.Route.Origin)
}

// outgoingTo is outgoing for an origin of that name.
func (c *Cache) outgoingTo(ctx context.Context, r *Request, asIs bool, origin string) question {
	q := c.outgoingOf(r, asIs, origin, new(room))
	out := http.Request{Method: r.Method, Host: r.Host, ProtoMajor: 1, ProtoMinor: 1, Proto: "HTTP/1.1"}
	if asIs {
		out.Host = r.Authority
	}
	if r.Client.IsValid() { // for origins that take the PROXY protocol
		out.RemoteAddr = r.Client.String()
	}
	q.request = out.WithContext(ctx)
	return q
}

// outgoingOf makes all but the http.Request. Fields and values are in m.
func (c *Cache) outgoingOf(r *Request, asIs bool, origin string, m *room) question {
	fields := m.fields[:0]
	if cap(fields) < len(r.Fields)+8 {
		fields = make([]Field, 0, len(r.Fields)+8)
	}
	for _, f := range r.Fields {
		if hopByHop(f.Name) || untrusted(f.Name) && !kept(f.Name, r) || ours(f.Name) || !asIs && conditional(f.Name) ||
			strings.HasPrefix(f.Name, ":") {
			continue
		}
		fields = append(fields, f)
	}
	if !asIs {
		fields = setField(fields, "accept-encoding", string(acceptedCodings(r.Fields).append(nil)))
		for name, listed := range r.Route.Vary {
			fields = drop(fields, name)
			if value := firstListed(r.Fields, name, listed); value != "" {
				fields = append(fields, Field{name, value})
			}
		}
	}
	if left, ok := forwardsLeft(r); ok {
		fields = setField(fields, "max-forwards", left)
	}
	authority := r.Host // as in the key: another spelling must not get another answer stored
	if asIs {
		authority = r.Authority
	}
	fields = c.appendForwarded(fields, r, authority, m)
	fields = setRules(fields, &r.Route.Request)
	m.fields = fields
	return question{origin: origin, target: r.Route.Target(r.Target), fields: fields, keyed: r.Route.IdempotencyKey}
}

// forward sends a question and returns the response, and its fields as a list that is the
// caller's.
func (c *Cache) forward(q *question) (*http.Response, []Field, error) {
	if c.forwarder != nil {
		return c.forwarder.Forward(q.request, q.origin, q.target, q.fields, q.keyed, q.early, q.room)
	}
	path, query := splitTarget(q.target)
	ctx := c.direct(q.request.Context(), q.origin, q.target)
	if q.early != nil {
		ctx = withEarly(ctx, q.early)
	}
	out := q.request.WithContext(ctx)
	out.Close, out.Header = false, make(http.Header, len(q.fields)+1)
	for _, f := range q.fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		out.Header[name] = append(out.Header[name], f.Value)
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // keeps net/http from adding its own
	}
	out.URL = &url.URL{Scheme: "http", Host: out.Host, Opaque: path, RawQuery: query}
	resp, err := c.origin.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	return resp, fieldsOf(resp.Header), nil
}

// fieldsOf makes a list of the map that net/http has.
func fieldsOf(h map[string][]string) []Field {
	fields := make([]Field, 0, len(h)+4)
	for name, values := range h {
		for _, value := range values {
			fields = append(fields, Field{strings.ToLower(name), value})
		}
	}
	return fields
}

// setField returns fields with one of that name, and no other.
func setField(fields []Field, name, value string) []Field {
	return append(drop(fields, name), Field{name, value})
}

// drop takes the fields of a name off a list, in place.
func drop(fields []Field, name string) []Field {
	return slices.DeleteFunc(fields, func(f Field) bool { return f.Name == name })
}

// forwardsLeft returns the Max-Forwards to send on with OPTIONS (RFC 9110 7.6.2).
func forwardsLeft(r *Request) (string, bool) {
	value, ok := r.Field("max-forwards")
	if !ok || r.Method != http.MethodOptions {
		return "", false
	}
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n == 0 {
		return "", false
	}
	return strconv.FormatUint(n-1, 10), true
}

// connectionNames returns the field names that Connection lists and may: those that
// are for all who pass a message on are none of them (RFC 9110 7.6.1), and whoever
// names them would hide from us what they say.
func connectionNames(fields []Field) (names []string) {
	for _, f := range fields {
		if f.Name != "connection" {
			continue
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			switch name {
			case "cache-control", "cdn-cache-control", surrogateControl, "vary", "set-cookie", "via", "cdn-loop", "upgrade":
			default:
				names = append(names, name)
			}
		}
	}
	return names
}

// listsNone says whether a value of Connection names no field that goes by it, at a
// glance: the rest is looked at closely.
func listsNone(connection string) bool {
	for _, plain := range []string{"keep-alive", "close", "upgrade", "keep-alive, upgrade"} {
		if strings.EqualFold(connection, plain) {
			return true
		}
	}
	return false
}

// dropListed takes the fields off a request that Connection lists. They end here, so
// they must not count here: a key made of them would be one for what the origin never
// saw.
func (r *Request) dropListed() {
	names := connectionNames(r.Fields)
	r.Fields = slices.DeleteFunc(r.Fields, func(f Field) bool { return slices.Contains(names, f.Name) })
}

// appendForwarded says who asks and by whom. The client's own fields of these names
// are in the list only where they are kept, and then ours are not. All values are cut from one piece.
func (c *Cache) appendForwarded(fields []Field, r *Request, authority string, m *room) []Field {
	b := m.values[:0]
	if b == nil {
		b = make([]byte, 0, 192)
	}
	value := func(from int) string { return text(b[from:]) }
	if client := r.Client.Addr().Unmap(); client.IsValid() {
		at := len(b)
		b = client.AppendTo(b)
		address := value(at)
		at = len(b)
		b = append(b, "for="...)
		if client.Is6() {
			b = append(append(append(b, `"[`...), address...), `]"`...)
		} else {
			b = append(b, address...)
		}
		b = append(append(appendQuoted(append(b, ";host="...), authority), ";proto="...), r.Scheme...)
		fields = append(fields, Field{"x-forwarded-for", address}, Field{"forwarded", value(at)})
	}
	at := len(b)
	b = appendJoined(b, r.Fields, "via")
	b = append(append(append(b, r.Proto.String()...), ' '), c.name...)
	via := value(at)
	loop := c.loopID
	if _, ok := fieldValue(r.Fields, "cdn-loop"); ok {
		at = len(b)
		b = append(appendJoined(b, r.Fields, "cdn-loop"), c.loopID...)
		loop = value(at)
	}
	m.values = b
	for _, own := range [...]Field{{"x-forwarded-host", authority}, {"x-forwarded-proto", r.Scheme}} {
		if _, ok := r.Field(own.Name); !ok || !kept(own.Name, r) {
			fields = append(fields, own)
		}
	}
	return append(fields, Field{"via", via}, Field{"cdn-loop", loop})
}

// quoteForwarded quotes a value that is not a token, as a host with a port
// (RFC 7239 4).
func quoteForwarded(s string) string { return string(appendQuoted(nil, s)) }

func appendQuoted(b []byte, s string) []byte {
	if httpguts.ValidHeaderFieldName(s) {
		return append(b, s...)
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '\\' || s[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// appendJoined appends the values of a field as one list, and what goes before another
// member.
func appendJoined(b []byte, fields []Field, name string) []byte {
	at := len(b)
	for _, f := range fields {
		if f.Name == name {
			if len(b) > at {
				b = append(b, ", "...)
			}
			b = append(b, f.Value...)
		}
	}
	if len(b) > at {
		b = append(b, ", "...)
	}
	return b
}

// setRules applies the operator's rules to a message for the origin.
func setRules(fields []Field, rules *route.Fields) []Field {
	for _, name := range rules.Remove {
		fields = drop(fields, name)
	}
	for name, value := range rules.Set {
		fields = setField(fields, name, value)
	}
	for name, value := range rules.Add {
		fields = append(fields, Field{name, value})
	}
	return fields
}

// applyRules applies the operator's rules to a response for the client.
func applyRules(fields []Field, rt *route.Route) []Field {
	rules := &rt.Response
	if len(rules.Remove) == 0 && len(rules.Set) == 0 && len(rules.Add) == 0 {
		return fields
	}
	fields = slices.DeleteFunc(fields, func(f Field) bool {
		_, set := rules.Set[f.Name]
		return set || slices.Contains(rules.Remove, f.Name)
	})
	for name, value := range rules.Set {
		fields = append(fields, Field{name, value})
	}
	for name, value := range rules.Add {
		fields = append(fields, Field{name, value})
	}
	return fields
}

// responseFields leaves in a list what goes on: end to end, without what we write
// ourselves (Age, Content-Length, Date where missing, Via). The list is used again.
func (c *Cache) responseFields(resp *http.Response, fields []Field, now time.Time) []Field {
	connection, dated := connectionNames(fields), false
	fields = slices.DeleteFunc(fields, func(f Field) bool {
		dated = dated || f.Name == "date"
		return hopByHop(f.Name) || f.Name == "content-length" || f.Name == "alt-svc" || f.Name == "trailer" ||
			len(connection) > 0 && slices.Contains(connection, f.Name)
	})
	if !dated || len(connection) > 0 && slices.Contains(connection, "date") {
		fields = append(fields, Field{"date", httpDate(now)})
	}
	via := c.via
	if resp.ProtoMajor != 1 || resp.ProtoMinor != 1 {
		version := strings.TrimPrefix(resp.Proto, "HTTP/")
		via = strings.TrimSuffix(version, ".0") + " " + c.name
	}
	fields = append(fields, Field{"via", via})
	sortFields(fields)
	return fields
}

// without returns fields without those of a name.
func without(fields []Field, name string) []Field {
	kept := make([]Field, 0, len(fields))
	for _, f := range fields {
		if f.Name != name {
			kept = append(kept, f)
		}
	}
	return kept
}

// looped says whether the request came through this cache before (RFC 8586).
func (c *Cache) looped(r *Request) bool {
	for _, f := range r.Fields {
		if f.Name == "cdn-loop" && strings.Contains(f.Value, c.loopToken) {
			return true
		}
	}
	return false
}

// withEarly returns a context whose fetch calls early for each 1xx but 100 and 101.
func withEarly(ctx context.Context, early func(status int, fields []Field)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			if status != http.StatusContinue && status != http.StatusSwitchingProtocols {
				early(status, fieldsOf(h))
			}
			return nil
		},
	})
}

// trailersOf returns the trailers that came after a body, sorted by name.
func trailersOf(resp *http.Response) []Field {
	var fields []Field
	for name, values := range resp.Trailer {
		for _, value := range values {
			fields = append(fields, Field{strings.ToLower(name), value})
		}
	}
	sortFields(fields)
	return fields
}
