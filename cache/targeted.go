package cache

// targeted.go finds the cache directives that are meant for us: a targeted field
// wins over Cache-Control and Expires (RFC 9213 2.2).

import (
	"strings"

	"github.com/dunglas/httpsfv"
)

const surrogateControl = "surrogate-control"

// effectiveControl returns the directives that hold for this cache. targets are
// lower-case field names, the first that is present and valid wins; targeted says
// that one did.
func effectiveControl(fields []Field, targets []string) (c control, targeted bool) {
	for _, name := range targets {
		values := valuesOf(fields, name)
		if values == nil {
			continue
		}
		if name == surrogateControl {
			if c, ok := parseSurrogate(fields); ok {
				return c, true
			}
			continue
		}
		dictionary, err := httpsfv.UnmarshalDictionary(values)
		if err != nil || len(dictionary.Names()) == 0 {
			continue // as if it were absent (RFC 9213 2.2)
		}
		return fromDictionary(dictionary), true
	}
	return parseControl(fields, "cache-control"), false
}

func valuesOf(fields []Field, name string) (values []string) {
	for i := range fields {
		if fields[i].Name == name {
			values = append(values, fields[i].Value)
		}
	}
	return values
}

// fromDictionary reads directives out of a structured field. A value of another
// type than the directive's is ignored with it (RFC 9213 2.1).
func fromDictionary(d *httpsfv.Dictionary) control {
	c := parseControl(nil, "")
	for _, name := range d.Names() {
		member, _ := d.Get(name)
		item, ok := member.(httpsfv.Item)
		if !ok {
			continue
		}
		switch v := item.Value.(type) {
		case bool:
			if v && !isDelta(name) {
				c.set(name, "")
			}
		case int64:
			if isDelta(name) {
				c.set(name, seconds(v))
			}
		case string:
			if name == "no-cache" || name == "private" {
				c.set(name, "")
			}
		}
	}
	return c
}

func isDelta(name string) bool {
	switch name {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		return true
	}
	return false
}

// parseSurrogate reads Surrogate-Control (Edge Architecture 1.0): like
// Cache-Control, but a lifetime may carry the time to be used stale after it, as
// in max-age=60+30. false where it says nothing about caching, such as
// content="ESI/1.0" alone. What forbids in Cache-Control does so here too.
func parseSurrogate(fields []Field) (c control, ok bool) {
	none := parseControl(nil, "")
	c = none
	for _, value := range valuesOf(fields, surrogateControl) {
		for directive := range strings.SplitSeq(value, ",") {
			directive, _, _ = strings.Cut(directive, ";") // target
			name, arg, _ := strings.Cut(strings.Trim(directive, " \t"), "=")
			switch strings.ToLower(name) {
			case "no-store", "no-store-remote":
				c.noStore = true
			case "max-age":
				fresh, stale, extended := strings.Cut(arg, "+")
				setDelta(&c.maxAge, fresh)
				if extended {
					setDelta(&c.staleWhileRevalidate, stale)
					setDelta(&c.staleIfError, stale)
				}
			case "no-cache", "private", "must-revalidate", "proxy-revalidate", "stale-while-revalidate", "stale-if-error":
				c.set(name, arg)
			}
		}
	}
	return c, c != none
}
