package main

// A responder that has just started knows of nobody: for the moment that it takes to
// hear of the others it holds its answers back, since they would name itself alone, and
// resolvers would go on saying so for the whole of the TTL.

import (
	"context"
	"time"

	"edgecdn/cluster"
)

const (
	// meetMax is how long a responder waits to hear of others: who is alone, or the last
	// that lives, answers then. Resolvers ask another server meanwhile.
	meetMax  = 5 * time.Second
	meetLook = 20 * time.Millisecond
)

// met tells whether there is another node, and word from all of those that live.
func met(members []cluster.Member) bool {
	others := false
	for i := range members {
		m := &members[i]
		if m.Self || m.Gone || m.Status != cluster.Alive {
			continue
		}
		if m.ReportAt.IsZero() {
			return false
		}
		others = true
	}
	return others
}

// meet waits until others are met, for meetMax at most, and tells whether they were.
func meet(ctx context.Context, members func() []cluster.Member) bool {
	late := time.NewTimer(meetMax)
	defer late.Stop()
	look := time.NewTicker(meetLook)
	defer look.Stop()
	for !met(members()) {
		select {
		case <-ctx.Done():
			return false
		case <-late.C:
			return met(members())
		case <-look.C:
		}
	}
	return true
}

// meetOthers is meet where there may be others: those that were known before, or seeds.
func (n *node) meetOthers(ctx context.Context) {
	if n.cluster == nil || len(n.reloader.Current().Cluster.Seeds) == 0 && len(n.cluster.Members()) < 2 {
		return
	}
	if began := time.Now(); !meet(ctx, n.cluster.Members) && ctx.Err() == nil {
		n.log.Warn("dns: not all other nodes have been heard of since the start: answers are made of those that have",
			"waited", time.Since(began).Round(time.Millisecond))
	}
}
