package cache

// validate.go evaluates the conditions that clients put (RFC 9110 13), makes
// ours for the origin and merges what a 304 brings (RFC 9111 4.3).

import (
	"slices"
	"strconv"
	"strings"
)

// conditions are the precondition fields of a request, found in one pass.
type conditions struct {
	ifMatch, ifNoneMatch                string
	hasIfMatch, hasIfNoneMatch          bool
	ifModifiedSince, ifUnmodifiedSince  string
	rangeValue, ifRange                 string
	repeatedRange                       bool
	authorization, upgrade, cacheFields bool
	connection                          bool // lists fields that end here (Request.dropListed)
	negotiation                              // with the stored response at hand
}

// conditionsOf reads the fields that decide how a stored response answers.
// Several If-None-Match lines are taken as one list.
func conditionsOf(fields []Field) (c conditions) {
	for i := range fields {
		name, value := fields[i].Name, fields[i].Value
		switch name {
		case "if-none-match":
			c.ifNoneMatch = joinLists(c.ifNoneMatch, value, c.hasIfNoneMatch)
			c.hasIfNoneMatch = true
		case "if-match":
			c.ifMatch = joinLists(c.ifMatch, value, c.hasIfMatch)
			c.hasIfMatch = true
		case "if-modified-since": // a second one makes no date of both (RFC 9110 13.1.3)
			c.ifModifiedSince = joinLists(c.ifModifiedSince, value, c.ifModifiedSince != "")
		case "if-unmodified-since":
			c.ifUnmodifiedSince = joinLists(c.ifUnmodifiedSince, value, c.ifUnmodifiedSince != "")
		case "range":
			c.repeatedRange = c.repeatedRange || c.rangeValue != ""
			c.rangeValue = value
		case "if-range":
			c.ifRange = joinLists(c.ifRange, value, c.ifRange != "")
		case "authorization":
			c.authorization = true
		case "upgrade":
			c.upgrade = true
		case "connection":
			c.connection = c.connection || !listsNone(value)
		case "cache-control", "pragma":
			c.cacheFields = true
		}
	}
	return c
}

func joinLists(a, b string, has bool) string {
	if !has {
		return b
	}
	return a + "," + b
}

// forOrigin says whether the request carries conditions that only an origin may
// answer in the negative (RFC 9111 4.3.2).
func (c *conditions) forOrigin() bool { return c.hasIfMatch || c.ifUnmodifiedSince != "" }

// admits says whether p meets the conditions for the origin. Where it does not, the
// origin must be asked with them: what is stored can serve those that it meets, but
// is no ground for a 412 (RFC 9111 4.3.2, RFC 9110 13.1.1).
func (c *conditions) admits(p *response) bool {
	switch {
	case p.status != 200 || !c.forOrigin():
		return true
	case c.hasIfMatch:
		return matchAny(c.ifMatch, p.etag, true)
	}
	t, ok := parseTime(c.ifUnmodifiedSince)
	return !ok || p.lastModified == 0 || p.lastModified <= t.Unix()
}

// evaluate returns the status that a stored response answers with, its own or
// 304, in the order of RFC 9110 13.2.2. Conditions hold for 200 only.
func (c *conditions) evaluate(p *response) int {
	if p.status != 200 {
		return p.status
	}
	switch {
	case c.hasIfNoneMatch:
		if matchAny(c.ifNoneMatch, p.etag, false) {
			return 304
		}
	case c.ifModifiedSince != "":
		if t, ok := parseTime(c.ifModifiedSince); ok && p.modified() != 0 && p.modified() <= t.Unix() {
			return 304
		}
	}
	return p.status
}

// modified is Last-Modified, or Date where there is none (RFC 9111 4.3.2).
func (p *response) modified() int64 {
	if p.lastModified != 0 {
		return p.lastModified
	}
	if s, ok := p.field("date"); ok {
		if t, ok := parseTime(s); ok {
			return t.Unix()
		}
	}
	return 0
}

