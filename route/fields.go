package route

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// kept maps fields that rules cannot touch to the reason.
type kept map[string]string

const (
	framing  = "frames the message"
	hop      = "belongs to one connection"
	ours     = "is written by this node"
	ofCaches = "is used by the cache itself"
)

// Fields of RFC 9110 7.6.1 and those that say where a message ends.
var bothFieldsKept = kept{
	"connection":          hop,
	"content-length":      framing,
	"http2-settings":      hop,
	"keep-alive":          hop,
	"proxy-authenticate":  hop,
	"proxy-authorization": hop,
	"proxy-connection":    hop,
	"te":                  hop,
	"trailer":             framing,
	"transfer-encoding":   framing,
	"upgrade":             hop,
	"via":                 ours,
}

var requestFieldsKept = kept{
	"cdn-loop":            ours,
	"expect":              framing,
	"host":                "selects the host: set origins.NAME.host instead",
	"if-match":            ofCaches,
	"if-modified-since":   ofCaches,
	"if-none-match":       ofCaches,
	"if-range":            ofCaches,
	"if-unmodified-since": ofCaches,
	"range":               ofCaches,
}

var responseFieldsKept = kept{
	"age":           ours,
	"alt-svc":       ours,
	"cache-status":  ours,
	"content-range": framing,
}

func validateFields(at string, f Fields, own kept, r reporter) {
	if n := len(f.Set) + len(f.Add) + len(f.Remove); n > rulesMax {
		r.add(at, "%d field rules are too many: at most %d", n, rulesMax)
		return
	}
	check := func(path, name string) {
		reason, fixed := own[strings.ToLower(name)]
		if !fixed {
			reason, fixed = bothFieldsKept[strings.ToLower(name)]
		}
		switch {
		case !token(name):
			r.add(path, "%q is not a field name: use letters, digits and hyphens", name)
		case fixed:
			r.add(path, "%s cannot be changed: it %s", name, reason)
		}
	}
	validateValues(at+".set.", "set", f.Set, check, r)
	validateValues(at+".add.", "added", f.Add, check, r)
	for k, name := range f.Remove {
		check(fmt.Sprintf("%s.remove[%d]", at, k), name)
	}
}

// validateValues judges what fields are set to, or what is added.
func validateValues(at, done string, values map[string]string, check func(path, name string), r reporter) {
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		path := at + name
		check(path, name)
		if seen[strings.ToLower(name)] {
			r.add(path, "is %s twice, in another case: keep one", done)
		}
		seen[strings.ToLower(name)] = true
		if value := values[name]; !fieldValue(value) {
			r.add(path, "%q is not a field value: one line of text, without spaces at its ends, of at most %d bytes", value, valueBytesMax)
		}
	}
}

// token reports whether s is a token (RFC 9110 5.6.2), as names and methods are.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// fieldValue reports whether s can be sent as a field value (RFC 9110 5.5).
func fieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return strings.Trim(s, " \t") == s && len(s) <= valueBytesMax
}

func validateCache(at string, c *Cache, r reporter) {
	if len(c.Freshness) > rulesMax {
		r.add(at+".freshness", "%d rules are too many: at most %d", len(c.Freshness), rulesMax)
		return
	}
	for k := range c.Freshness {
		validateFreshness(fmt.Sprintf("%s.freshness[%d]", at, k), &c.Freshness[k], r)
	}
	if d := c.StaleWhileRevalidate; d != nil && (*d < 0 || *d > lifetimeMax) {
		r.add(at+".stale_while_revalidate", "%v is impossible: write a duration from 0s to 87600h", *d)
	}
	if d := c.StaleIfError; d != nil && (*d < 0 || *d > lifetimeMax) {
		r.add(at+".stale_if_error", "%v is impossible: write a duration from 0s to 87600h", *d)
	}
	validateTargets(at+".targets", c.Targets, r)
	validateVary(at+".vary", c.Vary, r)
	validateKey(at+".key", &c.Key, r)
	validateCompress(at+".compress", &c.Compress, r)
}

