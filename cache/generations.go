package cache

// generations.go is the table of what was purged: hash of a name -> the highest
// order of a purge of it. Readers take no lock and wait for nobody; writers
// exclude each other.
//
// A purge first leaves its order in the table and then moves the counter. So who
// reads the counter and then the table finds in it every purge up to that order,
// and a hit whose record was looked up at that order need not look again.

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/cache/store"
)

const (
	// generationsMax bounds what operators' purges name and the sweep has not passed.
	generationsMax = 1 << 18
	// slotsMin of a table; a power of two.
	slotsMin = 1 << 8
	// roomWait is how long a purge waits for the sweep to make room.
	roomWait = 5 * time.Second
	// forgotten marks a record that a hard purge has matched.
	forgotten = 1<<64 - 1
)

// generations is the table and what belongs to it.
type generations struct {
	// What hits read, in one line or two of the processor's cache.
	order   atomic.Uint64 // of the last purge or invalidation
	view    atomic.Pointer[view]
	fence   atomic.Uint64 // what was fetched before this order is not used for now; 0: all is
	invalid invalidations

	passed atomic.Uint64 // at which the last pass of the sweep that has ended began
	swept  atomic.Uint64 // all up to it are; their entries have gone
	table  atomic.Pointer[generationTable]
	all    generation // of everything
	// newest orders by what is looked up together.
	newestURL, newestHost, newestLabel atomic.Uint64

	mu      sync.Mutex                     // of writers
	recent  [len(recentNames)]recentFilter // of few names, and of more
	common  commonNames
	tallies tallies
	room    chan struct{} // closed and replaced when entries have gone
	sweep   chan struct{} // there is something to sweep
	stats   *Stats
}

// A generation is the newest purges of one name. It is written in the order soft's
// instant, orders, key, and read in the opposite one.
type generation struct {
	key, hard, soft atomic.Uint64
	since           atomic.Int64 // instant of soft
}

// raise notes a purge.
func (g *generation) raise(m *mark, order uint64) {
	if !m.soft {
		g.hard.Store(max(g.hard.Load(), order))
		return
	}
	if order > g.soft.Load() {
		g.since.Store(m.since)
		g.soft.Store(order)
	}
}

func (g *generation) newest() uint64 { return max(g.hard.Load(), g.soft.Load()) }

// generationTable is open addressing with linear probing, at most half full. Its filter
// knows, of all names that are in it, the prints that records have of them; the second
// filter both those and the names' own, by their other prints.
type generationTable struct {
	filter, second filter
	slots          []generation
	// The writer's: how many slots are in use, and the prints under which the filter has
	// them.
	used   int
	prints []uint32
}

func newGenerationTable(entries int) *generationTable {
	slots := max(slotsMin, 1<<bits.Len(uint(2*entries-1)))
	return &generationTable{slots: make([]generation, slots), filter: newFilter(slots / 2), second: newFilter(slots), prints: make([]uint32, slots)}
}

// A view is the filters as they are now. What is in them changes, they do not: writers
// publish another view before the counter moves.
type view struct {
	all     uint64                       // order of the last purge of everything
	floor   uint64                       // and that, or of a common name, or when one became so
	orders  [len(recentNames)]uint64     // after which each of the first filters has all
	filters [len(recentNames) + 1]filter // of the last purges, of more, of yet more, and of all that are not swept
	second  filter
}

// publish is called with mu held.
func (g *generations) publish() {
	t := g.table.Load()
	v := &view{all: g.all.newest(), second: t.second}
	v.floor = max(v.all, g.common.order)
	for i := range g.recent {
		v.orders[i], v.filters[i] = g.recent[i].read.order, g.recent[i].read.filter
		if i > 0 && v.orders[i] > v.orders[i-1] { // since counts on their order
			v.orders[i], v.filters[i] = v.orders[i-1], v.filters[i-1]
		}
		if len(t.filter.words) <= len(v.filters[i].words) {
			v.filters[i] = t.filter // which knows more, and of two of a size one stays near
		}
	}
	v.filters[len(g.recent)] = t.filter
	g.view.Store(v)
}

// since returns a filter of what was purged after an order, the smallest that there is. It
// branches on nothing: one is as likely as the other.
func (v *view) since(order uint64) filter {
	_, first := bits.Sub64(order, v.orders[0], 0)
	_, second := bits.Sub64(order, v.orders[1], 0)
	_, third := bits.Sub64(order, v.orders[2], 0)
	return v.filters[(first+second+third)%uint64(len(v.filters))]
}

// find returns the generation of a hash, or nil.
func (t *generationTable) find(hash uint64) *generation {
	if !t.second.mayHave(other(printOf(hash))) {
		return nil
	}
	for i := hash; ; i++ {
		g := &t.slots[i&uint64(len(t.slots)-1)]
		switch g.key.Load() {
		case hash:
			return g
		case 0:
			return nil
		}
	}
}

