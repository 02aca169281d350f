package cache

// storable.go says whether a response may be stored at all (RFC 9111 3).

import "edgecdn/route"

// asked is what the judges need to know of a request.
type asked struct {
	method        string
	authorization bool // the request carries Authorization
	noStore       bool // RFC 9111 5.2.1.5
}

// storable says whether a shared cache may store the response; if not, why, as a
// token for Cache-Status' detail. length is the body's, -1 where unknown.
func storable(req asked, resp *received, rt *route.Route, length int64) (bool, string) {
	c := &resp.control
	switch {
	case req.method != "GET":
		return false, "method"
	case rt.Bypass:
		return false, "bypass"
	case req.noStore:
		return false, "request-no-store"
	case resp.status < 200 || resp.status == 206 || resp.status == 304:
		return false, "status"
	case c.noStore && !(c.mustUnderstand && understood(resp.status)):
		return false, "no-store"
	case c.private:
		return false, "private"
	case req.authorization && !c.public && c.sMaxAge == absent && !c.mustRevalidate:
		return false, "authorization" // RFC 9111 3.5
	case c.mustUnderstand && !understood(resp.status):
		return false, "must-understand"
	case length > rt.MaxBytes && rt.MaxBytes > 0:
		return false, "too-large"
	}
	if _, ok := fieldValue(resp.fields, "set-cookie"); ok {
		return false, "set-cookie"
	}
	return worthStoring(resp, rt)
}

// worthStoring turns away what could never be reused: neither fresh nor to be
// validated, or selected by something that no request repeats.
func worthStoring(resp *received, rt *route.Route) (bool, string) {
	if names, ok := varyNames(resp.fields); !ok {
		return false, "vary-star"
	} else if len(names) > varyNamesMax {
		return false, "vary-too-many"
	}
	d, explicit := resp.lifetime(rt)
	if !explicit && !heuristicallyCacheable(resp.status) && !resp.control.public {
		return false, "no-freshness"
	}
	if d > 0 && resp.initialAge() < d {
		return true, ""
	}
	if resp.status == 200 && resp.hasValidator() {
		return true, ""
	}
	window := max(window(resp.control.staleWhileRevalidate, rt.StaleWhileRevalidate),
		window(resp.control.staleIfError, rt.StaleIfError))
	if explicit && window > 0 {
		return true, ""
	}
	return false, "no-freshness"
}

func (p *received) hasValidator() bool {
	if s, ok := fieldValue(p.fields, "etag"); ok && validETag(s) {
		return true
	}
	s, ok := fieldValue(p.fields, "last-modified")
	if ok {
		_, ok = parseTime(s)
	}
	return ok
}

// understood lists the status codes whose caching requirements we know
// (RFC 9111 5.2.2.3).
func understood(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}
