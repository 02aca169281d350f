package cache

// control.go reads Cache-Control (RFC 9111 5.2) into a value that the other
// judges ask. It decides nothing but what a directive says.

import (
	"strings"
	"time"
)

// deltaMax is what an overflowing delta-seconds means (RFC 9111 1.2.2).
const deltaMax = 1 << 31

// absent marks a directive that was not given.
const absent time.Duration = -1

// control is the sum of the Cache-Control field lines of one message.
type control struct {
	noStore, noCache, private, public, mustRevalidate, proxyRevalidate bool
	onlyIfCached, noTransform, immutable, mustUnderstand               bool
	// Absent where not given; 0 where given but invalid, which makes a response
	// stale (RFC 9111 4.2.1).
	maxAge, sMaxAge, staleWhileRevalidate, staleIfError, minFresh, maxStale time.Duration
}

// parseControl reads all Cache-Control lines of fields. The first of duplicated
// directives counts (RFC 9111 4.2.1). no-cache and private with field names are
// taken as if they had none, which is the stricter reading.
func parseControl(fields []Field, name string) control {
	c := control{maxAge: absent, sMaxAge: absent, staleWhileRevalidate: absent,
		staleIfError: absent, minFresh: absent, maxStale: absent}
	for i := range fields {
		if fields[i].Name != name {
			continue
		}
		for rest := fields[i].Value; rest != ""; {
			var directive, value string
			directive, value, rest = nextDirective(rest)
			c.set(directive, value)
		}
	}
	return c
}

func (c *control) set(directive, value string) {
	switch strings.ToLower(directive) {
	case "no-store":
		c.noStore = true
	case "no-cache":
		c.noCache = true
	case "private":
		c.private = true
	case "public":
		c.public = true
	case "must-revalidate":
		c.mustRevalidate = true
	case "proxy-revalidate":
		c.proxyRevalidate = true
	case "only-if-cached":
		c.onlyIfCached = true
	case "no-transform":
		c.noTransform = true
	case "immutable":
		c.immutable = true
	case "must-understand":
		c.mustUnderstand = true
	case "max-age":
		setDelta(&c.maxAge, value)
	case "s-maxage":
		setDelta(&c.sMaxAge, value)
	case "stale-while-revalidate":
		setDelta(&c.staleWhileRevalidate, value)
	case "stale-if-error":
		setDelta(&c.staleIfError, value)
	case "min-fresh":
		setDelta(&c.minFresh, value)
	case "max-stale":
		if value == "" { // any staleness will do (RFC 9111 5.2.1.2)
			value = "2147483648"
		}
		setDelta(&c.maxStale, value)
	}
}

func setDelta(d *time.Duration, value string) {
	if *d != absent {
		return
	}
	*d = parseDelta(value)
}

// parseDelta reads delta-seconds; what is invalid is 0 and what overflows 2^31.
func parseDelta(s string) time.Duration {
	if s == "" {
		return 0
	}
	n := int64(0)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
		if n < deltaMax {
			n = n*10 + int64(s[i]-'0')
		}
	}
	return time.Duration(min(n, deltaMax)) * time.Second
}

// nextDirective cuts the first directive off a list. A quoted value loses its
// quotes; commas inside it do not end it.
func nextDirective(s string) (directive, value, rest string) {
	s = strings.TrimLeft(s, " \t,")
	i := strings.IndexAny(s, "=, \t")
	if i < 0 {
		return s, "", ""
	}
	directive, rest = s[:i], s[i:]
	if rest[0] != '=' {
		return directive, "", skipToComma(rest)
	}
	rest = rest[1:]
	if strings.HasPrefix(rest, `"`) {
		if value, after, closed := unquote(rest); closed {
			return directive, value, skipToComma(after)
		} // else no string: what follows the next comma must not hide in it
	}
	if i = strings.IndexByte(rest, ','); i < 0 {
		return directive, strings.TrimRight(rest, " \t"), ""
	}
	return directive, strings.TrimRight(rest[:i], " \t"), rest[i+1:]
}

func skipToComma(s string) string {
	for i := range len(s) {
		if s[i] == ',' {
			return s[i+1:]
		}
	}
	return ""
}

// unquote takes the quoted-string at the start of s; false where it never ends.
func unquote(s string) (value, rest string, closed bool) {
	escaped := false
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			value = s[1:i]
			if escaped {
				value = unescape(value)
			}
			return value, s[i+1:], true
		}
	}
	return "", "", false
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
