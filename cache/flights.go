package cache

// flights.go knows the fetches under way, for purges: whatever began before one
// must leave nothing behind, and no later request may join it.

import (
	"net/http"
	"time"

	"edgecdn/cache/store"
)

// flightMax is how long a fetch may keep purges in the table, and be stored. What
// takes longer is not stored once a purge that came meanwhile has been swept.
const flightMax = 10 * time.Minute

// flights are the fetches whose responses may be stored. The Cache's mutex guards
// them; their number is that of fills and of requests that pass.
type flights struct {
	begun map[*fill]time.Time
	urls  map[uint64]int // fetches by hash of their URL
}

// newFill returns a fill for a GET of what r asks for, whose fetch begins at order.
func (c *Cache) newFill(r *Request, order uint64) *fill {
	f := &fill{cache: c, request: r.clone(), order: order}
	f.request.Method = http.MethodGet
	f.named = store.Meta{
		URL: c.names.url.Sum(string(appendURL(nil, r))), Host: c.names.host.Sum(hostName(r)),
		Groups: c.labels(r, nil),
	}
	return f
}

// begin makes f one of the fetches under way; called with Cache.mu held.
func (c *Cache) begin(f *fill) {
	if c.flights.begun == nil {
		c.flights = flights{begun: map[*fill]time.Time{}, urls: map[uint64]int{}}
	}
	c.flights.begun[f] = time.Now()
	c.flights.urls[f.named.URL]++
}

func (l *flights) remove(f *fill) {
	if _, ok := l.begun[f]; !ok {
		return
	}
	delete(l.begun, f)
	if l.urls[f.named.URL]--; l.urls[f.named.URL] == 0 {
		delete(l.urls, f.named.URL)
	}
}

// settled returns up to which order no fetch is under way that began before, at
// most the given one. Those that take too long are given up.
func (c *Cache) settled(order uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f, begun := range c.flights.begun {
		switch {
		case f.order >= order || f.ofKnown: // nothing leads to a slice but its manifest
		case time.Since(begun) > flightMax:
			f.overtaken.Store(true)
			c.unlist(f)
		default:
			order = f.order
		}
	}
	return order
}

// purged says whether a purge of any kind has come since f's fetch began, now that
// it is known what the response belongs to, and takes f off the list then.
func (c *Cache) purged(f *fill) bool {
	meta := f.named
	meta.Groups = c.labels(f.request, f.resp.fields)
	// f may have ended since, and with it what kept the purge in the table.
	if c.purges.match(&meta, f.order) == (match{}) && f.order >= c.purges.swept.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.overtaken.Store(true)
	c.unlist(f)
	return true
}

// overtaken says whether a request that comes now must not join f, and takes f off
// the list then. Called with mu held.
func (c *Cache) overtaken(f *fill) bool {
	if c.purges.order.Load() == f.order || c.purges.match(&f.named, f.order) == (match{}) {
		return false
	}
	f.overtaken.Store(true)
	c.unlist(f)
	return true
}

// outdated says whether what f is about to store was purged while it was fetched. A
// soft purge makes it stale instead.
func (f *fill) outdated(meta *store.Meta) bool {
	if f.overtaken.Load() {
		return true
	}
	kept := f.cache.judge(meta)
	if kept != nil {
		*meta = *kept
	}
	return kept == nil
}

// prior returns what was found and is to be validated, or may stand in for what
// cannot be fetched; nil where it was purged meanwhile.
func (f *fill) prior() *response {
	p := f.found.resp
	if p == nil || f.found.stored != nil && !f.cache.admits(f.found.stored) {
		return nil
	}
	return p
}

// restart forgets what was found: it was purged. What is fetched from here on is
// another fetch.
func (f *fill) restart() {
	f.found.close()
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	f.found.resp, f.order = nil, f.cache.purges.order.Load()
}
