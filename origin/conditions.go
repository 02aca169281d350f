package origin

// conditions.go judges the conditions and the range of a request for a file
// (RFC 9110 13, 14).

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// choose returns the status of the answer, and which part of the file is its content.
func choose(r *http.Request, tag string, modified time.Time, size int64) (status int, off, n int64) {
	h := r.Header
	since := func(name string) (time.Time, bool) {
		values := h[name]
		if len(values) != 1 {
			return time.Time{}, false
		}
		t, err := http.ParseTime(values[0])
		return t, err == nil
	}
	// In the order of RFC 9110 13.2.2.
	if tags, ok := h["If-Match"]; ok {
		if !listsTag(tags, tag, true) {
			return http.StatusPreconditionFailed, 0, 0
		}
	} else if t, ok := since("If-Unmodified-Since"); ok && modified.After(t) {
		return http.StatusPreconditionFailed, 0, 0
	}
	if tags, ok := h["If-None-Match"]; ok {
		if listsTag(tags, tag, false) {
			return http.StatusNotModified, 0, 0
		}
	} else if t, ok := since("If-Modified-Since"); ok && !modified.After(t) {
		return http.StatusNotModified, 0, 0
	}
	ranges := h["Range"]
	if r.Method != http.MethodGet || len(ranges) != 1 || !rangeHolds(h["If-Range"], tag, modified) {
		return http.StatusOK, 0, size
	}
	off, n, satisfiable, ok := oneRange(ranges[0], size)
	switch {
	case !ok: // several, or none that we know: the whole is an answer, too
		return http.StatusOK, 0, size
	case !satisfiable:
		return http.StatusRequestedRangeNotSatisfiable, 0, 0
	}
	return http.StatusPartialContent, off, n
}

// listsTag says whether a list has tag in it, by strong or weak comparison.
func listsTag(lines []string, tag string, strong bool) bool {
	opaque, weak := strings.CutPrefix(tag, "W/")
	for _, line := range lines {
		if strings.TrimSpace(line) == "*" {
			return true
		}
		for member := range strings.SplitSeq(line, ",") { // our tags have no comma
			other, otherWeak := strings.CutPrefix(strings.TrimSpace(member), "W/")
			if other == opaque && !(strong && (weak || otherWeak)) {
				return true
			}
		}
	}
	return false
}

// rangeHolds judges If-Range (RFC 9110 13.1.5).
func rangeHolds(lines []string, tag string, modified time.Time) bool {
	switch {
	case len(lines) == 0:
		return true
	case len(lines) > 1:
		return false
	}
	if value := strings.TrimSpace(lines[0]); strings.Contains(value, `"`) {
		return value == tag && !strings.HasPrefix(tag, "W/")
	}
	t, err := http.ParseTime(lines[0])
	return err == nil && t.Equal(modified) && !strings.HasPrefix(tag, "W/")
}

// oneRange reads a Range of one part.
func oneRange(value string, size int64) (off, n int64, satisfiable, ok bool) {
	unit, set, found := strings.Cut(value, "=")
	first, last, dash := strings.Cut(strings.TrimSpace(set), "-")
	if !found || !dash || !strings.EqualFold(unit, "bytes") {
		return 0, 0, false, false
	}
	number := func(s string) (int64, bool) {
		v, err := strconv.ParseUint(s, 10, 63)
		return int64(v), err == nil
	}
	if first == "" { // the last so many
		suffix, ok := number(last)
		n = min(suffix, size)
		return size - n, n, n > 0, ok
	}
	off, ok = number(first)
	if !ok {
		return 0, 0, false, false
	}
	end := size - 1
	if last != "" {
		v, ok := number(last)
		if !ok || v < off {
			return 0, 0, false, false
		}
		end = min(end, v)
	}
	return off, end - off + 1, off < size, true
}
