package main

// After a burst the heap is full of what the burst left behind, and stacks are as deep
// as its requests were: ten thousand connections that only wait would cost half as
// much again as they need, for as long as nothing makes the collector run. So when it
// has become quiet the collector is asked to run, and what is free goes back to the
// system. A busy node collects by itself and is left alone.

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	giveBackEvery = 2 * time.Second
	// quietBytes is what a node may allocate in that time and still be quiet.
	quietBytes = 1 << 20
	// burstBytes of allocations make it worth it, or a fourth of what is alive.
	burstBytes = 16 << 20
	// giveBackRounds: a collection halves stacks that are mostly empty.
	giveBackRounds = 3
)

// burst tells when one is over.
type burst struct {
	seen, cleaned uint64 // bytes allocated since the start: last time, and when it was last over
	rounds        int    // collections to be made
}

// over takes the bytes allocated since the start and those alive, and says whether to
// collect.
func (b *burst) over(allocated, alive uint64) bool {
	quiet := allocated-b.seen <= quietBytes
	b.seen = allocated
	if allocated-b.cleaned > max(burstBytes, alive/4) {
		b.rounds = giveBackRounds
	}
	if !quiet || b.rounds == 0 {
		return false
	}
	b.rounds--
	b.cleaned = allocated
	return true
}

// giveBack gives memory back after bursts until ctx ends.
func giveBack(ctx context.Context) error {
	tick := time.NewTicker(giveBackEvery)
	defer tick.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	var b burst
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if metrics.Read(sample); b.over(sample[0].Value.Uint64(), sample[1].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}
