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

// outgoing makes the request for the origin: asIs for a client's own, with its
// conditions; else for the store, whose answer must fit all with the same key. The
// context carries the target; the URL is for logs and the Host is the client's.
func (c *Cache) outgoing(ctx context.Context, r *Request, asIs bool) *http.Request {
	return c.outgoingTo(ctx, r, asIs, r.Route.Origin)
}

// outgoingTo is outgoing for an origin of that name.
func (c *Cache) outgoingTo(ctx context.Context, r *Request, asIs bool, origin string) *http.Request {
	h := make(http.Header, len(r.Fields)+6)
	for _, f := range r.Fields {
		if hopByHop(f.Name) || untrusted(f.Name) || ours(f.Name) || !asIs && conditional(f.Name) ||
			strings.HasPrefix(f.Name, ":") {
			continue
		}
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		h[name] = append(h[name], f.Value)
	}
	if !asIs {
		h["Accept-Encoding"] = []string{string(acceptedCodings(r.Fields).append(nil))}
		for name, listed := range r.Route.Vary {
			h.Del(name)
			if value := firstListed(r.Fields, name, listed); value != "" {
				h.Set(name, value)
			}
		}
	}
	if left, ok := forwardsLeft(r); ok {
		h.Set("Max-Forwards", left)
	}
	authority := r.Host // as in the key: another spelling must not get another answer stored
	if asIs {
		authority = r.Authority
	}
	c.writeForwarded(h, r, authority)
	setRules(h, &r.Route.Request)
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // keeps net/http from adding its own
	}
	target := r.Route.Target(r.Target)
	path, query := splitTarget(target)
	ctx = c.direct(ctx, origin, target)
	out := &http.Request{
		Method: r.Method, Host: authority, Header: h, ProtoMajor: 1, ProtoMinor: 1, Proto: "HTTP/1.1",
		URL: &url.URL{Scheme: r.Scheme, Host: authority, Opaque: path, RawQuery: query},
	}
	if r.Client.IsValid() { // for origins that take the PROXY protocol
		out.RemoteAddr = r.Client.String()
	}
	return out.WithContext(ctx)
}

// forwardsLeft returns the Max-Forwards to send on with OPTIONS (RFC 9110 7.6.2).
func forwardsLeft(r *Request) (string, bool) {
	value, _ := r.Field("max-forwards")
	n, err := strconv.ParseUint(value, 10, 31)
	if r.Method != http.MethodOptions || err != nil || n == 0 {
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

func (c *Cache) writeForwarded(h http.Header, r *Request, authority string) {
	client := r.Client.Addr().Unmap()
	address := client.String()
	if client.Is6() {
		address = `"[` + address + `]"`
	}
	if client.IsValid() {
		h.Set("X-Forwarded-For", client.String())
		h.Set("Forwarded", "for="+address+";host="+quoteForwarded(authority)+";proto="+r.Scheme)
	}
	h.Set("X-Forwarded-Host", authority)
	h.Set("X-Forwarded-Proto", r.Scheme)
	h.Set("Via", appendList(joined(r.Fields, "via"), r.Proto.String()+" "+c.name))
	h.Set("Cdn-Loop", appendList(joined(r.Fields, "cdn-loop"), c.loopID))
}

// quoteForwarded quotes a value that is not a token, as a host with a port
// (RFC 7239 4).
func quoteForwarded(s string) string {
	if httpguts.ValidHeaderFieldName(s) {
		return s
	}
	return `"` + forwardedEscapes.Replace(s) + `"`
}

// forwardedEscapes are those of a quoted string. Making one for each request would
// cost more memory than all the rest of a pass-through.
var forwardedEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func joined(fields []Field, name string) string {
	var values []string
	for _, f := range fields {
		if f.Name == name {
			values = append(values, f.Value)
		}
	}
	return strings.Join(values, ", ")
}

func appendList(list, item string) string {
	if list == "" {
		return item
	}
	return list + ", " + item
}

// setRules applies the operator's rules to a message for the origin.
func setRules(h http.Header, rules *route.Fields) {
	for _, name := range rules.Remove {
		h.Del(name)
	}
	for name, value := range rules.Set {
		h.Set(name, value)
	}
	for name, value := range rules.Add {
		h.Add(name, value)
	}
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

// received fields of a response that go on: end to end, without what we write
// ourselves (Age, Content-Length, Date where missing, Via).
func (c *Cache) responseFields(resp *http.Response, date string) []Field {
	fields := make([]Field, 0, len(resp.Header)+2)
	connection := connectionHeader(resp.Header)
	for name, values := range resp.Header {
		name = strings.ToLower(name)
		switch {
		case hopByHop(name), name == "content-length", name == "alt-svc", name == "trailer", slices.Contains(connection, name):
			continue
		}
		for _, value := range values {
			fields = append(fields, Field{name, value})
		}
	}
	if _, ok := fieldValue(fields, "date"); !ok {
		fields = append(fields, Field{"date", date})
	}
	version := "1.1"
	if resp.ProtoMajor != 1 || resp.ProtoMinor != 1 {
		version = strings.TrimPrefix(resp.Proto, "HTTP/")
		version = strings.TrimSuffix(version, ".0")
	}
	fields = append(fields, Field{"via", version + " " + c.name})
	sortFields(fields)
	return fields
}

func connectionHeader(h http.Header) []string {
	var fields []Field
	for _, value := range h["Connection"] {
		fields = append(fields, Field{"connection", value})
	}
	return connectionNames(fields)
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
func withEarly(ctx context.Context, early func(status int, h textproto.MIMEHeader)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			if status != http.StatusContinue && status != http.StatusSwitchingProtocols {
				early(status, h)
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
