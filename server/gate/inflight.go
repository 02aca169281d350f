package gate

// inflight.go counts what is under way, so that a drain can wait for its end.

import (
	"context"
	"sync/atomic"

	"edgecdn/cache"
)

// inflight counts exchanges by protocol and lets a drain wait for their end.
type inflight struct {
	counts [protocols]atomic.Int64
	left   [protocols]chan struct{} // of one: the count went to 0
}

func (f *inflight) init() {
	for i := range f.left {
		f.left[i] = make(chan struct{}, 1)
	}
}

func (f *inflight) enter(p cache.Proto) { f.counts[int(p)-1].Add(1) }

func (f *inflight) leave(p cache.Proto) {
	i := int(p) - 1
	if f.counts[i].Add(-1) == 0 {
		f.wake(i)
	}
}

func (f *inflight) wake(i int) {
	select {
	case f.left[i] <- struct{}{}:
	default:
	}
}

func (f *inflight) total() (n int64) {
	for i := range f.counts {
		n += f.counts[i].Load()
	}
	return n
}

// wait reports whether all exchanges ended before ctx did.
func (f *inflight) wait(ctx context.Context) bool {
	for i := range f.counts {
		if !f.waitFor(ctx, i) {
			return false
		}
	}
	return true
}

// waitFor waits for one protocol.
func (f *inflight) waitFor(ctx context.Context, i int) bool {
	for f.counts[i].Load() > 0 {
		select {
		case <-f.left[i]:
		case <-ctx.Done():
			return f.counts[i].Load() == 0
		}
	}
	f.wake(i) // others may wait too
	return true
}
