package cache

// handler.go DECIDES: one request comes in, one of a few things happens to it.
// What is true of keys, freshness, conditions and storing is judged elsewhere.

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"edgecdn/cache/store"
)

// attemptsMax bounds how often a request looks again after another's fetch
// turned out not to answer it; then it fetches for itself.
const attemptsMax = 3

// farAhead is how far beyond what has arrived a range may start and still wait
// for the fill; further on, it is fetched for itself.
const farAhead = 4 << 20

// exchange is one request on the general path.
type exchange struct {
	cache *Cache
	w     http.ResponseWriter
	hr    *http.Request
	r     *Request
	conds conditions
	order uint64 // of the last purge when it came
	// filled says why the origin was asked, where what is stored now answers.
	filled       Fwd
	filledStatus int
	proxy        string // Proxy-Status of an answer by another origin

	hints sync.Mutex // guards what follows: 1xx may arrive on another goroutine
	over  bool       // no more of them
}

// ServeHTTP answers what Lookup could not: what is on disk, stale, missing or not
// to be cached. The Request must be in the context (NewContext).
func (c *Cache) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	r := FromContext(hr.Context())
	x := &r.work().exchange
	*x = exchange{cache: c, w: w, hr: hr, r: r, conds: conditionsOf(r.Fields), order: c.purges.order.Load()}
	if x.conds.connection {
		r.dropListed()
		x.conds = conditionsOf(r.Fields)
	}
	switch {
	case c.looped(r):
		c.stats.Loops.Add(1)
		x.fail(http.StatusLoopDetected, "proxy_loop_detected", "this request came through here before (CDN-Loop)")
	case x.conds.upgrade && r.Proto == HTTP1:
		x.upgrade()
	case r.Route.Bypass:
		x.pass(FwdBypass, "")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		x.pass(FwdMethod, "")
	case r.HasBody || !keyable(r):
		x.pass(FwdRequest, "")
	default:
		x.serve()
	}
}

// found is what the store has for a request.
type found struct {
	stored *store.Stored // nil: nothing
	resp   *response
	// primary is the target's key; key the one under which a response to this
	// request is stored or would be.
	primary, key string
	marker       *response // of a target whose responses vary
	fwd          Fwd       // uri-miss or vary-miss where nothing was found
	// order of the last purge that has been looked up; what is fetched because of
	// this begins there.
	order uint64
}

func (f *found) close() {
	if f.stored != nil {
		f.stored.Close()
		f.stored = nil
	}
}

// drop is close for whoever was handed a copy. Its receiver is no pointer on purpose:
// while deferred calls of a panic (http.ErrAbortHandler) run, Go's runtime, 1.26.8 at
// least, holds a pointer to the arguments of the frame (_panic.fp). One whose address
// is taken counts as alive by that, even when it was of no use any more and what it
// refers to has been freed: "found pointer to free object" then ends the process. A
// program of a hundred lines shows it; here TestCollectorWithShutWindows does.
func (f found) drop() {
	if f.stored != nil {
		f.stored.Close()
	}
}

// validators returns our conditions for the stored response, if there is one.
func (f *found) validators() []Field {
	if f.resp == nil {
		return nil
	}
	return f.resp.validators()
}

// find opens r's stored response, from memory or disk.
func (c *Cache) find(r *Request) found {
	r.scratch = appendKey(r.scratch[:0], r)
	fd := found{primary: string(r.scratch), fwd: FwdURIMiss}
	fd.key = fd.primary
	stored, order := c.openLive(fd.primary)
	fd.order = order
	if stored == nil {
		return fd
	}
	p := stored.Value().(*response)
	if p.varyBy == nil {
		fd.stored, fd.resp = stored, p
		return fd
	}
	stored.Close()
	fd.marker, fd.fwd = p, FwdVaryMiss
	fd.key = string(appendVariant(r.scratch, r, p))
	if stored, _ = c.openLive(fd.key); stored != nil {
		fd.stored, fd.resp = stored, stored.Value().(*response)
	}
	return fd
}

// openLive is open for what a purge may have forgotten, and returns the order up to
// which that has been looked up: the one before the store was, as a purge that comes
// later may be swept, and out of the table, by the time that it is looked for there.
func (c *Cache) openLive(key string) (*store.Stored, uint64) {
	order := c.purges.order.Load()
	stored := c.open(key)
	if stored != nil && !c.admits(stored) {
		stored.Close()
		stored = nil
	}
	return stored, order
}

// admits says whether what was found may still be used.
func (c *Cache) admits(stored *store.Stored) bool {
	return c.purges.admits(stored.Meta(), stored.Value().(*response), stored.Seen(), stored.InMemory())
}

