package cache

// freshness.go says how long a response is fresh and how old it is
// (RFC 9111 4.2). Pure: the clock is an argument.

import (
	"sync/atomic"
	"time"

	"edgecdn/route"
)

const (
	// heuristicShare of the time since Last-Modified is taken as lifetime where
	// the response gives none (RFC 9111 4.2.2), up to heuristicMax.
	heuristicShare = 10
	heuristicMax   = 24 * time.Hour
	// keepForValidation is how long a stale response with a validator is worth
	// its bytes.
	keepForValidation = 7 * 24 * time.Hour
)

// received is a response as it came from the origin, to be judged.
type received struct {
	status  int
	fields  []Field
	sized   bool    // it came with a Content-Length
	control control // what holds for us: a targeted field wins (effectiveControl)
	// targeted: control came from a targeted field, so that Expires does not count.
	targeted bool
	// Instants at which the request was sent and the header arrived.
	requestTime, responseTime time.Time
}

// date returns the Date field, or the arrival where there is none
// (RFC 9110 6.6.1).
func (p *received) date() time.Time {
	if s, ok := fieldValue(p.fields, "date"); ok {
		if t, ok := parseTime(s); ok {
			return t
		}
	}
	return p.responseTime
}

// initialAge is corrected_initial_age of RFC 9111 4.2.3.
func (p *received) initialAge() time.Duration {
	apparent := min(max(0, p.responseTime.Sub(p.date())), deltaMax*time.Second)
	var ageValue time.Duration // what is not a number is ignored (RFC 9111 5.1)
	if s, ok := fieldValue(p.fields, "age"); ok {
		ageValue = parseDelta(firstOfList(s))
	}
	return max(apparent, ageValue+p.responseTime.Sub(p.requestTime))
}

// lifetime is the freshness lifetime of RFC 9111 4.2.1 for a shared cache, after
// the route's rules. explicit is false where it had to be guessed or there is none.
func (p *received) lifetime(rt *route.Route) (d time.Duration, explicit bool) {
	contentType, _ := fieldValue(p.fields, "content-type")
	ruled, force, ok := rt.Lifetime(p.status, contentType)
	if ok && force {
		return ruled, true
	}
	if d, explicit = p.ownLifetime(); explicit {
		return d, true
	}
	if ok {
		return ruled, true
	}
	return p.heuristic(), false
}

// ownLifetime is the lifetime that the response itself gives, if it does.
func (p *received) ownLifetime() (d time.Duration, ok bool) {
	switch {
	case p.control.sMaxAge != absent:
		return p.control.sMaxAge, true
	case p.control.maxAge != absent:
		return p.control.maxAge, true
	case p.targeted:
		return 0, false
	}
	s, ok := fieldValue(p.fields, "expires")
	if !ok {
		return 0, false
	}
	t, valid := parseTimeAt(s, p.responseTime)
	if !valid { // "0" above all (RFC 9111 5.3)
		return 0, true
	}
	return min(max(0, t.Sub(p.date())), deltaMax*time.Second), true
}

// heuristic is the lifetime guessed from Last-Modified (RFC 9111 4.2.2). There
// is no guess without it.
func (p *received) heuristic() time.Duration {
	s, ok := fieldValue(p.fields, "last-modified")
	if !ok || !heuristicallyCacheable(p.status) && !p.control.public {
		return 0
	}
	t, ok := parseTime(s)
	if !ok {
		return 0
	}
	return min(heuristicMax, max(0, p.date().Sub(t)/heuristicShare))
}

