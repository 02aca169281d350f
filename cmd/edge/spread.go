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
func (n *node) openSpread(cfg *config.Config) error {
	if err := n.openCluster(cfg); err != nil {
		return err
	}
	if n.cluster == nil {
		n.spread = purge.NewSpread(n.purges, n.cache, nil, true, n.log)
		return nil
	}
	n.spread = purge.NewSpread(n.purges, n.cache, mesh{n}, len(cfg.Cluster.Seeds) == 0, n.log)
	n.cluster.Handle(kindPurges, n.spread.Receive)
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
