package cache

// key.go makes the text of cache keys: the primary key names the target, the
// secondary key adds the values that Vary selects by (RFC 9111 2, 4.1).

import (
	"strings"
	"unsafe"
)

// keyMax bounds the text of a key; requests over it are not cached.
const keyMax = 16 << 10

// appendKey appends the primary key of r: scheme, host and target as the route's
// rules see them, then the configured fields and cookies, each on a line of its
// own. Targets have no line breaks, so lines cannot be forged.
func appendKey(b []byte, r *Request) []byte {
	b = appendURL(b, r)
	key := &r.Route.Key
	for _, name := range key.Headers {
		b = appendLine(b, name)
		b = appendSelecting(b, r, name)
	}
	for _, name := range key.Cookies {
		b = append(appendLine(b, "cookie"), name...)
		b = append(append(b, '='), cookie(r.Fields, name)...)
	}
	return b
}

// appendURL appends the part of the key that a purge by URL names.
func appendURL(b []byte, r *Request) []byte {
	b = append(append(b, r.Scheme...), "://"...)
	if hosted := r.Route.Key.Host; hosted == nil || *hosted {
		b = append(b, r.Host...)
	} else {
		// No host of a request begins so: what one host has had for itself is not what
		// all share when the rule changes.
		b = append(append(b, '*'), r.Route.Host...)
	}
	path, query := splitTarget(r.Target)
	b = append(b, path...)
	if len(path) == len(r.Target) {
		return b
	}
	mark := len(b)
	b = append(b, '?')
	b = r.Route.AppendQuery(b, query)
	if len(b) == mark+1 && query != "" { // all parameters were dropped
		b = b[:mark]
	}
	return b
}

func appendLine(b []byte, name string) []byte { return append(append(append(b, '\n'), name...), ':') }

// appendValues appends all values of a field, white space trimmed, joined as a
// list (RFC 9110 5.3): several lines and one with all of it are the same. Absent
// and empty differ (RFC 9111 4.1).
func appendValues(b []byte, fields []Field, name string) []byte {
	before := "="
	for i := range fields {
		if fields[i].Name == name {
			b = append(append(b, before...), strings.Trim(fields[i].Value, " \t")...)
			before = ", "
		}
	}
	return b
}

// cookie returns the value of the first cookie of that name.
func cookie(fields []Field, name string) string {
	for i := range fields {
		if fields[i].Name != "cookie" {
			continue
		}
		for rest := fields[i].Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			if k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && k == name {
				return v
			}
		}
	}
	return ""
}

// keyable says whether the target can be part of a key: no control characters,
// no line breaks, of bounded length.
func keyable(r *Request) bool {
	if len(r.Target) > keyMax || r.Target == "" || r.Target[0] != '/' {
		return false
	}
	for i := range len(r.Target) {
		if r.Target[i] <= ' ' || r.Target[i] == 0x7f {
			return false
		}
	}
	return true
}

// text returns b as a string without a copy, for keys that are hashed and
// compared before b is used again.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