// place returns the generation of a hash that is not there; the caller fills it in
// and sets key.
func (t *generationTable) place(hash uint64, print uint32) *generation {
	t.filter.show(print)
	t.second.show(other(print))
	t.second.show(other(printOf(hash)))
	t.used++
	for i := hash; ; i++ {
		at := i & uint64(len(t.slots)-1)
		if g := &t.slots[at]; g.key.Load() == 0 {
			t.prints[at] = print
			return g
		}
	}
}

func (g *generations) init(stats *Stats) {
	g.stats = stats
	g.table.Store(newGenerationTable(0))
	for i, names := range recentNames {
		g.recent[i].init(names)
	}
	g.publish()
	g.room, g.sweep = make(chan struct{}), make(chan struct{}, 1)
}

func (g *generations) begin(order uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.order.Store(max(g.order.Load(), order))
}

// apply gives marks the next order.
func (g *generations) apply(marks []mark) (uint64, error) {
	deadline := time.Now().Add(roomWait)
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.fits(len(marks)) {
		g.stats.PurgesFull.Add(1)
		room := g.room
		g.mu.Unlock()
		signal(g.sweep)
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-room:
		case <-timer.C:
		}
		timer.Stop()
		g.mu.Lock()
		if !g.fits(len(marks)) && !time.Now().Before(deadline) {
			return 0, ErrPurgesFull
		}
	}
	order := g.order.Load() + 1
	g.write(order, marks)
	g.order.Store(order) // from here on it holds
	signal(g.sweep)
	return order, nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fits says whether there is room for n more entries; called with mu held.
func (g *generations) fits(n int) bool {
	used := g.table.Load().used
	return used+n <= generationsMax || used == 0
}

// replay notes purges of an earlier start.
func (g *generations) replay(order uint64, marks []mark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.write(order, marks)
	g.order.Store(max(g.order.Load(), order))
	signal(g.sweep)
}

// write leaves an order in the table; called with mu held.
func (g *generations) write(order uint64, marks []mark) {
	g.tallies.begin(order)
	t := g.table.Load()
	if 2*(t.used+len(marks)) > len(t.slots) {
		t = g.rebuild(len(marks))
	}
	for i := range marks {
		m := &marks[i]
		if m.kind == PurgeEverything {
			g.all.raise(m, order)
			continue
		}
		hash, print := max(m.hash, 1), printOf(m.shows)
		if g.common.has(m.shows) {
			g.common.order = max(g.common.order, order)
		} else {
			g.common.counts[m.shows>>32%commonCounts].Store(0) // none of what is purged often is to be common
		}
		for i := range g.recent {
			g.recent[i].show(print)
		}
		if at := t.find(hash); at != nil {
			at.raise(m, order)
		} else {
			at = t.place(hash, print)
			at.raise(m, order)
			at.key.Store(hash)
		}
		newest := &g.newestLabel
		switch m.kind {
		case PurgeURL:
			newest = &g.newestURL
		case PurgeHost:
			newest = &g.newestHost
		}
		newest.Store(max(newest.Load(), order))
	}
	for i := range g.recent {
		g.recent[i].turn(max(order, g.order.Load()))
	}
	g.publish()
	g.stats.PurgeEntries.Store(int64(t.used))
}

// rebuild makes a table of what is not swept, with room for more; called with mu
// held.
func (g *generations) rebuild(more int) *generationTable {
	old, swept := g.table.Load(), g.swept.Load()
	kept := 0
	for i := range old.slots {
		if old.slots[i].newest() > swept {
			kept++
		}
	}
	t := newGenerationTable(max(kept+more, kept*3/2))
	for i := range old.slots {
		from := &old.slots[i]
		if from.newest() <= swept {
			continue
		}
		to := t.place(from.key.Load(), old.prints[i])
		to.hard.Store(from.hard.Load())
		to.since.Store(from.since.Load())
		to.soft.Store(from.soft.Load())
		to.key.Store(from.key.Load())
	}
	g.table.Store(t)
	g.stats.PurgeEntries.Store(int64(t.used))
	return t
}

// A match is what the table says of a record: the highest orders above the one that
// was asked for, and the instant from which a soft purge makes it stale.
type match struct {
	hard, soft uint64
	since      int64
	fenced     bool // and the fence keeps it from being used
}

func (m *match) add(g *generation, above uint64) {
	if hard := g.hard.Load(); hard > above {
		m.hard = max(m.hard, hard)
	}
	if soft := g.soft.Load(); soft > above {
		since := g.since.Load()
		if m.soft == 0 || since < m.since {
			m.since = since
		}
		m.soft = max(m.soft, soft)
	}
}

