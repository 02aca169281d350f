package route

import (
	"strconv"
	"strings"
	"time"
)

// lifetime is a compiled Freshness rule.
type lifetime struct {
	codes   []int  // exact status codes
	classes uint16 // bit 4 for 4xx
	types   []string
	value   time.Duration
	force   bool
}

// statusDefault is what rules without status hold for.
const statusDefault = "200"

func compileLifetimes(rules []Freshness) []lifetime {
	out := make([]lifetime, 0, len(rules))
	for _, rule := range rules {
		l := lifetime{value: rule.Lifetime, force: rule.Force}
		for _, status := range rule.Status {
			code, class, _ := parseStatus(status)
			if class != 0 {
				l.classes |= 1 << class
			} else {
				l.codes = append(l.codes, code)
			}
		}
		l.types = compileTypes(rule.Types)
		out = append(out, l)
	}
	return out
}

// parseStatus reads "404" or "4xx". Only final responses can be stored.
func parseStatus(text string) (code, class int, ok bool) {
	if len(text) == 3 && strings.EqualFold(text[1:], "xx") && text[0] >= '2' && text[0] <= '5' {
		return 0, int(text[0] - '0'), true
	}
	code, err := strconv.Atoi(text)
	return code, 0, err == nil && len(text) == 3 && code >= 200 && code <= 599
}

// Lifetime returns the freshness lifetime that the first matching rule gives a
// response with this status and Content-Type. force: it overrides what the
// response says itself. ok is false where no rule matches.
func (r *Route) Lifetime(status int, contentType string) (d time.Duration, force, ok bool) {
	for i := range r.lifetimes {
		if l := &r.lifetimes[i]; l.hasStatus(status) && (len(l.types) == 0 || hasType(l.types, contentType)) {
			return l.value, l.force, true
		}
	}
	return 0, false, false
}

func (l *lifetime) hasStatus(status int) bool {
	for _, code := range l.codes {
		if code == status {
			return true
		}
	}
	return status >= 200 && status <= 599 && l.classes&(1<<(status/100)) != 0
}

// hasType compares media types without parameters and case (RFC 9110 8.3.1).
func hasType(types []string, contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.Trim(mediaType, " \t")
	for _, want := range types {
		if strings.HasSuffix(want, "/") {
			if len(mediaType) > len(want) && strings.EqualFold(mediaType[:len(want)], want) {
				return true
			}
		} else if strings.EqualFold(mediaType, want) {
			return true
		}
	}
	return false
}
