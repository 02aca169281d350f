package main

// How a start comes to terms with purges of before.

import "fmt"

// remember empties the parts of the store that may have missed purges, and has the
// cache forget again what the log says. Before anything is served.
func (n *node) remember() error {
	log := n.purges
	if _, err := n.store.Claim(log.Incarnation(), log.Boot(), log.Dropped()); err != nil {
		return fmt.Errorf("the store cannot be used: %w", err)
	}
	n.cache.BeginOrder(log.Boot())
	return log.Replay(n.cache)
}
