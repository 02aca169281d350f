package main

// The Go collector follows the store's budget.
//
// Stored bodies lie outside of the Go heap; what the heap holds is the index,
// headers and keys, which the same budget covers, and the work in hand. Left to
// itself the collector lets the heap grow to twice what is alive, so that a
// store of many small objects would take far more than it was given. So the
// runtime is told what is left of the budget once the bodies are taken off, what
// the disk tier's index takes, and room to work in. It is a soft limit: near it the collector works harder, up to
// half of the CPU, and never fails an allocation.
//
// A GOMEMLIMIT in the environment is the operator's word and stays.

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

const (
	// workingBytes is the room for connections, requests and garbage: 10,000
	// connections of HTTP/2 take about half of it.
	workingBytes = 512 << 20
	// limitStep spares the runtime, which stops the world for each change.
	limitStep  = 16 << 20
	limitEvery = 5 * time.Second
)

// storeMemory is what the store says of memory, in bytes.
type storeMemory struct {
	budget  int64 // of the memory tier
	outside int64 // of it, outside of the Go heap
	disk    int64 // for the disk tier: index, filters and bodies on their way
}

// heapLimit is what the Go runtime may use.
func (m storeMemory) heapLimit() int64 {
	return max(m.budget-m.outside, 0) + m.budget/4 + m.disk + workingBytes
}

// followBudget keeps the runtime's memory limit in step until ctx ends.
func followBudget(ctx context.Context, store func() storeMemory) error {
	if os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	tick := time.NewTicker(limitEvery)
	defer tick.Stop()
	var set int64
	for {
		if limit := store().heapLimit(); limit < set-limitStep || limit > set+limitStep {
			debug.SetMemoryLimit(limit)
			set = limit
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
