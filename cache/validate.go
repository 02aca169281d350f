package cache

// validate.go evaluates the conditions that clients put (RFC 9110 13), makes
// ours for the origin and merges what a 304 brings (RFC 9111 4.3).

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// conditions are the precondition fields of a request, found in one pass.
type conditions struct {
	ifMatch, ifNoneMatch                string
	hasIfMatch, hasIfNoneMatch          bool
	ifModifiedSince, ifUnmodifiedSince  string
	rangeValue, ifRange                 string
	repeatedRange                       bool
	authorization, upgrade, cacheFields bool
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
		case "if-modified-since":
			c.ifModifiedSince = value
		case "if-unmodified-since":
			c.ifUnmodifiedSince = value
		case "range":
			c.repeatedRange = c.repeatedRange || c.rangeValue != ""
			c.rangeValue = value
		case "if-range":
			c.ifRange = value
		case "authorization":
			c.authorization = true
		case "upgrade":
			c.upgrade = true
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

// evaluate returns the status that a stored response answers with: its own, 304
// or 412, in the order of RFC 9110 13.2.2. Conditions hold for 200 only.
func (c *conditions) evaluate(p *response) int {
	if p.status != 200 {
		return p.status
	}
	switch {
	case c.hasIfMatch:
		if !matchAny(c.ifMatch, p.etag, true) {
			return 412
		}
	case c.ifUnmodifiedSince != "" && p.lastModified != 0:
		if t, ok := parseTime(c.ifUnmodifiedSince); ok && p.lastModified > t.Unix() {
			return 412
		}
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
	if !ok || p.lastModified == 0 || t.Unix() != p.lastModified {
		return false
	}
	// A date is strong only if the response was made well after it (RFC 9110 8.8.2.2).
	s, _ := p.field("date")
	date, ok := parseTime(s)
	return ok && date.Unix()-p.lastModified >= 1
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

// confirms says whether a 304 speaks of p (RFC 9111 4.3.4): a validator in it
// must be p's.
func confirms(fields []Field, p *response) bool {
	if tag, ok := fieldValue(fields, "etag"); ok && p.etag != "" {
		return strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(p.etag, "W/")
	}
	if s, ok := fieldValue(fields, "last-modified"); ok && p.lastModified != 0 {
		t, ok := parseTime(s)
		return ok && t.Unix() == p.lastModified
	}
	return true
}

// freshened returns p's fields updated by those of a 304 (RFC 9111 3.2): each
// name in update replaces all lines of that name, but for what describes the
// stored bytes.
func freshened(p *response, update []Field) []Field {
	fields := make([]Field, 0, len(p.fields)+len(update))
	for _, f := range p.fields {
		if _, ok := fieldValue(update, f.Name); !ok || keptOnFreshen(f.Name) {
			fields = append(fields, f)
		}
	}
	for _, f := range update {
		if !keptOnFreshen(f.Name) {
			fields = append(fields, f)
		}
	}
	sortFields(fields)
	return fields
}

func keptOnFreshen(name string) bool {
	switch name {
	case "content-length", "content-encoding", "content-range", "content-type", "transfer-encoding":
		return true
	}
	return false
}

func sortFields(fields []Field) {
	slices.SortStableFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
}

func seconds(n int64) string { return strconv.FormatInt(n, 10) }

func httpDate(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }
