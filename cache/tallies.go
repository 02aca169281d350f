package cache

// tallies.go counts what purges match. A response in memory is counted by whoever
// first finds it purged: a request, the count of memory, the sweep, or its departure
// when it is replaced or evicted; store.Stored.Seen says that somebody has. What several
// purges name is counted for the newest of them. What is on disk alone the sweep counts.

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/cache/store"
)

const (
	// talliesMax bounds the orders whose counts are remembered.
	talliesMax = 1 << 14
	// countRest is how many times as long as a count of memory took the next waits at
	// least, for the processor's sake.
	countRest = 3
)

// tallies remember what purges matched, of the newest orders.
type tallies struct {
	of sync.Map // order -> *tally

	mu     sync.Mutex
	orders []uint64 // oldest first
}

type tally struct {
	memory, disk           atomic.Int64
	estimate               atomic.Int64 // of disk, until it is counted
	memoryCounted, counted atomic.Bool
}

// begin remembers one more order.
func (t *tallies) begin(order uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.of.LoadOrStore(order, new(tally)); known {
		return
	}
	if len(t.orders) == talliesMax {
		t.of.Delete(t.orders[0])
		t.orders = t.orders[1:]
	}
	t.orders = append(t.orders, order)
}

// each calls do for the orders over one up to another.
func (t *tallies) each(over, upTo uint64, do func(*tally)) {
	t.of.Range(func(order, n any) bool {
		if order := order.(uint64); order > over && order <= upTo {
			do(n.(*tally))
		}
		return true
	})
}

// reset begins the counts that a pass makes of what is on disk: a pass that was broken
// off left some.
func (t *tallies) reset(over, upTo uint64) { t.each(over, upTo, func(n *tally) { n.disk.Store(0) }) }

// memoryDone ends a count of memory in which so many objects were met; on disk alone
// are more, of which as large a part is taken to match.
func (t *tallies) memoryDone(upTo uint64, objects, more int64) {
	t.each(0, upTo, func(n *tally) {
		if !n.memoryCounted.Load() {
			n.estimate.Store(share(n.memory.Load(), objects, more))
			n.memoryCounted.Store(true)
		}
	})
}

// share of more, if it is as that of objects which matched.
func share(matched, objects, more int64) int64 {
	if objects == 0 {
		return 0
	}
	return int64(float64(more) * min(1, float64(matched)/float64(objects)))
}

// onlyOnDisk is how many objects are on disk and not in memory, where there are so
// many in memory.
func (c *Cache) onlyOnDisk(objects int64) int64 {
	onDisk := -objects
	for _, dir := range c.store.Stats().Disk.Directories {
		onDisk += int64(dir.Objects)
	}
	return max(0, onDisk)
}

func (t *tallies) done(over, upTo uint64) {
	t.each(over, upTo, func(n *tally) { n.counted.Store(true) })
}

// add counts a match, unless all of that order has been counted.
func (t *tallies) add(order uint64, inMemory bool) {
	n, ok := t.of.Load(order)
	switch of, _ := n.(*tally); {
	case !ok || of.counted.Load():
	case inMemory:
		of.memory.Add(1)
	default:
		of.disk.Add(1)
	}
}

// counted returns what purges of an order have matched.
func (g *generations) counted(order uint64) (PurgeCount, bool) {
	n, ok := g.tallies.of.Load(order)
	if !ok {
		return PurgeCount{}, false
	}
	of := n.(*tally)
	// The marks first: they are set when the counts are right.
	count := PurgeCount{Counted: of.counted.Load()}
	count.MemoryCounted = of.memoryCounted.Load() || count.Counted
	count.Memory, count.Disk = of.memory.Load(), of.disk.Load()
	if !count.Counted {
		count.Disk = max(count.Disk, of.estimate.Load())
	}
	return count, true
}

// find looks what purges say of something in memory, and counts what it finds first.
func (g *generations) find(s store.Stored) {
	if p, ok := s.Value().(*response); ok {
		g.admits(s.Meta(), p, s.Seen(), true)
	}
}

// CountMemory has the purges up to an order counted in memory, by a walk over it, and
// waits for that; others who want the same share it.
func (c *Cache) CountMemory(ctx context.Context, order uint64) error {
	g := &c.purges
	for {
		if n, ok := g.counted(order); !ok || n.MemoryCounted {
			return nil
		}
		select {
		case c.counting <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		n, ok := g.counted(order)
		if !ok || n.MemoryCounted {
			<-c.counting
			return nil
		}
		err := c.countMemory(ctx)
		<-c.counting
		if err != nil {
			return err
		}
	}
}

// countMemory is called by one at a time.
func (c *Cache) countMemory(ctx context.Context) error {
	if rest := time.Until(c.countNext); rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g := &c.purges
	began, upTo := time.Now(), g.order.Load()
	objects := int64(0)
	err := c.store.Walk(ctx, func(s store.Stored) {
		objects++
		g.find(s)
	})
	c.countNext = time.Now().Add(countRest * time.Since(began))
	if err != nil {
		return err
	}
	g.tallies.memoryDone(upTo, objects, c.onlyOnDisk(objects))
	return nil
}