// matchAny reports whether an entity-tag list or "*" holds tag. The strong
// comparison wants both strong (RFC 9110 8.8.3.2). What is not an entity-tag in
// the list matches nothing.
func matchAny(list, tag string, strong bool) bool {
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	if tag == "" || strong && strings.HasPrefix(tag, "W/") {
		return false
	}
	opaque := strings.TrimPrefix(tag, "W/")
	for list != "" {
		list = strings.TrimLeft(list, " \t,")
		weak := strings.HasPrefix(list, "W/")
		rest := strings.TrimPrefix(list, "W/")
		if !strings.HasPrefix(rest, `"`) {
			list = skipToComma(list)
			continue
		}
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return false
		}
		if rest[:end+2] == opaque && !(strong && weak) {
			return true
		}
		list = rest[end+2:]
	}
	return false
}

// rangeApplies evaluates If-Range (RFC 9110 13.1.5): only a strong validator
// that matches exactly lets the range through.
func (c *conditions) rangeApplies(p *response) bool {
	if c.ifRange == "" {
		return true
	}
	if validETag(c.ifRange) {
		return !strings.HasPrefix(c.ifRange, "W/") && c.ifRange == p.etag
	}
	t, ok := parseTime(c.ifRange)
	if !ok || c.mayDiffer() || p.lastModified == 0 || t.Unix() != p.lastModified {
		return false
	}
	return p.strongDate()
}

// validators returns the fields that ask the origin whether p is still current
// (RFC 9111 4.3.1); none where p has no validator.
func (p *response) validators() []Field {
	var fields []Field
	if p.etag != "" {
		fields = append(fields, Field{"if-none-match", p.etag})
	}
	if p.lastModified != 0 {
		s, _ := p.field("last-modified")
		fields = append(fields, Field{"if-modified-since", s})
	}
	return fields
}

// confirms says whether a 304 speaks of p (RFC 9111 4.3.4): a strong validator in
// it must be p's, else a weak one. One without any answers what we asked, which was
// about p alone.
func confirms(fields []Field, p *response) bool {
	tag, _ := fieldValue(fields, "etag")
	value, hasModified := fieldValue(fields, "last-modified")
	modified, valid := parseTime(value)
	dated := hasModified && valid && p.lastModified != 0 && modified.Unix() == p.lastModified
	switch {
	case validETag(tag) && p.etag != "" && !strings.HasPrefix(tag, "W/"):
		return tag == p.etag
	case validETag(tag) && p.etag != "":
		return strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(p.etag, "W/")
	case validETag(tag) && !strings.HasPrefix(tag, "W/"):
		return dated && p.strongDate()
	case hasModified && p.lastModified != 0:
		return dated
	}
	return true
}

// strongDate says whether Last-Modified is a strong validator: the response was
// made well after it (RFC 9110 8.8.2.2).
func (p *response) strongDate() bool {
	s, _ := p.field("date")
	date, ok := parseTime(s)
	return ok && p.lastModified != 0 && date.Unix()-p.lastModified >= 1
}

// freshened returns p's fields updated by those of a 304 (RFC 9111 3.2): each
// name in update replaces all lines of that name, but for what describes the
// stored bytes. A weak form of our strong entity-tag does not weaken it.
func freshened(p *response, update []Field) []Field {
	fields := make([]Field, 0, len(p.fields)+len(update))
	for _, f := range p.fields {
		if _, ok := fieldValue(update, f.Name); !ok || keptOnFreshen(p, f.Name) {
			fields = append(fields, f)
		}
	}
	for _, f := range update {
		if !keptOnFreshen(p, f.Name) {
			fields = append(fields, f)
		}
	}
	sortFields(fields)
	return fields
}

// keptOnFreshen names what a 304 cannot change: how the stored bytes are coded and
// framed (RFC 9111 3.2).
func keptOnFreshen(p *response, name string) bool {
	switch name {
	case "content-length", "content-encoding", "content-range", "transfer-encoding":
		return true
	case "etag":
		return p.etag != ""
	}
	return false
}

func sortFields(fields []Field) {
	slices.SortStableFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
}

func seconds(n int64) string { return strconv.FormatInt(n, 10) }