// open returns nil where there is nothing, or nothing that can be read: a broken
// store is a miss.
func (c *Cache) open(key string) *store.Stored {
	stored, err := c.store.Open(c.store.Hasher().Key(key))
	if err != nil {
		if !errors.Is(err, store.ErrNotFound) {
			c.stats.StoreErrors.Add(1)
		}
		return nil
	}
	if _, ok := stored.Value().(*response); !ok {
		stored.Close()
		return nil
	}
	return stored
}

// serve answers a GET or HEAD from the store, or fetches.
func (x *exchange) serve() {
	for range attemptsMax {
		nothing := x.cache.find(x.r)
		if nothing.stored == nil {
			if !x.miss(nothing) {
				return
			}
			continue
		}
		fd := nothing // only where there is something it needs an allocation
		now := time.Now().UnixNano()
		use, fwd := x.use(fd.resp, now)
		why := x.unfit(fd.resp)
		if why == "" && (x.noStore() || x.onlyIfCached()) && (use == useValidate || !x.complete(&fd)) {
			why = "request-no-store" // no 304 may renew, no part complete what is stored (RFC 9111 5.2.1.5)
		}
		if why != "" {
			fd.close()
			x.forward(fwd, why)
			return
		}
		switch use {
		case useStale:
			if !x.noStore() && !x.cache.filling(fd.key) {
				x.cache.revalidate(x.r, x.cache.find(x.r))
			}
			fallthrough
		case useFresh:
			if !x.sendFound(&fd, now) {
				return
			}
			continue
		}
		fd.fwd = fwd
		if !x.fetch(fd, true) {
			return
		}
	}
	x.pass(FwdMiss, "")
}

// unfit says why a stored response, fresh or not, is not for this request; "" where
// it is.
func (x *exchange) unfit(p *response) string {
	switch {
	case x.conds.authorization && !p.has(flagAuthorized):
		return "authorization" // RFC 9111 3.5
	case !x.conds.admits(p):
		return "precondition"
	case p.sliced && p.coded&^acceptedCodings(x.r.Fields) != 0:
		return "coding" // parts are not decoded; the origin may have others for this client
	}
	return ""
}

// use judges a stored response for this request, its own directives included
// where the route honours them.
func (x *exchange) use(p *response, now int64) (use, Fwd) {
	u := p.usable(now)
	if !x.r.Route.RequestDirectives || !x.conds.cacheFields {
		if u == useValidate {
			return u, FwdStale
		}
		return u, FwdRequest
	}
	return p.usableFor(parseControl(x.r.Fields, "cache-control"), x.pragma(), now)
}

// pragma says whether the request has the no-cache of HTTP/1.0 (RFC 9111 5.4).
func (x *exchange) pragma() bool { return parseControl(x.r.Fields, "pragma").noCache }

// forward sends the request to the origin as it is, unless it wants no answer from
// there.
func (x *exchange) forward(fwd Fwd, detail string) {
	if x.onlyIfCached() {
		x.failUncached()
		return
	}
	x.pass(fwd, detail)
}

// failUncached answers only-if-cached where nothing stored can (RFC 9111 5.2.1.7).
func (x *exchange) failUncached() {
	x.r.Outcome = Outcome{Detail: "only-if-cached"}
	x.fail(http.StatusGatewayTimeout, "proxy_internal_response", "nothing is stored and the request wants no other answer (only-if-cached)")
}

// miss answers where nothing is stored; true: look again.
func (x *exchange) miss(fd found) bool {
	c := x.cache
	switch {
	case x.onlyIfCached():
		x.failUncached()
		return false
	case c.passMarked(fd.key):
		c.stats.HitForMiss.Add(1)
		x.pass(fd.fwd, "hit-for-miss")
		return false
	case c.filling(fd.key):
	case x.r.Method == http.MethodHead && (x.conds.authorization || x.noStore()):
		x.pass(fd.fwd, "") // a GET would be for its header alone
		return false
	case x.r.Method == http.MethodGet && x.conds.rangeValue != "" && !wantsAll(x.conds.rangeValue):
		first, ok := startOf(x.conds.rangeValue)
		if !ok || x.conds.repeatedRange || x.conds.authorization || x.noStore() {
			x.pass(fd.fwd, "")
			return false
		}
		return x.rangeMiss(fd, first)
	}
	return x.fetch(fd, !x.conds.authorization && !x.noStore())
}

func (x *exchange) onlyIfCached() bool {
	return x.r.Route.RequestDirectives && x.conds.cacheFields && parseControl(x.r.Fields, "cache-control").onlyIfCached
}

func (x *exchange) noStore() bool {
	return x.conds.cacheFields && parseControl(x.r.Fields, "cache-control").noStore
}