func validateTargets(at string, targets []string, r reporter) {
	if len(targets) > keyPartsMax {
		r.add(at, "%d fields are too many: at most %d", len(targets), keyPartsMax)
		return
	}
	for k, name := range targets {
		path := fmt.Sprintf("%s[%d]", at, k)
		switch {
		case !token(name):
			r.add(path, "%q is not a field name", name)
		case strings.EqualFold(name, "cache-control"):
			r.add(path, "Cache-Control holds where none of the targets does: leave it out")
		}
	}
}

func validateVary(at string, vary map[string][]string, r reporter) {
	if len(vary) > keyPartsMax {
		r.add(at, "%d fields are too many: at most %d", len(vary), keyPartsMax)
		return
	}
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(vary)) {
		path, low := at+"."+name, strings.ToLower(name)
		reason, fixed := requestFieldsKept[low]
		if !fixed {
			reason, fixed = bothFieldsKept[low]
		}
		switch {
		case !token(name):
			r.add(path, "%q is not a field name", name)
		case fixed:
			r.add(path, "%s cannot be changed: it %s", name, reason)
		case low == "accept-encoding":
			r.add(path, "Accept-Encoding is reduced to the codings that are known: leave it out")
		case seen[low]:
			r.add(path, "is listed twice, in another case: keep one")
		case len(vary[name]) == 0 || len(vary[name]) > parameterMax:
			r.add(path, "lists %d values: write 1 to %d", len(vary[name]), parameterMax)
		}
		seen[low] = true
		for k, value := range vary[name] {
			if value == "" || !fieldValue(value) || strings.ContainsAny(value, ",;") {
				r.add(fmt.Sprintf("%s[%d]", path, k), "%q is not one value: write one without comma and semicolon, such as en", value)
			}
		}
	}
}

func validateFreshness(at string, f *Freshness, r reporter) {
	for k, status := range f.Status {
		if _, _, ok := parseStatus(status); !ok {
			r.add(fmt.Sprintf("%s.status[%d]", at, k), "%q is not a status from 200 to 599 or a class such as 4xx", status)
		}
	}
	validateTypes(at, f.Types, r)
	if f.Lifetime < 0 || f.Lifetime > lifetimeMax {
		r.add(at+".lifetime", "%v is impossible: write a duration from 0s (not stored) to 87600h", f.Lifetime)
	}
}

func validateKey(at string, key *Key, r reporter) {
	count := func(path string, n, most int) bool {
		if n > most {
			r.add(path, "%d names are too many: at most %d", n, most)
		}
		return n <= most
	}
	if count(at+".headers", len(key.Headers), keyPartsMax) {
		for k, name := range key.Headers {
			path := fmt.Sprintf("%s.headers[%d]", at, k)
			switch {
			case !token(name):
				r.add(path, "%q is not a field name", name)
			case strings.EqualFold(name, "cookie"):
				r.add(path, "the whole Cookie field differs for each client: name single cookies under cookies")
			}
		}
	}
	if count(at+".cookies", len(key.Cookies), keyPartsMax) {
		for k, name := range key.Cookies {
			if !token(name) {
				r.add(fmt.Sprintf("%s.cookies[%d]", at, k), "%q is not a cookie name", name)
			}
		}
	}
	parameters := func(path string, names []string) {
		if !count(path, len(names), parameterMax) {
			return
		}
		for k, name := range names {
			if base := strings.TrimSuffix(name, "*"); name == "" || strings.ContainsAny(base, "*&=;?#") {
				r.add(fmt.Sprintf("%s[%d]", path, k), `%q is not a parameter name: write it decoded, such as utm_source, or with a final "*"`, name)
			}
		}
	}
	if key.Query.Allow != nil {
		parameters(at+".query.allow", *key.Query.Allow)
	}
	parameters(at+".query.deny", key.Query.Deny)
}
