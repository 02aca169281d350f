package route

import (
	"strconv"
	"time"
)

const (
	// hstsPreloadMin is what lists of browsers ask for.
	hstsPreloadMin = 365 * 24 * time.Hour
	hstsMax        = 10 * hstsPreloadMin
)

// value returns the field's (RFC 6797 6.1), "" for none.
func (h HSTS) value() string {
	if h.MaxAge == 0 {
		return ""
	}
	value := "max-age=" + strconv.FormatInt(int64(h.MaxAge/time.Second), 10)
	if h.Subdomains {
		value += "; includeSubDomains"
	}
	if h.Preload {
		value += "; preload"
	}
	return value
}

func (h HSTS) validate(at string, r reporter) {
	switch {
	case h.MaxAge < 0 || h.MaxAge > hstsMax || h.MaxAge > 0 && h.MaxAge < time.Second:
		r.add(at+".max_age", "%v is out of range: write 0s to leave it out, or 1s to 10 years (87600h)", h.MaxAge)
	case h.MaxAge == 0 && (h.Subdomains || h.Preload):
		r.add(at+".max_age", "is missing: without it nothing is sent")
	case h.Preload && (!h.Subdomains || h.MaxAge < hstsPreloadMin):
		r.add(at+".preload", "wants subdomains: true and a max_age of a year (8760h) or more")
	}
}
