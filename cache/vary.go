package cache

// vary.go selects among the responses of one target (RFC 9111 4.1). A target
// whose responses vary has a marker under its primary key that names the fields;
// the responses are stored under secondary keys.

import (
	"crypto/rand"
	"slices"
	"strings"
)

// varyNamesMax bounds the fields that responses may vary by.
const varyNamesMax = 16

// variantsMax bounds the stored variants of a target.
const variantsMax = 64

// varyNames returns the lower-case names in Vary, sorted and without
// duplicates; false where it holds "*", which no request matches.
func varyNames(fields []Field) (names []string, ok bool) {
	for _, f := range fields {
		if f.Name != "vary" {
			continue
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			switch name {
			case "":
			case "*":
				return nil, false
			default:
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

// newMarker returns the marker of a target whose responses vary by names. Its
// salt is part of the secondary keys: removing a marker forgets all variants, and
// a later marker does not bring them back.
func newMarker(names []string) *response {
	return &response{varyBy: names, salt: newSalt(), variants: 1}
}

func newSalt() string {
	salt := make([]byte, 8)
	_, _ = rand.Read(salt) // never fails
	return string(salt)
}

// appendVariant appends what makes a primary key a secondary one: the marker's
// salt and the request's values of the fields that it names.
func appendVariant(b []byte, r *Request, marker *response) []byte {
	b = append(append(b, "\nvary"...), marker.salt...)
	for _, name := range marker.varyBy {
		b = appendLine(b, name)
		if name == acceptEncoding {
			b = acceptedCodings(r.Fields).append(b)
			continue
		}
		b = appendSelecting(b, r, name)
	}
	return b
}

// appendSelecting appends what a field says to whoever selects by it: where the
// route lists values, the first of them that the client asks for.
func appendSelecting(b []byte, r *Request, name string) []byte {
	listed, ok := r.Route.Vary[name]
	if !ok {
		return appendValues(b, r.Fields, name)
	}
	if value := firstListed(r.Fields, name, listed); value != "" {
		b = append(append(b, '='), value...)
	}
	return b
}

// firstListed returns the first of the listed values that the field asks for by
// name, "" where it asks for none. What a wildcard takes is the origin's choice. A
// language takes its narrower and its wider forms (RFC 4647 3.3.1, 3.4).
func firstListed(fields []Field, name string, listed []string) string {
	for _, value := range listed {
		for i := range fields {
			if fields[i].Name != name {
				continue
			}
			for rest := fields[i].Value; rest != ""; {
				var item string
				item, rest, _ = strings.Cut(rest, ",")
				item, params, _ := strings.Cut(item, ";")
				item = strings.Trim(item, " \t")
				if asksFor(name, item, value) && !refused(params) {
					return value
				}
			}
		}
	}
	return ""
}

func asksFor(name, item, value string) bool {
	if strings.EqualFold(item, value) {
		return true
	}
	return name == "accept-language" && (narrows(item, value) || narrows(value, item))
}

// narrows says whether a is a narrower form of b, as de-CH is of de.
func narrows(a, b string) bool {
	return b != "" && len(a) > len(b) && a[len(b)] == '-' && strings.EqualFold(a[:len(b)], b)
}

// refused says whether parameters hold a weight of 0 (RFC 9110 12.4.2).
func refused(params string) bool {
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		if param = strings.Trim(param, " \t"); len(param) > 2 && param[0]|0x20 == 'q' && param[1] == '=' {
			return param[2] == '0' && strings.Trim(param[3:], ".0") == ""
		}
	}
	return false
}

// mergeNames returns the union of two sorted lists.
func mergeNames(a, b []string) []string {
	names := slices.Concat(a, b)
	slices.Sort(names)
	return slices.Compact(names)
}
