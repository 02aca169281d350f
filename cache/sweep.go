package cache

// sweep.go takes out behind everybody's back what is purged, and then what purged
// it. A pass that began after a purge and has walked over memory and disk has
// found all of it; when no fetch is under way any more that began before, the purge
// is swept: table and log may forget it.

import (
	"context"
	"slices"
	"time"

	"edgecdn/cache/store"
)

const (
	// A pass begins so long after the end of the last one, or as long as that walked over
	// memory and several times as long as over the disk; when the table gets full it
	// begins at once.
	sweepPause       = time.Second
	sweepPauseMax    = 10 * time.Minute
	sweepPauseByDisk = 4
	// crowded is the share of the table from which the sweep hurries.
	crowded = 0.5
)

// Run sweeps until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepPause)
	defer tick.Stop()
	var next time.Time
	var failed error
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.purges.sweep:
		case <-tick.C:
		}
		c.retire()
		if !c.purges.pending() || time.Now().Before(next) && !c.purges.crowded() {
			continue
		}
		pause, err := c.pass(ctx, c.purges.crowded)
		if err != nil && ctx.Err() == nil {
			c.stats.SweepsFailed.Add(1)
			if failed == nil {
				c.log.Warn("cache: sweep not ended, will be tried again", "err", err)
			}
		}
		failed = err
		next = time.Now().Add(pause)
	}
}

// pass walks over all that is stored, with rests unless there is need to hurry. The next
// one is to begin after a pause.
func (c *Cache) pass(ctx context.Context, hurry func() bool) (pause time.Duration, err error) {
	g := &c.purges
	began := time.Now()
	var memory time.Duration
	order := g.order.Load()
	g.tallies.reset(g.passed.Load(), order)
	objects := int64(0)
	inMemory := func(s store.Stored) *store.Meta {
		objects++
		g.find(s)
		kept := c.judge(s.Meta())
		if kept == nil {
			c.stats.Swept.Add(1)
		}
		return kept
	}
	onDisk := func(meta *store.Meta) *store.Meta {
		kept, m := c.judgeMatch(meta)
		if kept == nil {
			c.stats.Swept.Add(1)
		}
		if newest := max(m.hard, m.soft); kept != meta && own(meta) {
			g.tallies.add(newest, false)
		}
		return kept
	}
	passed := g.passed.Load()
	memoryDone := func() {
		g.tallies.memoryDone(order, objects, c.onlyOnDisk(objects))
		memory = time.Since(began)
	}
	err = c.store.Sweep(ctx, store.Sweep{Memory: inMemory, Disk: onDisk, Order: order, Hurry: hurry, MemoryDone: memoryDone})
	pause = pauseAfter(memory, time.Since(began)-memory)
	if err != nil {
		return pause, err
	}
	c.stats.Sweeps.Add(1)
	g.tallies.done(passed, order)
	g.passed.Store(order)
	c.retire()
	return pause, nil
}

// pauseAfter is how long the sweep rests after a pass over memory and disk.
func pauseAfter(memory, disk time.Duration) time.Duration {
	return min(max(sweepPause, memory+sweepPauseByDisk*disk), sweepPauseMax)
}

// retire lets go of what is swept.
func (c *Cache) retire() {
	g := &c.purges
	if passed := g.passed.Load(); passed > g.swept.Load() {
		g.forget(c.settled(passed))
	}
}

// judge returns what becomes of something stored that has this meta: the same, nil
// where it is purged, or what a soft purge makes of it.
func (c *Cache) judge(meta *store.Meta) *store.Meta {
	kept, _ := c.judgeMatch(meta)
	return kept
}

func (c *Cache) judgeMatch(meta *store.Meta) (*store.Meta, match) {
	if meta.Order >= c.purges.order.Load() || c.purges.untouched(meta, meta.Order) {
		return meta, match{}
	}
	m := c.purges.match(meta, meta.Order)
	switch {
	case m.hard != 0:
		return nil, m
	case m.soft == 0 || meta.FreshUntil <= m.since || !own(meta):
		return meta, m
	}
	p, err := decode(meta.Header)
	if err != nil {
		return nil, m
	}
	p.freshUntil = m.since
	stale := *meta
	stale.Header, stale.FreshUntil, stale.KeepUntil = p.encode(), p.freshUntil, p.keepUntil()
	return &stale, m
}

// own says whether a stored header is that of a response, not of what is kept for
// one: a vary marker, a slice, a coded body.
func own(meta *store.Meta) bool {
	p, err := decode(meta.Header)
	return err == nil && p.own()
}

func (p *response) own() bool { return p.varyBy == nil && len(p.fields) > 0 }

// CountPurge says what purges would match now. What is on disk alone is estimated
// from what is in memory, but for everything, which is known.
func (c *Cache) CountPurge(ctx context.Context, all []Purge) (PurgeCount, error) {
	marks, err := c.marks(all)
	if err != nil {
		return PurgeCount{}, err
	}
	hashes := make(map[uint64]bool, len(marks))
	everything, soft, now := false, true, time.Now().UnixNano()
	for _, m := range marks {
		hashes[m.hash] = true
		everything, soft = everything || m.kind == PurgeEverything, soft && m.soft
	}
	var matched, objects int64
	err = c.store.Walk(ctx, func(s store.Stored) {
		meta := s.Meta()
		objects++
		named := everything || hashes[meta.URL] || hashes[meta.Host] ||
			slices.ContainsFunc(meta.Groups, func(hash uint64) bool { return hashes[hash] })
		if named && (!soft || meta.FreshUntil > now) && own(meta) && c.judge(meta) != nil {
			matched++
		}
	})
	if err != nil {
		return PurgeCount{}, err
	}
	n := PurgeCount{Memory: matched, MemoryCounted: true, Disk: c.onlyOnDisk(objects)}
	if !everything {
		n.Disk = share(matched, objects, n.Disk)
	}
	return n, nil
}
