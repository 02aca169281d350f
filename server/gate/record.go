package gate

// record.go is what the access log says of a request, and how it is written:
// as JSON, or as Apache's combined format. What clients sent is escaped, so that
// no request can forge a line.

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"edgecdn/cache"
)

// record is one line, its strings still those of the request.
type record struct {
	time      time.Time // when the header had been read
	client    netip.AddrPort
	method    string
	scheme    string
	host      string
	target    string
	version   string // such as "HTTP/1.1"
	status    int
	bytes     int64 // of the body sent
	took      time.Duration
	firstByte time.Duration
	outcome   *cache.Outcome
	route     string // the configured host's first name
	pattern   string
	agent     string
	referer   string
	aborted   bool
}

func (x *Exchange) record(took time.Duration) record {
	r := record{
		time: x.start, client: x.Request.Client, method: x.Request.Method, scheme: x.Request.Scheme,
		host: x.Request.Host, target: x.Request.Target, version: x.version(), status: x.Status,
		bytes: x.Written, took: took, firstByte: x.FirstByte, outcome: &x.Request.Outcome, aborted: x.Aborted,
	}
	if rt := x.Request.Route; rt != nil {
		r.route, r.pattern = rt.Host, rt.Pattern
	}
	r.agent, _ = x.Request.Field("user-agent")
	r.referer, _ = x.Request.Field("referer")
	return r
}

func (x *Exchange) version() string {
	switch {
	case x.Request.Proto == cache.HTTP2:
		return "HTTP/2.0"
	case x.Request.Proto == cache.HTTP3:
		return "HTTP/3.0"
	case x.HTTP10:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// appendJSON writes a line of JSON. Absent values are left out.
func appendJSON(b []byte, r *record) []byte {
	b = append(b, `{"time":"`...)
	b = r.time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, `","client":"`...)
	b = appendAddr(b, r.client.Addr())
	b = append(b, '"')
	b = member(b, "method", r.method)
	b = member(b, "scheme", r.scheme)
	b = member(b, "host", r.host)
	b = member(b, "target", r.target)
	b = member(b, "protocol", r.version)
	b = number(b, "status", int64(r.status))
	b = number(b, "bytes", r.bytes)
	b = millis(b, "ms", r.took)
	b = millis(b, "first_byte_ms", r.firstByte)
	b = member(b, "outcome", r.outcome.Token())
	b = appendOutcome(b, r.outcome)
	b = member(b, "route", r.route)
	b = member(b, "pattern", r.pattern)
	b = member(b, "user_agent", r.agent)
	b = member(b, "referer", r.referer)
	if r.aborted {
		b = append(b, `,"aborted":true`...)
	}
	return append(b, '}', '\n')
}

func appendOutcome(b []byte, o *cache.Outcome) []byte {
	if o.FwdStatus != 0 {
		b = number(b, "fwd_status", int64(o.FwdStatus))
	}
	if o.HasTTL {
		b = number(b, "ttl", o.TTL)
	}
	if o.Stored {
		b = append(b, `,"stored":true`...)
	}
	if o.Collapsed {
		b = append(b, `,"collapsed":true`...)
	}
	b = member(b, "detail", o.Detail)
	return member(b, "tier", o.Tier)
}

// appendCombined writes Apache's combined format, and the outcome's token after it.
func appendCombined(b []byte, r *record) []byte {
	b = appendAddr(b, r.client.Addr())
	b = append(b, " - - ["...)
	b = r.time.UTC().AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = quoted(b, r.method)
	b = append(b, ' ')
	b = quoted(b, r.target)
	b = append(append(append(b, ' '), r.version...), `" `...)
	b = append(strconv.AppendInt(b, int64(r.status), 10), ' ')
	if r.bytes == 0 {
		b = append(b, '-')
	} else {
		b = strconv.AppendInt(b, r.bytes, 10)
	}
	b = append(b, ` "`...)
	b = quotedOrDash(b, r.referer)
	b = append(b, `" "`...)
	b = quotedOrDash(b, r.agent)
	b = append(b, `" `...)
	return append(append(b, r.outcome.Token()...), '\n')
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, '-')
	}
	return a.AppendTo(b)
}

func number(b []byte, name string, n int64) []byte {
	b = append(append(append(b, ',', '"'), name...), '"', ':')
	return strconv.AppendInt(b, n, 10)
}

// millis writes a duration in milliseconds with three decimals.
func millis(b []byte, name string, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = number(b, name, us/1000)
	frac := us % 1000
	return append(b, '.', byte('0'+frac/100), byte('0'+frac/10%10), byte('0'+frac%10))
}

// valueBytesMax bounds each value that a client chose; what is longer is cut.
const valueBytesMax = 4 << 10

// member writes a string member, escaped for JSON; nothing for "".
func member(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, ',', '"'), name...), '"', ':', '"')
	value = value[:min(len(value), valueBytesMax)]
	for i := 0; i < len(value); {
		c := value[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(value[i:])
			// U+2028 and U+2029 end lines for some readers; what is below U+00A0
			// are controls to terminals.
			if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' || r < '\u00a0' {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, value[i:i+size]...)
			}
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}

const hex = "0123456789abcdef"

// quoted escapes as Apache does: quotes and backslashes with a backslash,
// everything but visible ASCII as \xHH.
func quoted(b []byte, value string) []byte {
	value = value[:min(len(value), valueBytesMax)]
	for i := range len(value) {
		switch c := value[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

func quotedOrDash(b []byte, value string) []byte {
	if value == "" {
		return append(b, '-')
	}
	return quoted(b, value)
}