// heuristicallyCacheable lists the status codes of RFC 9110 15.1.
func heuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// settle turns a received response into a stored one: the instants are computed
// once, so that using it costs a comparison.
func (p *received) settle(rt *route.Route) *response {
	lifetime, explicit := p.lifetime(rt)
	r := &response{status: p.status, fields: p.fields}
	r.ageZero = p.responseTime.Add(-p.initialAge()).UnixNano()
	r.freshUntil = r.ageZero + int64(lifetime)
	c := &p.control
	configuredWhile, configuredError := rt.StaleWhileRevalidate, rt.StaleIfError
	if c.sMaxAge != absent {
		// s-maxage forbids stale use (RFC 9111 5.2.2.10) unless the response
		// itself says otherwise: publishers write both and mean it.
		configuredWhile, configuredError = 0, 0
	}
	r.staleWhileRevalidate = int64(window(c.staleWhileRevalidate, configuredWhile))
	r.staleIfError = int64(window(c.staleIfError, configuredError))
	if c.noCache {
		r.flags |= flagNoCache
	}
	if c.mustRevalidate || c.proxyRevalidate {
		r.flags |= flagNeverStale
	}
	if c.sMaxAge != absent {
		r.flags |= flagSMaxAge
	}
	if c.public || c.sMaxAge != absent || c.mustRevalidate {
		r.flags |= flagAuthorized
	}
	if !explicit {
		r.flags |= flagHeuristic
	}
	// Of Cache-Control it holds for all who pass the response on, not for caches alone.
	if c.noTransform || parseControl(p.fields, "cache-control").noTransform {
		r.flags |= flagNoTransform
	}
	r.index()
	return r
}

func window(said, configured time.Duration) time.Duration {
	if said != absent {
		return said
	}
	return configured
}

// freshTo is the instant at which p goes stale: by its lifetime, or by a soft purge.
func (p *response) freshTo() int64 {
	if stale := atomic.LoadInt64(&p.stale); stale != 0 {
		return min(stale, p.freshUntil)
	}
	return p.freshUntil
}

// goStale notes a soft purge.
func (p *response) goStale(at int64) {
	for {
		was := atomic.LoadInt64(&p.stale)
		if was != 0 && was <= at || atomic.CompareAndSwapInt64(&p.stale, was, at) {
			return
		}
	}
}

// keepUntil is the instant from which a stored response is of no use.
func (p *response) keepUntil() int64 {
	until := p.freshUntil + max(p.staleWhileRevalidate, p.staleIfError, 0)
	if p.etag != "" || p.lastModified != 0 {
		until = max(until, p.freshUntil+int64(keepForValidation))
	}
	return until
}

// use is what may be done with a stored response now.
type use int

const (
	useFresh use = iota // as it is
	useStale            // as it is, while it is validated in the background
	useValidate
)

// usable judges a stored response for a plain request (RFC 9111 4.2.4, RFC 5861 3).
func (p *response) usable(now int64) use {
	switch {
	case p.has(flagNoCache):
		return useValidate
	case now < p.freshTo():
		return useFresh
	case !p.has(flagNeverStale) && now < p.freshTo()+p.staleWhileRevalidate:
		return useStale
	}
	return useValidate
}

// usableFor judges a stored response for a request whose directives are honoured
// (RFC 9111 5.2.1). fwd is the reason where it must be validated.
func (p *response) usableFor(c control, pragma bool, now int64) (u use, fwd Fwd) {
	u = p.usable(now)
	left := time.Duration(p.freshTo() - now)
	switch {
	case c.noCache || pragma && c == parseControl(nil, ""):
		return useValidate, FwdRequest
	case c.maxAge != absent && time.Duration(p.age(now))*time.Second > c.maxAge,
		c.minFresh != absent && left < c.minFresh:
		return useValidate, FwdRequest
	case u == useValidate && -left <= c.maxStale && !p.has(flagNeverStale|flagNoCache|flagSMaxAge):
		return useFresh, FwdRequest
	case u == useStale && c.maxAge != absent && -left > c.maxStale:
		return useValidate, FwdRequest // nothing stale unless max-stale says so (RFC 9111 5.2.1.1)
	case u == useValidate:
		return u, FwdStale
	}
	return u, FwdRequest
}

// usableOnError says whether a stale response may stand in for a failed fetch
// (RFC 5861 4).
func (p *response) usableOnError(now int64) bool {
	return !p.has(flagNoCache) && !p.has(flagNeverStale) && now < p.freshTo()+p.staleIfError
}

func firstOfList(s string) string {
	for i := range len(s) {
		if s[i] == ',' {
			s = s[:i]
			break
		}
	}
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
