package cache

// fence.go keeps what is stored from being used while the node cannot say what of
// it was purged: it may have missed purges, and has not caught up yet.
//
// The fence takes an order, as a purge does, and moves the counter with it. So a
// hit finds out at the one comparison that it makes anyway, and costs nothing more
// while there is no fence. What a fetch that began after it brings is stored and
// used. What is behind the fence is neither used, nor validated, nor stale on
// error: to a request it is as if it were not there, and what it fetches takes the
// place. Nothing is removed, and nothing noted: when the fence is lifted, what the
// purges that came meanwhile left is used again.

// Fence keeps all that was stored, or whose fetch began, before now from being
// used until Unfence, and returns its order. Where there is one already a new one
// takes its place.
func (c *Cache) Fence() (order uint64) {
	c.stats.Fenced.Store(1)
	return c.purges.raiseFence()
}

// Unfence lifts the fence.
func (c *Cache) Unfence() {
	c.purges.fence.Store(0)
	c.stats.Fenced.Store(0)
}

// raiseFence leaves the order first and then moves the counter, as a purge does:
// who reads the counter and then the fence finds it.
func (g *generations) raiseFence() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	order := g.order.Load() + 1
	g.fence.Store(order)
	g.order.Store(order)
	return order
}
