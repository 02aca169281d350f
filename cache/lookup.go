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
	now := time.Now().UnixNano() // the clock waits for all that was asked of memory before: not while p comes
	stored, ok := c.lookupMemory(r)
	if !ok {
		return Hit{}, false
	}
	p := stored.Value().(*response)
	if p.varyBy != nil || p.trailers != nil || p.sliced || p.usable(now) != useFresh {
		stored.Close()
		return Hit{}, false
	}
	purges := c.purges.glance(stored.Meta(), stored.Seen())
	if conds.multipleRanges() || conds.authorization && !p.has(flagAuthorized) || !conds.admits(p) {
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
	// Last, when all else of p has been asked of memory, for which noting the order waits.
	if !c.purges.settle(purges, stored.Meta(), p, stored.Seen(), stored.InMemory()) || p.usable(now) != useFresh {
		stored.Close()
		return Hit{}, false
	}
	hit.encode(&conds, now)
	if hit.coding == "" && hit.stored.Bytes() == nil && conds.wantsCoded(&answer{status: hit.Status}) {
		stored.Close()
		return Hit{}, false // the disk may have it coded too
	}
	r.Outcome = Outcome{Hit: true, HasTTL: true, TTL: p.ttl(now), Tier: hit.stored.Tier()}
	return hit, true
}

// lookupMemory finds r's stored response, whether or not purges have forgotten it. They
// are not asked about a marker: what it leads to is asked about itself.
func (c *Cache) lookupMemory(r *Request) (store.Stored, bool) {
	r.scratch = appendKey(r.scratch[:0], r)
	stored, ok := c.lookupKey(r)
	if !ok {
		return stored, false
	}
	p := stored.Value().(*response)
	if p.varyBy == nil {
		return stored, true
	}
	r.scratch = appendVariant(r.scratch, r, p)
	stored.Close()
	return c.lookupKey(r)
}

// lookupKey is the store's Lookup of the key that r.scratch has.
func (c *Cache) lookupKey(r *Request) (store.Stored, bool) {
	key := c.store.Hasher().Key(text(r.scratch))
	if r.FromFile {
		return c.store.LookupFile(key)
	}
	return c.store.Lookup(key)
}
