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
func appendVariant(b []byte, fields []Field, marker *response) []byte {
	b = append(append(b, "\nvary"...), marker.salt...)
	for _, name := range marker.varyBy {
		b = appendLine(b, name)
		if name == acceptEncoding {
			b = acceptedCodings(fields).append(b)
			continue
		}
		b = appendValues(b, fields, name)
	}
	return b
}

// mergeNames returns the union of two sorted lists.
func mergeNames(a, b []string) []string {
	names := slices.Concat(a, b)
	slices.Sort(names)
	return slices.Compact(names)
}
