package cache

// invalidations.go remembers what unsafe requests have changed (RFC 9111 4.4,
// RFC 9875 3), beside the table of purges and unable to displace one of them: a
// fixed number of places, each with one hash. Where two meet in a place that is not
// swept yet, all that hashes there is invalidated: too much, never too little.

import (
	"sync/atomic"

	"edgecdn/cache/store"
)

// invalidationPlaces bounds the memory of invalidations: 16 bytes a place.
const (
	invalidationBits   = 16
	invalidationPlaces = 1 << invalidationBits
)

type invalidations struct {
	newest atomic.Uint64 // order
	places atomic.Pointer[invalidationTable]
}

type invalidationTable [invalidationPlaces]invalidation

type invalidation struct {
	hash  atomic.Uint64 // 0: of several
	order atomic.Uint64
}

// match returns the highest order above the given one of what has these hashes.
func (v *invalidations) match(meta *store.Meta, above uint64) uint64 {
	places := v.places.Load()
	order := places.order(meta.URL, above)
	for _, hash := range meta.Groups {
		order = max(order, places.order(hash, above))
	}
	return order
}

func (p *invalidationTable) order(hash, above uint64) uint64 {
	at := &p[hash>>(64-invalidationBits)]
	order := at.order.Load()
	if order <= above {
		return 0
	}
	if of := at.hash.Load(); of != 0 && of != hash {
		return 0
	}
	return order
}

// raise notes an invalidation; what is swept makes place. The caller has the lock of
// writers and moves the counter afterwards.
func (v *invalidations) raise(hash, order, swept uint64) (shared bool) {
	places := v.places.Load()
	if places == nil {
		places = new(invalidationTable)
		v.places.Store(places)
	}
	at := &places[hash>>(64-invalidationBits)]
	of := at.hash.Load()
	switch {
	case at.order.Load() <= swept:
		at.hash.Store(hash)
	case of != 0 && of != hash:
		at.hash.Store(0)
		shared = true
	}
	at.order.Store(order)
	v.newest.Store(order)
	return shared
}

// invalidate gives hashes the next order. kept is the response that may stay, whose
// fetch began at since: false where it was purged meanwhile.
func (g *generations) invalidate(hashes []uint64, kept *store.Meta, since uint64) (order uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ok = kept == nil || g.match(kept, since) == match{}
	order = g.order.Load() + 1
	for _, hash := range hashes {
		if g.invalid.raise(hash, order, g.swept.Load()) {
			g.stats.InvalidShared.Add(1)
		}
	}
	g.order.Store(order)
	signal(g.sweep)
	return order, ok
}