// match returns what purges above an order say of what has these hashes.
func (g *generations) match(meta *store.Meta, above uint64) (m match) {
	m.fenced = meta.Order < g.fence.Load()
	if g.all.newest() > above {
		m.add(&g.all, above)
	}
	t := g.table.Load()
	if g.newestURL.Load() > above {
		m.look(t, meta.URL, above)
	}
	if g.newestHost.Load() > above {
		m.look(t, meta.Host, above)
	}
	if g.newestLabel.Load() > above {
		for _, hash := range meta.Groups {
			m.look(t, hash, above)
		}
	}
	if g.invalid.newest.Load() > above {
		m.hard = max(m.hard, g.invalid.match(meta, above))
	}
	return m
}

// A glance is what can be said at a small cost of what purges say of a stored response.
type glance struct {
	order     uint64 // of the last purge
	checked   uint64 // up to which the response has been looked up, or forgotten
	untouched bool   // by those between; false says nothing
}

// glance is asked as soon as a response is found, and settle when all else that is needed
// of it has been asked of memory: what the filters have arrives together with that.
func (g *generations) glance(meta *store.Meta, seen *atomic.Uint64) glance {
	at := glance{order: g.order.Load(), checked: seen.Load()}
	if above := max(at.checked, meta.Order); above < at.order { // checked is 0 before the first look
		at.untouched = g.untouched(meta, above)
	}
	return at
}

// untouched says that match would find nothing, nearly always where it would.
func (g *generations) untouched(meta *store.Meta, above uint64) bool {
	v, prints := g.view.Load(), &meta.Prints
	f := v.since(above)
	if v.floor > above || !hasFewOwn(prints) || g.fence.Load() != 0 || g.invalid.newest.Load() > above {
		return g.untouchedByAll(v, meta, above)
	}
	if len(f.words) == 0 {
		return false // never: it spares the looks their checks of bounds
	}
	if f.mayHave(prints[0]) || f.mayHave(prints[1]) || f.mayHave(prints[2]) || f.mayHave(prints[3]) {
		return g.untouchedByAll(v, meta, above)
	}
	return true
}

// untouchedByAll is untouched where there is more to be asked.
func (g *generations) untouchedByAll(v *view, meta *store.Meta, above uint64) bool {
	if fence := g.fence.Load(); meta.Prints[0] == 0 || v.all > above || fence != 0 && meta.Order < fence {
		return false
	}
	prints := meta.Prints[:]
	if v.floor <= above && hasFewOwn(&meta.Prints) {
		prints = prints[:ownPrints]
	}
	if v.since(above).mayHaveAny(v.second, prints) {
		return false
	}
	return g.invalid.newest.Load() <= above || g.invalid.match(meta, above) == 0
}

func (m *match) look(t *generationTable, hash, above uint64) {
	if g := t.find(max(hash, 1)); g != nil {
		m.add(g, above)
	}
}

// admits says whether a stored response may still be used, stale or not. p is its decoded
// header.
func (g *generations) admits(meta *store.Meta, p *response, seen *atomic.Uint64, inMemory bool) bool {
	return g.settle(g.glance(meta, seen), meta, p, seen, inMemory)
}

// settle is admits, after a glance. What has been found out is noted in seen, the order up
// to which purges have been looked up, or forgotten, and counted where p is in memory.
func (g *generations) settle(at glance, meta *store.Meta, p *response, seen *atomic.Uint64, inMemory bool) bool {
	order, checked := at.order, at.checked
	if checked >= order {
		if checked == forgotten {
			g.stats.PurgedFound.Add(1)
		}
		return checked != forgotten
	}
	if at.untouched && seen.CompareAndSwap(checked, order) {
		return true
	}
	above := max(checked, meta.Order)
	if above >= order {
		return true
	}
	var m match
	if !at.untouched {
		m = g.match(meta, above)
	}
	if m.hard == 0 && m.fenced {
		g.stats.FencedFound.Add(1)
		return false // and nothing is noted: it may be used when the fence is lifted
	}
	if m.hard != 0 {
		if seen.Swap(forgotten) != forgotten && inMemory && p.own() {
			g.tallies.add(m.hard, true)
		}
		g.stats.PurgedFound.Add(1)
		return false
	}
	turns := m.soft != 0 && p.freshTo() > m.since
	if turns {
		p.goStale(m.since)
	}
	for checked < order {
		if seen.CompareAndSwap(checked, order) {
			if turns && inMemory && p.own() {
				g.tallies.add(m.soft, true)
			}
			return true
		}
		checked = seen.Load()
	}
	return checked != forgotten
}

// pending says whether there is anything to sweep.
func (g *generations) pending() bool {
	newest := max(g.all.newest(), g.newestURL.Load(), g.newestHost.Load(), g.newestLabel.Load(), g.invalid.newest.Load())
	return newest > g.passed.Load()
}

// crowded says whether the table gets full.
func (g *generations) crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return float64(g.table.Load().used) > crowded*generationsMax
}

// forget drops what is swept.
func (g *generations) forget(order uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if order <= g.swept.Load() {
		return
	}
	g.swept.Store(order)
	g.rebuild(0)
	g.publish()
	close(g.room)
	g.room = make(chan struct{})
}