func (c *Cache) passMarked(key string) bool {
	lo := c.store.Hasher().Key(key).Hash.Lo
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed.has(lo, time.Now())
}

func (c *Cache) filling(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fills[key] != nil
}

// revalidate fetches in the background, once for each key.
func (c *Cache) revalidate(r *Request, fd found) {
	fd.fwd = FwdStale
	f, reader, at := c.join(r, fd, fd.key, nil, true)
	if at != placeFirst {
		fd.drop()
	}
	if at == placeFirst {
		c.stats.Background.Add(1)
		f.abandon() // an answer that cannot be stored is of no use to anybody
	}
	if f != nil {
		reader.leave()
	}
}

// fetch takes part in a fill, as its first client or collapsed; true: look again.
func (x *exchange) fetch(fd found, shared bool) bool {
	var part *slice
	if start, ok := firstByte(x.conds.rangeValue); ok && fd.resp != nil && fd.resp.sliced && !x.conds.repeatedRange {
		part = &slice{number: start / sliceBytes} // should it have changed, not all of it is wanted
	}
	f, reader, at := x.cache.join(x.r, fd, fd.key, part, shared)
	first := at == placeFirst
	if !first {
		fd.drop()
	}
	switch at {
	case placeAgain:
		return true
	case placeNone:
		x.pass(fd.fwd, "fills-refused")
		return false
	}
	defer reader.leave()
	x.r.Outcome = Outcome{Fwd: fd.fwd, Collapsed: !first}
	x.await(f, first)
	switch f.verdict {
	case verdictAgain:
		x.filled, x.filledStatus = fd.fwd, f.fwdStatus
		if f.detail == "" {
			return true
		}
		return x.sendSliced(&found{primary: fd.primary, key: fd.key, resp: f.resp, order: fd.order}, time.Now().UnixNano(), f.detail)
	case verdictFailed:
		x.failFetch(f.err)
		return false
	case verdictLive:
		return x.live(f, first)
	}
	return x.join(f, reader, first)
}

// await waits until the fill's response has been judged; it ends the handler when
// the client goes away first.
func (x *exchange) await(f *fill, first bool) {
	if err := f.await(x.hr.Context(), x.early); err != nil {
		if first {
			f.abandon()
		}
		panic(http.ErrAbortHandler)
	}
}

// live answers from a response that may not be stored: it is the first client's.
func (x *exchange) live(f *fill, first bool) bool {
	var resp *http.Response
	if first {
		resp = f.take()
	}
	if resp == nil {
		x.pass(f.found.fwd, "hit-for-miss")
		return false
	}
	defer f.cancel()
	if x.conds.forOrigin() { // it was asked without
		_ = resp.Body.Close() // another answer is on its way
		x.pass(f.found.fwd, "precondition")
		return false
	}
	stop := context.AfterFunc(x.hr.Context(), f.cancel)
	defer stop()
	x.r.Outcome.Detail, x.proxy = f.detail, f.proxy
	x.relay(resp, f.fetched.fields, f.fetched.sized)
	return false
}

// join answers from the fill's body while it grows; true: the response is not for
// this request, look again.
func (x *exchange) join(f *fill, reader *follower, first bool) bool {
	if !first && x.order > f.order && x.cache.purged(f) {
		return true
	}
	if why := x.unfit(f.resp); why != "" && (!first || why == "precondition") {
		x.pass(f.found.fwd, why)
		return false
	}
	if !first {
		if f.varies != nil && string(appendVariant([]byte(f.found.primary), x.r, f.varies)) != f.variant {
			return true
		}
		now := time.Now().UnixNano()
		if f.detail == "" && f.resp.usable(now) == useValidate {
			x.pass(f.found.fwd, "not-reusable")
			return false
		}
	}
	x.conds.negotiate(x.r, f.resp, f.length)
	a := x.conds.answer(x.r.Method, f.resp, f.length)
	written, done, storing := f.progress()
	if !done && a.off > written+farAhead {
		x.pass(FwdPartial, "")
		return false
	}
	now := time.Now().UnixNano()
	o := &x.r.Outcome
	o.Detail, o.Stored = f.detail, storing || f.found.resp != nil && f.detail == ""
	o.HasTTL, o.TTL = true, f.resp.ttl(now)
	if f.fwdStatus != a.status {
		o.FwdStatus = f.fwdStatus
	}
	if f.kept {
		if coded := x.encode(f.found.key, f.resp, &a, now); coded != nil {
			defer coded.Close()
			x.sendBody(f.resp, coded, &a, now)
			return false
		}
	}
	if x.conds.decode {
		x.sendDecoded(f.resp, reader.reader(x.hr.Context()), &a, now)
		return false
	}
	x.sendFollowed(f, reader, &a, now)
	return false
}
