package cache

// common.go knows the names that many stored responses have in common, such as their host
// and the sections of a site. They are most of what a response belongs to, and are seldom
// purged, since that purges much: whoever hits looks at them only when one was purged, or
// a URL that shows by one (mark.shows).

import (
	"sync/atomic"

	"edgecdn/cache/store"
)

const (
	// commonMax bounds the names that are known to be common; they stay so.
	commonMax = 1 << 14
	// A name is common when it came so many times since it was last purged, with what was
	// stored, freshened or read from disk, and with one of so many of these.
	commonLeast, commonShare = 64, 1 << 12
	// commonCounts of names that are not, each of all that share it: some times as many
	// as names can be above their share.
	commonCounts = 1 << 17
	// commonTotal is after how many of these those before count half.
	commonTotal = 1 << 24
	// ownPrints is how many prints of names that are not common are looked at first; those
	// of a response that has more are all looked at.
	ownPrints = 4
)

// commonNames are hashes in open addressing with linear probing, at most half full.
// Generations.mu is held by who adds one.
type commonNames struct {
	names  [2 * commonMax]atomic.Uint64
	counts [commonCounts]atomic.Uint32
	total  atomic.Uint64
	order  uint64 // of the last purge of one, or when one became common; of generations.mu
}

// has says whether a name is common.
func (c *commonNames) has(hash uint64) bool {
	for i := hash; ; i++ {
		switch c.names[i%uint64(len(c.names))].Load() {
		case 0:
			return false
		case hash:
			return true
		}
	}
}

// count counts a name that is not common, and says whether it should be.
func (c *commonNames) count(hash uint64) bool {
	n := uint64(c.counts[hash>>32%commonCounts].Add(1))
	return n >= commonLeast && n*commonShare >= c.total.Load()
}

// begin counts a response.
func (c *commonNames) begin() {
	if c.total.Add(1) != commonTotal {
		return
	}
	c.total.Store(commonTotal / 2)
	for i := range c.counts {
		c.counts[i].Store(c.counts[i].Load() / 2) // what is counted meanwhile may be lost
	}
}

// makeCommon begins to leave a name to those who look at all. It may have been purged
// before: so all do, once.
func (g *generations) makeCommon(hash uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &g.common
	if hash == 0 || g.stats.CommonNames.Load() == commonMax || c.has(hash) {
		return
	}
	c.order = max(c.order, g.order.Load())
	g.publish()
	c.counts[hash>>32%commonCounts].Store(0) // those who share it begin anew
	i := hash
	for c.names[i%uint64(len(c.names))].Load() != 0 {
		i++
	}
	c.names[i%uint64(len(c.names))].Store(hash)
	g.stats.CommonNames.Add(1)
}

// setPrints fills in what tells whether there is anything to look up when there are new
// purges: prints of the host and of the labels but the first, which is the host's own
// prefix. What is purged by URL shows under the path's label, and by that prefix under the
// host. Those of common names are at the end. Where the others are ownPrints at most, the
// first is larger than the second, unless there is one name in all. None where there are
// too many names.
func (g *generations) setPrints(m *store.Meta) {
	m.Prints = [printsMax]uint32{}
	if n := len(m.Groups); n == 0 || n > printsMax {
		return
	}
	g.common.begin()
	own, common := 0, printsMax
	for i, hash := range m.Groups {
		if i == 0 {
			hash = m.Host
		}
		if g.common.has(hash) {
			common--
			m.Prints[common] = printOf(hash)
			continue
		}
		if g.common.count(hash) && g.stats.CommonNames.Load() < commonMax {
			g.makeCommon(hash) // for those who come
		}
		m.Prints[own] = printOf(hash)
		own++
	}
	few := own <= ownPrints
	for i := own; i < common; i++ { // any that there is, but the first two differ
		switch {
		case i >= 2:
			m.Prints[i] = m.Prints[i-2]
		case common < printsMax:
			m.Prints[i] = m.Prints[max(common, printsMax-1-i)]
		default:
			m.Prints[i] = m.Prints[0]
		}
	}
	if few != hasFewOwn(&m.Prints) {
		m.Prints[0], m.Prints[1] = m.Prints[1], m.Prints[0]
	}
}

// hasFewOwn says whether no names but the first are to be looked at while no common one is
// purged. That is said by the order of two, for want of room.
func hasFewOwn(prints *[printsMax]uint32) bool { return prints[0] > prints[1] }
