package cache

// lookup.go is the fast path: it answers from memory, inline in the engine's
// goroutine, or says no and leaves the request to ServeHTTP. It never blocks and
// allocates nothing.

import (
	"time"

	"edgecdn/cache/store"
)

// Lookup returns the stored response that answers r at once: in memory, or with its
// header in memory and its body in a file where r is FromFile, fresh, selected by
// key and Vary. On false nothing is known; hand r to ServeHTTP. On
// true the caller sends the Hit and Releases it. r.Outcome is set on true.
func (c *Cache) Lookup(r *Request) (Hit, bool) {
	if r.HasBody || (r.Method != "GET" && r.Method != "HEAD") || r.Route.Bypass || !keyable(r) {
		return Hit{}, false
	}
	conds := conditionsOf(r.Fields)
	if conds.upgrade || conds.connection || conds.cacheFields && r.Route.RequestDirectives {
		return Hit{}, false
	}
	stored, ok := c.lookupMemory(r)
	if !ok {
		return Hit{}, false
	}
	p := stored.Value().(*response)
	now := time.Now().UnixNano()
	if p.varyBy != nil || p.trailers != nil || p.sliced || conds.multipleRanges() || p.usable(now) != useFresh ||
		conds.authorization && !p.has(flagAuthorized) || !conds.admits(p) {
		stored.Close()
		return Hit{}, false
	}
	if p.negotiable {
		conds.negotiate(r, p, stored.Meta().Length)
		if conds.decode {
			stored.Close()
			return Hit{}, false
		}
	}
	hit := Hit{stored: stored, resp: p, cache: c, request: r}
	hit.answer(&conds, now)
	hit.encode(&conds, now)
	if hit.coding == "" && hit.stored.Bytes() == nil && conds.wantsCoded(&answer{status: hit.Status}) {
		stored.Close()
		return Hit{}, false // the disk may have it coded too
	}
	r.Outcome = Outcome{Hit: true, HasTTL: true, TTL: p.ttl(now), Tier: hit.stored.Tier()}
	return hit, true
}

// lookupMemory finds r's stored response, or the marker of a target whose
// variant is not in memory.
func (c *Cache) lookupMemory(r *Request) (store.Stored, bool) {
	r.scratch = appendKey(r.scratch[:0], r)
	hasher := c.store.Hasher()
	stored, ok := c.lookupLive(hasher.Key(text(r.scratch)), r.FromFile)
	if !ok {
		return stored, false
	}
	p := stored.Value().(*response)
	if p.varyBy == nil {
		return stored, true
	}
	r.scratch = appendVariant(r.scratch, r, p)
	stored.Close()
	return c.lookupLive(hasher.Key(text(r.scratch)), r.FromFile)
}

// lookupLive is the store's Lookup without what purges have forgotten.
func (c *Cache) lookupLive(key store.Key, file bool) (stored store.Stored, ok bool) {
	if file {
		stored, ok = c.store.LookupFile(key)
	} else {
		stored, ok = c.store.Lookup(key)
	}
	if ok && !c.admits(&stored) {
		stored.Close()
		ok = false
	}
	return stored, ok
}
