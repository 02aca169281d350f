package route

import (
	"slices"
	"strings"
)

// query is a compiled Query.
type query struct {
	active bool // some rule is set
	none   bool // the whole query is left out
	allow  []name
	hasAll bool // no allow list: all count but those denied
	deny   []name
	sort   bool
}

// name is a parameter name or, with prefix, the start of one. It is compared
// with the percent-decoded name: an origin reads ?%69d=1 as id=1, so a key that
// took it for another parameter could be poisoned.
type name struct {
	text   string
	prefix bool
}

// These bound the work on a query; one with more is kept as it is.
const (
	parametersMax = 128
	queryBytesMax = 64 << 10
)

func compileQuery(q *Query) query {
	out := query{
		hasAll: q.Allow == nil,
		deny:   compileNames(q.Deny),
		sort:   *q.Sort,
	}
	if q.Allow != nil {
		out.allow = compileNames(*q.Allow)
		out.none = len(*q.Allow) == 0
	}
	out.active = !out.hasAll || len(out.deny) > 0 || out.sort
	return out
}

func compileNames(names []string) []name {
	out := make([]name, len(names))
	for i, text := range names {
		out[i].text, out[i].prefix = strings.CutSuffix(text, "*")
	}
	return out
}

// parameter is a part of a query between "&"s; name ends before "=".
type parameter struct{ start, nameEnd, end int32 }

// AppendQuery appends to dst the part of a raw query (without "?") that belongs
// to the cache key. The bytes of a parameter are kept as sent; only names are
// decoded, for comparison. A query with more than 128 parameters or 64 KiB is
// kept whole, and so is one with a ";", which some origins read as another "&".
// Nothing is allocated but what dst needs to grow.
func (r *Route) AppendQuery(dst []byte, rawQuery string) []byte {
	q := &r.query
	if !q.active {
		return append(dst, rawQuery...)
	}
	if q.none || rawQuery == "" {
		return dst
	}
	if len(rawQuery) > queryBytesMax || strings.Count(rawQuery, "&") >= parametersMax ||
		strings.IndexByte(rawQuery, ';') >= 0 {
		return append(dst, rawQuery...)
	}
	var all [parametersMax]parameter
	kept := all[:0]
	for start := 0; start <= len(rawQuery); {
		end := len(rawQuery)
		if i := strings.IndexByte(rawQuery[start:], '&'); i >= 0 {
			end = start + i
		}
		nameEnd := end
		if i := strings.IndexByte(rawQuery[start:end], '='); i >= 0 {
			nameEnd = start + i
		}
		if q.counts(rawQuery[start:nameEnd]) {
			kept = append(kept, parameter{int32(start), int32(nameEnd), int32(end)})
		}
		start = end + 1
	}
	if q.sort {
		compare := strings.Compare
		if strings.ContainsAny(rawQuery, "%+") {
			compare = compareNames
		}
		slices.SortStableFunc(kept, func(a, b parameter) int {
			return compare(rawQuery[a.start:a.nameEnd], rawQuery[b.start:b.nameEnd])
		})
	}
	for i, p := range kept {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = append(dst, rawQuery[p.start:p.end]...)
	}
	return dst
}

// counts reports whether a parameter with this raw name belongs to the key.
func (q *query) counts(raw string) bool {
	return (q.hasAll || matches(q.allow, raw)) && !matches(q.deny, raw)
}

func matches(names []name, raw string) bool {
	for _, n := range names {
		if n.matches(raw) {
			return true
		}
	}
	return false
}

func (n *name) matches(raw string) bool {
	i := 0
	for k := range len(n.text) {
		if i >= len(raw) {
			return false
		}
		c, size := decoded(raw, i)
		if c != n.text[k] {
			return false
		}
		i += size
	}
	return n.prefix || i == len(raw)
}

// decoded returns the byte that raw[i:] begins with and how many bytes it takes.
func decoded(raw string, i int) (c byte, size int) {
	if b := escape(raw, i); b >= 0 {
		return byte(b), 3
	}
	if raw[i] == '+' {
		return ' ', 1
	}
	return raw[i], 1
}

// compareNames orders decoded names, so that two spellings of one name keep
// their order: it decides what an origin takes for the value.
func compareNames(a, b string) int {
	i, k := 0, 0
	for i < len(a) && k < len(b) {
		c, n := decoded(a, i)
		d, m := decoded(b, k)
		if c != d {
			return int(c) - int(d)
		}
		i, k = i+n, k+m
	}
	return (len(a) - i) - (len(b) - k)
}
