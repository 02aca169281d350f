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
	for _, group := range listedGroups(valuesOf(fields, "cache-groups")) {
		add(group)
	}
	return groups, len(groups) <= groupsMax && bytes <= groupBytesMax
}

// labels hashes what a response belongs to: the path prefixes that it is under, and
// its groups; a group belongs to its host.
func (c *Cache) labels(r *Request, fields []Field) []uint64 {
	groups, _ := groupsOf(fields) // too many were turned away before
	host, path := hostName(r), r.Path()
	hashes := make([]uint64, 0, len(groups)+min(strings.Count(path, "/"), PrefixDepthMax)+2)
	hashes = c.names.appendPrefixes(hashes, r.Scheme+"://"+host, path)
	for _, group := range groups {
		hashes = append(hashes, c.names.group.Sum(host+"\n"+group))
	}
	return hashes
}

// listedGroups returns the groups of a list of strings (RFC 9875 2); none where it is
// another list.
func listedGroups(values []string) (groups []string) {
	if values == nil {
		return nil
	}
	list, err := httpsfv.UnmarshalList(values)
	if err != nil {
		return nil
	}
	for _, member := range list {
		if item, ok := member.(httpsfv.Item); ok {
			if group, ok := item.Value.(string); ok && group != "" {
				groups = append(groups, group)
			}
		}
	}
	return groups
}

// inGroupsOf says whether all groups of a stored response are among the given ones.
// A 304 that takes a response out of a group cannot renew it: a purge of the group
// that came meanwhile would miss it.
func inGroupsOf(p *response, groups []string) bool {
	before, _ := groupsOf(p.fields)
	return contains(groups, before)
}
