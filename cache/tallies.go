package cache

import "sync"

// talliesMax bounds the orders whose counts are remembered.
const talliesMax = 1 << 14

// tallies remember what purges matched, of the newest orders.
type tallies struct {
	mu     sync.Mutex
	of     map[uint64]*PurgeCount
	orders []uint64 // oldest first
}

// begin remembers one more order.
func (t *tallies) begin(order uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[order] != nil {
		return
	}
	if len(t.orders) == talliesMax {
		delete(t.of, t.orders[0])
		t.orders = t.orders[1:]
	}
	t.of[order] = &PurgeCount{}
	t.orders = append(t.orders, order)
}

// each calls do for the orders over one up to another.
func (t *tallies) each(over, upTo uint64, do func(*PurgeCount)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for order, n := range t.of {
		if order > over && order <= upTo {
			do(n)
		}
	}
}

// reset begins the counts that a pass makes: a pass that was broken off left some.
func (t *tallies) reset(over, upTo uint64) {
	t.each(over, upTo, func(n *PurgeCount) { *n = PurgeCount{} })
}

func (t *tallies) memoryDone(over, upTo uint64) {
	t.each(over, upTo, func(n *PurgeCount) { n.MemoryCounted = true })
}

func (t *tallies) done(over, upTo uint64) {
	t.each(over, upTo, func(n *PurgeCount) { n.Counted = true })
}

// add counts a match, unless an earlier pass has counted all of that order.
func (t *tallies) add(order uint64, inMemory bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.of[order]
	switch {
	case n == nil || n.Counted:
	case inMemory:
		n.Memory++
	default:
		n.Disk++
	}
}

// counted returns what purges of an order have matched.
func (g *generations) counted(order uint64) (PurgeCount, bool) {
	t := &g.tallies
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.of[order]; n != nil {
		return *n, true
	}
	return PurgeCount{}, false
}
