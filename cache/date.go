package cache

// date.go reads HTTP-date (RFC 9110 5.6.7). The time package alone is too lenient: it
// lets hours of one digit, more spaces, fractions and zones of any name pass, and what
// is no date must be taken for one that has passed (RFC 9111 4.2, 5.3).

import (
	"strings"
	"time"
)

// The forms that dates have, without their zone.
const (
	dateIMF     = "Mon, 02 Jan 2006 15:04:05"
	dateRFC850  = "Monday, 02-Jan-06 15:04:05"
	dateASCTime = "Mon Jan _2 15:04:05 2006"
)

// parseTime reads an HTTP-date in any of its three forms. Names of days, months and
// the zone have no case to a cache; no other zone than GMT is one (RFC 9111 4.2).
func parseTime(s string) (time.Time, bool) {
	layout := dateASCTime
	if local, zone := cutZone(s); zone {
		if s, layout = local, dateIMF; len(s) != len(dateIMF) {
			layout = dateRFC850
		}
	}
	_, got, _ := strings.Cut(s, ",")
	_, want, weekdayAside := strings.Cut(layout, ",")
	if !weekdayAside {
		got, want = s, layout
	}
	if !spacedAs(got, want) {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, s)
	return t, err == nil
}

// parseTimeAt is parseTime for an instant that may be to come: a year of two digits is
// the one that is at most 50 years ahead of now.
func parseTimeAt(s string, now time.Time) (time.Time, bool) {
	t, ok := parseTime(s)
	if weekday, _, cut := strings.Cut(s, ","); !ok || !cut || len(weekday) == len("Mon") {
		return t, ok
	}
	limit := now.AddDate(50, 0, 0)
	if t.After(limit) {
		return t.AddDate(-100, 0, 0), true
	}
	if later := t.AddDate(100, 0, 0); !later.After(limit) {
		return later, true
	}
	return t, true
}

// spacedAs says whether s is as long as its layout and has spaces where that has them.
func spacedAs(s, layout string) bool {
	if len(s) != len(layout) {
		return false
	}
	for i := range len(s) {
		if (s[i] == ' ') != (layout[i] == ' ') && layout[i] != '_' {
			return false
		}
	}
	return true
}

// cutZone takes the zone off a date.
func cutZone(s string) (local string, ok bool) {
	const zone = " GMT"
	n := len(s) - len(zone)
	if n < 0 || !strings.EqualFold(s[n:], zone) {
		return s, false
	}
	return s[:n], true
}

func httpDate(t time.Time) string { return t.UTC().Format(dateIMF + " GMT") }
