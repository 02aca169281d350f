package main

// How purges reach other nodes, and what a node does that may have missed some.

import (
	"errors"

	"edgecdn/admin"
	"edgecdn/config"
	"edgecdn/purge"
)

// openSpread makes what spreads purges, and raises the fence where this start needs
// it: before anything is served.
func (n *node) openSpread(_ *config.Config) error {
	n.spread = purge.NewSpread(n.purges, n.cache, nil, true, n.log)
	n.spread.Begin()
	return nil
}

// release lifts the fence because an operator says so.
func (n *node) release() error {
	if n.state.now() == starting || n.spread == nil {
		return errors.New("the node is starting, or answers DNS alone")
	}
	return n.spread.Release()
}

// fence is why nothing that was stored before is served; nil where it is.
func (n *node) fence() *admin.Fence {
	fenced, why, since := n.spread.FenceState()
	if !fenced {
		return nil
	}
	return &admin.Fence{Why: why, Since: since}
}
