package cache

// groups.go reads the labels that purges by group name (RFC 9875 Cache-Groups,
// and the older Surrogate-Key and Cache-Tag).

import (
	"strings"

	"github.com/dunglas/httpsfv"
)

// Bounds of the groups of one response; over them it is not stored, since a purge
// could miss it.
const (
	groupsMax     = 128
	groupBytesMax = 16 << 10
)

// groupsOf returns the groups that a response names, without duplicates; false
// when there are too many. A Cache-Groups that is not a list of strings is
// ignored (RFC 9875 2).
func groupsOf(fields []Field) (groups []string, ok bool) {
	bytes := 0
	seen := map[string]bool{}
	add := func(group string) {
		if group != "" && !seen[group] {
			seen[group] = true
			groups = append(groups, group)
			bytes += len(group)
		}
	}
	for _, f := range fields {
		switch f.Name {
		case "surrogate-key":
			for group := range strings.FieldsSeq(f.Value) {
				add(group)
			}
		case "cache-tag":
			for group := range strings.SplitSeq(f.Value, ",") {
				add(strings.Trim(group, " \t"))
			}
		}
		if len(groups) > groupsMax || bytes > groupBytesMax {
			return nil, false
		}
	}
	if values := valuesOf(fields, "cache-groups"); values != nil {
		if list, err := httpsfv.UnmarshalList(values); err == nil {
			for _, member := range list {
				if item, ok := member.(httpsfv.Item); ok {
					if group, ok := item.Value.(string); ok {
						add(group)
					}
				}
			}
		}
	}
	return groups, len(groups) <= groupsMax && bytes <= groupBytesMax
}
