package cache

import "strconv"

// Fwd says why a request was forwarded, in the tokens of RFC 9211 2.2. They are
// the same in Cache-Status, the access log, metric labels and test names.
type Fwd string

// RFC 9211 2.2.
const (
	FwdNone     Fwd = ""
	FwdBypass   Fwd = "bypass"
	FwdMethod   Fwd = "method"
	FwdURIMiss  Fwd = "uri-miss"
	FwdVaryMiss Fwd = "vary-miss"
	FwdMiss     Fwd = "miss"
	FwdRequest  Fwd = "request"
	FwdStale    Fwd = "stale"
	FwdPartial  Fwd = "partial"
)

// Outcome says how a request was answered.
type Outcome struct {
	Hit       bool
	Fwd       Fwd
	FwdStatus int   // status of the origin's answer where it differs from ours; 0: none
	Stored    bool  // the forwarded response was stored
	Collapsed bool  // waited for another request's fetch
	HasTTL    bool  // TTL has been set
	TTL       int64 // seconds of freshness left; negative: stale for so long
	Detail    string
	// Key is shown where the route wants it: the URL that what is stored is found by.
	Key string
	// Tier that the body came from, "memory" or "disk"; "" when it came from the origin.
	Tier string
}

// Tokens lists every value that Token returns, for those who count outcomes.
var Tokens = []string{"none", "hit", "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}

// Token names the outcome in one word: "hit", the forward reason, or "none"
// where the cache was not asked (redirects, refusals, errors of ours).
func (o *Outcome) Token() string {
	switch {
	case o.Hit:
		return "hit"
	case o.Fwd != FwdNone:
		return string(o.Fwd)
	}
	return "none"
}

// appendSFString appends a string as a structured field has it (RFC 9651 3.3.3);
// what it cannot hold is percent-encoded.
func appendSFString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

const hexDigits = "0123456789ABCDEF"

// AppendStatus appends the member that this cache adds to Cache-Status
// (RFC 9211 2), such as `edge; fwd=uri-miss; stored; ttl=60`.
func (o *Outcome) AppendStatus(b []byte, name string) []byte {
	b = append(b, name...)
	if o.Hit {
		b = append(b, "; hit"...)
	}
	if o.Fwd != FwdNone {
		b = append(append(b, "; fwd="...), o.Fwd...)
	}
	if o.FwdStatus != 0 {
		b = strconv.AppendInt(append(b, "; fwd-status="...), int64(o.FwdStatus), 10)
	}
	if o.HasTTL {
		b = strconv.AppendInt(append(b, "; ttl="...), o.TTL, 10)
	}
	if o.Stored {
		b = append(b, "; stored"...)
	}
	if o.Collapsed {
		b = append(b, "; collapsed"...)
	}
	if o.Key != "" {
		b = appendSFString(append(b, "; key="...), o.Key)
	}
	if o.Detail != "" {
		b = append(append(b, "; detail="...), o.Detail...)
	}
	return b
}
