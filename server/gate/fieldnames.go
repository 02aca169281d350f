package gate

// fieldnames.go turns the canonical names that net/http keys its maps with into
// the lower case of cache.Field, and back, without allocating for known ones.

import (
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// lowerNames and canonicalNames are tables; neither changes after start.
var lowerNames, canonicalNames = nameTables(
	"accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges",
	"access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods",
	"access-control-allow-origin", "access-control-expose-headers", "access-control-max-age",
	"access-control-request-headers", "access-control-request-method",
	"age", "allow", "alt-svc", "authorization", "cache-control", "cache-groups", "cache-status",
	"cache-tag", "cdn-cache-control", "cdn-loop", "connection", "content-disposition",
	"content-encoding", "content-language", "content-length", "content-location", "content-md5",
	"content-range", "content-security-policy", "content-type", "cookie",
	"cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy",
	"date", "device-memory", "dnt", "downlink", "early-data", "ect", "etag", "expect", "expires",
	"forwarded", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
	"if-unmodified-since", "keep-alive", "last-modified", "link", "location", "max-forwards",
	"nel", "origin", "permissions-policy", "pragma", "priority", "proxy-authenticate",
	"proxy-authorization", "proxy-connection", "purpose", "range", "referer", "referrer-policy",
	"report-to", "retry-after", "rtt", "save-data", "sec-ch-ua", "sec-ch-ua-mobile",
	"sec-ch-ua-platform", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user",
	"sec-purpose", "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key",
	"sec-websocket-protocol", "sec-websocket-version", "server", "server-timing", "set-cookie",
	"strict-transport-security", "surrogate-control", "surrogate-key", "te", "timing-allow-origin",
	"traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade",
	"upgrade-insecure-requests", "user-agent", "vary", "via", "viewport-width", "warning", "width",
	"www-authenticate", "x-content-type-options", "x-forwarded-for", "x-forwarded-host",
	"x-forwarded-proto", "x-frame-options", "x-real-ip", "x-request-id", "x-requested-with",
	"x-xss-protection",
)

func nameTables(names ...string) (lower, canonical map[string]string) {
	lower = make(map[string]string, len(names))
	canonical = make(map[string]string, len(names))
	for _, name := range names {
		c := textproto.CanonicalMIMEHeaderKey(name)
		lower[c], canonical[name] = name, c
	}
	return lower, canonical
}

func lowerName(canonical string) string {
	if name, ok := lowerNames[canonical]; ok {
		return name
	}
	return strings.ToLower(canonical)
}

func canonicalName(lower string) string {
	if name, ok := canonicalNames[lower]; ok {
		return name
	}
	return textproto.CanonicalMIMEHeaderKey(lower)
}

// soundName tells whether a name can be sent. net/http lets an origin's "X-Name " with
// a space at its end pass, which makes a whole response malformed over HTTP/2 and 3.
func soundName(canonical string) bool {
	_, known := lowerNames[canonical]
	return known || httpguts.ValidHeaderFieldName(canonical)
}
